/* A GPU's data through a buffer of the host, piece by piece, by the transport of host memory.
 *
 * A GPU that has failed leaves the buffer as it is: its rank takes part all the same, and the
 * failure comes out of rp_place_check. */
#include <stdlib.h>

#include "base/mem.h"
#include "kernels/place.h"
#include "mpi/comm_private.h"

static char *stage(rp_comm *comm)
{
    if (comm->stage == NULL) {
        comm->stage = calloc(1, RP_COMM_CHUNK_BYTES);
        if (comm->stage == NULL) {
            rp_comm_abort(comm, "staging", "no memory for the buffer", 71);
        }
    }
    return comm->stage;
}

static void staged_bcast(rp_comm *comm, const rp_exec *exec, void *data, size_t nbytes, int root)
{
    for (size_t at = 0; at < nbytes; at += RP_COMM_CHUNK_BYTES) {
        const size_t piece = RP_MIN(nbytes - at, RP_COMM_CHUNK_BYTES);
        if (comm->rank == root) {
            rp_place_get(exec, stage(comm), (char *)data + at, piece);
        }
        comm->ops->bcast(comm, stage(comm), piece, root);
        if (comm->rank != root) {
            rp_place_put(exec, (char *)data + at, stage(comm), piece);
        }
    }
}

/* More than the buffer in all: each rank's piece is broadcast where it belongs. */
static void allgatherv_large(rp_comm *comm, const rp_exec *exec, const void *send, char *recv,
                             const size_t *nbytes)
{
    char *own = recv + rp_comm_offset(nbytes, comm->rank);

    if (send != own && nbytes[comm->rank] > 0) {
        rp_place_copy(exec, own, send, nbytes[comm->rank]);
    }
    for (int r = 0; r < comm->nranks; r++) {
        staged_bcast(comm, exec, recv + rp_comm_offset(nbytes, r), nbytes[r], r);
    }
}

static void staged_allgatherv(rp_comm *comm, const rp_exec *exec, const void *send, void *recv,
                              const size_t *nbytes)
{
    const size_t total = rp_comm_offset(nbytes, comm->nranks);
    char *own = stage(comm) + rp_comm_offset(nbytes, comm->rank);

    if (total > RP_COMM_CHUNK_BYTES) {
        allgatherv_large(comm, exec, send, recv, nbytes);
        return;
    }
    rp_place_get(exec, own, send, nbytes[comm->rank]);
    comm->ops->allgatherv(comm, own, comm->stage, nbytes);
    rp_place_put(exec, recv, comm->stage, total);
}

static size_t piece_bytes(size_t nbytes, size_t at, size_t chunk)
{
    return at < nbytes ? RP_MIN(nbytes - at, chunk) : 0;
}

/* One half of the buffer leaves, the other comes in. */
static void staged_swap(rp_comm *comm, const rp_exec *exec, const char *send, size_t send_bytes,
                        char *recv, size_t recv_bytes, int step)
{
    const size_t half = RP_COMM_CHUNK_BYTES / 2;
    const size_t nbytes = RP_MAX(send_bytes, recv_bytes);

    for (size_t at = 0; at < nbytes; at += half) {
        const size_t leaving = piece_bytes(send_bytes, at, half);
        const size_t coming = piece_bytes(recv_bytes, at, half);
        if (leaving > 0) {
            rp_place_get(exec, stage(comm), send + at, leaving);
        }
        comm->ops->sendrecv(comm, stage(comm), leaving, stage(comm) + half, coming, step);
        if (coming > 0) {
            rp_place_put(exec, recv + at, stage(comm) + half, coming);
        }
    }
}

static void staged_alltoallv(rp_comm *comm, const rp_exec *exec, const void *send,
                             const size_t *send_bytes, void *recv, const size_t *recv_bytes)
{
    for (int step = 0; step < comm->nranks; step++) {
        const int to = rp_comm_above(comm, step);
        const int from = rp_comm_above(comm, -step);
        staged_swap(comm, exec, (const char *)send + rp_comm_offset(send_bytes, to), send_bytes[to],
                    (char *)recv + rp_comm_offset(recv_bytes, from), recv_bytes[from], step);
    }
}

static void staged_reduce(rp_comm *comm, const rp_exec *exec, rp_comm_reduction reduction,
                          void *data, int64_t n, int root)
{
    const size_t elem_bytes = rp_comm_reduction_elem_bytes(reduction);
    const int64_t chunk = (int64_t)(RP_COMM_CHUNK_BYTES / elem_bytes);

    for (int64_t at = 0; at < n; at += chunk) {
        char *piece = (char *)data + (size_t)at * elem_bytes;
        const int64_t count = RP_MIN(n - at, chunk);
        const size_t nbytes = (size_t)count * elem_bytes;
        rp_place_get(exec, stage(comm), piece, nbytes);
        rp_comm_reduce_host(comm, reduction, comm->stage, count, root);
        if (root < 0 || root == comm->rank) {
            rp_place_put(exec, piece, comm->stage, nbytes);
        }
    }
}

const rp_comm_gpu_ops rp_comm_staged_ops = {
    .name = "mpi through pinned memory",
    .bcast = staged_bcast,
    .allgatherv = staged_allgatherv,
    .alltoallv = staged_alltoallv,
    .reduce = staged_reduce,
};

/* MPI transport on host buffers. A failed call ends the job: it cannot be agreed on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "mpi/comm_private.h"
#include "mpi/comm_watch.h"

/* MPI counts are int: larger messages go in pieces. */
#define CHUNK_BYTES RP_COMM_MESSAGE_BYTES

void rp_comm_check_mpi(const rp_comm *comm, int code, const char *call)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;

    if (code == MPI_SUCCESS) {
        return;
    }
    (void)MPI_Error_string(code, text, &length);
    rp_comm_abort(comm, call, text, 70);
}

static void mpi_barrier(rp_comm *comm)
{
    rp_comm_check_mpi(comm, MPI_Barrier(comm->mpi), "MPI_Barrier");
}

static void mpi_bcast(rp_comm *comm, void *data, size_t nbytes, int root)
{
    for (size_t at = 0; at < nbytes; at += CHUNK_BYTES) {
        const int count = (int)RP_MIN(nbytes - at, CHUNK_BYTES);
        rp_comm_check_mpi(comm, MPI_Bcast((char *)data + at, count, MPI_BYTE, root, comm->mpi),
                          "MPI_Bcast");
    }
}

/* More than 2 GiB in all: each rank's piece is broadcast in place. */
static void allgatherv_large(rp_comm *comm, const void *send, void *recv, const size_t *nbytes)
{
    size_t at = 0;

    for (int r = 0; r < comm->nranks; r++) {
        char *piece = (char *)recv + at;
        if (r == comm->rank && send != piece && nbytes[r] > 0) {
            memmove(piece, send, nbytes[r]);
        }
        mpi_bcast(comm, piece, nbytes[r], r);
        at += nbytes[r];
    }
}

static void mpi_allgatherv(rp_comm *comm, const void *send, void *recv, const size_t *nbytes)
{
    int *counts = calloc(2 * (size_t)comm->nranks, sizeof(*counts));
    int *offsets = counts + comm->nranks;
    size_t at = 0;

    if (counts == NULL) {
        rp_comm_abort(comm, "allgatherv", "no memory for counts", 71);
    }
    for (int r = 0; r < comm->nranks; r++) {
        at += nbytes[r];
    }
    if (at > CHUNK_BYTES) {
        free(counts);
        allgatherv_large(comm, send, recv, nbytes);
        return;
    }
    at = 0;
    for (int r = 0; r < comm->nranks; r++) {
        counts[r] = (int)nbytes[r];
        offsets[r] = (int)at;
        at += nbytes[r];
    }
    if (send == (const char *)recv + offsets[comm->rank]) {
        send = MPI_IN_PLACE;
    }
    rp_comm_check_mpi(comm,
                      MPI_Allgatherv(send, counts[comm->rank], MPI_BYTE, recv, counts, offsets,
                                     MPI_BYTE, comm->mpi),
                      "MPI_Allgatherv");
    free(counts);
}

static void mpi_sum_i64(rp_comm *comm, int64_t *data, int64_t n, int root)
{
    /* Unsigned, so that wrap-around is defined. */
    if (root < 0) {
        rp_comm_check_mpi(
            comm, MPI_Allreduce(MPI_IN_PLACE, data, (int)n, MPI_UINT64_T, MPI_SUM, comm->mpi),
            "MPI_Allreduce");
        return;
    }
    rp_comm_check_mpi(comm,
                      MPI_Reduce(comm->rank == root ? MPI_IN_PLACE : data, data, (int)n,
                                 MPI_UINT64_T, MPI_SUM, root, comm->mpi),
                      "MPI_Reduce");
}

static void mpi_max_f64(rp_comm *comm, double *data, int64_t n)
{
    rp_comm_check_mpi(comm,
                      MPI_Allreduce(MPI_IN_PLACE, data, (int)n, MPI_DOUBLE, MPI_MAX, comm->mpi),
                      "MPI_Allreduce");
}

static void mpi_max_f32(rp_comm *comm, float *data, int64_t n)
{
    rp_comm_check_mpi(comm,
                      MPI_Allreduce(MPI_IN_PLACE, data, (int)n, MPI_FLOAT, MPI_MAX, comm->mpi),
                      "MPI_Allreduce");
}

static void mpi_sum_f32(rp_comm *comm, float *data, int64_t n)
{
    rp_comm_check_mpi(comm,
                      MPI_Allreduce(MPI_IN_PLACE, data, (int)n, MPI_FLOAT, MPI_SUM, comm->mpi),
                      "MPI_Allreduce");
}

static void mpi_sendrecv(rp_comm *comm, const void *send, size_t send_bytes, void *recv,
                         size_t recv_bytes, int step)
{
    const int to = send_bytes > 0 ? rp_comm_above(comm, step) : MPI_PROC_NULL;
    const int from = recv_bytes > 0 ? rp_comm_above(comm, -step) : MPI_PROC_NULL;

    rp_comm_check_mpi(comm,
                      MPI_Sendrecv(send, (int)send_bytes, MPI_BYTE, to, 0, recv, (int)recv_bytes,
                                   MPI_BYTE, from, 0, comm->mpi, MPI_STATUS_IGNORE),
                      "MPI_Sendrecv");
}

/* A notice goes from rank r to the ranks r + 1, r + 2, r + 4 ... (modulo n), which pass it on: all
 * have it after log2(n) steps, and each rank gets exactly one from each of as many neighbours. */
static int n_neighbours(const rp_comm *comm)
{
    int n = 0;

    for (int step = 1; step < comm->nranks; step *= 2) {
        n++;
    }
    return n;
}

static void mpi_notify(rp_comm *comm)
{
    for (int i = 0; i < n_neighbours(comm); i++) {
        rp_comm_check_mpi(comm,
                          MPI_Isend(NULL, 0, MPI_BYTE, (comm->rank + (1 << i)) % comm->nranks,
                                    RP_TAG_NOTICE, comm->notices, &comm->sent[i]),
                          "MPI_Isend");
    }
}

static bool mpi_receive_notice(rp_comm *comm, bool is_waiting)
{
    int is_there = is_waiting;

    if (!is_waiting) {
        rp_comm_check_mpi(
            comm,
            MPI_Iprobe(MPI_ANY_SOURCE, RP_TAG_NOTICE, comm->notices, &is_there, MPI_STATUS_IGNORE),
            "MPI_Iprobe");
    }
    if (is_there) {
        rp_comm_check_mpi(comm,
                          MPI_Recv(NULL, 0, MPI_BYTE, MPI_ANY_SOURCE, RP_TAG_NOTICE, comm->notices,
                                   MPI_STATUS_IGNORE),
                          "MPI_Recv");
        comm->n_notices++;
    }
    return is_there;
}

/* Collective. No notice is left on its way. */
static void drain_notices(rp_comm *comm)
{
    if (rp_comm_any(comm, comm->is_notified)) {
        rp_comm_notify(comm);
        while (comm->n_notices < n_neighbours(comm)) {
            (void)mpi_receive_notice(comm, true);
        }
        rp_comm_check_mpi(comm, MPI_Waitall(n_neighbours(comm), comm->sent, MPI_STATUSES_IGNORE),
                          "MPI_Waitall");
    }
}

static void mpi_destroy(rp_comm *comm)
{
    drain_notices(comm);
    rp_comm_watch_destroy(comm);
    (void)MPI_Comm_free(&comm->notices);
    (void)MPI_Comm_free(&comm->mpi);
    (void)MPI_Finalize();
}

static const rp_comm_ops mpi_ops = {
    .name = "mpi",
    .barrier = mpi_barrier,
    .bcast = mpi_bcast,
    .allgatherv = mpi_allgatherv,
    .sum_i64 = mpi_sum_i64,
    .max_f64 = mpi_max_f64,
    .max_f32 = mpi_max_f32,
    .sum_f32 = mpi_sum_f32,
    .sendrecv = mpi_sendrecv,
    .notify = mpi_notify,
    .receive_notice = mpi_receive_notice,
    .destroy = mpi_destroy,
};

rp_status rp_comm_create_world(rp_comm **out)
{
    rp_status st = RP_OK;
    rp_comm *comm = NULL;
    MPI_Comm node = MPI_COMM_NULL;
    int level = 0;

    *out = NULL;
    RP_TRY(rp_calloc(&comm, 1, sizeof(*comm)));
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS ||
        MPI_Comm_dup(MPI_COMM_WORLD, &comm->mpi) != MPI_SUCCESS ||
        MPI_Comm_dup(MPI_COMM_WORLD, &comm->notices) != MPI_SUCCESS) {
        st = RP_FAIL(RP_ERR_INTERNAL, "cannot start MPI");
        goto out;
    }
    comm->ops = &mpi_ops;
    comm->gpu_ops = &rp_comm_staged_ops;
    (void)gethostname(comm->host, sizeof(comm->host) - 1);
    (void)MPI_Comm_set_errhandler(comm->mpi, MPI_ERRORS_RETURN);
    (void)MPI_Comm_set_errhandler(comm->notices, MPI_ERRORS_RETURN);
    (void)MPI_Comm_rank(comm->mpi, &comm->rank);
    (void)MPI_Comm_size(comm->mpi, &comm->nranks);
    comm->counts.traffic = rp_traffic_of(comm->nranks, comm->rank);
    rp_comm_check_mpi(
        comm,
        MPI_Comm_split_type(comm->mpi, MPI_COMM_TYPE_SHARED, comm->rank, MPI_INFO_NULL, &node),
        "MPI_Comm_split_type");
    (void)MPI_Comm_rank(node, &comm->node_rank);
    (void)MPI_Comm_size(node, &comm->node_nranks);
    (void)MPI_Comm_free(&node);
    *out = comm;
    comm = NULL;
out:
    free(comm);
    return st;
}

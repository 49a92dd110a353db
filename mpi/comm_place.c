/* Collectives on data in a place: on the host the host's calls; else a table of GPU transports. A
 * rank alone copies within its GPU at most. */
#include "kernels/place.h"

#include "base/clock.h"
#include "mpi/comm_private.h"

static void lap(rp_comm *comm, double start)
{
    comm->counts.seconds += rp_clock_seconds() - start;
}

void rp_comm_place_bcast(rp_comm *comm, const rp_exec *exec, void *data, size_t nbytes, int root)
{
    const double start = rp_clock_seconds();

    if (rp_place_is_host(exec)) {
        rp_comm_bcast(comm, data, nbytes, root);
        return;
    }
    if (comm->nranks > 1) {
        comm->gpu_ops->bcast(comm, exec, data, nbytes, root);
    }
    rp_traffic_bcast(&comm->counts.traffic, nbytes, root);
    lap(comm, start);
}

void rp_comm_place_allgatherv(rp_comm *comm, const rp_exec *exec, const void *send, void *recv,
                              const size_t *nbytes)
{
    const double start = rp_clock_seconds();

    if (rp_place_is_host(exec)) {
        rp_comm_allgatherv(comm, send, recv, nbytes);
        return;
    }
    if (comm->nranks > 1) {
        comm->gpu_ops->allgatherv(comm, exec, send, recv, nbytes);
    } else if (send != recv && nbytes[0] > 0) {
        rp_place_copy(exec, recv, send, nbytes[0]);
    }
    rp_traffic_allgatherv(&comm->counts.traffic, rp_comm_offset(nbytes, comm->nranks),
                          nbytes[comm->rank]);
    lap(comm, start);
}

void rp_comm_place_alltoallv(rp_comm *comm, const rp_exec *exec, const void *send,
                             const size_t *send_bytes, void *recv, const size_t *recv_bytes)
{
    const double start = rp_clock_seconds();

    if (rp_place_is_host(exec)) {
        rp_comm_alltoallv(comm, send, send_bytes, recv, recv_bytes);
        return;
    }
    if (comm->nranks > 1) {
        comm->gpu_ops->alltoallv(comm, exec, send, send_bytes, recv, recv_bytes);
    } else if (recv_bytes[0] > 0) {
        rp_place_copy(exec, recv, send, recv_bytes[0]);
    }
    rp_comm_count_alltoallv(comm, send_bytes, recv_bytes);
    lap(comm, start);
}

/* In a GPU. */
static void reduce(rp_comm *comm, const rp_exec *exec, rp_comm_reduction reduction, void *data,
                   int64_t n, int root)
{
    const double start = rp_clock_seconds();
    const size_t nbytes = (size_t)n * rp_comm_reduction_elem_bytes(reduction);

    if (comm->nranks > 1) {
        comm->gpu_ops->reduce(comm, exec, reduction, data, n, root);
    }
    if (root < 0) {
        rp_traffic_allreduce(&comm->counts.traffic, nbytes);
    } else {
        rp_traffic_reduce(&comm->counts.traffic, nbytes, root);
    }
    lap(comm, start);
}

void rp_comm_place_reduce_sum_i64(rp_comm *comm, const rp_exec *exec, int64_t *data, int64_t n,
                                  int root)
{
    if (rp_place_is_host(exec)) {
        rp_comm_reduce_sum_i64(comm, data, n, root);
    } else {
        reduce(comm, exec, RP_COMM_SUM_I64, data, n, root);
    }
}

void rp_comm_place_allreduce_sum_i64(rp_comm *comm, const rp_exec *exec, int64_t *data, int64_t n)
{
    if (rp_place_is_host(exec)) {
        rp_comm_allreduce_sum_i64(comm, data, n);
    } else {
        reduce(comm, exec, RP_COMM_SUM_I64, data, n, -1);
    }
}

void rp_comm_place_allreduce_sum_f32(rp_comm *comm, const rp_exec *exec, float *data, int64_t n)
{
    if (rp_place_is_host(exec)) {
        rp_comm_allreduce_sum_f32(comm, data, n);
    } else {
        reduce(comm, exec, RP_COMM_SUM_F32, data, n, -1);
    }
}

void rp_comm_place_allreduce_max_f32(rp_comm *comm, const rp_exec *exec, float *data, int64_t n)
{
    if (rp_place_is_host(exec)) {
        rp_comm_allreduce_max_f32(comm, data, n);
    } else {
        reduce(comm, exec, RP_COMM_MAX_F32, data, n, -1);
    }
}

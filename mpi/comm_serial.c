/* One rank: every collective is a copy or nothing. */
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "mpi/comm_private.h"

static void serial_barrier(rp_comm *comm)
{
    (void)comm;
}

static void serial_bcast(rp_comm *comm, void *data, size_t nbytes, int root)
{
    (void)comm, (void)data, (void)nbytes, (void)root;
}

static void serial_allgatherv(rp_comm *comm, const void *send, void *recv, const size_t *nbytes)
{
    (void)comm;
    if (send != recv && nbytes[0] > 0) {
        memmove(recv, send, nbytes[0]);
    }
}

static void serial_sum_i64(rp_comm *comm, int64_t *data, int64_t n, int root)
{
    (void)comm, (void)data, (void)n, (void)root;
}

static void serial_max_f64(rp_comm *comm, double *data, int64_t n)
{
    (void)comm, (void)data, (void)n;
}

static void serial_max_f32(rp_comm *comm, float *data, int64_t n)
{
    (void)comm, (void)data, (void)n;
}

static void serial_sum_f32(rp_comm *comm, float *data, int64_t n)
{
    (void)comm, (void)data, (void)n;
}

static void serial_sendrecv(rp_comm *comm, const void *send, size_t send_bytes, void *recv,
                            size_t recv_bytes, int step)
{
    (void)comm, (void)send_bytes, (void)step;
    memmove(recv, send, recv_bytes);
}

static bool serial_receive_notice(rp_comm *comm, bool is_waiting)
{
    (void)comm, (void)is_waiting;
    return false;
}

static const rp_comm_ops serial_ops = {
    .name = "serial",
    .barrier = serial_barrier,
    .bcast = serial_bcast,
    .allgatherv = serial_allgatherv,
    .sum_i64 = serial_sum_i64,
    .max_f64 = serial_max_f64,
    .max_f32 = serial_max_f32,
    .sum_f32 = serial_sum_f32,
    .sendrecv = serial_sendrecv,
    .notify = serial_barrier,
    .receive_notice = serial_receive_notice,
    .destroy = serial_barrier,
};

rp_status rp_comm_create_serial(rp_comm **out)
{
    rp_status st = RP_OK;
    rp_comm *comm = NULL;

    *out = NULL;
    RP_TRY(rp_calloc(&comm, 1, sizeof(*comm)));
    comm->ops = &serial_ops;
    comm->gpu_ops = &rp_comm_staged_ops;
    comm->nranks = 1;
    comm->counts.traffic = rp_traffic_of(1, 0);
    comm->node_nranks = 1;
    comm->mpi = MPI_COMM_NULL;
    comm->notices = MPI_COMM_NULL;
    (void)gethostname(comm->host, sizeof(comm->host) - 1);
    *out = comm;
out:
    return st;
}

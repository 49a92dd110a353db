/* Calls common to all transports: chunking, counting, agreement. */
#include "mpi/comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "mpi/comm_private.h"
#include "mpi/comm_watch.h"

int rp_comm_rank(const rp_comm *comm)
{
    return comm->rank;
}

int rp_comm_nranks(const rp_comm *comm)
{
    return comm->nranks;
}

int rp_comm_node_nranks(const rp_comm *comm)
{
    return comm->node_nranks;
}

int rp_comm_node_rank(const rp_comm *comm)
{
    return comm->node_rank;
}

rp_comm_counts rp_comm_counts_get(const rp_comm *comm)
{
    return comm->counts;
}

static void lap(rp_comm *comm, double start)
{
    comm->counts.seconds += rp_clock_seconds() - start;
}

void rp_comm_destroy(rp_comm **comm)
{
    if (*comm == NULL) {
        return;
    }
    rp_comm_await_gpu(*comm);
    (*comm)->ops->destroy(*comm);
    free((*comm)->stage);
    free(*comm);
    *comm = NULL;
}

void rp_comm_barrier(rp_comm *comm)
{
    const double start = rp_clock_seconds();

    comm->ops->barrier(comm);
    rp_traffic_barrier(&comm->counts.traffic);
    lap(comm, start);
}

void rp_comm_bcast(rp_comm *comm, void *data, size_t nbytes, int root)
{
    const double start = rp_clock_seconds();

    comm->ops->bcast(comm, data, nbytes, root);
    rp_traffic_bcast(&comm->counts.traffic, nbytes, root);
    lap(comm, start);
}

void rp_comm_allgatherv(rp_comm *comm, const void *send, void *recv, const size_t *nbytes)
{
    const double start = rp_clock_seconds();
    size_t total = 0;

    for (int r = 0; r < comm->nranks; r++) {
        total += nbytes[r];
    }
    comm->ops->allgatherv(comm, send, recv, nbytes);
    rp_traffic_allgatherv(&comm->counts.traffic, total, nbytes[comm->rank]);
    lap(comm, start);
}

void rp_comm_allgather(rp_comm *comm, const void *send, void *recv, size_t nbytes_each)
{
    size_t *nbytes = calloc((size_t)comm->nranks, sizeof(*nbytes));

    if (nbytes == NULL) {
        rp_comm_abort(comm, "allgather", "no memory for counts", 71);
    }
    for (int r = 0; r < comm->nranks; r++) {
        nbytes[r] = nbytes_each;
    }
    rp_comm_allgatherv(comm, send, recv, nbytes);
    free(nbytes);
}

size_t rp_comm_reduction_elem_bytes(rp_comm_reduction reduction)
{
    return reduction == RP_COMM_SUM_I64 ? sizeof(int64_t) : sizeof(float);
}

void rp_comm_reduce_host(rp_comm *comm, rp_comm_reduction reduction, void *data, int64_t n,
                         int root)
{
    const size_t elem_bytes = rp_comm_reduction_elem_bytes(reduction);
    const int64_t chunk = (int64_t)(RP_COMM_CHUNK_BYTES / elem_bytes);

    for (int64_t at = 0; at < n; at += chunk) {
        void *piece = (char *)data + (size_t)at * elem_bytes;
        const int64_t count = RP_MIN(n - at, chunk);
        if (reduction == RP_COMM_SUM_I64) {
            comm->ops->sum_i64(comm, piece, count, root);
        } else if (reduction == RP_COMM_SUM_F32) {
            comm->ops->sum_f32(comm, piece, count);
        } else {
            comm->ops->max_f32(comm, piece, count);
        }
    }
}

static void reduce(rp_comm *comm, rp_comm_reduction reduction, void *data, int64_t n, int root)
{
    const double start = rp_clock_seconds();

    rp_comm_reduce_host(comm, reduction, data, n, root);
    lap(comm, start);
}

void rp_comm_reduce_sum_i64(rp_comm *comm, int64_t *data, int64_t n, int root)
{
    reduce(comm, RP_COMM_SUM_I64, data, n, root);
    rp_traffic_reduce(&comm->counts.traffic, (size_t)n * sizeof(*data), root);
}

void rp_comm_allreduce_sum_i64(rp_comm *comm, int64_t *data, int64_t n)
{
    reduce(comm, RP_COMM_SUM_I64, data, n, -1);
    rp_traffic_allreduce(&comm->counts.traffic, (size_t)n * sizeof(*data));
}

void rp_comm_allreduce_sum_f32(rp_comm *comm, float *data, int64_t n)
{
    reduce(comm, RP_COMM_SUM_F32, data, n, -1);
    rp_traffic_allreduce(&comm->counts.traffic, (size_t)n * sizeof(*data));
}

void rp_comm_allreduce_max_f32(rp_comm *comm, float *data, int64_t n)
{
    reduce(comm, RP_COMM_MAX_F32, data, n, -1);
    rp_traffic_allreduce(&comm->counts.traffic, (size_t)n * sizeof(*data));
}

void rp_comm_allreduce_max_f64(rp_comm *comm, double *data, int64_t n)
{
    const double start = rp_clock_seconds();

    comm->ops->max_f64(comm, data, n);
    rp_traffic_allreduce(&comm->counts.traffic, (size_t)n * sizeof(*data));
    lap(comm, start);
}

size_t rp_comm_offset(const size_t *nbytes, int rank)
{
    size_t at = 0;

    for (int r = 0; r < rank; r++) {
        at += nbytes[r];
    }
    return at;
}

int rp_comm_above(const rp_comm *comm, int step)
{
    return (comm->rank + step + comm->nranks) % comm->nranks;
}

static size_t piece_bytes(size_t nbytes, size_t at)
{
    return at < nbytes ? RP_MIN(nbytes - at, RP_COMM_MESSAGE_BYTES) : 0;
}

/* Step s: to the rank s above, from the rank s below, piece by piece. */
static void swap(rp_comm *comm, const char *send, size_t send_bytes, char *recv, size_t recv_bytes,
                 int step)
{
    const size_t nbytes = RP_MAX(send_bytes, recv_bytes);

    for (size_t at = 0; at < nbytes; at += RP_COMM_MESSAGE_BYTES) {
        comm->ops->sendrecv(comm, send + at, piece_bytes(send_bytes, at), recv + at,
                            piece_bytes(recv_bytes, at), step);
    }
}

void rp_comm_alltoallv(rp_comm *comm, const void *send, const size_t *send_bytes, void *recv,
                       const size_t *recv_bytes)
{
    const double start = rp_clock_seconds();

    for (int step = 0; step < comm->nranks; step++) {
        const int to = rp_comm_above(comm, step);
        const int from = rp_comm_above(comm, -step);
        swap(comm, (const char *)send + rp_comm_offset(send_bytes, to), send_bytes[to],
             (char *)recv + rp_comm_offset(recv_bytes, from), recv_bytes[from], step);
    }
    rp_comm_count_alltoallv(comm, send_bytes, recv_bytes);
    lap(comm, start);
}

void rp_comm_count_alltoallv(rp_comm *comm, const size_t *send_bytes, const size_t *recv_bytes)
{
    rp_traffic_alltoallv(&comm->counts.traffic,
                         rp_comm_offset(send_bytes, comm->nranks) - send_bytes[comm->rank],
                         rp_comm_offset(recv_bytes, comm->nranks) - recv_bytes[comm->rank]);
}

bool rp_comm_any(rp_comm *comm, bool local)
{
    double flag = local ? 1 : 0;

    rp_comm_allreduce_max_f64(comm, &flag, 1);
    return flag > 0;
}

/* Rank r of n as a number that grows with the weight of its status, and among equals for lower
 * ranks: 0; 1 .. n: stops; n + 1 .. 2 n: failed. */
static double weight_of(const rp_comm *comm, rp_status local)
{
    const int lower_first = comm->nranks - comm->rank;

    if (local == RP_OK) {
        return 0;
    }
    return local == RP_ERR_STOPPED ? lower_first : comm->nranks + lower_first;
}

/* The greatest weight. A rank whose transport between GPUs has failed adds more than any weight,
 * and all ranks settle that first. */
static double greatest_weight(rp_comm *comm, rp_status *local)
{
    const double failed = 4.0 * comm->nranks;
    double weight = weight_of(comm, *local) + (rp_comm_watch_has_failed(comm) ? failed : 0);

    rp_comm_allreduce_max_f64(comm, &weight, 1);
    if (weight >= failed) {
        rp_comm_gpu_settle(comm, comm->gpu_failure);
        if (*local == RP_OK || *local == RP_ERR_STOPPED) {
            *local = RP_FAIL(RP_ERR_STOPPED, "%s", comm->gpu_failure);
        }
        weight = weight_of(comm, *local);
        rp_comm_allreduce_max_f64(comm, &weight, 1);
    }
    return weight;
}

rp_status rp_agree(rp_comm *comm, rp_status local)
{
    const double weight = greatest_weight(comm, &local);
    struct {
        int status;
        char message[RP_MESSAGE_BYTES];
    } report = {RP_OK, {0}};
    int speaker = 0;

    if (weight <= 0) {
        return RP_OK;
    }
    speaker = (2 * comm->nranks - (int)weight) % comm->nranks;
    if (speaker == comm->rank) {
        report.status = (int)local;
        (void)snprintf(report.message, sizeof(report.message), "%s", rp_error_message());
    }
    rp_comm_bcast(comm, &report, sizeof(report), speaker);
    if (report.status == RP_ERR_STOPPED) {
        return RP_FAIL(RP_ERR_STOPPED, "%s", report.message);
    }
    if (local != RP_OK && local != RP_ERR_STOPPED) {
        return local;
    }
    rp_error_set_peer_status((rp_status)report.status);
    return RP_FAIL(RP_ERR_PEER, "rank %d: %s", speaker, report.message);
}

void rp_comm_notify(rp_comm *comm)
{
    if (!comm->is_notified) {
        comm->is_notified = true;
        comm->ops->notify(comm);
    }
}

bool rp_comm_is_notified(rp_comm *comm)
{
    if (comm->ops->receive_notice(comm, false)) {
        rp_comm_notify(comm); /* passed on */
    }
    return comm->is_notified;
}

void rp_comm_abort(const rp_comm *comm, const char *phase, const char *message, int exit_code)
{
    (void)fprintf(stderr, "rankpress: rank %d on %s in %s: %s\n", comm->rank, comm->host, phase,
                  message);
    (void)fflush(NULL);
    rp_comm_end(comm, exit_code);
}

void rp_comm_end(const rp_comm *comm, int exit_code)
{
    if (comm->mpi != MPI_COMM_NULL) {
        (void)MPI_Abort(comm->mpi, exit_code);
    }
    _exit(exit_code);
}

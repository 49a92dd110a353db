/* Non-blocking throughout: every call is followed by polls, under the collective's deadline, of
 * NCCL's state, of the GPU's stream and of what the other ranks say (comm_watch.h). */
#include "mpi/comm_nccl.h"

#include <atomic>
#include <nccl.h>
#include <new>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/gpu_stream.h"
#include "kernels/place.h"
#include "mpi/comm_watch.h"
#include "mpi/nccl_library.h"

/* For NCCL to stop what is under way, and for the GPU to come to rest. */
#define ABORT_SECONDS 20.0
#define FINALIZE_SECONDS 5.0

struct rp_nccl {
    ncclComm_t comm;
    rp_gpu *gpu;
    double deadline_seconds;
};

typedef enum progress { UNDER_WAY, DONE, FAILED } progress;

static_assert(RP_NCCL_ID_BYTES == NCCL_UNIQUE_ID_BYTES, "an id is passed as bytes");

const char *rp_nccl_version(char text[32])
{
    int version = 0;

    if (rp_nccl_load() != RP_OK || ncclGetVersion(&version) != ncclSuccess) {
        return NULL;
    }
    (void)snprintf(text, 32, "nccl %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    return text;
}

rp_status rp_nccl_make_id(unsigned char id[RP_NCCL_ID_BYTES])
{
    ncclUniqueId made;
    const ncclResult_t result = ncclGetUniqueId(&made);

    if (result != ncclSuccess) {
        return RP_FAIL(RP_ERR_MEMORY, "NCCL cannot start: %s", ncclGetErrorString(result));
    }
    memcpy(id, made.internal, RP_NCCL_ID_BYTES);
    return RP_OK;
}

/* First in turns, then ever longer sleeps, up to 1 ms: a twentieth of the time waited. */
static void pause_after(double waited_seconds)
{
    const double seconds = RP_MIN(waited_seconds / 20, 1e-3);
    const struct timespec time = {0, (long)(seconds * 1e9)};

    if (waited_seconds < 1e-3) {
        (void)sched_yield();
    } else {
        (void)nanosleep(&time, NULL);
    }
}

static progress fail(rp_comm *comm, ncclResult_t result)
{
    const rp_nccl *nccl = comm->nccl;
    const char *why = nccl->comm == NULL ? NULL : ncclGetLastError(nccl->comm);

    rp_comm_watch_fail(comm, "failed: %s%s%s", ncclGetErrorString(result),
                       why != NULL && why[0] != '\0' ? ", " : "", why != NULL ? why : "");
    return FAILED;
}

static progress look(rp_comm *comm, bool on_stream)
{
    rp_nccl *nccl = comm->nccl;
    ncclResult_t state = ncclSuccess;
    ncclResult_t result = ncclCommGetAsyncError(nccl->comm, &state);
    bool is_idle = true;

    result = result == ncclSuccess ? state : result;
    if (result != ncclSuccess && result != ncclInProgress) {
        return fail(comm, result);
    }
    if (rp_comm_watch_hears(comm)) {
        return FAILED;
    }
    if (result == ncclInProgress) {
        return UNDER_WAY;
    }
    if (on_stream && rp_gpu_poll(nccl->gpu, &is_idle) != RP_OK) {
        rp_comm_watch_fail(comm, "failed: %s", rp_error_message());
        return FAILED;
    }
    return is_idle ? DONE : UNDER_WAY;
}

/* After `called`, the result of what was asked of NCCL. */
static bool complete(rp_comm *comm, ncclResult_t called, bool on_stream)
{
    const double deadline = comm->nccl->deadline_seconds;
    progress now = UNDER_WAY;

    if (called != ncclSuccess && called != ncclInProgress) {
        (void)fail(comm, called);
        return false;
    }
    for (;;) {
        now = look(comm, on_stream);
        if (now != UNDER_WAY) {
            return now == DONE;
        }
        if (rp_comm_watch_age(comm) > deadline) {
            rp_comm_watch_fail(comm, "did not complete in %g s", deadline);
            return false;
        }
        pause_after(rp_comm_watch_age(comm));
    }
}

/* ncclCommAbort waits for NCCL's own threads, and they may wait for a network: it has a thread,
 * which is left alone if it does not come back. */
typedef struct abortion {
    ncclComm_t comm;
    std::atomic<bool> is_done;
} abortion;

static void *abort_main(void *arg)
{
    abortion *const task = static_cast<abortion *>(arg);

    (void)ncclCommAbort(task->comm);
    task->is_done = true;
    return NULL;
}

static void abort_within(ncclComm_t comm, double seconds)
{
    const double start = rp_clock_seconds();
    abortion *const task = new (std::nothrow) abortion();
    pthread_t thread;
    bool is_done = false;

    if (task == NULL) {
        return;
    }
    task->comm = comm;
    if (pthread_create(&thread, NULL, abort_main, task) != 0) {
        delete task;
        return;
    }
    while (!is_done && rp_clock_seconds() - start < seconds) {
        pause_after(rp_clock_seconds() - start);
        is_done = task->is_done;
    }
    if (is_done) {
        (void)pthread_join(thread, NULL);
        delete task;
    } else {
        (void)pthread_detach(thread);
    }
}

void rp_nccl_abort(rp_nccl **nccl)
{
    const double start = rp_clock_seconds();
    rp_gpu *gpu = NULL;
    bool is_idle = false;

    if (*nccl == NULL) {
        return;
    }
    gpu = (*nccl)->gpu;
    if ((*nccl)->comm != NULL) {
        abort_within((*nccl)->comm, ABORT_SECONDS);
    }
    while (rp_gpu_poll(gpu, &is_idle) == RP_OK && !is_idle &&
           rp_clock_seconds() - start < 2 * ABORT_SECONDS) {
        pause_after(rp_clock_seconds() - start);
    }
    if (!is_idle) {
        rp_gpu_give_up(gpu, "an aborted collective of NCCL still runs");
    }
    free(*nccl);
    *nccl = NULL;
}

void rp_nccl_destroy(rp_nccl **nccl)
{
    const double start = rp_clock_seconds();
    ncclResult_t state = ncclInProgress;
    ncclResult_t result = ncclSuccess;

    if (*nccl == NULL) {
        return;
    }
    result = ncclCommFinalize((*nccl)->comm);
    while ((result == ncclSuccess || result == ncclInProgress) && state == ncclInProgress &&
           rp_clock_seconds() - start < FINALIZE_SECONDS) {
        pause_after(rp_clock_seconds() - start);
        result = ncclCommGetAsyncError((*nccl)->comm, &state);
    }
    if (result != ncclSuccess || state != ncclSuccess) {
        rp_nccl_abort(nccl);
        return;
    }
    (void)ncclCommDestroy((*nccl)->comm);
    free(*nccl);
    *nccl = NULL;
}

void rp_nccl_create(rp_comm *comm, rp_gpu *gpu, const unsigned char id[RP_NCCL_ID_BYTES],
                    double deadline_seconds)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId unique;
    ncclResult_t result = ncclSuccess;

    rp_comm_watch_begin(comm, "start", 0);
    comm->nccl = static_cast<rp_nccl *>(calloc(1, sizeof(*comm->nccl)));
    if (comm->nccl == NULL) {
        rp_comm_watch_fail(comm, "failed: no memory");
        return;
    }
    comm->nccl->gpu = gpu;
    comm->nccl->deadline_seconds = deadline_seconds;
    config.blocking = 0;
    memcpy(unique.internal, id, RP_NCCL_ID_BYTES);
    result = ncclCommInitRankConfig(&comm->nccl->comm, comm->nranks, unique, comm->rank, &config);
    if (!complete(comm, result, false)) {
        rp_nccl_abort(&comm->nccl);
        return;
    }
    rp_comm_watch_end(comm);
}

static bool begin(rp_comm *comm, const char *op, size_t nbytes)
{
    if (rp_comm_watch_has_failed(comm)) {
        return false;
    }
    rp_comm_watch_begin(comm, op, nbytes);
    return !rp_comm_watch_hears(comm);
}

static void end(rp_comm *comm, ncclResult_t called)
{
    if (complete(comm, called, true)) {
        rp_comm_watch_end(comm);
    } else {
        rp_nccl_abort(&comm->nccl);
    }
}

static void nccl_bcast(rp_comm *comm, const rp_exec *exec, void *data, size_t nbytes, int root)
{
    if (nbytes > 0 && begin(comm, "bcast", nbytes)) {
        end(comm, ncclBroadcast(data, data, nbytes, ncclUint8, root, comm->nccl->comm,
                                rp_gpu_stream(exec->gpu)));
    }
}

/* Calls of one group: the first one that fails counts. */
static void note(ncclResult_t *first, ncclResult_t called)
{
    if (*first == ncclSuccess || *first == ncclInProgress) {
        *first = called;
    }
}

static void nccl_allgatherv(rp_comm *comm, const rp_exec *exec, const void *send, void *recv,
                            const size_t *nbytes)
{
    const size_t total = rp_comm_offset(nbytes, comm->nranks);
    ncclResult_t result = ncclSuccess;

    if (total == 0 || !begin(comm, "allgatherv", total)) {
        return;
    }
    result = ncclGroupStart();
    for (int r = 0; r < comm->nranks; r++) {
        char *piece = (char *)recv + rp_comm_offset(nbytes, r);
        if (nbytes[r] > 0) {
            note(&result, ncclBroadcast(r == comm->rank ? send : piece, piece, nbytes[r], ncclUint8,
                                        r, comm->nccl->comm, rp_gpu_stream(exec->gpu)));
        }
    }
    note(&result, ncclGroupEnd());
    end(comm, result);
}

static void nccl_alltoallv(rp_comm *comm, const rp_exec *exec, const void *send,
                           const size_t *send_bytes, void *recv, const size_t *recv_bytes)
{
    struct CUstream_st *stream = rp_gpu_stream(exec->gpu);
    const int rank = comm->rank;
    ncclResult_t result = ncclSuccess;

    if (!begin(comm, "alltoallv", rp_comm_offset(send_bytes, comm->nranks))) {
        return;
    }
    if (recv_bytes[rank] > 0) {
        rp_place_copy(exec, (char *)recv + rp_comm_offset(recv_bytes, rank),
                      (const char *)send + rp_comm_offset(send_bytes, rank), recv_bytes[rank]);
    }
    result = ncclGroupStart();
    for (int r = 0; r < comm->nranks; r++) {
        if (r != rank && send_bytes[r] > 0) {
            note(&result, ncclSend((const char *)send + rp_comm_offset(send_bytes, r),
                                   send_bytes[r], ncclUint8, r, comm->nccl->comm, stream));
        }
        if (r != rank && recv_bytes[r] > 0) {
            note(&result, ncclRecv((char *)recv + rp_comm_offset(recv_bytes, r), recv_bytes[r],
                                   ncclUint8, r, comm->nccl->comm, stream));
        }
    }
    note(&result, ncclGroupEnd());
    end(comm, result);
}

static void nccl_reduce(rp_comm *comm, const rp_exec *exec, rp_comm_reduction reduction, void *data,
                        int64_t n, int root)
{
    /* By rp_comm_reduction; unsigned, so that sums wrap around. */
    static const struct {
        ncclDataType_t type;
        ncclRedOp_t op;
        const char *name;
    } kinds[RP_COMM_REDUCTION_COUNT] = {
        {ncclUint64, ncclSum, "sum of int64"},
        {ncclFloat32, ncclSum, "sum of fp32"},
        {ncclFloat32, ncclMax, "maximum of fp32"},
    };
    struct CUstream_st *stream = rp_gpu_stream(exec->gpu);
    const size_t nbytes = (size_t)n * rp_comm_reduction_elem_bytes(reduction);

    if (n == 0 || !begin(comm, kinds[reduction].name, nbytes)) {
        return;
    }
    if (root < 0) {
        end(comm, ncclAllReduce(data, data, (size_t)n, kinds[reduction].type, kinds[reduction].op,
                                comm->nccl->comm, stream));
    } else {
        end(comm, ncclReduce(data, data, (size_t)n, kinds[reduction].type, kinds[reduction].op,
                             root, comm->nccl->comm, stream));
    }
}

const rp_comm_gpu_ops rp_comm_nccl_ops = {
    "nccl", nccl_bcast, nccl_allgatherv, nccl_alltoallv, nccl_reduce,
};

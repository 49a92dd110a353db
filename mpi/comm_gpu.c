/* Rank to GPU, and the choice of a transport. */
#include "mpi/comm_gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/thread.h"
#include "kernels/gpu_stream.h"
#include "mpi/comm_nccl.h"
#include "mpi/comm_watch.h"

/* What all ranks know of one rank's GPU. */
typedef struct gpu_of_rank {
    int32_t ordinal; /* -1: none */
    int32_t n_visible;
    char host[64];
    char name[64];
    char uuid[48];
} gpu_of_rank;

/* Collective. all [nranks]. */
static void gather_gpus(gpu_of_rank *all, rp_comm *comm, int ordinal, const rp_gpu_info *info)
{
    gpu_of_rank mine = {.ordinal = ordinal, .n_visible = rp_gpu_count()};

    (void)snprintf(mine.host, sizeof(mine.host), "%s", comm->host);
    (void)snprintf(mine.name, sizeof(mine.name), "%s", info->name);
    (void)snprintf(mine.uuid, sizeof(mine.uuid), "%s", info->uuid);
    rp_comm_allgather(comm, &mine, all, sizeof(mine));
}

/* Two ranks with one GPU. */
static bool find_shared(const gpu_of_rank *all, int nranks, int *first, int *second)
{
    for (int r = 0; r < nranks; r++) {
        for (int q = 0; q < r; q++) {
            if (all[r].ordinal >= 0 && strcmp(all[r].uuid, all[q].uuid) == 0) {
                *first = q;
                *second = r;
                return true;
            }
        }
    }
    return false;
}

static int count_sharing(const gpu_of_rank *all, int nranks, int rank)
{
    int n = 0;

    for (int r = 0; r < nranks; r++) {
        n += strcmp(all[r].uuid, all[rank].uuid) == 0;
    }
    return n;
}

/* "rank 0 on node7: GPU 0 of 4 (NVIDIA H200, GPU-...); rank 1 on node8: none; ...", cut. */
static void list_gpus(char *text, size_t size, const gpu_of_rank *all, int nranks)
{
    size_t at = 0;

    text[0] = '\0';
    for (int r = 0; r < nranks && at < size; r++) {
        const gpu_of_rank *g = &all[r];
        int n = 0;
        if (g->ordinal < 0) {
            n = snprintf(text + at, size - at, "%srank %d on %s: none", r > 0 ? "; " : "", r,
                         g->host);
        } else {
            n = snprintf(text + at, size - at, "%srank %d on %s: GPU %d of %d (%s, %s)",
                         r > 0 ? "; " : "", r, g->host, g->ordinal, g->n_visible, g->name, g->uuid);
        }
        at += (size_t)RP_MAX(n, 0);
    }
}

/* The same on all ranks. */
static rp_status check_gpus(const gpu_of_rank *all, int nranks)
{
    char list[RP_MESSAGE_BYTES - 64];

    for (int r = 1; r < nranks; r++) {
        const char *what = NULL;
        if ((all[r].ordinal < 0) != (all[0].ordinal < 0)) {
            what = "only some ranks have a GPU";
        } else if (strcmp(all[r].name, all[0].name) != 0) {
            what = "the ranks' GPUs are of several models";
        }
        if (what != NULL) {
            list_gpus(list, sizeof(list), all, nranks);
            return RP_FAIL(RP_ERR_MEMORY, "%s: %s", what, list);
        }
    }
    return RP_OK;
}

/* -1: there is none. */
static int own_ordinal(const rp_comm *comm, int n_visible)
{
    return n_visible > 0 ? comm->node_rank % n_visible : -1;
}

/* Makes no calls of MPI, which are another thread's, and has no fault points, whose counts would be
 * a matter of time. */
static void *open_main(void *ctx)
{
    const rp_comm *comm = ctx;
    const int ordinal = own_ordinal(comm, rp_gpu_count());
    char version[32];

    if (ordinal >= 0) {
        rp_gpu_open_ahead(ordinal);
        if (comm->nranks > 1) {
            (void)rp_nccl_version(version);
        }
    }
    return NULL;
}

void rp_comm_open_gpu_ahead(rp_comm *comm)
{
    rp_comm_await_gpu(comm);
    comm->is_opening = !RP_FAULT("thread") && rp_thread_start(&comm->opener, open_main, comm) == 0;
}

void rp_comm_await_gpu(rp_comm *comm)
{
    if (comm->is_opening) {
        (void)pthread_join(comm->opener, NULL);
        comm->is_opening = false;
    }
}

rp_status rp_comm_choose_gpu(rp_gpu_choice *out, rp_comm *comm)
{
    rp_status st = RP_OK;
    rp_status local = RP_OK;
    gpu_of_rank *all = NULL;
    rp_gpu_info info;
    int n_visible = 0;
    int first = 0;
    int second = 0;

    rp_comm_await_gpu(comm);
    n_visible = rp_gpu_count();
    out->ordinal = own_ordinal(comm, n_visible);
    out->warning[0] = '\0';
    memset(&info, 0, sizeof(info));
    local = rp_alloc_array(&all, (size_t)comm->nranks, sizeof(*all));
    if (local == RP_OK && n_visible > 0) {
        local = rp_gpu_describe(&info, out->ordinal);
    }
    RP_TRY(rp_agree(comm, local));
    RP_ASSERT(all != NULL);
    gather_gpus(all, comm, out->ordinal, &info);
    RP_TRY(check_gpus(all, comm->nranks));
    out->n_sharing = count_sharing(all, comm->nranks, comm->rank);
    if (find_shared(all, comm->nranks, &first, &second)) {
        (void)snprintf(out->warning, sizeof(out->warning),
                       "ranks %d and %d share %s (%s on %s): a rank a GPU is faster", first, second,
                       all[first].uuid, all[first].name, all[first].host);
    }
out:
    free(all);
    return st;
}

rp_comm_gpu_opts rp_comm_gpu_opts_default(void)
{
    return (rp_comm_gpu_opts){.deadline_seconds = 600};
}

static void use_mpi(rp_comm *comm, const char *why)
{
    comm->gpu_ops = &rp_comm_staged_ops;
    (void)snprintf(comm->transport, sizeof(comm->transport), "%s: %.900s", comm->gpu_ops->name,
                   why);
}

void rp_comm_gpu_settle(rp_comm *comm, char message[RP_MESSAGE_BYTES])
{
    rp_comm_watch_settle(comm, message);
    rp_nccl_abort(&comm->nccl);
    use_mpi(comm, message);
}

/* Collective. Rank 0's identity of the communicator, or its message on all ranks. */
static bool share_id(rp_comm *comm, unsigned char id[RP_NCCL_ID_BYTES], char why[RP_MESSAGE_BYTES])
{
    struct {
        int is_made;
        unsigned char id[RP_NCCL_ID_BYTES];
        char why[RP_MESSAGE_BYTES];
    } made = {0, {0}, {0}};

    if (comm->rank == 0) {
        made.is_made = rp_nccl_make_id(made.id) == RP_OK;
        if (!made.is_made) {
            (void)snprintf(made.why, sizeof(made.why), "%s", rp_error_message());
        }
    }
    rp_comm_bcast(comm, &made, sizeof(made), 0);
    memcpy(id, made.id, RP_NCCL_ID_BYTES);
    memcpy(why, made.why, RP_MESSAGE_BYTES);
    return made.is_made;
}

/* Collective; ranks have GPUs of their own. */
static void start_nccl(rp_comm *comm, const rp_exec *exec, const rp_comm_gpu_opts *opts)
{
    unsigned char id[RP_NCCL_ID_BYTES];
    char why[RP_MESSAGE_BYTES];

    if (!share_id(comm, id, why)) {
        use_mpi(comm, why);
        return;
    }
    rp_nccl_create(comm, exec->gpu, id, opts->deadline_seconds);
    if (rp_comm_any(comm, rp_comm_watch_has_failed(comm))) {
        rp_comm_gpu_settle(comm, why);
        return;
    }
    comm->gpu_ops = &rp_comm_nccl_ops;
    (void)rp_nccl_version(comm->transport);
}

/* Why not NCCL: "" if nothing speaks against it. */
static void find_obstacle(char why[RP_MESSAGE_BYTES], const rp_comm *comm, const gpu_of_rank *all,
                          const rp_comm_gpu_opts *opts)
{
    char version[32];
    int first = 0;
    int second = 0;

    why[0] = '\0';
    if (comm->nranks == 1) {
        (void)snprintf(why, RP_MESSAGE_BYTES, "one rank");
    } else if (opts->is_staged) {
        (void)snprintf(why, RP_MESSAGE_BYTES, "as asked");
    } else if (rp_nccl_version(version) == NULL) {
        (void)snprintf(why, RP_MESSAGE_BYTES, "there is no NCCL");
    } else if (find_shared(all, comm->nranks, &first, &second)) {
        (void)snprintf(why, RP_MESSAGE_BYTES, "ranks %d and %d share %s", first, second,
                       all[first].uuid);
    }
}

rp_status rp_comm_attach_gpu(rp_comm *comm, const rp_exec *exec, const rp_comm_gpu_opts *opts)
{
    const rp_comm_gpu_opts defaults = rp_comm_gpu_opts_default();
    rp_status st = RP_OK;
    rp_status local = RP_OK;
    gpu_of_rank *all = NULL;
    rp_gpu_info info;
    char why[RP_MESSAGE_BYTES];
    const int ordinal = rp_gpu_ordinal(exec->gpu);

    opts = opts == NULL ? &defaults : opts;
    local = rp_gpu_describe(&info, ordinal);
    if (local == RP_OK) {
        local = rp_alloc_array(&all, (size_t)comm->nranks, sizeof(*all));
    }
    if (local == RP_OK && comm->nranks > 1 && comm->watch == NULL) {
        local = rp_comm_watch_create(comm);
    }
    RP_TRY(rp_agree(comm, local));
    RP_ASSERT(all != NULL);
    gather_gpus(all, comm, ordinal, &info);
    find_obstacle(why, comm, all, opts);
    if (why[0] != '\0') {
        use_mpi(comm, why);
    } else {
        start_nccl(comm, exec, opts);
    }
out:
    free(all);
    return st;
}

void rp_comm_detach_gpu(rp_comm *comm)
{
    if (rp_comm_watch_has_failed(comm)) {
        rp_nccl_abort(&comm->nccl);
    }
    rp_nccl_destroy(&comm->nccl);
    comm->gpu_ops = &rp_comm_staged_ops;
}

const char *rp_comm_gpu_failure(const rp_comm *comm)
{
    return comm->gpu_failure[0] != '\0' ? comm->gpu_failure : NULL;
}

const char *rp_comm_gpu_transport(const rp_comm *comm)
{
    return comm->transport;
}

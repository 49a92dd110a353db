/* Opening and closing of what a job works with. */
#include "jobs/session.h"

#include "jobs/backend.h"
#include "jobs/environ.h"
#include "jobs/importance.h"
#include "jobs/job_folder.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "jobs/tokenizer_of.h"
#include "kernels/cpu/cpu_features.h"
#include "kernels/exec.h"
#include "mpi/comm_gpu.h"

static const char *const phase_names[RP_PHASE_COUNT] = {
    [RP_PHASE_READ] = "read",         [RP_PHASE_FORWARD] = "forward",
    [RP_PHASE_GRAM] = "gram",         [RP_PHASE_REDUCE] = "reduce",
    [RP_PHASE_FACTOR] = "factor",     [RP_PHASE_SOLVE] = "solve",
    [RP_PHASE_EXCHANGE] = "exchange", [RP_PHASE_CHECKPOINT] = "checkpoint",
    [RP_PHASE_WRITE] = "write",       [RP_PHASE_FSYNC] = "fsync",
    [RP_PHASE_VERIFY] = "verify",     [RP_PHASE_EVALUATE] = "evaluate",
};

const char *rp_phase_name(rp_phase phase)
{
    return phase_names[phase];
}

int rp_session_threads(const rp_comm *comm, int64_t asked)
{
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t set;
    long allowed = online;

    if (asked > 0) {
        return (int)asked;
    }
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        allowed = CPU_COUNT(&set);
    }
    if (allowed < online) { /* the launcher gave this rank its own cores */
        return (int)RP_MAX(allowed, 1);
    }
    return (int)RP_MAX(online / rp_comm_node_nranks(comm), 1);
}

/* Products in the type that the job asks; auto is f32, whose results do not depend on the
 * processor's bf16 units. */
static rp_products products_of(const rp_job *job)
{
    return job->cluster.products == RP_PRODUCTS_AUTO ? RP_PRODUCTS_F32
                                                     : (rp_products)job->cluster.products;
}

static rp_status open_local(rp_session *s)
{
    rp_status st = RP_OK;
    const rp_job *job = s->job;

    RP_TRY(rp_job_folder_refuse(job->model));
    RP_TRY(rp_weights_open(&s->weights, job->model));
    s->config = rp_weights_config(s->weights);
    RP_TRY(rp_linears_create(&s->linears, job, s->weights));
    RP_TRY(rp_importance_create(&s->importance, s));
    if (job->evaluate.text != NULL || s->linears.needs_calibration) {
        RP_TRY(rp_tokenizer_of(&s->tokenizer, job->model));
    }
    RP_TRY(rp_exec_create(&s->exec, rp_session_threads(s->comm, job->cluster.threads),
                          products_of(job)));
    rp_cpu_arith_class(s->arithmetic, sizeof(s->arithmetic), s->exec->products);
out:
    return st;
}

/* Collective. */
static rp_status open_gpu(rp_session *s, size_t place_bytes)
{
    rp_status st = RP_OK;
    rp_comm_gpu_opts opts = rp_comm_gpu_opts_default();

    RP_TRY(rp_backend_open_gpu(&s->gpu, s->comm, place_bytes, rp_session_prints(s)));
    (void)snprintf(s->arithmetic, sizeof(s->arithmetic), "%s", rp_gpu_class(s->gpu));
    s->gpu_exec = *s->exec;
    s->gpu_exec.gpu = s->gpu;
    opts.deadline_seconds = s->job->cluster.collective_deadline_seconds;
    RP_TRY(rp_comm_attach_gpu(s->comm, &s->gpu_exec, &opts));
out:
    return st;
}

rp_status rp_session_open_gpu(rp_session *session, size_t place_bytes)
{
    rp_session *s = session;

    if (s->backend == RP_BACKEND_CPU) {
        return RP_OK;
    }
    if (s->job->cluster.products == RP_PRODUCTS_F32) {
        return RP_FAIL(RP_ERR_CONFIG, "cluster.products is f32, and a GPU has bf16 alone: use "
                                      "backend=cpu, or another cluster.products");
    }
    return open_gpu(s, place_bytes);
}

void rp_session_use_gpu(rp_session *session)
{
    if (session->gpu != NULL) {
        session->ops = rp_kernels_cuda();
        session->exec->gpu = session->gpu;
        RP_LOG(RP_LOG_INFO, "gpu", rp_log_str("arithmetic", session->arithmetic),
               rp_log_str("transport", rp_comm_gpu_transport(session->comm)),
               rp_log_str("activations", session->streams_activations ? "streamed" : "resident"));
    }
}

rp_status rp_session_open(rp_session *out, const rp_cli *cli, rp_job *job, bool is_run)
{
    memset(out, 0, sizeof(*out));
    out->cli = cli;
    out->comm = cli->comm;
    out->job = job;
    out->ops = rp_kernels_cpu();
    out->stop =
        rp_stop_plan_make(out->comm,
                          rp_walltime_earlier(rp_walltime_start(job->cluster.walltime_seconds),
                                              rp_walltime_until(rp_environ_job_end_epoch())),
                          job->cluster.stop_seconds);
    out->backend = rp_backend_choose(out->comm, (rp_backend)job->backend);
    if (is_run && out->backend == RP_BACKEND_CUDA) {
        rp_comm_open_gpu_ahead(out->comm);
    }
    return rp_agree(out->comm, open_local(out));
}

void rp_session_close(rp_session *session)
{
    for (int k = 0; k < RP_MAX_OUTPUTS; k++) {
        json_decref(session->size_targets[k]);
    }
    rp_watchdog_stop(&session->watchdog);
    rp_checkpoint_close(&session->checkpoint);
    rp_lock_release(&session->lock);
    rp_importance_destroy(&session->importance);
    free(session->calibration_ids);
    session->calibration_ids = NULL;
    rp_linears_destroy(&session->linears);
    rp_exec_destroy(&session->exec);
    if (session->gpu != NULL) {
        rp_comm_detach_gpu(session->comm);
        rp_gpu_destroy(&session->gpu);
    }
    rp_tokenizer_destroy(&session->tokenizer);
    rp_weights_close(&session->weights);
    rp_job_destroy(&session->job);
}

void rp_session_close_failed(rp_session *session, rp_status status)
{
    const bool is_cleaning = status != RP_OK && session->comm != NULL && session->job != NULL &&
                             rp_comm_rank(session->comm) == 0;

    rp_watchdog_stop(&session->watchdog);
    rp_lock_release(&session->lock);
    if (is_cleaning) {
        (void)rmdir(session->job->output.dir);
    }
    rp_session_close(session);
}

void rp_session_lap(rp_session *session, rp_phase phase, double *start)
{
    double now = 0;

    rp_place_wait(session->exec); /* a GPU's work counts where it was asked for */
    now = rp_clock_seconds();
    session->seconds[phase] += now - *start;
    rp_watchdog_note(session->watchdog, phase_names[phase]);
    *start = now;
}

void rp_session_does(rp_session *session, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(session->doing, sizeof(session->doing), fmt, args);
    va_end(args);
}

bool rp_session_prints(const rp_session *session)
{
    return rp_comm_rank(session->comm) == 0 && !session->cli->is_quiet;
}

rp_status rp_session_tokenize(const rp_session *session, const char *path, int32_t **ids,
                              int64_t *n_ids)
{
    return rp_tokenize_file(ids, n_ids, session->tokenizer, path, session->config->vocab_size);
}

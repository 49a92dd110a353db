/* The stages of a job in order; each is entered by all ranks and left by all ranks. */
#include "jobs/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "jobs/calibrate.h"
#include "jobs/calibration_text.h"
#include "jobs/evaluate.h"
#include "jobs/importance.h"
#include "jobs/out_folder.h"
#include "jobs/output.h"
#include "jobs/plan.h"
#include "jobs/report.h"
#include "jobs/size_target.h"
#include "mpi/comm_gpu.h"

typedef struct run {
    rp_session s;
    rp_store *stores[RP_MAX_OUTPUTS];
    rp_results results;
    json_t *facts;
    double start;
    int32_t *ids; /* of the evaluation's text; NULL: no evaluation */
    int64_t n_ids;
} run;

static rp_status lay_out_outputs(run *r)
{
    rp_status st = RP_OK;
    const double elems = (double)rp_weights_elems(r->s.weights);

    r->results.source_bytes = rp_weights_file_bytes(r->s.weights);
    r->results.source_bits_per_weight = 8 * (double)r->results.source_bytes / elems;
    for (int k = 0; k < (int)r->s.job->output.formats.n; k++) {
        rp_store_destroy(&r->stores[k]);
        RP_TRY(rp_store_create(&r->stores[k], &r->s, k));
        r->results.outputs[k].bytes = r->stores[k]->total_bytes;
        r->results.outputs[k].bits_per_weight = 8 * (double)r->stores[k]->total_bytes / elems;
    }
out:
    return st;
}

/* Collective. Outputs that have their final name are whole already, but a run that was stopped may
 * not have read them back. */
static rp_status write_outputs(run *r)
{
    rp_status st = RP_OK;

    for (int k = 0; k < (int)r->s.job->output.formats.n; k++) {
        rp_store *store = r->stores[k];
        /* Asked on every rank of one file system, after an agreement: all see the same. */
        if (!rp_comm_any(r->s.comm, rp_fs_exists(store->path))) {
            RP_TRY(rp_store_write(store, &r->s));
        }
        RP_TRY(rp_store_verify(store, &r->s));
        RP_LOG(RP_LOG_INFO, "output", rp_log_str("path", store->path),
               rp_log_i64("bytes", (int64_t)store->total_bytes));
    }
out:
    return st;
}

static rp_eval_opts eval_opts(const rp_session *s)
{
    const rp_job_evaluate *e = &s->job->evaluate;
    rp_eval_opts opts = rp_eval_opts_default();

    opts.context = e->context > 0 ? e->context : RP_MIN(2048, s->config->max_position);
    opts.style = e->variant == RP_WINDOWS_LLAMA_CPP ? RP_EVAL_LLAMA_CPP : RP_EVAL_WINDOWS;
    opts.add_bos = e->add_bos;
    opts.bos_id = s->config->bos_id;
    opts.max_windows = e->max_windows;
    return opts;
}

/* Collective. The text's ids on all ranks; rank 0 tokenises. */
static rp_status share_text(rp_session *s, int32_t **ids, int64_t *n_ids)
{
    rp_status st = RP_OK;

    if (rp_comm_rank(s->comm) == 0) {
        st = rp_session_tokenize(s, s->job->evaluate.text, ids, n_ids);
    }
    RP_TRY(rp_agree(s->comm, st));
    rp_comm_bcast(s->comm, n_ids, sizeof(*n_ids), 0);
    if (rp_comm_rank(s->comm) != 0) {
        st = rp_alloc_array(ids, (size_t)*n_ids, sizeof(**ids));
    }
    RP_TRY(rp_agree(s->comm, st));
    rp_comm_bcast(s->comm, *ids, (size_t)*n_ids * sizeof(**ids), 0);
out:
    return st;
}

/* Collective. Reads the evaluation's text before any work: a job must not end for want of it. */
static rp_status prepare_evaluation(run *r)
{
    rp_status st = RP_OK;
    rp_session *s = &r->s;
    const rp_eval_opts opts = eval_opts(s);
    int64_t n_windows = 0;

    if (s->job->evaluate.text == NULL) {
        return RP_OK;
    }
    if (opts.context > s->config->max_position) {
        st = RP_FAIL(RP_ERR_CONFIG, "evaluate.context is %lld, the model's limit is %lld",
                     (long long)opts.context, (long long)s->config->max_position);
    }
    RP_TRY(rp_agree(s->comm, st));
    RP_TRY(share_text(s, &r->ids, &r->n_ids));
    st = rp_eval_count_windows(&n_windows, &opts, r->n_ids);
    if (st != RP_OK) {
        st = rp_error_prefix(st, "%s", s->job->evaluate.text);
    }
    RP_TRY(rp_agree(s->comm, st));
out:
    return st;
}

/* A result as it is saved when the job stops between two evaluations. */
enum { N_WINDOWS, N_SCORED, NLL, PERPLEXITY, KL, TOP1, RESULT_VALUES };

static void result_unit(char *out, size_t out_bytes, int k)
{
    if (k < 0) {
        (void)snprintf(out, out_bytes, "evaluation/source");
    } else {
        (void)snprintf(out, out_bytes, "evaluation/%d", k);
    }
}

/* False when it was not saved. */
static bool take_result(rp_status *st, rp_eval_result *out, rp_session *s, int k)
{
    char unit[32];
    double *v = NULL;
    int64_t n = 0;

    *st = RP_OK;
    result_unit(unit, sizeof(unit), k);
    if (s->checkpoint == NULL || !rp_checkpoint_has(s->checkpoint, unit)) {
        return false;
    }
    *st = rp_checkpoint_get_array(s->checkpoint, unit, RP_F64, &v, &n);
    if (*st == RP_OK && n != RESULT_VALUES) {
        *st = RP_FAIL(RP_ERR_FORMAT, "checkpoint unit %s: %lld values, want %d", unit, (long long)n,
                      RESULT_VALUES);
    }
    if (*st == RP_OK) {
        *out = (rp_eval_result){
            (int64_t)v[N_WINDOWS], (int64_t)v[N_SCORED], v[NLL], v[PERPLEXITY], v[KL], v[TOP1]};
    }
    free(v);
    return true;
}

static rp_status put_result(const rp_eval_result *e, rp_session *s, int k)
{
    const double v[RESULT_VALUES] = {
        (double)e->n_windows, (double)e->n_scored, e->nll, e->perplexity, e->kl, e->top1};
    char unit[32];

    result_unit(unit, sizeof(unit), k);
    return s->checkpoint == NULL || rp_comm_rank(s->comm) != 0
               ? RP_OK
               : rp_checkpoint_put_array(s->checkpoint, unit, RP_F64, v, RESULT_VALUES);
}

/* Collective. Output k; -1: the source. */
static rp_status evaluate_one(rp_eval_result *out, run *r, const rp_evaluator *e, int k)
{
    rp_status st = RP_OK;
    rp_session *s = &r->s;
    const unsigned with_base = RP_METRIC_KL_DIVERGENCE | RP_METRIC_TOP1_AGREEMENT;
    const bool has_base = k >= 0 && (s->job->evaluate.metrics & with_base) != 0;
    rp_weights *written = NULL;

    if (take_result(&st, out, s, k)) {
        return rp_agree(s->comm, st);
    }
    if (k >= 0) {
        RP_TRY(rp_agree(s->comm, rp_weights_open(&written, r->stores[k]->path)));
    }
    RP_TRY(rp_evaluate(out, e, k >= 0 ? written : s->weights, has_base ? s->weights : NULL,
                       k >= 0 ? s->job->output.formats.items[k].name : "evaluate before"));
    RP_TRY(rp_agree(s->comm, put_result(out, s, k)));
out:
    rp_weights_close(&written);
    return st;
}

static rp_status evaluate_with(run *r, const rp_evaluator *e)
{
    rp_status st = RP_OK;
    rp_session *s = &r->s;

    RP_TRY(evaluate_one(&r->results.source_eval, r, e, -1));
    r->results.is_evaluated = true;
    for (int k = 0; k < (int)s->job->output.formats.n; k++) {
        RP_TRY(evaluate_one(&r->results.outputs[k].eval, r, e, k));
        r->results.outputs[k].is_evaluated = true;
    }
out:
    return st;
}

static rp_status evaluate_all(run *r)
{
    rp_status st = RP_OK;
    rp_session *s = &r->s;
    double start = rp_clock_seconds();
    /* Figures are of f32 products, whatever calibration used. */
    rp_exec exec = *s->exec;
    rp_evaluator e = {
        .comm = s->comm, .ops = s->ops, .exec = &exec, .ids = r->ids, .n_ids = r->n_ids};

    exec.products = RP_PRODUCTS_F32;
    if (r->ids == NULL) {
        return RP_OK;
    }
    e.opts = eval_opts(s);
    e.progress = rp_session_prints(s) ? stderr : NULL;
    e.stop = &s->stop;
    if (s->checkpoint != NULL) {
        RP_TRY(rp_agree(s->comm, rp_checkpoint_begin(s->checkpoint)));
    }
    st = evaluate_with(r, &e);
    if (st == RP_ERR_STOPPED && s->checkpoint != NULL) {
        RP_TRY(rp_checkpoint_commit(s->checkpoint, RP_OK));
        st = RP_ERR_STOPPED; /* its message is still there */
    }
    rp_session_lap(s, RP_PHASE_EVALUATE, &start);
out:
    return st;
}

static rp_status finish(run *r)
{
    rp_status st = RP_OK;
    rp_session *s = &r->s;
    rp_status verdict = RP_OK;

    st = rp_lock_check(s->lock);
    if (st == RP_OK) {
        st = rp_report_collect(&r->facts, &r->results, s);
    }
    RP_TRY(rp_agree(s->comm, st));
    r->results.seconds = rp_clock_seconds() - r->start;
    RP_TRY(rp_report_write(s, &r->results, r->facts));
    if (s->checkpoint != NULL && s->job->cluster.checkpoint.remove_when_done) {
        RP_TRY(rp_checkpoint_remove(s->checkpoint));
    }
    if (rp_session_prints(s)) {
        rp_report_print(s, &r->results);
    }
    verdict = rp_report_judge(s, &r->results);
    st = rp_agree(s->comm, verdict);
out:
    return st;
}

/* Collective. Whether the output folder has such a file: RP_JOB_FILE from a job's start,
 * RP_REPORT_FILE when nothing is left to do. */
static rp_status find_file(bool *is_there, const rp_session *s, const char *name)
{
    rp_status st = RP_OK;
    char *path = NULL;

    RP_TRY(rp_agree(s->comm, rp_fs_join(&path, s->job->output.dir, name)));
    *is_there = rp_comm_any(s->comm, rp_fs_exists(path));
out:
    free(path);
    return st;
}

/* Collective. Reads the texts, unless nothing is left to do with them. */
static rp_status prepare_texts(run *r, bool *is_done)
{
    rp_status st = RP_OK;

    RP_TRY(find_file(is_done, &r->s, RP_REPORT_FILE));
    if (!*is_done) {
        rp_calibration_read_ahead(&r->s);
        RP_TRY(prepare_evaluation(r));
    }
out:
    return st;
}

/* Collective. A new job ends for want of its calibration text before it has a folder; one that goes
 * on may need it no more. */
static rp_status check_calibration(rp_session *s)
{
    rp_status st = RP_OK;
    bool is_begun = false;

    RP_TRY(find_file(&is_begun, s, RP_JOB_FILE));
    if (!is_begun) {
        RP_TRY(rp_calibration_read(s));
    }
out:
    return st;
}

/* Collective. */
static rp_status finish_again(const rp_session *s)
{
    if (rp_session_prints(s)) {
        (void)printf("%s: done before; the report is %s/%s\n", s->job->output.dir,
                     s->job->output.dir, RP_REPORT_FILE);
    }
    return rp_agree(s->comm, rp_report_judge_again(s));
}

/* On stdout: nothing is wrong. */
static void say_backend(const rp_session *s)
{
    if (s->job->backend == RP_BACKEND_AUTO && s->backend == RP_BACKEND_CPU && rp_gpu_is_built() &&
        rp_session_prints(s)) {
        const char *trouble = rp_gpu_trouble();
        (void)printf("%s%s%s%s: cpu back end\n",
                     rp_comm_nranks(s->comm) > 1 ? "not every rank has a GPU" : "no GPU",
                     trouble != NULL ? " (" : "", trouble != NULL ? trouble : "",
                     trouble != NULL ? ")" : "");
    }
}

static rp_status run_stages(run *r)
{
    rp_status st = RP_OK;
    rp_session *s = &r->s;
    rp_plan plan;
    bool was_done = false; /* before another job may have held the folder */
    bool is_done = false;

    RP_TRY(rp_agree(s->comm, rp_size_target_prepare(s)));
    RP_TRY(rp_agree(s->comm, lay_out_outputs(r)));
    RP_TRY(prepare_texts(r, &was_done));
    RP_TRY(rp_plan_make(&plan, s, r->stores, rp_comm_nranks(s->comm)));
    RP_TRY(rp_agree(s->comm, rp_plan_check(&plan, s)));
    RP_TRY(rp_agree(s->comm, rp_plan_check_gpu(&plan)));
    RP_TRY(check_calibration(s));
    r->results.planned_bytes = plan.memory_bytes;
    r->results.planned_place_bytes = plan.place_bytes;
    s->streams_activations = plan.streams_activations;
    s->write_elems = plan.write_elems;
    RP_TRY(rp_session_open_gpu(s, plan.place_bytes));
    RP_TRY(rp_out_folder_open(s, plan.disk_bytes));
    rp_importance_warn(s->importance);
    RP_TRY(find_file(&is_done, s, RP_REPORT_FILE));
    if (was_done || is_done) {
        return finish_again(s);
    }
    RP_LOG(RP_LOG_INFO, "start", rp_log_i64("epoch", (int64_t)time(NULL)),
           rp_log_i64("ranks", rp_comm_nranks(s->comm)));
    say_backend(s);
    rp_session_does(s, "while types were chosen");
    RP_TRY(rp_size_target_choose(s));
    RP_TRY(rp_agree(s->comm, lay_out_outputs(r)));
    rp_session_use_gpu(s);
    if (s->checkpoint != NULL) {
        RP_TRY(rp_calibrate(s));
        RP_TRY(rp_importance_write(s));
    }
    rp_session_does(s, "while writing");
    RP_TRY(write_outputs(r));
    rp_session_does(s, "while evaluating");
    RP_TRY(evaluate_all(r));
    RP_TRY(finish(r));
out:
    return st;
}

/* Collective. */
static rp_status name_stop(const rp_session *s)
{
    const char *failure = rp_comm_gpu_failure(s->comm);

    if (failure != NULL) {
        return RP_FAIL(RP_ERR_STOPPED, "stopped %s: %.800s; go on with: rankpress resume %s",
                       s->doing, failure, s->job->output.dir);
    }
    return RP_FAIL(RP_ERR_STOPPED, "stopped by %s %s; go on with: rankpress resume %s",
                   rp_stop_first_reason(&s->stop), s->doing, s->job->output.dir);
}

rp_status rp_run_job(const rp_cli *cli, rp_job *job)
{
    rp_status st = RP_OK;
    run r = {.start = rp_clock_seconds()};

    RP_TRY(rp_session_open(&r.s, cli, job, true));
    RP_TRY(run_stages(&r));
out:
    if (st == RP_ERR_STOPPED) {
        st = name_stop(&r.s);
    }
    if (st != RP_OK) {
        RP_LOG(RP_LOG_ERROR, "end", rp_log_i64("code", rp_status_exit_code(st)),
               rp_log_str("message", rp_error_message()), rp_log_str("place", rp_error_place()));
    }
    json_decref(r.facts);
    free(r.ids);
    for (int k = 0; k < RP_MAX_OUTPUTS; k++) {
        rp_store_destroy(&r.stores[k]);
    }
    rp_session_close_failed(&r.s, st);
    rp_log_close();
    return st;
}

rp_status rp_cmd_run(const rp_cli *cli)
{
    rp_status st = RP_OK;
    rp_job *job = NULL;

    RP_TRY(rp_agree(cli->comm, rp_job_load(&job, cli->args[0], cli->args + 1, cli->n_args - 1)));
    RP_TRY(rp_run_job(cli, job));
out:
    return st;
}

rp_status rp_cmd_resume(const rp_cli *cli)
{
    rp_status st = RP_OK;
    rp_job *job = NULL;
    char *path = NULL;

    st = rp_fs_join(&path, cli->args[0], RP_JOB_FILE);
    if (st == RP_OK && !rp_fs_exists(path)) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: not a folder of a started job: it has no %s", cli->args[0],
                     RP_JOB_FILE);
    }
    if (st == RP_OK) {
        st = rp_job_load(&job, path, NULL, 0);
    }
    RP_TRY(rp_agree(cli->comm, st));
    RP_TRY(rp_run_job(cli, job));
out:
    free(path);
    return st;
}

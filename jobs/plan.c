/* Adds up what the parts of a job say of themselves. */
#include "jobs/plan.h"

#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "jobs/backend.h"
#include "jobs/calibration_text.h"
#include "jobs/drift.h"
#include "jobs/output_units.h"
#include "jobs/site_linears.h"
#include "jobs/size_target.h"
#include "jobs/type_measure.h"
#include "model/eval.h"
#include "model/executor.h"

/* Program, shared libraries, MPI's buffers, tokenizer: measured on a run of a tiny model. */
#define BASE_BYTES ((size_t)96 << 20)
/* Bytes of one value while it is written: f32, its code, the type of the file, reordered, and the
 * code of one that is written next (output.c, output_units.c). */
#define WRITE_BYTES_A_VALUE 15

static void count_site(rp_plan *plan, const rp_session *s, int64_t layer, rp_site site)
{
    const int64_t n_tokens = plan->blocks.n_seqs * plan->blocks.seq_len;
    const double tokens = (double)n_tokens;
    const double c = (double)rp_model_site_width(s->config, site);
    const rp_linear *linears[RP_SITE_LINEARS];
    const int n = rp_site_linears(linears, &s->linears, layer, site);
    const rp_drift_work drift = rp_drift_work_of(linears, n, &plan->blocks);
    bool has_gram = false;

    plan->forward_flop += (s->linears.corrects_drift ? 2 : 1) *
                          rp_executor_step_flop(s->config, site, n_tokens, plan->blocks.seq_len);
    for (int i = 0; i < n; i++) {
        has_gram = has_gram || rp_linear_needs_factor(linears[i]);
        plan->solve_flop += linears[i]->n_forms * (double)linears[i]->rows * c * c;
    }
    plan->gram_flop += drift.sum_flop;
    plan->solve_flop += drift.solve_flop;
    if (has_gram) {
        plan->gram_flop += tokens * c * c;
        plan->factor_flop += c * c * c / 3;
    }
}

static void count_work(rp_plan *plan, const rp_session *s)
{
    for (int64_t l = 0; l < s->config->n_layers; l++) {
        for (int site = 0; site < RP_SITE_COUNT; site++) {
            count_site(plan, s, l, (rp_site)site);
        }
    }
}

static size_t checkpoint_bytes(const rp_plan *plan, const rp_session *s)
{
    /* The streams at a border in each manifest that is kept, and while the next replaces them. */
    size_t total = (size_t)(plan->blocks.n_seqs * plan->blocks.seq_len * s->config->hidden_size) *
                   (s->linears.corrects_drift ? 2 : 1) * sizeof(float) *
                   (size_t)(s->job->cluster.checkpoint.keep + 1);

    for (int64_t i = 0; i < s->linears.n; i++) {
        total += rp_linear_stored_bytes(&s->linears.items[i]);
    }
    return total;
}

/* What a rank may use. */
static size_t memory_limit(const rp_session *s)
{
    const int64_t asked = s->job->cluster.memory_per_rank;
    const size_t physical = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);

    return asked > 0 ? (size_t)asked : physical / (size_t)rp_comm_node_nranks(s->comm);
}

/* Units for all threads, or what fits, but at least the largest. */
static void plan_writing(rp_plan *plan, const rp_session *s, rp_store *const *stores)
{
    const size_t limit = memory_limit(s);
    const size_t room = limit > plan->base_bytes ? limit - plan->base_bytes : 0;
    int64_t most = RP_STORE_UNIT_ELEMS;

    for (int64_t k = 0; k < s->job->output.formats.n; k++) {
        most = RP_MAX(most, rp_store_most_elems(stores[k]));
    }
    plan->write_elems = RP_MIN((int64_t)(room / WRITE_BYTES_A_VALUE),
                               most * plan->nthreads * RP_STORE_UNITS_A_THREAD);
    plan->write_elems = RP_MAX(plan->write_elems, most);
    plan->write_bytes_memory = (size_t)plan->write_elems * WRITE_BYTES_A_VALUE;
}

static rp_place_bytes evaluate_memory(const rp_plan *plan, const rp_session *s)
{
    const rp_job_evaluate *e = &s->job->evaluate;
    const bool has_base = (e->metrics & (RP_METRIC_KL_DIVERGENCE | RP_METRIC_TOP1_AGREEMENT)) != 0;
    rp_eval_opts opts = rp_eval_opts_default();

    if (e->text == NULL) {
        return (rp_place_bytes){0, 0};
    }
    opts.context = e->context > 0 ? e->context : RP_MIN(2048, s->config->max_position);
    return rp_eval_bytes(s->config, has_base, &opts, s->backend == RP_BACKEND_CUDA, plan->nthreads,
                         e->max_windows > 0 ? e->max_windows : 1024);
}

static rp_place_bytes add_bytes(rp_place_bytes a, rp_place_bytes b)
{
    return (rp_place_bytes){a.host + b.host, a.place + b.place};
}

static rp_place_bytes calibrate_bytes(const rp_calibrate_memory *m)
{
    return add_bytes(add_bytes(add_bytes(m->activations, m->layer), m->checkpoint),
                     add_bytes(m->executor, m->solver));
}

static size_t arena_bytes(const rp_plan *plan, const rp_calibrate_memory *calibrate)
{
    return rp_backend_arena_bytes(RP_MAX(calibrate_bytes(calibrate).place, plan->evaluate.place));
}

static bool has_room(const rp_plan *plan)
{
    return !plan->gpu_room.is_known || plan->place_bytes <= plan->gpu_room.arena_bytes;
}

/* Activations that find no room in a GPU are kept on the host, where that helps. */
static void fit_gpu(rp_plan *plan, const rp_session *s)
{
    plan->place_bytes = arena_bytes(plan, &plan->calibrate);
    if (!has_room(plan) && plan->needs_calibration) {
        const rp_calibrate_memory streamed =
            rp_calibrate_memory_of(s, plan->nranks, plan->nthreads, true);
        const size_t nbytes = arena_bytes(plan, &streamed);
        if (nbytes < plan->place_bytes) {
            plan->streams_activations = true;
            plan->calibrate = streamed;
            plan->place_bytes = nbytes;
        }
    }
}

/* The peaks of the stages that use a place, on the host and in a GPU, or of both on the host. */
static size_t place_stages(rp_plan *plan, const rp_session *s)
{
    const bool has_gpu = s->backend == RP_BACKEND_CUDA;
    const rp_place_bytes evaluate = plan->evaluate;
    rp_place_bytes calibrate = {0};

    if (has_gpu) {
        fit_gpu(plan, s);
    }
    calibrate = calibrate_bytes(&plan->calibrate);
    return has_gpu ? RP_MAX(calibrate.host, evaluate.host)
                   : RP_MAX(calibrate.host + calibrate.place, evaluate.host + evaluate.place);
}

static rp_status plan_calibration(rp_plan *plan, const rp_session *s)
{
    if (!plan->needs_calibration) {
        return RP_OK;
    }
    plan->blocks = rp_calibration_blocks(s->job, s->config);
    if (plan->blocks.seq_len > s->config->max_position) {
        return RP_FAIL(RP_ERR_CONFIG,
                       "calibration.max_seq_length is %lld, the model's limit is %lld",
                       (long long)plan->blocks.seq_len, (long long)s->config->max_position);
    }
    plan->calibrate = rp_calibrate_memory_of(s, plan->nranks, plan->nthreads, false);
    plan->checkpoint_bytes = checkpoint_bytes(plan, s);
    count_work(plan, s);
    return RP_OK;
}

/* The GPUs' room is known. */
static rp_status make_local(rp_plan *out, const rp_session *s, rp_store *const *stores, int nranks)
{
    rp_status st = RP_OK;
    rp_plan plan = {.nranks = nranks,
                    .needs_calibration = s->linears.needs_calibration,
                    .gpu_room = out->gpu_room};
    size_t stage = 0;

    plan.nthreads = rp_session_threads(s->comm, s->job->cluster.threads);
    plan.base_bytes =
        BASE_BYTES + rp_exec_bytes(plan.nthreads, (rp_products)s->job->cluster.products);
    RP_TRY(plan_calibration(&plan, s));
    plan.evaluate = evaluate_memory(&plan, s);
    stage = place_stages(&plan, s);
    if (s->linears.needs_measuring) {
        plan.measure_flop = rp_type_measure_flop(s);
        plan.measure_bytes_memory = RP_MAX(rp_type_measure_bytes(s, nranks, plan.nthreads),
                                           rp_type_compare_bytes(s, nranks, plan.nthreads));
        stage = RP_MAX(stage, plan.measure_bytes_memory);
    }
    plan_writing(&plan, s, stores);
    stage = RP_MAX(stage, plan.write_bytes_memory);
    plan.memory_bytes = plan.base_bytes + stage;
    for (int64_t k = 0; k < s->job->output.formats.n; k++) {
        plan.output_bytes[k] = rp_size_target_most(s, k, stores[k]->total_bytes);
        plan.disk_bytes += plan.output_bytes[k];
    }
    plan.disk_bytes += plan.checkpoint_bytes;
    *out = plan;
out:
    return st;
}

rp_status rp_plan_make(rp_plan *out, const rp_session *session, rp_store *const *stores, int nranks)
{
    rp_status st = RP_OK;

    memset(out, 0, sizeof(*out));
    if (session->backend == RP_BACKEND_CUDA) {
        RP_TRY(rp_backend_find_room(&out->gpu_room, session->comm));
    }
    RP_TRY(rp_agree(session->comm, make_local(out, session, stores, nranks)));
out:
    return st;
}

rp_status rp_plan_check_gpu(const rp_plan *plan)
{
    const rp_backend_room *room = &plan->gpu_room;
    const bool is_evaluating = plan->evaluate.place > calibrate_bytes(&plan->calibrate).place;

    if (has_room(plan)) {
        return RP_OK;
    }
    return RP_FAIL(RP_ERR_MEMORY, "a rank's GPU needs %.3f GB%s, %.3f GB of it are free: use %s",
                   (double)(plan->place_bytes + room->own_bytes) / 1e9,
                   plan->streams_activations ? " with the activations on the host" : "",
                   (double)(room->arena_bytes + room->own_bytes) / 1e9,
                   is_evaluating ? "fewer evaluate.max_windows, or a shorter evaluate.context"
                                 : "smaller calibration.block_tokens");
}

rp_status rp_plan_check(const rp_plan *plan, const rp_session *session)
{
    const size_t limit = memory_limit(session);

    if (plan->memory_bytes > limit) {
        return RP_FAIL(RP_ERR_MEMORY,
                       "a rank needs %.2f GB, %s allows %.2f GB: use more ranks, fewer samples "
                       "or shorter sequences",
                       (double)plan->memory_bytes / 1e9,
                       session->job->cluster.memory_per_rank > 0 ? "cluster.memory_per_rank"
                                                                 : "this node's memory",
                       (double)limit / 1e9);
    }
    return RP_OK;
}

rp_status rp_planning_open(rp_planning *out, const rp_cli *cli, rp_job *job, int nranks)
{
    rp_status st = RP_OK;
    rp_session *s = &out->session;

    memset(out, 0, sizeof(*out));
    RP_TRY(rp_session_open(s, cli, job, false));
    RP_TRY(rp_agree(cli->comm, rp_size_target_prepare(s)));
    for (int k = 0; k < (int)job->output.formats.n && st == RP_OK; k++) {
        st = rp_store_create(&out->stores[k], s, k);
    }
    RP_TRY(rp_agree(cli->comm, st));
    RP_TRY(rp_plan_make(&out->plan, s, out->stores, nranks));
out:
    return st;
}

void rp_planning_close(rp_planning *planning)
{
    for (int k = 0; k < RP_MAX_OUTPUTS; k++) {
        rp_store_destroy(&planning->stores[k]);
    }
    rp_session_close(&planning->session);
}

/* The report is made on rank 0 as one tree; the page, the cards and report.json are written from
 * it. report.json comes last: a folder that has it is done. */
#include "jobs/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "formats/json.h"
#include "jobs/calibrate.h"
#include "jobs/importance.h"
#include "jobs/model_card.h"
#include "jobs/print.h"
#include "jobs/report_html.h"
#include "jobs/run.h"
#include "kernels/gpu.h"
#include "mpi/comm_gpu.h"

#define REPORT_VERSION 1

static rp_status count_layer(rp_results *results, const json_t *layer)
{
    const json_t *fact = NULL;
    size_t i = 0;

    json_array_foreach(layer, i, fact)
    {
        results->n_fallbacks += json_is_true(json_object_get(fact, "fallback"));
        results->n_damped += json_array_size(json_object_get(fact, "damping_tried")) > 1;
        results->n_drift_kept +=
            json_is_false(json_object_get(json_object_get(fact, "drift"), "taken"));
    }
    return RP_OK;
}

static void count_kept_dense(rp_results *results, const rp_session *s)
{
    for (int64_t i = 0; i < s->linears.n; i++) {
        const rp_linear *linear = &s->linears.items[i];
        for (int64_t k = 0; k < s->job->output.formats.n; k++) {
            results->n_kept_dense += rp_linear_is_kept_dense(&s->linears, linear, k);
        }
    }
}

static rp_status add_site_facts(json_t *layer, rp_session *session, int64_t l, int site)
{
    rp_status st = RP_OK;
    char unit[64];
    char *text = NULL;
    json_t *facts = NULL;

    rp_calibrate_facts_unit(unit, sizeof(unit), l, site);
    RP_TRY(rp_checkpoint_get_text(session->checkpoint, unit, &text));
    RP_TRY(rp_json_parse(&facts, text, strlen(text), unit));
    if (json_array_extend(layer, facts) != 0) {
        st = RP_FAIL(RP_ERR_MEMORY, "no memory for the facts of a layer");
    }
out:
    json_decref(facts);
    free(text);
    return st;
}

rp_status rp_report_collect(json_t **facts, rp_results *results, rp_session *session)
{
    rp_status st = RP_OK;

    *facts = json_array();
    count_kept_dense(results, session);
    for (int64_t l = 0; session->checkpoint != NULL && l < session->config->n_layers; l++) {
        json_t *layer = json_array();
        (void)json_array_append_new(*facts, layer);
        for (int site = 0; site < RP_SITE_COUNT; site++) {
            RP_TRY(add_site_facts(layer, session, l, site));
        }
        RP_TRY(count_layer(results, layer));
    }
out:
    return st;
}

/* Were the written files compared with the source model, token by token. */
static bool has_base(const rp_session *s)
{
    return (s->job->evaluate.metrics & (RP_METRIC_KL_DIVERGENCE | RP_METRIC_TOP1_AGREEMENT)) != 0;
}

/* The value that a gate judges; NAN when it was not measured. */
static double gate_value(const rp_session *s, const rp_results *results, int64_t kind)
{
    const rp_output_result *first = &results->outputs[0];
    const bool is_evaluated = results->is_evaluated && first->is_evaluated;

    switch ((rp_gate_kind)kind) {
    case RP_GATE_PERPLEXITY_RATIO:
        return is_evaluated ? first->eval.perplexity / results->source_eval.perplexity
                            : (double)NAN;
    case RP_GATE_SIZE_RATIO:
        return (double)first->bytes / (double)results->source_bytes;
    case RP_GATE_KL_DIVERGENCE:
        return is_evaluated && has_base(s) ? first->eval.kl : (double)NAN;
    case RP_GATE_FALLBACKS:
        return (double)results->n_fallbacks;
    case RP_GATE_COUNT:
        break;
    }
    return (double)NAN;
}

static bool is_passed(const rp_session *s, const rp_results *results, const rp_gate *gate)
{
    return gate_value(s, results, gate->kind) <= gate->limit; /* not measured: not passed */
}

rp_status rp_report_judge(const rp_session *session, const rp_results *results)
{
    for (int64_t i = 0; i < session->job->gates.n; i++) {
        const rp_gate *gate = &session->job->gates.items[i];
        if (!is_passed(session, results, gate)) {
            return RP_FAIL(RP_ERR_GATE,
                           "gate failed: %s is %.6g, the limit is %.6g (files are kept in %s)",
                           rp_gate_name(gate->kind), gate_value(session, results, gate->kind),
                           gate->limit, session->job->output.dir);
        }
    }
    return RP_OK;
}

rp_status rp_report_judge_again(const rp_session *session)
{
    rp_status st = RP_OK;
    char *path = NULL;
    json_t *root = NULL;
    const json_t *gate = NULL;
    size_t i = 0;

    RP_TRY(rp_fs_join(&path, session->job->output.dir, RP_REPORT_FILE));
    RP_TRY(rp_json_load(&root, path));
    json_array_foreach(json_object_get(root, "gates"), i, gate)
    {
        if (!json_is_true(json_object_get(gate, "passed"))) {
            st = RP_FAIL(RP_ERR_GATE, "gate failed: %s (%s)",
                         json_string_value(json_object_get(gate, "name")), path);
            goto out;
        }
    }
out:
    json_decref(root);
    free(path);
    return st;
}

/* null for what JSON has no number for. */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *eval_json(const rp_eval_result *eval, bool with_base)
{
    json_t *out = json_pack("{s:I, s:I, s:o, s:o}", "windows", (json_int_t)eval->n_windows,
                            "tokens", (json_int_t)eval->n_scored, "nll", number(eval->nll),
                            "perplexity", number(eval->perplexity));

    if (with_base) {
        (void)json_object_set_new(out, "kl_divergence", number(eval->kl));
        (void)json_object_set_new(out, "top1_agreement", number(eval->top1));
    }
    return out;
}

/* How an output stores the linears: words -> how many. */
static json_t *linears_json(const rp_session *s, int64_t output)
{
    json_t *kinds = json_object();

    for (int64_t i = 0; i < s->linears.n; i++) {
        const rp_linear *linear = &s->linears.items[i];
        const int form = linear->form_of_output[output];
        char kind[128] = "dense";
        if (rp_linear_is_copied(&s->linears, linear, output)) {
            (void)snprintf(kind, sizeof(kind), "%s of the source", linear->stored_as->name);
        } else if (form != RP_FORM_NONE) {
            char grid[64];
            rp_grid_describe(&linear->grid[form], grid, sizeof(grid));
            (void)snprintf(kind, sizeof(kind), "%s %s", rp_method_name(linear->choice.method),
                           grid);
        }
        (void)json_object_set_new(
            kinds, kind, json_integer(1 + json_integer_value(json_object_get(kinds, kind))));
    }
    return kinds;
}

static json_t *source_json(const rp_results *results)
{
    json_t *source = json_pack("{s:I, s:o}", "bytes", (json_int_t)results->source_bytes,
                               "bits_per_weight", number(results->source_bits_per_weight));

    if (results->is_evaluated) {
        (void)json_object_set_new(source, "evaluation", eval_json(&results->source_eval, false));
    }
    return source;
}

static json_t *outputs_json(const rp_session *s, const rp_results *results)
{
    json_t *outputs = json_array();

    for (int64_t k = 0; k < s->job->output.formats.n; k++) {
        const rp_output_format *format = &s->job->output.formats.items[k];
        const rp_output_result *r = &results->outputs[k];
        json_t *output =
            json_pack("{s:s, s:s, s:I, s:o, s:b, s:o}", "name", format->name, "format",
                      rp_format_kind_name(format->kind), "bytes", (json_int_t)r->bytes,
                      "bits_per_weight", number(r->bits_per_weight), "drives_propagation",
                      (int)(k == 0), "linears", linears_json(s, k));
        if (s->linears.types[k].n > 0) {
            (void)json_object_set_new(output, "types", rp_gguf_types_count(&s->linears.types[k]));
        }
        if (s->size_targets[k] != NULL) {
            (void)json_object_set(output, "size_target", s->size_targets[k]);
        }
        if (r->is_evaluated) {
            (void)json_object_set_new(output, "evaluation", eval_json(&r->eval, has_base(s)));
        }
        (void)json_array_append_new(outputs, output);
    }
    return outputs;
}

static json_t *gates_json(const rp_session *s, const rp_results *results)
{
    json_t *gates = json_array();

    for (int64_t i = 0; i < s->job->gates.n; i++) {
        const rp_gate *gate = &s->job->gates.items[i];
        (void)json_array_append_new(
            gates, json_pack("{s:s, s:f, s:o, s:b}", "name", rp_gate_name(gate->kind), "limit",
                             gate->limit, "value", number(gate_value(s, results, gate->kind)),
                             "passed", (int)is_passed(s, results, gate)));
    }
    return gates;
}

/* Each number the largest over the ranks; all of this run. */
typedef struct costs {
    double seconds[RP_PHASE_COUNT];
    double flop[RP_PHASE_COUNT];
    double peak_bytes;
} costs;

static json_t *phases_json(const costs *c)
{
    json_t *phases = json_object();

    for (int i = 0; i < RP_PHASE_COUNT; i++) {
        (void)json_object_set_new(
            phases, rp_phase_name((rp_phase)i),
            json_pack("{s:f, s:f}", "seconds", c->seconds[i], "flop", c->flop[i]));
    }
    return phases;
}

/* The folder's name; "owner/name" for a folder of the hub's cache
 * (.../models--owner--name/snapshots/REVISION). */
static rp_status model_name(json_t **out, const char *path)
{
    static const char cache_mark[] = "/models--";
    rp_status st = RP_OK;
    const char *begin = strstr(path, cache_mark);
    const char *end = path + strlen(path);
    const char *dashes = NULL;

    if (begin != NULL) {
        begin += strlen(cache_mark);
        end = begin + strcspn(begin, "/");
        dashes = strstr(begin, "--");
    } else {
        while (end > path + 1 && end[-1] == '/') {
            end--;
        }
        begin = end;
        while (begin > path && begin[-1] != '/') {
            begin--;
        }
    }
    *out = dashes != NULL && dashes < end ? json_sprintf("%.*s/%.*s", (int)(dashes - begin), begin,
                                                         (int)(end - dashes - 2), dashes + 2)
                                          : json_stringn(begin, (size_t)(end - begin));
    RP_TRY(rp_json_made(*out));
out:
    return st;
}

/* Of this rank. The arena is what was planned; libraries take more beside it. */
static json_t *gpu_json(const rp_session *s, const rp_results *results)
{
    if (s->gpu == NULL) {
        return json_null();
    }
    return json_pack("{s:s, s:I, s:I, s:I}", "transport", rp_comm_gpu_transport(s->comm),
                     "planned_bytes", (json_int_t)results->planned_place_bytes, "peak_bytes",
                     (json_int_t)rp_gpu_peak_bytes(s->gpu), "own_bytes",
                     (json_int_t)rp_gpu_own_bytes(NULL));
}

/* The tree that becomes report.json. */
static rp_status make_report(json_t **out, const rp_session *s, const rp_results *results,
                             const costs *c, const json_t *facts)
{
    rp_status st = RP_OK;
    const rp_job *job = s->job;
    json_t *name = NULL;

    RP_TRY(model_name(&name, job->model));
    *out = json_pack(
        "{s:i, s:s, s:s, s:o, s:s?, s:s?, s:i, s:i, s:s, s:o, s:f, s:I, s:I, s:I, s:I, "
        "s:I, s:I, s:o, s:o, "
        "s:o, s:o, s:o, s:o}",
        "version", REPORT_VERSION, "program", "rankpress " RP_VERSION, "model", job->model,
        "model_name", name, "calibration_text", job->calibration.text, "evaluation_text",
        job->evaluate.text, "ranks", rp_comm_nranks(s->comm), "threads",
        rp_pool_nthreads(s->exec->pool), "arithmetic", s->arithmetic, "gpu", gpu_json(s, results),
        "seconds", results->seconds, "peak_bytes_per_rank", (json_int_t)c->peak_bytes,
        "planned_bytes_per_rank", (json_int_t)results->planned_bytes, "fallbacks",
        (json_int_t)results->n_fallbacks, "damped", (json_int_t)results->n_damped, "drift_kept",
        (json_int_t)results->n_drift_kept, "kept_dense", (json_int_t)results->n_kept_dense,
        "imatrix", rp_importance_report(s->importance), "source", source_json(results), "outputs",
        outputs_json(s, results), "gates", gates_json(s, results), "phases", phases_json(c),
        "layers", json_deep_copy(facts));
    RP_TRY(rp_json_made(*out));
out:
    return st;
}

/* dir/name = text; `below` is a folder in between, or NULL. */
static rp_status write_text(const rp_session *s, const char *below, const char *name,
                            const char *text)
{
    rp_status st = RP_OK;
    char *path = NULL;

    RP_TRY(below != NULL ? rp_strprintf(&path, "%s/%s/%s", s->job->output.dir, below, name)
                         : rp_fs_join(&path, s->job->output.dir, name));
    RP_TRY(rp_fs_write_file(path, text, strlen(text)));
out:
    free(path);
    return st;
}

static rp_status write_card(const rp_session *s, const json_t *report, size_t output,
                            const char *job_lines)
{
    rp_status st = RP_OK;
    const char *below = output == RP_CARD_OF_ALL ? NULL : s->job->output.formats.items[output].name;
    char *text = NULL;

    RP_TRY(rp_model_card(&text, report, output, job_lines));
    RP_TRY(write_text(s, below, RP_CARD_FILE, text));
out:
    free(text);
    return st;
}

/* A GGUF output is one file: its card is that of the whole folder. */
static rp_status write_cards(const rp_session *s, const json_t *report)
{
    rp_status st = RP_OK;
    char *job_lines = NULL;

    RP_TRY(rp_job_lines(&job_lines, s->job));
    for (int64_t k = 0; k < s->job->output.formats.n; k++) {
        if (s->job->output.formats.items[k].kind != RP_FORMAT_GGUF) {
            RP_TRY(write_card(s, report, (size_t)k, job_lines));
        }
    }
    RP_TRY(write_card(s, report, RP_CARD_OF_ALL, job_lines));
out:
    free(job_lines);
    return st;
}

static rp_status write_files(const rp_session *s, const json_t *report)
{
    rp_status st = RP_OK;
    char *page = NULL;
    char *text = NULL;

    RP_TRY(rp_json_dump(&text, report, JSON_INDENT(2)));
    RP_TRY(rp_report_html(&page, report));
    RP_TRY(write_text(s, NULL, RP_REPORT_PAGE, page));
    RP_TRY(write_cards(s, report));
    RP_TRY(write_text(s, NULL, RP_REPORT_FILE, text));
out:
    free(page);
    free(text);
    return st;
}

rp_status rp_report_write(rp_session *session, const rp_results *results, const json_t *facts)
{
    rp_status st = RP_OK;
    costs c = {.peak_bytes = (double)rp_peak_resident_bytes()};
    json_t *report = NULL;

    memcpy(c.seconds, session->seconds, sizeof(c.seconds));
    memcpy(c.flop, session->flop, sizeof(c.flop));
    rp_comm_allreduce_max_f64(session->comm, c.seconds, RP_PHASE_COUNT);
    rp_comm_allreduce_max_f64(session->comm, c.flop, RP_PHASE_COUNT);
    rp_comm_allreduce_max_f64(session->comm, &c.peak_bytes, 1);
    if (rp_comm_rank(session->comm) == 0) {
        st = make_report(&report, session, results, &c, facts);
        if (st == RP_OK) {
            st = write_files(session, report);
        }
        json_decref(report);
    }
    return rp_agree(session->comm, st);
}

/* Columns that text takes: the bytes that do not continue a UTF-8 character. */
static int columns(const char *text)
{
    int n = 0;

    for (; *text != '\0'; text++) {
        n += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return n;
}

static void print_row(const char *name, int width, size_t bytes, double bits)
{
    char size[RP_SIZE_TEXT_BYTES];

    (void)printf("  %s%*s  %9s  %8.3f", name, width - columns(name), "",
                 rp_print_size(size, (double)bytes), bits);
}

static void print_table(const rp_session *s, const rp_results *results)
{
    const rp_job *job = s->job;
    const bool has_kl = results->is_evaluated && has_base(s);
    int width = columns("before");

    for (int64_t k = 0; k < job->output.formats.n; k++) {
        width = RP_MAX(width, columns(job->output.formats.items[k].name));
    }
    (void)printf("\n  %*s  %9s  %8s%s%s\n", width, "", "size", "bits/w",
                 results->is_evaluated ? "  perplexity" : "", has_kl ? "          KL   top-1" : "");
    print_row("before", width, results->source_bytes, results->source_bits_per_weight);
    if (results->is_evaluated) {
        (void)printf("  %10.4f", results->source_eval.perplexity);
    }
    (void)printf("\n");
    for (int64_t k = 0; k < job->output.formats.n; k++) {
        const rp_output_result *r = &results->outputs[k];
        print_row(job->output.formats.items[k].name, width, r->bytes, r->bits_per_weight);
        if (r->is_evaluated) {
            (void)printf("  %10.4f", r->eval.perplexity);
        }
        if (r->is_evaluated && has_kl) {
            (void)printf("  %10.6f  %6.4f", r->eval.kl, r->eval.top1);
        }
        (void)printf("\n");
    }
}

void rp_report_print(const rp_session *session, const rp_results *results)
{
    const rp_job *job = session->job;
    const int nranks = rp_comm_nranks(session->comm);

    print_table(session, results);
    (void)printf("\n  %.1f s on %d rank%s\n", results->seconds, nranks, nranks == 1 ? "" : "s");
    if (results->n_fallbacks > 0) {
        (void)printf("  FALLBACK: %lld tensors were rounded to nearest (the report names them)\n",
                     (long long)results->n_fallbacks);
    }
    if (results->n_damped > 0) {
        (void)printf("  %lld tensors needed more damping than asked (the report names them)\n",
                     (long long)results->n_damped);
    }
    if (results->n_drift_kept > 0) {
        (void)printf("  %lld tensors keep their plain target: correcting the drift did not help on "
                     "the text kept aside\n",
                     (long long)results->n_drift_kept);
    }
    if (results->n_kept_dense > 0) {
        (void)printf("  %lld tensors stay F16: their rows do not fill the type's blocks\n",
                     (long long)results->n_kept_dense);
    }
    for (int64_t i = 0; i < job->gates.n; i++) {
        const rp_gate *gate = &job->gates.items[i];
        (void)printf("  gate %s <= %g: %s (%.6g)\n", rp_gate_name(gate->kind), gate->limit,
                     is_passed(session, results, gate) ? "passed" : "FAILED",
                     gate_value(session, results, gate->kind));
    }
    (void)printf("  files:  %s\n  report: %s/%s\n", job->output.dir, job->output.dir,
                 RP_REPORT_PAGE);
}

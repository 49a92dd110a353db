#include "jobs/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "formats/json.h"
#include "jobs/run.h"
#include "kernels/cpu/cpu_features.h"

#define REPORT_VERSION 1

static rp_status count_layer(rp_results *results, const json_t *layer)
{
    const json_t *fact = NULL;
    size_t i = 0;

    json_array_foreach(layer, i, fact)
    {
        results->n_fallbacks += json_is_true(json_object_get(fact, "fallback"));
        results->n_damped += json_array_size(json_object_get(fact, "damping_tried")) > 1;
    }
    return RP_OK;
}

/* A linear that an output should have quantised, but whose width does not fill the type's blocks.
 */
static void count_kept_dense(rp_results *results, const rp_session *s)
{
    for (int64_t i = 0; i < s->linears.n; i++) {
        const rp_linear *linear = &s->linears.items[i];
        for (int64_t k = 0; k < s->job->output.formats.n && !linear->choice.is_dense; k++) {
            results->n_kept_dense += linear->form_of_output[k] == RP_FORM_NONE;
        }
    }
}

rp_status rp_report_collect(json_t **facts, rp_results *results, rp_session *session)
{
    rp_status st = RP_OK;
    char unit[64];
    char *text = NULL;

    *facts = json_array();
    count_kept_dense(results, session);
    for (int64_t l = 0; session->checkpoint != NULL && l < session->config->n_layers; l++) {
        json_t *layer = NULL;
        (void)snprintf(unit, sizeof(unit), "layer/%lld/facts", (long long)l);
        RP_TRY(rp_checkpoint_get_text(session->checkpoint, unit, &text));
        layer = json_loads(text, 0, NULL);
        free(text);
        text = NULL;
        if (layer == NULL || json_array_append_new(*facts, layer) != 0) {
            st = RP_FAIL(RP_ERR_FORMAT, "checkpoint unit %s is not JSON", unit);
            goto out;
        }
        RP_TRY(count_layer(results, layer));
    }
out:
    free(text);
    return st;
}

/* The value that a gate judges; NAN when it was not measured. */
static double gate_value(int64_t kind, const rp_results *results)
{
    const rp_output_result *first = &results->outputs[0];

    switch ((rp_gate_kind)kind) {
    case RP_GATE_PERPLEXITY_RATIO:
        return results->is_evaluated ? first->eval.perplexity / results->source_eval.perplexity
                                     : (double)NAN;
    case RP_GATE_SIZE_RATIO:
        return (double)first->bytes / (double)results->source_bytes;
    case RP_GATE_KL_DIVERGENCE:
        return results->is_evaluated ? first->eval.kl : (double)NAN;
    case RP_GATE_FALLBACKS:
        return (double)results->n_fallbacks;
    case RP_GATE_COUNT:
        break;
    }
    return (double)NAN;
}

static bool is_passed(const rp_gate *gate, const rp_results *results)
{
    return gate_value(gate->kind, results) <= gate->limit; /* not measured: not passed */
}

rp_status rp_report_judge(const rp_session *session, const rp_results *results)
{
    for (int64_t i = 0; i < session->job->gates.n; i++) {
        const rp_gate *gate = &session->job->gates.items[i];
        if (!is_passed(gate, results)) {
            return RP_FAIL(RP_ERR_GATE,
                           "gate failed: %s is %.6g, the limit is %.6g (files are kept in %s)",
                           rp_gate_name(gate->kind), gate_value(gate->kind, results), gate->limit,
                           session->job->output.dir);
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

static json_t *eval_json(const rp_eval_result *eval)
{
    return json_pack("{s:I, s:I, s:f, s:f, s:f, s:f}", "windows", (json_int_t)eval->n_windows,
                     "tokens", (json_int_t)eval->n_scored, "nll", eval->nll, "perplexity",
                     eval->perplexity, "kl_divergence", eval->kl, "top1_agreement", eval->top1);
}

static json_t *outputs_json(const rp_session *s, const rp_results *results)
{
    json_t *outputs = json_array();

    for (int64_t k = 0; k < s->job->output.formats.n; k++) {
        const rp_output_format *format = &s->job->output.formats.items[k];
        const rp_output_result *r = &results->outputs[k];
        json_t *output =
            json_pack("{s:s, s:s, s:I, s:f, s:b}", "name", format->name, "format",
                      rp_format_kind_name(format->kind), "bytes", (json_int_t)r->bytes,
                      "bits_per_weight", r->bits_per_weight, "drives_propagation", (int)(k == 0));
        if (r->is_evaluated) {
            (void)json_object_set_new(output, "evaluation", eval_json(&r->eval));
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
        const double value = gate_value(gate->kind, results);
        (void)json_array_append_new(
            gates, json_pack("{s:s, s:f, s:o, s:b}", "name", rp_gate_name(gate->kind), "limit",
                             gate->limit, "value", isnan(value) ? json_null() : json_real(value),
                             "passed", (int)is_passed(gate, results)));
    }
    return gates;
}

static json_t *phases_json(const double *seconds, const double *flop)
{
    json_t *phases = json_object();

    for (int i = 0; i < RP_PHASE_COUNT; i++) {
        (void)json_object_set_new(phases, rp_phase_name((rp_phase)i),
                                  json_pack("{s:f, s:f}", "seconds", seconds[i], "flop", flop[i]));
    }
    return phases;
}

static rp_status write_json(const rp_session *s, const json_t *root)
{
    rp_status st = RP_OK;
    char *path = NULL;
    char *text = json_dumps(root, JSON_INDENT(2));

    if (text == NULL) {
        st = RP_FAIL(RP_ERR_MEMORY, "no memory for the report");
        goto out;
    }
    RP_TRY(rp_fs_join(&path, s->job->output.dir, RP_REPORT_FILE));
    RP_TRY(rp_fs_write_file(path, text, strlen(text)));
out:
    free(path);
    free(text);
    return st;
}

rp_status rp_report_write(rp_session *session, const rp_results *results, const json_t *facts)
{
    rp_status st = RP_OK;
    double seconds[RP_PHASE_COUNT];
    double flop[RP_PHASE_COUNT];
    double peak = (double)rp_peak_resident_bytes();
    char class[128];
    json_t *root = NULL;

    memcpy(seconds, session->seconds, sizeof(seconds));
    memcpy(flop, session->flop, sizeof(flop));
    rp_comm_allreduce_max_f64(session->comm, seconds, RP_PHASE_COUNT);
    rp_comm_allreduce_max_f64(session->comm, flop, RP_PHASE_COUNT);
    rp_comm_allreduce_max_f64(session->comm, &peak, 1);
    if (rp_comm_rank(session->comm) != 0) {
        return rp_agree(session->comm, RP_OK);
    }
    rp_cpu_arith_class(class, sizeof(class), session->exec->products);
    root = json_pack("{s:i, s:s, s:s, s:i, s:i, s:s, s:f, s:f, s:I, s:I, s:I}", "version",
                     REPORT_VERSION, "program", "rankpress " RP_VERSION, "model",
                     session->job->model, "ranks", rp_comm_nranks(session->comm), "threads",
                     rp_pool_nthreads(session->exec->pool), "arithmetic", class, "seconds",
                     results->seconds, "peak_bytes_per_rank", peak, "fallbacks",
                     (json_int_t)results->n_fallbacks, "damped", (json_int_t)results->n_damped,
                     "kept_dense", (json_int_t)results->n_kept_dense);
    (void)json_object_set_new(root, "source",
                              json_pack("{s:I, s:f}", "bytes", (json_int_t)results->source_bytes,
                                        "bits_per_weight", results->source_bits_per_weight));
    if (results->is_evaluated) {
        (void)json_object_set_new(json_object_get(root, "source"), "evaluation",
                                  eval_json(&results->source_eval));
    }
    (void)json_object_set_new(root, "outputs", outputs_json(session, results));
    (void)json_object_set_new(root, "gates", gates_json(session, results));
    (void)json_object_set_new(root, "phases", phases_json(seconds, flop));
    (void)json_object_set_new(root, "layers", json_deep_copy(facts));
    st = write_json(session, root);
    json_decref(root);
    return rp_agree(session->comm, st);
}

static void print_row(const char *name, size_t bytes, double bits, const rp_eval_result *eval,
                      bool is_evaluated, bool has_kl)
{
    (void)printf("  %-28s %10.2f MB %8.3f", name, (double)bytes / 1e6, bits);
    if (is_evaluated) {
        (void)printf(" %12.4f", eval->perplexity);
    }
    if (is_evaluated && has_kl) {
        (void)printf(" %12.6f %8.4f", eval->kl, eval->top1);
    }
    (void)printf("\n");
}

void rp_report_print(const rp_session *session, const rp_results *results)
{
    const rp_job *job = session->job;
    const bool has_kl =
        results->is_evaluated &&
        (job->evaluate.metrics & (RP_METRIC_KL_DIVERGENCE | RP_METRIC_TOP1_AGREEMENT)) != 0;

    (void)printf("\n  %-28s %13s %8s", "", "size", "bits/w");
    (void)printf("%s%s\n", results->is_evaluated ? "   perplexity" : "",
                 has_kl ? "           KL    top-1" : "");
    print_row("before", results->source_bytes, results->source_bits_per_weight,
              &results->source_eval, results->is_evaluated, false);
    for (int64_t k = 0; k < job->output.formats.n; k++) {
        const rp_output_result *r = &results->outputs[k];
        print_row(job->output.formats.items[k].name, r->bytes, r->bits_per_weight, &r->eval,
                  r->is_evaluated, has_kl);
    }
    (void)printf("\n  %.1f s on %d rank%s; files and report.json in %s\n", results->seconds,
                 rp_comm_nranks(session->comm), rp_comm_nranks(session->comm) == 1 ? "" : "s",
                 job->output.dir);
    if (results->n_fallbacks > 0) {
        (void)printf("  FALLBACK: %lld tensors were rounded to nearest (see report.json)\n",
                     (long long)results->n_fallbacks);
    }
    if (results->n_kept_dense > 0) {
        (void)printf("  %lld tensors stay F16: their rows do not fill the type's blocks\n",
                     (long long)results->n_kept_dense);
    }
    for (int64_t i = 0; i < job->gates.n; i++) {
        const rp_gate *gate = &job->gates.items[i];
        (void)printf("  gate %s <= %g: %s (%.6g)\n", rp_gate_name(gate->kind), gate->limit,
                     is_passed(gate, results) ? "passed" : "FAILED",
                     gate_value(gate->kind, results));
    }
}

/* The page is well-formed XML too (every element is closed), so that any reader can check it. It
 * goes from what everybody asks (did it pass, how small, how good) to what few do (where the time
 * went, which layer lost most). */
#include "jobs/report_html.h"

#include <math.h>
#include <string.h>

#include "jobs/print.h"
#include "jobs/report_charts.h"
#include "jobs/text_buffer.h"

static const char page_style[] =
    ":root{color-scheme:light dark;--page:#fff;--ink:#1c1e21;--dim:#62666d;--line:#d9dce1;"
    "--soft:#f1f3f5;--good:#0a7a3d;--bad:#c4161c}\n"
    "@media(prefers-color-scheme:dark){:root{--page:#16181b;--ink:#e6e7e9;--dim:#a0a5ad;"
    "--line:#383c42;--soft:#22252a;--good:#4cc983;--bad:#ff7b72}}\n"
    "body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\n"
    "main{max-width:880px;margin:0 auto;padding:24px 20px 60px}\n"
    "h1{font-size:26px;margin:0}h2{font-size:18px;margin:36px 0 10px}\n"
    "p{margin:6px 0}.dim{color:var(--dim)}\n"
    ".good{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}\n"
    ".tiles{display:flex;flex-wrap:wrap;gap:12px;margin-top:18px}\n"
    ".tile{flex:1 1 170px;background:var(--soft);border-radius:8px;padding:12px 16px}\n"
    ".tile b{display:block;font-size:24px;font-weight:600}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;width:100%}\n"
    "th,td{padding:6px 10px;border-bottom:1px solid var(--line);text-align:left;"
    "vertical-align:top}\n"
    "th{color:var(--dim);font-weight:500}td{overflow-wrap:anywhere}\n"
    ".n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\n"
    "code{font-size:13px;overflow-wrap:anywhere}\n";

static void put_number_cell(rp_text *t, const json_t *value, int decimals)
{
    char number[RP_SIZE_TEXT_BYTES];

    rp_text_put(t, "<td class=\"n\">%s</td>", rp_print_number(number, value, decimals));
}

/* The first failed gate, or NULL. */
static const json_t *failed_gate(const json_t *gates)
{
    const json_t *gate = NULL;
    size_t i = 0;

    json_array_foreach(gates, i, gate)
    {
        if (!json_is_true(json_object_get(gate, "passed"))) {
            return gate;
        }
    }
    return NULL;
}

static void put_head(rp_text *t, const json_t *report)
{
    const json_t *gates = json_object_get(report, "gates");
    const json_t *failed = failed_gate(gates);

    rp_text_put(t, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
                   "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
                   "<title>");
    rp_text_put_html(t, rp_json_text(report, "model_name"));
    rp_text_put(t,
                ": rankpress report</title>\n<style>\n%s%s</style>\n</head>\n<body>\n<main>\n<h1>",
                page_style, rp_chart_style);
    rp_text_put_html(t, rp_json_text(report, "model_name"));
    rp_text_put(t, "</h1>\n<p class=\"dim\">compressed by ");
    rp_text_put_html(t, rp_json_text(report, "program"));
    if (failed != NULL) {
        rp_text_put(t, "</p>\n<p class=\"bad\">gate FAILED: ");
        rp_text_put_html(t, rp_json_text(failed, "name"));
    } else {
        rp_text_put(t, "</p>\n<p class=\"good\">%zu of %zu gates passed", json_array_size(gates),
                    json_array_size(gates));
    }
    rp_text_put(t, "</p>\n");
}

static void put_tile(rp_text *t, const char *value, const char *what)
{
    rp_text_put(t, "<div class=\"tile\"><b>%s</b><span class=\"dim\">%s</span></div>\n", value,
                what);
}

/* The first output beside the source. */
static void put_tiles(rp_text *t, const json_t *report)
{
    const json_t *source = json_object_get(report, "source");
    const json_t *first = json_array_get(json_object_get(report, "outputs"), 0);
    const json_t *before = json_object_get(json_object_get(source, "evaluation"), "perplexity");
    const json_t *after = json_object_get(json_object_get(first, "evaluation"), "perplexity");
    const double source_bytes = json_number_value(json_object_get(source, "bytes"));
    char value[64];

    rp_text_put(t, "<div class=\"tiles\">\n");
    (void)snprintf(value, sizeof(value), "%.1f %%",
                   100 * json_number_value(json_object_get(first, "bytes")) /
                       (source_bytes > 0 ? source_bytes : 1));
    put_tile(t, value, "of the size before");
    (void)snprintf(value, sizeof(value), "%.2f",
                   json_number_value(json_object_get(first, "bits_per_weight")));
    put_tile(t, value, "bits per weight");
    if (json_is_number(before) && json_is_number(after)) {
        (void)snprintf(value, sizeof(value), "%+.2f %%",
                       100 * (json_number_value(after) / json_number_value(before) - 1));
        put_tile(t, value, "perplexity");
    }
    (void)snprintf(value, sizeof(value), "%.1f s",
                   json_number_value(json_object_get(report, "seconds")));
    put_tile(t, value, "for this run");
    rp_text_put(t, "</div>\n");
}

/* "42 x gptq int4 symmetric group 128". */
static void put_linears(rp_text *t, const json_t *linears)
{
    const char *name = NULL;
    json_t *count = NULL;
    bool is_first = true;

    json_object_foreach((json_t *)linears, name, count)
    {
        rp_text_put(t, "%s%" JSON_INTEGER_FORMAT " × ", is_first ? "" : "<br/>",
                    json_integer_value(count));
        rp_text_put_html(t, name);
        is_first = false;
    }
}

static void put_output(rp_text *t, const char *name, const json_t *output)
{
    const json_t *evaluation = json_object_get(output, "evaluation");
    char size[RP_SIZE_TEXT_BYTES];

    rp_text_put(t, "<tr><td>");
    rp_text_put_html(t, name);
    rp_text_put(t, "</td><td class=\"dim\">");
    put_linears(t, json_object_get(output, "linears"));
    rp_text_put(t, "</td><td class=\"n\">%s</td>",
                rp_print_size(size, json_number_value(json_object_get(output, "bytes"))));
    put_number_cell(t, json_object_get(output, "bits_per_weight"), 3);
    put_number_cell(t, json_object_get(evaluation, "perplexity"), 4);
    put_number_cell(t, json_object_get(evaluation, "kl_divergence"), 6);
    put_number_cell(t, json_object_get(evaluation, "top1_agreement"), 4);
    rp_text_put(t, "</tr>\n");
}

static void put_outputs(rp_text *t, const json_t *report)
{
    const json_t *outputs = json_object_get(report, "outputs");
    const json_t *evaluation = json_object_get(json_object_get(report, "source"), "evaluation");
    const json_t *output = NULL;
    size_t i = 0;

    rp_text_put(t, "<h2>Outputs</h2>\n<div class=\"wide\"><table>\n<tr><th>output</th>"
                   "<th>linear layers</th><th class=\"n\">size</th><th class=\"n\">bits/weight</th>"
                   "<th class=\"n\">perplexity</th><th class=\"n\">KL</th>"
                   "<th class=\"n\">top-1</th></tr>\n");
    put_output(t, "before", json_object_get(report, "source"));
    json_array_foreach(outputs, i, output)
    {
        put_output(t, rp_json_text(output, "name"), output);
    }
    rp_text_put(t, "</table></div>\n<p class=\"dim\">The first output decided what later layers "
                   "saw. ");
    if (evaluation != NULL) {
        rp_text_put(t, "Measured on the written files, %" JSON_INTEGER_FORMAT " tokens of ",
                    json_integer_value(json_object_get(evaluation, "tokens")));
        rp_text_put_html(t, rp_json_text(report, "evaluation_text"));
        rp_text_put(t, "; KL divergence in nats a token, top-1 agreement as a share of tokens.");
    } else {
        rp_text_put(t, "The job asked for no evaluation.");
    }
    rp_text_put(t, "</p>\n");
}

static void put_gates(rp_text *t, const json_t *gates)
{
    const json_t *gate = NULL;
    size_t i = 0;
    char number[RP_SIZE_TEXT_BYTES];

    rp_text_put(t, "<h2>Gates</h2>\n<div class=\"wide\"><table>\n<tr><th>gate</th><th "
                   "class=\"n\">measured</th><th class=\"n\">limit</th><th>verdict</th></tr>\n");
    json_array_foreach(gates, i, gate)
    {
        const bool is_passed = json_is_true(json_object_get(gate, "passed"));
        const json_t *value = json_object_get(gate, "value");
        rp_text_put(t, "<tr><td>");
        rp_text_put_html(t, rp_json_text(gate, "name"));
        (void)snprintf(number, sizeof(number), "%.6g", json_number_value(value));
        rp_text_put(t,
                    "</td><td class=\"n\">%s</td><td class=\"n\">%g</td>"
                    "<td class=\"%s\">%s</td></tr>\n",
                    json_is_number(value) ? number : "not measured",
                    json_number_value(json_object_get(gate, "limit")), is_passed ? "good" : "bad",
                    is_passed ? "passed" : "FAILED");
    }
    rp_text_put(t, "</table></div>\n");
}

/* One row for a tensor that fell back or needed more damping than asked. */
static void put_trouble(rp_text *t, const json_t *fact)
{
    const json_t *tried = json_object_get(fact, "damping_tried");
    const bool is_fallback = json_is_true(json_object_get(fact, "fallback"));
    const json_t *step = NULL;
    size_t i = 0;

    if (!is_fallback && json_array_size(tried) <= 1) {
        return;
    }
    rp_text_put(t, "<tr><td class=\"%s\">%s</td><td><code>", is_fallback ? "bad" : "dim",
                is_fallback ? "FALLBACK" : "damped");
    rp_text_put_html(t, rp_json_text(fact, "tensor"));
    rp_text_put(t, "</code></td><td>");
    rp_text_put_html(t, rp_json_text(fact, "grid"));
    rp_text_put(t, "</td><td>");
    json_array_foreach(tried, i, step)
    {
        rp_text_put(t, "%s%g", i == 0 ? "" : ", ", json_number_value(step));
    }
    rp_text_put(t, "</td></tr>\n");
}

static void put_troubles(rp_text *t, const json_t *report)
{
    const json_int_t n_fallbacks = json_integer_value(json_object_get(report, "fallbacks"));
    const json_int_t n_damped = json_integer_value(json_object_get(report, "damped"));
    const json_t *layer = NULL;
    const json_t *fact = NULL;
    size_t l = 0;
    size_t i = 0;

    rp_text_put(t, "<h2>Tensors that need a look</h2>\n");
    if (n_fallbacks + n_damped == 0) {
        rp_text_put(t, "<p>None: every matrix was factored with the damping asked for.</p>\n");
        return;
    }
    rp_text_put(t, "<p>FALLBACK: no damping helped, rounded to nearest. Damped: the factorisation "
                   "needed more damping than asked.</p>\n<div class=\"wide\"><table>\n<tr><th>"
                   "</th><th>tensor</th><th>grid</th><th>damping tried</th></tr>\n");
    json_array_foreach(json_object_get(report, "layers"), l, layer)
    {
        json_array_foreach(layer, i, fact)
        {
            put_trouble(t, fact);
        }
    }
    rp_text_put(t, "</table></div>\n");
}

static void put_charts(rp_text *t, const json_t *report)
{
    rp_text_put(t, "<h2>Seconds by phase</h2>\n<p class=\"dim\">Of this run; each the largest over "
                   "the ranks. What a stopped run did before is not in it.</p>\n");
    rp_chart_phases(t, json_object_get(report, "phases"));
    rp_text_put(t, "<h2>Loss by layer</h2>\n<p class=\"dim\">tr(ΔW H ΔWᵀ) per token, of the codes "
                   "that the first output holds.</p>\n");
    if (!rp_chart_losses(t, json_object_get(report, "layers"))) {
        rp_text_put(t, "<p>None was measured: nothing was calibrated.</p>\n");
    }
}

static void put_fact(rp_text *t, const char *what, const char *value)
{
    rp_text_put(t, "<tr><th>%s</th><td>", what);
    rp_text_put_html(t, value);
    rp_text_put(t, "</td></tr>\n");
}

static void put_facts(rp_text *t, const json_t *report)
{
    char value[64];

    rp_text_put(t, "<h2>Facts</h2>\n<div class=\"wide\"><table>\n");
    put_fact(t, "model", rp_json_text(report, "model"));
    put_fact(t, "program", rp_json_text(report, "program"));
    (void)snprintf(value, sizeof(value), "%" JSON_INTEGER_FORMAT " × %" JSON_INTEGER_FORMAT,
                   json_integer_value(json_object_get(report, "ranks")),
                   json_integer_value(json_object_get(report, "threads")));
    put_fact(t, "ranks × threads", value);
    put_fact(t, "arithmetic", rp_json_text(report, "arithmetic"));
    put_fact(
        t, "peak memory of a rank",
        rp_print_size(value, json_number_value(json_object_get(report, "peak_bytes_per_rank"))));
    put_fact(
        t, "as planned",
        rp_print_size(value, json_number_value(json_object_get(report, "planned_bytes_per_rank"))));
    put_fact(t, "calibration text", rp_json_text(report, "calibration_text"));
    put_fact(t, "evaluation text", rp_json_text(report, "evaluation_text"));
    rp_text_put(t, "</table></div>\n");
}

rp_status rp_report_html(char **text, const json_t *report)
{
    rp_status st = RP_OK;
    rp_text t = {0};

    RP_TRY(rp_text_open(&t));
    put_head(&t, report);
    put_tiles(&t, report);
    put_outputs(&t, report);
    put_gates(&t, json_object_get(report, "gates"));
    put_troubles(&t, report);
    put_charts(&t, report);
    put_facts(&t, report);
    rp_text_put(&t, "</main>\n</body>\n</html>\n");
    RP_TRY(rp_text_finish(&t, text));
out:
    rp_text_discard(&t);
    return st;
}

/* The report: verdicts of every gate, the fields of report.json against the documented ones, a page
 * that is well-formed and keeps hostile names as text, and model cards.
 *
 * usage: test_report docs/formats/report.md FOLDER */
#include "test.h"

#include <math.h>
#include <unistd.h>

#include "base/fs.h"
#include "formats/json.h"
#include "jobs/model_card.h"
#include "jobs/report.h"
#include "jobs/report_html.h"
#include "jobs/run.h"

#define HOSTILE "</title><script>alert(\"1\")</script>&'|`"

static const char job_text[] =
    "model: /models/booklm/\n"
    "output: {dir: DIR, formats: [{gptq: {}}, {gguf: Q4_0}]}\n"
    "calibration: {text: /texts/c.txt}\n"
    "recipe: [{gptq: {}}]\n"
    "evaluate: {text: /texts/e.txt, metrics: [perplexity, kl_divergence]}\n"
    "gates: [{perplexity_ratio: 1.05}, {size_ratio: 0.5}, {kl_divergence: 0.02}, {fallbacks: 1}]\n";

static const char facts_text[] =
    "[[{\"tensor\": \"model.layers.0.self_attn.q_proj\", \"form\": 0, \"method\": \"gptq\","
    "   \"grid\": \"int4 symmetric group 128\", \"loss\": 0.5, \"damping_tried\": [0.01],"
    " \"drift\": {\"kept_aside_before\": 2.5, \"kept_aside_after\": 1.5, \"taken\": true},"
    "   \"fallback\": false},"
    "  {\"tensor\": \"model.layers.0.mlp.down_proj\", \"form\": 0, \"method\": \"gptq\","
    "   \"grid\": \"int4 symmetric group 128\", \"loss\": 0, \"damping_tried\": [0.01, 0.1],"
    "   \"fallback\": true}],"
    " [{\"tensor\": \"model.layers.1.self_attn.q_proj\", \"form\": 0, \"method\": \"gptq\","
    "   \"grid\": \"int4 symmetric group 128\", \"loss\": 0.02, \"damping_tried\": [0.01, 0.1],"
    "   \"fallback\": false}]]";

static const char size_target_text[] =
    "{\"limit_bytes\": 500, \"bytes\": 480, \"is_beyond_largest\": false, \"taken\": \"plain\","
    " \"plain_mix\": \"Q2_K\", \"kept_aside_tokens\": 10,"
    " \"measured\": {\"bytes\": 490, \"kl_divergence\": 0.2, \"types\": {\"Q4_K\": 3}},"
    " \"plain\": {\"bytes\": 480, \"kl_divergence\": 0.1, \"types\": {\"Q2_K\": 3}},"
    " \"tensors\": [{\"name\": \"output.weight\", \"type\": \"Q2_K\", \"expected_kl\": 0.1}]}";

typedef struct fixture {
    const char *doc_path, *folder;
    rp_session s;
    rp_linear linears[2];
    rp_gguf_mix_tensor tensors[3]; /* of the GGUF output */
    rp_results results;            /* every gate passes */
    json_t *facts;
} fixture;

static int set_up(void **state)
{
    fixture *f = *state;
    char *dir = NULL;
    const char *override = NULL;

    assert_ok(rp_strprintf(&dir, "output.dir=%s", f->folder));
    override = dir;
    memset(&f->s, 0, sizeof(f->s));
    assert_ok(rp_job_parse(&f->s.job, job_text, strlen(job_text), "job.yaml", &override, 1));
    free(dir);
    assert_ok(rp_comm_create_serial(&f->s.comm));
    assert_ok(rp_exec_create(&f->s.exec, 1, RP_PRODUCTS_F32));
    for (int i = 0; i < 2; i++) {
        f->linears[i] = (rp_linear){.n_forms = 1, .choice = {.method = RP_METHOD_GPTQ}};
        f->linears[i].grid[0] =
            (rp_grid){.ops = rp_grid_find("affine"), .bits = 4, .is_symmetric = true, .group = 128};
    }
    f->linears[1].form_of_output[1] = RP_FORM_NONE;
    f->s.linears = (rp_linears){.items = f->linears, .n = 2};
    for (int i = 0; i < 3; i++) {
        f->tensors[i].type = rp_gguf_block_type_find(i == 0 ? "Q4_0" : "F16");
    }
    f->s.linears.types[1] = (rp_gguf_types){.items = f->tensors, .n = 3};
    f->s.size_targets[1] = json_loads(size_target_text, 0, NULL);
    f->s.seconds[RP_PHASE_GRAM] = 2;
    f->s.flop[RP_PHASE_GRAM] = 4e9;
    f->results = (rp_results){.source_bytes = 1000,
                              .source_bits_per_weight = 16,
                              .source_eval = {10, 1000, log(20), 20, 0, 0},
                              .is_evaluated = true,
                              .n_fallbacks = 1,
                              .n_damped = 2,
                              .n_kept_dense = 1,
                              .seconds = 12.5};
    for (int k = 0; k < 2; k++) {
        f->results.outputs[k] =
            (rp_output_result){400, 4.5, true, {10, 1000, log(20.5), 20.5, 0.01, 0.95}};
    }
    assert_ok(rp_json_parse(&f->facts, facts_text, strlen(facts_text), "facts"));
    assert_ok(rp_fs_remove_tree(f->folder));
    assert_ok(rp_fs_make_dirs(f->folder));
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;

    json_decref(f->facts);
    json_decref(f->s.size_targets[1]);
    rp_exec_destroy(&f->s.exec);
    rp_comm_destroy(&f->s.comm);
    rp_job_destroy(&f->s.job);
    return 0;
}

static char *read_text(const fixture *f, const char *name)
{
    char *path = NULL;
    char *text = NULL;
    size_t nbytes = 0;

    assert_ok(rp_fs_join(&path, f->folder, name));
    assert_ok(rp_fs_read_file(&text, &nbytes, path, 1 << 20));
    free(path);
    return text;
}

/* Writes the report with the folder of the GPTQ output in place; the tree of report.json. */
static json_t *write_report(fixture *f)
{
    json_t *report = NULL;
    char *path = NULL;

    assert_ok(rp_fs_join(&path, f->folder, "gptq"));
    assert_ok(rp_fs_make_dirs(path));
    free(path);
    assert_ok(rp_report_write(&f->s, &f->results, f->facts));
    assert_ok(rp_fs_join(&path, f->folder, RP_REPORT_FILE));
    assert_ok(rp_json_load(&report, path));
    free(path);
    return report;
}

/* ---- gates ---- */

static void test_gates_pass(void **state)
{
    fixture *f = *state;

    assert_int_equal(f->s.job->gates.n, 4);
    assert_ok(rp_report_judge(&f->s, &f->results));
    json_decref(write_report(f));
    assert_ok(rp_report_judge_again(&f->s));
}

/* The same verdict from the results and from the report.json that is written of them. */
static void expect_failure(fixture *f, const char *name)
{
    json_t *report = write_report(f);
    const json_t *gate = NULL;
    size_t i = 0;

    assert_fails(rp_report_judge(&f->s, &f->results), RP_ERR_GATE, name);
    assert_fails(rp_report_judge_again(&f->s), RP_ERR_GATE, name);
    json_array_foreach(json_object_get(report, "gates"), i, gate)
    {
        const bool is_it = strcmp(json_string_value(json_object_get(gate, "name")), name) == 0;
        assert_int_equal(!is_it, json_is_true(json_object_get(gate, "passed")));
    }
    json_decref(report);
}

static void test_each_gate_fails(void **state)
{
    fixture *f = *state;
    const rp_results good = f->results;

    f->results.outputs[0].eval.perplexity = 21.1;
    expect_failure(f, "perplexity_ratio");
    f->results = good;
    f->results.outputs[0].bytes = 501;
    expect_failure(f, "size_ratio");
    f->results = good;
    f->results.outputs[0].eval.kl = 0.021;
    expect_failure(f, "kl_divergence");
    f->results = good;
    f->results.n_fallbacks = 2;
    expect_failure(f, "fallbacks");
}

static void test_not_a_number_fails(void **state)
{
    fixture *f = *state;

    f->results.outputs[0].eval.perplexity = NAN;
    expect_failure(f, "perplexity_ratio");
    f->results.outputs[0].eval.perplexity = INFINITY;
    expect_failure(f, "perplexity_ratio");
}

static void test_not_measured_fails(void **state)
{
    fixture *f = *state;
    json_t *report = NULL;

    f->s.job->evaluate.metrics = RP_METRIC_PERPLEXITY;
    f->results.outputs[0].eval.kl = 0;
    expect_failure(f, "kl_divergence");
    report = write_report(f);
    assert_true(json_is_null(
        json_object_get(json_array_get(json_object_get(report, "gates"), 2), "value")));
    json_decref(report);
    f->results.is_evaluated = false;
    assert_fails(rp_report_judge(&f->s, &f->results), RP_ERR_GATE, "perplexity_ratio");
}

/* ---- the fields of report.json ---- */

/* Objects whose keys are names of things, not fields. */
static bool has_free_keys(const char *path)
{
    return strcmp(path, "phases") == 0 || strcmp(path, "outputs[].linears") == 0 ||
           (strlen(path) > 6 && strcmp(path + strlen(path) - 6, ".types") == 0);
}

static void collect_fields(json_t *out, const json_t *value, const char *path)
{
    const char *key = NULL;
    json_t *entry = NULL;
    size_t i = 0;
    char below[256];

    json_object_foreach((json_t *)value, key, entry)
    {
        (void)snprintf(below, sizeof(below), "%s%s%s", path, *path != '\0' ? "." : "",
                       has_free_keys(path) ? "*" : key);
        collect_fields(out, entry, below);
    }
    json_array_foreach(value, i, entry)
    {
        (void)snprintf(below, sizeof(below), "%s[]", path);
        collect_fields(out, entry, below);
    }
    if (!json_is_object(value) && !json_is_array(value)) {
        json_object_set_new(out, path, json_true());
    }
}

/* Rows "| `field` | ..." of the document. */
static json_t *documented_fields(const char *path)
{
    json_t *fields = json_object();
    char *text = NULL;
    size_t nbytes = 0;

    assert_ok(rp_fs_read_file(&text, &nbytes, path, 1 << 20));
    for (const char *row = strstr(text, "\n| `"); row != NULL; row = strstr(row + 1, "\n| `")) {
        const char *name = row + 4;
        const size_t length = strcspn(name, "`\n");
        assert_int_equal(name[length], '`');
        json_object_setn_new(fields, name, length, json_true());
    }
    free(text);
    return fields;
}

static void expect_subset(const json_t *part, const json_t *whole, const char *what)
{
    const char *key = NULL;
    json_t *value = NULL;

    json_object_foreach((json_t *)part, key, value)
    {
        if (json_object_get(whole, key) == NULL) {
            fail_msg("%s: %s", what, key);
        }
    }
}

static void test_fields_are_documented(void **state)
{
    fixture *f = *state;
    json_t *report = write_report(f);
    json_t *fields = json_object();
    json_t *documented = documented_fields(f->doc_path);

    collect_fields(fields, report, "");
    assert_true(json_object_size(fields) > 30);
    expect_subset(fields, documented, "not documented");
    expect_subset(documented, fields, "documented, but not in report.json");
    json_decref(documented);
    json_decref(fields);
    json_decref(report);
}

static void test_values(void **state)
{
    fixture *f = *state;
    json_t *report = write_report(f);
    const json_t *second = json_array_get(json_object_get(report, "outputs"), 1);
    const json_t *linears = json_object_get(second, "linears");
    const json_t *types = json_object_get(second, "types");
    const json_t *gram = json_object_get(json_object_get(report, "phases"), "gram");

    assert_int_equal(json_integer_value(json_object_get(report, "version")), 1);
    assert_string_equal(json_string_value(json_object_get(report, "model_name")), "booklm");
    assert_string_equal(json_string_value(json_object_get(second, "name")), "model-Q4_0.gguf");
    assert_int_equal(json_integer_value(json_object_get(linears, "dense")), 1);
    assert_int_equal(json_integer_value(json_object_get(types, "F16")), 2);
    assert_int_equal(json_object_size(linears), 2);
    assert_true(json_real_value(json_object_get(gram, "seconds")) == 2);
    assert_true(json_equal(json_object_get(report, "layers"), f->facts));
    assert_null(json_object_get(json_object_get(json_object_get(report, "source"), "evaluation"),
                                "kl_divergence"));
    json_decref(report);
}

static void test_name_from_cache(void **state)
{
    fixture *f = *state;
    char path[] = "/home/x/hub/models--HuggingFaceTB--SmolLM2-135M/snapshots/93ef/";
    char *const before = f->s.job->model;
    json_t *report = NULL;

    f->s.job->model = path;
    report = write_report(f);
    f->s.job->model = before;
    assert_string_equal(json_string_value(json_object_get(report, "model_name")),
                        "HuggingFaceTB/SmolLM2-135M");
    json_decref(report);
}

/* ---- the page ---- */

/* The name of the tag at `at` into out; what follows it. */
static const char *tag_name(char *out, size_t out_bytes, const char *at)
{
    const size_t length = strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789");

    assert_true(length > 0 && length < out_bytes);
    memcpy(out, at, length);
    out[length] = '\0';
    return at + length;
}

/* Past the attributes, which are all name="value"; *is_closed: the element ends here. */
static const char *skip_attributes(const char *at, bool *is_closed)
{
    while (*at == ' ') {
        at += strcspn(at, "=<>");
        assert_memory_equal(at, "=\"", 2);
        at += 2;
        at += strcspn(at, "\"<>");
        assert_int_equal(*at, '"');
        at++;
    }
    *is_closed = *at == '/';
    at += *is_closed;
    assert_int_equal(*at, '>');
    return at + 1;
}

static void check_entity(const char *at)
{
    static const char *const known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    bool is_known = false;

    for (size_t i = 0; i < RP_COUNT(known); i++) {
        is_known = is_known || strncmp(at, known[i], strlen(known[i])) == 0;
    }
    assert_true(is_known);
}

/* Every element is closed, in order; attributes are quoted; & only begins entities. */
static void check_well_formed(const char *at)
{
    char open[32][16];
    char name[16];
    int depth = 0;
    bool is_closed = false;
    static const char doctype[] = "<!DOCTYPE html>\n";

    assert_memory_equal(at, doctype, strlen(doctype));
    at += strlen(doctype);
    while (*at != '\0') {
        if (*at == '&') {
            check_entity(at);
        }
        if (*at != '<') {
            at++;
        } else if (at[1] == '/') {
            at = tag_name(name, sizeof(name), at + 2);
            assert_true(depth > 0);
            assert_string_equal(name, open[--depth]);
            assert_int_equal(*at++, '>');
        } else {
            at = tag_name(name, sizeof(name), at + 1);
            assert_string_not_equal(name, "script");
            at = skip_attributes(at, &is_closed);
            assert_true(depth < 32);
            memcpy(open[depth], name, sizeof(name));
            depth += !is_closed;
        }
    }
    assert_int_equal(depth, 0);
}

static char *page_of(const json_t *report)
{
    char *page = NULL;

    assert_ok(rp_report_html(&page, report));
    check_well_formed(page);
    assert_null(strstr(page, "src="));
    assert_null(strstr(page, "href="));
    assert_null(strstr(page, "http"));
    return page;
}

static void test_page(void **state)
{
    fixture *f = *state;
    json_t *report = write_report(f);
    char *page = page_of(report);
    char *written = read_text(f, RP_REPORT_PAGE);

    assert_string_equal(page, written);
    assert_non_null(strstr(page, "4 of 4 gates passed"));
    assert_non_null(strstr(page, "FALLBACK</td><td><code>model.layers.0.mlp.down_proj<"));
    assert_non_null(strstr(page, "damped</td><td><code>model.layers.1.self_attn.q_proj<"));
    assert_null(strstr(page, "<code>model.layers.0.self_attn.q_proj<"));
    assert_non_null(strstr(page, "2.00 s, 2.0 GFLOP/s"));
    assert_non_null(strstr(page, "layer 1, q: 0.02"));
    assert_non_null(strstr(page, "prefers-color-scheme:dark"));
    free(written);
    free(page);
    json_decref(report);
}

static void test_page_of_failure_without_measurements(void **state)
{
    fixture *f = *state;
    json_t *report = NULL;
    char *page = NULL;

    f->results.is_evaluated = false;
    f->results.outputs[0].is_evaluated = false;
    f->results.outputs[1].is_evaluated = false;
    f->results.n_fallbacks = 0;
    f->results.n_damped = 0;
    assert_int_equal(json_array_clear(f->facts), 0);
    report = write_report(f);
    page = page_of(report);
    assert_non_null(strstr(page, "gate FAILED: perplexity_ratio"));
    assert_non_null(strstr(page, "not measured"));
    assert_non_null(strstr(page, "None was measured"));
    assert_non_null(strstr(page, "The job asked for no evaluation."));
    assert_null(strstr(page, "nan"));
    free(page);
    json_decref(report);
}

/* A tree whose every text is hostile, and one that has nothing. */
static void make_hostile(json_t *value)
{
    const char *key = NULL;
    json_t *entry = NULL;
    size_t i = 0;

    json_object_foreach(value, key, entry)
    {
        make_hostile(entry);
    }
    json_array_foreach(value, i, entry)
    {
        make_hostile(entry);
    }
    if (json_is_string(value)) {
        assert_int_equal(json_string_set(value, HOSTILE), 0);
    }
}

static void test_hostile_names(void **state)
{
    fixture *f = *state;
    json_t *report = write_report(f);
    json_t *nothing = json_object();
    json_t *linears =
        json_object_get(json_array_get(json_object_get(report, "outputs"), 0), "linears");
    char *page = NULL;

    make_hostile(report);
    json_object_set_new(linears, HOSTILE, json_integer(1));
    json_object_set_new(json_object_get(report, "phases"), HOSTILE,
                        json_pack("{s:f, s:f}", "seconds", 1.0, "flop", 0.0));
    page = page_of(report);
    assert_null(strstr(page, "<script"));
    assert_non_null(strstr(page, "&lt;script&gt;alert(&quot;1&quot;)"));
    free(page);
    page = page_of(nothing);
    free(page);
    json_decref(nothing);
    json_decref(report);
}

/* ---- cards ---- */

/* The card's front matter ends with the second line "---". */
static void check_front_matter(const char *card, const char *wanted)
{
    const char *end = NULL;

    assert_memory_equal(card, "---\n", 4);
    end = strstr(card + 4, "\n---\n");
    assert_non_null(end);
    assert_int_equal(end + 5 - card, strlen(wanted));
    assert_memory_equal(card, wanted, strlen(wanted));
}

static void test_cards(void **state)
{
    fixture *f = *state;
    json_t *report = write_report(f);
    char *own = read_text(f, "gptq/README.md");
    char *all = read_text(f, "README.md");

    check_front_matter(own, "---\nbase_model: \"booklm\"\nbase_model_relation: quantized\n"
                            "library_name: transformers\npipeline_tag: text-generation\n"
                            "tags:\n  - rankpress\n  - gptq\n---\n");
    check_front_matter(all, "---\nbase_model: \"booklm\"\nbase_model_relation: quantized\n"
                            "library_name: transformers\npipeline_tag: text-generation\n"
                            "tags:\n  - rankpress\n  - gptq\n  - gguf\n---\n");
    assert_non_null(strstr(own, "| `before` | 1.0 kB | 16.000 | 20.0000 | – | – |\n"));
    assert_non_null(strstr(own, "| `gptq` | 400 B | 4.500 | 20.5000 | 0.010000 | 0.9500 |\n"));
    assert_non_null(strstr(own, "| `gptq` | 2 | gptq int4 symmetric group 128 |\n"));
    assert_null(strstr(own, "model-Q4_0.gguf"));
    assert_non_null(strstr(all, "| `model-Q4_0.gguf` | 1 | dense |\n"));
    assert_non_null(strstr(own, "- `model.layers.0.mlp.down_proj` (int4"));
    assert_non_null(strstr(own, "`e.txt`: 10 windows, 1000 tokens"));
    assert_non_null(strstr(own, "    recipe.0.gptq.bits=4\n"));
    assert_non_null(strstr(own, "rankpress " RP_VERSION));
    free(all);
    free(own);
    json_decref(report);
}

/* The folder of a model is the same however many ranks or seconds it took. */
static void test_cards_have_no_costs(void **state)
{
    fixture *f = *state;
    char *first = NULL;
    char *second = NULL;

    json_decref(write_report(f));
    first = read_text(f, "README.md");
    f->results.seconds = 99;
    f->s.seconds[RP_PHASE_GRAM] = 77;
    rp_exec_destroy(&f->s.exec);
    assert_ok(rp_exec_create(&f->s.exec, 2, RP_PRODUCTS_F32));
    json_decref(write_report(f));
    second = read_text(f, "README.md");
    assert_string_equal(first, second);
    free(second);
    free(first);
}

static void test_card_with_hostile_names(void **state)
{
    fixture *f = *state;
    json_t *report = write_report(f);
    char *card = NULL;

    json_object_set_new(report, "model_name", json_string("a\"\n---\nb`|"));
    assert_ok(rp_model_card(&card, report, RP_CARD_OF_ALL, "a=```\nb=1"));
    assert_memory_equal(card, "---\nbase_model: \"a\\\"\\n---\\nb`|\"\n",
                        strlen("---\nbase_model: \"a\\\"\\n---\\nb`|\"\n"));
    assert_non_null(strstr(card, "# `a\" --- b'\\|`, compressed\n"));
    assert_non_null(strstr(card, "    a=```\n    b=1\n"));
    free(card);
    json_decref(report);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    static fixture f;
    struct CMUnitTest tests[] = {
        TEST(test_gates_pass),
        TEST(test_each_gate_fails),
        TEST(test_not_a_number_fails),
        TEST(test_not_measured_fails),
        TEST(test_fields_are_documented),
        TEST(test_values),
        TEST(test_name_from_cache),
        TEST(test_page),
        TEST(test_page_of_failure_without_measurements),
        TEST(test_hostile_names),
        TEST(test_cards),
        TEST(test_cards_have_no_costs),
        TEST(test_card_with_hostile_names),
    };

    if (argc != 3) {
        return 64;
    }
    f = (fixture){.doc_path = argv[1], .folder = argv[2]};
    for (size_t i = 0; i < RP_COUNT(tests); i++) {
        tests[i].initial_state = &f;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* From a YAML tree to a job: one walk over tree and key table, then what depends on several keys.
 */
#include "jobs/job.h"

#include "base/fs.h"
#include "base/mem.h"
#include "jobs/gguf_types.h"
#include "jobs/recipe.h"
#include "jobs/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_JOB_BYTES ((size_t)1 << 20)
#define PATH_CHARS 256

/* Any of the job's lists: they share this layout. */
typedef struct any_list {
    void *items;
    int64_t n;
} any_list;

static rp_status parse_section(rp_job *job, const rp_option *rows, void *object,
                               const rp_yaml *node, const char *path);

static rp_status fail_unknown(const rp_option *rows, const rp_yaml *node, const char *name,
                              const char *path)
{
    const char *near = rp_options_suggest(rows, name);
    char where[PATH_CHARS + 8] = "";

    if (*path != '\0') {
        (void)snprintf(where, sizeof(where), " in %s", path);
    }
    if (near != NULL) {
        return rp_yaml_fail_key(node, "unknown key \"%s\"%s (did you mean \"%s\"?)", name, where,
                                near);
    }
    return rp_yaml_fail_key(node, "unknown key \"%s\"%s", name, where);
}

static rp_status expect_kind(const rp_yaml *node, rp_yaml_kind kind, const char *path)
{
    const bool is_empty = node->kind == RP_YAML_SCALAR && node->text[0] == '\0';

    if (node->kind == kind) {
        return RP_OK;
    }
    return rp_yaml_fail(node, "%s: want a %s, got %s%s", *path != '\0' ? path : "job",
                        rp_yaml_kind_name(kind), is_empty ? "nothing" : "a ",
                        is_empty ? "" : rp_yaml_kind_name(node->kind));
}

/* Puts the node's place before a message about its text. */
static rp_status placed(rp_status st, const rp_yaml *node, const char *path)
{
    if (st == RP_OK || st == RP_ERR_MEMORY) {
        return st;
    }
    return rp_yaml_fail(node, "%s: %s", path, rp_error_message());
}

static rp_status parse_scalar(rp_job *job, const rp_option *row, void *object, const rp_yaml *node,
                              const char *path)
{
    rp_status st = RP_OK;

    RP_TRY(expect_kind(node, RP_YAML_SCALAR, path));
    if (!node->is_quoted && (node->text[0] == '\0' || strcmp(node->text, "null") == 0 ||
                             strcmp(node->text, "~") == 0)) {
        return rp_yaml_fail(node, "%s: it has no value", path);
    }
    if (row->type == RP_OPTION_STRINGS) {
        st = rp_option_append(row, object, &job->owner, node->text);
    } else {
        st = rp_option_set(row, object, &job->owner, node->text);
    }
    st = placed(st, node, path);
out:
    return st;
}

/* A list of text; one text alone is a list of one. It replaces the default. */
static rp_status parse_strings(rp_job *job, const rp_option *row, void *object, const rp_yaml *node,
                               const char *path)
{
    rp_status st = RP_OK;
    rp_string_list *list = (rp_string_list *)(void *)((char *)object + row->offset);

    list->n = 0;
    if (node->kind == RP_YAML_SCALAR) {
        return parse_scalar(job, row, object, node, path);
    }
    RP_TRY(expect_kind(node, RP_YAML_LIST, path));
    for (const rp_yaml *child = node->first; child != NULL; child = child->next) {
        RP_TRY(parse_scalar(job, row, object, child, path));
    }
    if (list->n == 0 && row->is_required) {
        st = rp_yaml_fail(node, "%s: the list is empty", path);
    }
out:
    return st;
}

/* The section of one entry: a mapping, or the bare value of a section's needed or main key. */
static rp_status parse_entry(rp_job *job, const rp_option *rows, void *item, const rp_yaml *node,
                             const char *path)
{
    rp_status st = RP_OK;

    RP_TRY(rp_options_set_defaults(rows, item, &job->owner));
    if (node->kind == RP_YAML_SCALAR && (rows[0].is_required || rows[0].is_bare)) {
        RP_TRY(parse_scalar(job, &rows[0], item, node, path));
    } else {
        RP_TRY(parse_section(job, rows, item, node, path));
    }
out:
    return st;
}

/* The variants are few: without a near one all are named. */
static rp_status fail_variant(const rp_option *rows, const rp_yaml *node, const char *name,
                              const char *path)
{
    char names[PATH_CHARS] = "";
    size_t n = 0;

    if (rp_options_suggest(rows, name) != NULL) {
        return fail_unknown(rows, node, name, path);
    }
    for (const rp_option *row = rows; row->name != NULL && n < sizeof(names); row++) {
        const char *join = row == rows ? "" : row[1].name == NULL ? " or " : ", ";
        n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", join, row->name);
    }
    return rp_yaml_fail_key(node, "unknown key \"%s\" in %s: want %s", name, path, names);
}

/* "gguf: Q4_0", "gptq: {...}" or bare "gptq". */
static rp_status parse_variant(rp_job *job, const rp_option *row, void *item, const rp_yaml *node,
                               const char *path)
{
    rp_status st = RP_OK;
    const rp_yaml *entry = node->kind == RP_YAML_MAP ? node->first : NULL;
    const rp_yaml empty = {
        .kind = RP_YAML_MAP, .origin = node->origin, .line = node->line, .column = node->column};
    const char *name = entry != NULL ? entry->key : node->text;
    const rp_option *variant = NULL;
    char below[PATH_CHARS];
    int64_t index = 0;

    for (const rp_yaml *key = entry; key != NULL; key = key->next) {
        if (rp_options_find(row->rows, key->key) == NULL) {
            return fail_variant(row->rows, key, key->key, path);
        }
    }
    if (name == NULL || *name == '\0' || (entry != NULL && entry->next != NULL)) {
        return rp_yaml_fail(node, "%s: want one key an entry, such as \"- %s: ...\"", path,
                            row->rows[0].name);
    }
    variant = rp_options_find(row->rows, name);
    if (variant == NULL) {
        return fail_variant(row->rows, node, name, path);
    }
    index = variant - row->rows;
    memcpy(item, &index, sizeof(index));
    (void)snprintf(below, sizeof(below), "%.120s.%.120s", path, variant->name);
    RP_TRY(parse_entry(job, variant->rows, item, entry != NULL ? entry : &empty, below));
out:
    return st;
}

static rp_status parse_list(rp_job *job, const rp_option *row, void *object, const rp_yaml *node,
                            const char *path)
{
    rp_status st = RP_OK;
    any_list list = {NULL, 0};
    char *item = NULL;

    RP_TRY(expect_kind(node, RP_YAML_LIST, path));
    for (const rp_yaml *child = node->first; child != NULL; child = child->next) {
        list.n++;
    }
    if (list.n == 0 && row->is_required) {
        st = rp_yaml_fail(node, "%s: the list is empty", path);
        goto out;
    }
    RP_TRY(rp_owner_calloc(&job->owner, &item, (size_t)list.n, row->item_bytes));
    list.items = item;
    for (const rp_yaml *child = node->first; child != NULL; child = child->next) {
        if (row->type == RP_OPTION_VARIANTS) {
            RP_TRY(parse_variant(job, row, item, child, path));
        } else {
            RP_TRY(parse_entry(job, row->rows, item, child, path));
        }
        item += row->item_bytes;
    }
    memcpy((char *)object + row->offset, &list, sizeof(list));
out:
    return st;
}

static rp_status parse_value(rp_job *job, const rp_option *row, void *object, const rp_yaml *node,
                             const char *path)
{
    switch (row->type) {
    case RP_OPTION_SECTION:
        return parse_section(job, row->rows, (char *)object + row->offset, node, path);
    case RP_OPTION_ITEMS:
    case RP_OPTION_VARIANTS:
        return parse_list(job, row, object, node, path);
    case RP_OPTION_STRINGS:
        return parse_strings(job, row, object, node, path);
    default:
        return parse_scalar(job, row, object, node, path);
    }
}

/* object has its defaults already. */
static rp_status parse_section(rp_job *job, const rp_option *rows, void *object,
                               const rp_yaml *node, const char *path)
{
    rp_status st = RP_OK;
    char below[PATH_CHARS];

    RP_TRY(expect_kind(node, RP_YAML_MAP, path));
    for (const rp_yaml *child = node->first; child != NULL; child = child->next) {
        const rp_option *row = rp_options_find(rows, child->key);
        if (row == NULL) {
            return fail_unknown(rows, child, child->key, path);
        }
        (void)snprintf(below, sizeof(below), "%.120s%s%.120s", path, *path != '\0' ? "." : "",
                       row->name);
        RP_TRY(parse_value(job, row, object, child, below));
    }
    for (const rp_option *row = rows; row->name != NULL; row++) {
        if (row->is_required && rp_yaml_find(node, row->name) == NULL) {
            return rp_yaml_fail(node, "missing key \"%s\"%s%s", row->name,
                                *path != '\0' ? " in " : "", path);
        }
    }
out:
    return st;
}

/* ---- what depends on several keys ---- */

static void inherit(int64_t *field, int64_t value)
{
    if (*field == RP_FROM_ABOVE) {
        *field = value;
    }
}

static void resolve_step(rp_recipe_step *step)
{
    rp_step_scheme preset = {0};

    rp_preset_scheme(step->preset, &preset);
    inherit(&step->scheme.bits, preset.bits);
    inherit(&step->scheme.is_symmetric, preset.is_symmetric);
    inherit(&step->scheme.group_size, preset.group_size);
    for (int64_t i = 0; i < step->overrides.n; i++) {
        rp_step_scheme *scheme = &step->overrides.items[i].scheme;
        inherit(&scheme->bits, step->scheme.bits);
        inherit(&scheme->is_symmetric, step->scheme.is_symmetric);
        inherit(&scheme->group_size, step->scheme.group_size);
        inherit(&scheme->mse, step->scheme.mse);
        inherit(&scheme->actorder, step->scheme.actorder);
        if (scheme->dampening_frac == RP_FROM_ABOVE) {
            scheme->dampening_frac = step->scheme.dampening_frac;
        }
    }
}

bool rp_has_size_target(const rp_output_format *format)
{
    return format->kind == RP_FORMAT_GGUF && (format->target_bpw > 0 || format->target_bytes > 0);
}

static rp_status name_format(rp_job *job, rp_output_format *format)
{
    rp_status st = RP_OK;
    char name[64];

    if (format->kind != RP_FORMAT_GGUF) {
        (void)snprintf(name, sizeof(name), "%s%s", rp_format_kind_name(format->kind),
                       format->is_v2 != 0 ? "_v2" : "");
    } else if (format->gguf_type != NULL) {
        (void)snprintf(name, sizeof(name), "model-%s.gguf", format->gguf_type);
    } else if (format->target_bpw > 0) {
        (void)snprintf(name, sizeof(name), "model-%.2fbpw.gguf", format->target_bpw);
    } else {
        (void)snprintf(name, sizeof(name), "model-%.4gMB.gguf", (double)format->target_bytes / 1e6);
    }
    if (format->name == NULL) {
        RP_TRY(rp_owner_strndup(&job->owner, &format->name, name, strlen(name)));
    }
out:
    return st;
}

/* Just one of type, target_bpw and target_size decides the types. */
static rp_status check_size_target(const rp_job *job, const rp_output_format *format)
{
    const int n =
        (format->gguf_type != NULL) + (format->target_bpw > 0) + (format->target_bytes > 0);

    if (format->kind == RP_FORMAT_GGUF && n != 1) {
        return RP_FAIL(RP_ERR_CONFIG,
                       "%s: output.formats.gguf: want one of type, target_bpw and target_size%s",
                       job->origin, n == 0 ? "" : ", not more");
    }
    if (rp_has_size_target(format) && format->is_pure) {
        return RP_FAIL(RP_ERR_CONFIG,
                       "%s: output.formats.gguf.pure: a size is met by more than one type",
                       job->origin);
    }
    return RP_OK;
}

/* llama-quantize ignores names of tensors there; who gives some expects them to count. */
static rp_status check_types(const rp_job *job, const rp_output_format *format)
{
    if (format->tensor_types.n > 0 && format->gguf_type != NULL &&
        rp_gguf_mix_is_float(rp_gguf_mix_of(format))) {
        return RP_FAIL(RP_ERR_CONFIG,
                       "%s: output.formats.gguf.tensor_types: a %s file has one type for all",
                       job->origin, format->gguf_type);
    }
    return RP_OK;
}

/* The importance matrix stands beside the outputs. */
static rp_status check_imatrix_name(const rp_job *job)
{
    for (int64_t i = 0; job->output.imatrix != NULL && i < job->output.formats.n; i++) {
        if (strcmp(job->output.imatrix, job->output.formats.items[i].name) == 0) {
            return RP_FAIL(RP_ERR_CONFIG,
                           "%s: output.imatrix: entry %d of formats is called \"%s\", too",
                           job->origin, (int)i, job->output.imatrix);
        }
    }
    return RP_OK;
}

static rp_status resolve_formats(rp_job *job)
{
    rp_status st = RP_OK;
    rp_output_formats *formats = &job->output.formats;

    if (formats->n > RP_MAX_OUTPUTS) {
        return RP_FAIL(RP_ERR_CONFIG, "%s: output.formats: %d entries, more than the %d allowed",
                       job->origin, (int)formats->n, RP_MAX_OUTPUTS);
    }
    for (int64_t i = 0; i < formats->n; i++) {
        RP_TRY(check_size_target(job, &formats->items[i]));
        RP_TRY(name_format(job, &formats->items[i]));
        RP_TRY(check_types(job, &formats->items[i]));
        for (int64_t k = 0; k < i; k++) {
            if (strcmp(formats->items[i].name, formats->items[k].name) == 0) {
                return RP_FAIL(RP_ERR_CONFIG,
                               "%s: output.formats: entries %d and %d are both called \"%s\": give "
                               "one a name",
                               job->origin, (int)k, (int)i, formats->items[i].name);
            }
        }
    }
out:
    return st;
}

/* Every gate once; fallbacks is there with limit 0 unless the job has it. */
static rp_status resolve_gates(rp_job *job)
{
    rp_status st = RP_OK;
    bool is_there[RP_GATE_COUNT] = {false};
    rp_gate *gates = NULL;

    for (int64_t i = 0; i < job->gates.n; i++) {
        const int64_t kind = job->gates.items[i].kind;
        if (is_there[kind]) {
            return RP_FAIL(RP_ERR_CONFIG, "%s: gates: \"%s\" is there twice", job->origin,
                           rp_gate_name(kind));
        }
        is_there[kind] = true;
    }
    if (!is_there[RP_GATE_FALLBACKS]) {
        RP_TRY(rp_owner_calloc(&job->owner, &gates, (size_t)job->gates.n + 1, sizeof(*gates)));
        for (int64_t i = 0; i < job->gates.n; i++) {
            gates[i] = job->gates.items[i];
        }
        gates[job->gates.n].kind = RP_GATE_FALLBACKS;
        job->gates.items = gates;
        job->gates.n++;
    }
out:
    return st;
}

/* What needs calibration.text, as "recipe.%d.gptq"; into out. */
static bool find_calibrated(const rp_job *job, char *out, size_t out_bytes)
{
    if (job->output.imatrix != NULL) {
        (void)snprintf(out, out_bytes, "output.imatrix");
        return true;
    }
    for (int64_t k = 0; k < job->output.formats.n; k++) {
        const rp_output_format *format = &job->output.formats.items[k];
        if (rp_has_size_target(format)) {
            (void)snprintf(out, out_bytes, "output.formats.%d.gguf.%s", (int)k,
                           format->target_bpw > 0 ? "target_bpw" : "target_size");
            return true;
        }
    }
    for (int64_t i = 0; i < job->recipe.n; i++) {
        const rp_recipe_step *step = &job->recipe.items[i];
        const bool is_own =
            step->imatrix != NULL && strcmp(step->imatrix, RP_IMATRIX_CALIBRATION) == 0;
        if (step->method == RP_METHOD_GPTQ || is_own) {
            (void)snprintf(out, out_bytes, "recipe.%d.%s%s", (int)i, rp_method_name(step->method),
                           is_own ? ".imatrix" : "");
            return true;
        }
    }
    return false;
}

static rp_status check_needs(const rp_job *job)
{
    char what[64];

    if (job->calibration.text == NULL && find_calibrated(job, what, sizeof(what))) {
        return RP_FAIL(RP_ERR_CONFIG, "%s: %s needs calibration.text", job->origin, what);
    }
    for (int64_t i = 0; i < job->output.formats.n && job->recipe.n == 0; i++) {
        const int64_t kind = job->output.formats.items[i].kind;
        if (kind != RP_FORMAT_GGUF && kind != RP_FORMAT_SAFETENSORS) {
            return RP_FAIL(RP_ERR_CONFIG, "%s: output.formats: %s needs a recipe", job->origin,
                           rp_format_kind_name(kind));
        }
    }
    for (int64_t i = 0; i < job->gates.n; i++) {
        const int64_t kind = job->gates.items[i].kind;
        const unsigned metric = kind == RP_GATE_PERPLEXITY_RATIO ? RP_METRIC_PERPLEXITY
                                : kind == RP_GATE_KL_DIVERGENCE  ? RP_METRIC_KL_DIVERGENCE
                                                                 : 0;
        if (metric != 0 && (job->evaluate.text == NULL || (job->evaluate.metrics & metric) == 0)) {
            return RP_FAIL(RP_ERR_CONFIG, "%s: gate %s needs evaluate.text and that metric",
                           job->origin, rp_gate_name(kind));
        }
    }
    return RP_OK;
}

static rp_status resolve(rp_job *job)
{
    rp_status st = RP_OK;

    for (int64_t i = 0; i < job->recipe.n; i++) {
        resolve_step(&job->recipe.items[i]);
    }
    job->evaluate.metrics = rp_metrics_of(&job->evaluate.metric_names);
    RP_TRY(resolve_formats(job));
    RP_TRY(check_imatrix_name(job));
    RP_TRY(resolve_gates(job));
    RP_TRY(check_needs(job));
out:
    return st;
}

rp_status rp_job_parse(rp_job **out, const char *text, size_t nbytes, const char *origin,
                       const char *const *overrides, int n_overrides)
{
    rp_status st = RP_OK;
    rp_job *job = NULL;
    rp_yaml *root = NULL;

    *out = NULL;
    RP_TRY(rp_calloc(&job, 1, sizeof(*job)));
    RP_TRY(rp_owner_strndup(&job->owner, &job->origin, origin, strlen(origin)));
    RP_TRY(rp_yaml_parse(&root, &job->owner, text, nbytes, job->origin));
    RP_TRY(expect_kind(root, RP_YAML_MAP, ""));
    for (int i = 0; i < n_overrides; i++) {
        char *assignment = NULL;
        RP_TRY(rp_owner_strndup(&job->owner, &assignment, overrides[i], strlen(overrides[i])));
        RP_TRY(rp_yaml_assign(root, &job->owner, assignment));
    }
    RP_TRY(rp_options_set_defaults(rp_job_keys(), job, &job->owner));
    RP_TRY(parse_section(job, rp_job_keys(), job, root, ""));
    RP_TRY(resolve(job));
    *out = job;
    job = NULL;
out:
    rp_job_destroy(&job);
    return st;
}

rp_status rp_job_load(rp_job **out, const char *path, const char *const *overrides, int n_overrides)
{
    rp_status st = RP_OK;
    char *text = NULL;
    size_t nbytes = 0;

    *out = NULL;
    RP_TRY(rp_fs_read_file(&text, &nbytes, path, MAX_JOB_BYTES));
    RP_TRY(rp_job_parse(out, text, nbytes, path, overrides, n_overrides));
out:
    free(text);
    return st;
}

void rp_job_destroy(rp_job **job)
{
    if (*job != NULL) {
        rp_owner owner = (*job)->owner;
        rp_owner_destroy(&owner);
        free(*job);
        *job = NULL;
    }
}

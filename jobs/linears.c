/* Matches the recipe against the model and gives each linear its grids, one for each distinct need
 * of the outputs. */
#include "jobs/linears.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/gguf_blocks.h"
#include "jobs/piece.h"
#include "methods/solver.h"

#define GGUF_SWEEPS 4

rp_dtype rp_output_dense_type(const rp_output_format *format, rp_dtype source)
{
    if (format->dtype != RP_DTYPE_AUTO) {
        return (rp_dtype)format->dtype;
    }
    /* GPTQ's loaders compute in f16; the others take the model's own type. */
    return format->kind == RP_FORMAT_GPTQ ? RP_F16 : source;
}

static bool is_dense_output(const rp_output_format *format)
{
    return format->kind == RP_FORMAT_SAFETENSORS ||
           (format->kind == RP_FORMAT_GGUF && format->gguf_type != NULL &&
            rp_gguf_mix_is_float(rp_gguf_mix_of(format)));
}

/* The linear's tensor in GGUF output k. */
static const rp_gguf_mix_tensor *tensor_of(const rp_linears *linears, const rp_linear *linear,
                                           int64_t k)
{
    char weight[sizeof(linear->module) + sizeof(".weight")];

    (void)snprintf(weight, sizeof(weight), "%s.weight", linear->module);
    return rp_gguf_types_find(&linears->types[k], weight);
}

static rp_status container_grid(rp_grid *grid, const rp_output_format *format, rp_format_kind kind,
                                const rp_linear *linear)
{
    const rp_container_opts opts = {.v2 = format->is_v2, .dense_type = RP_F16};
    const rp_container *container = rp_container_find(rp_format_kind_name(kind));

    if (container == NULL) {
        return RP_FAIL(RP_ERR_INTERNAL, "no container %s", rp_format_kind_name(kind));
    }
    return container->grid(grid, &opts, &linear->choice.scheme, linear->rows, linear->cols);
}

/* What is of an output's type already is not rounded to it again. */
static bool is_plain_rounding(const rp_linear *linear)
{
    return linear->choice.method == RP_METHOD_RTN && linear->choice.drift == RP_DRIFT_NONE;
}

/* The grid of a linear in output k; *is_dense when the file holds floats, or the source's own
 * blocks. */
static rp_status output_grid(rp_grid *grid, bool *is_dense, const rp_linears *linears,
                             const rp_output_format *format, const rp_linear *linear, int64_t k)
{
    const bool is_gguf = format->kind == RP_FORMAT_GGUF;

    *is_dense = false;
    if (is_gguf && is_dense_output(format)) { /* the recipe's own scheme, decoded */
        return container_grid(grid, format, RP_FORMAT_SAFETENSORS, linear);
    }
    if (is_gguf) {
        const rp_gguf_block_type *type = tensor_of(linears, linear, k)->type;
        *is_dense = type->is_float || (type == linear->stored_as && is_plain_rounding(linear));
        return *is_dense ? RP_OK : rp_gguf_grid(grid, type);
    }
    return container_grid(grid, format, (rp_format_kind)format->kind, linear);
}

static bool is_gguf_grid(const rp_grid *grid)
{
    return grid->ops->fixed_bits != 0;
}

/* Forms of a linear: one a distinct grid. A dense output takes what the first output made. */
static rp_status assign_forms(const rp_linears *linears, rp_linear *linear, const rp_job *job)
{
    rp_status st = RP_OK;
    const rp_output_formats *formats = &job->output.formats;

    for (int64_t k = 0; k < formats->n; k++) {
        const rp_output_format *format = &formats->items[k];
        rp_grid grid = {0};
        bool is_dense = false;
        int f = 0;

        linear->form_of_output[k] = RP_FORM_NONE;
        if (linear->choice.is_dense) {
            continue;
        }
        if (is_dense_output(format) && (k > 0 || job->recipe.n == 0)) {
            const bool takes_form = linear->n_forms > 0 && job->recipe.n > 0;
            linear->form_of_output[k] = takes_form ? 0 : RP_FORM_NONE;
            continue;
        }
        RP_TRY(output_grid(&grid, &is_dense, linears, format, linear, k));
        if (is_dense) {
            continue;
        }
        grid.mse = grid.ops->fixed_bits == 0 && linear->choice.scheme.mse;
        while (f < linear->n_forms && !rp_grid_equal(&linear->grid[f], &grid)) {
            f++;
        }
        linear->grid[f] = grid;
        linear->n_forms = RP_MAX(linear->n_forms, f + 1);
        linear->form_of_output[k] = f;
    }
    if (linear->choice.actorder == RP_ACTORDER_AUTO) {
        linear->choice.actorder = linear->n_forms > 0 && is_gguf_grid(&linear->grid[0])
                                      ? RP_ACTORDER_NONE
                                      : RP_ACTORDER_STATIC;
    }
out:
    if (st != RP_OK) {
        st = rp_error_prefix(st, "%s", linear->module);
    }
    return st;
}

int64_t rp_linear_sweeps(const rp_linear *linear, int form)
{
    if (linear->choice.sweeps != RP_SWEEPS_AUTO) {
        return linear->choice.sweeps;
    }
    return is_gguf_grid(&linear->grid[form]) ? GGUF_SWEEPS : 0;
}

/* Without a recipe a job is a conversion, as by llama-quantize: GGUF outputs are rounded to their
 * types, the others hold the source's values. */
static bool is_rounding_conversion(const rp_job *job)
{
    bool rounds = false;

    for (int64_t k = 0; k < job->output.formats.n; k++) {
        rounds = rounds || !is_dense_output(&job->output.formats.items[k]);
    }
    return job->recipe.n == 0 && rounds;
}

static rp_status fill(rp_linear *linear, const rp_job *job, const rp_weights *weights,
                      int64_t layer, rp_slot slot)
{
    rp_status st = RP_OK;
    char *suffix = NULL;

    linear->layer = layer;
    linear->slot = slot;
    rp_model_slot_name(linear->module, sizeof(linear->module), layer, slot);
    linear->stored_as = rp_weights_find(weights, linear->module)->block;
    suffix = strstr(linear->module, ".weight");
    if (suffix != NULL) {
        *suffix = '\0';
    }
    rp_model_slot_shape(rp_weights_config(weights), slot, &linear->rows, &linear->cols);
    RP_TRY(rp_recipe_match(&linear->choice, job, linear->module));
    if (is_rounding_conversion(job)) {
        linear->choice.is_dense = false;
        linear->choice.method = RP_METHOD_RTN;
    }
out:
    return st;
}

static bool needs_statistics(const rp_linear *linear)
{
    const rp_solver *solver = rp_solver_find(rp_method_name(linear->choice.method));

    return !linear->choice.is_dense &&
           ((solver != NULL && solver->needs_gram) || linear->choice.drift != RP_DRIFT_NONE ||
            linear->choice.weighs_by_own_sums);
}

/* Does any output's size decide its types. */
static bool needs_measuring(const rp_job *job)
{
    for (int64_t k = 0; k < job->output.formats.n; k++) {
        if (rp_has_size_target(&job->output.formats.items[k])) {
            return true;
        }
    }
    return false;
}

/* The types of all GGUF outputs. Statistics say how much each column matters, as an imatrix does.
 */
static rp_status choose_types(rp_linears *linears, const rp_job *job, const rp_weights *weights)
{
    rp_status st = RP_OK;
    const int64_t n = rp_weights_count(weights);
    bool *is_kept = NULL;
    bool has_imatrix = needs_measuring(job);

    RP_TRY(rp_calloc(&is_kept, (size_t)n, sizeof(*is_kept)));
    for (int64_t i = 0; i < n; i++) {
        const rp_linear *linear = rp_linears_find(linears, rp_weights_at(weights, i)->name);
        is_kept[i] = linear != NULL && linear->choice.is_dense;
        has_imatrix = has_imatrix || (linear != NULL &&
                                      (needs_statistics(linear) || linear->choice.imatrix != NULL));
    }
    for (int64_t k = 0; k < job->output.formats.n; k++) {
        const rp_output_format *format = &job->output.formats.items[k];
        if (format->kind == RP_FORMAT_GGUF) {
            RP_TRY(rp_gguf_types_create(&linears->types[k], weights, format, is_kept, has_imatrix));
        }
    }
out:
    free(is_kept);
    return st;
}

rp_status rp_linears_take_types(rp_linears *linears, const rp_job *job)
{
    rp_status st = RP_OK;

    for (int64_t i = 0; i < linears->n; i++) {
        linears->items[i].n_forms = 0;
        RP_TRY(assign_forms(linears, &linears->items[i], job));
    }
out:
    return st;
}

static rp_status check_targets(const rp_linears *linears, const rp_job *job)
{
    rp_status st = RP_OK;
    const char **modules = NULL;
    rp_linear_choice head = {.is_dense = true};

    RP_TRY(rp_alloc_array(&modules, (size_t)linears->n + 1, sizeof(*modules)));
    for (int64_t i = 0; i < linears->n; i++) {
        modules[i] = linears->items[i].module;
    }
    modules[linears->n] = "lm_head";
    RP_TRY(rp_recipe_check(job, modules, linears->n + 1));
    RP_TRY(rp_recipe_match(&head, job, "lm_head"));
    if (job->recipe.n > 0 && !head.is_dense) {
        st = RP_FAIL(RP_ERR_CONFIG,
                     "recipe: lm_head is not quantised by a recipe: add it to ignore");
    }
out:
    free(modules);
    return st;
}

rp_status rp_linears_create(rp_linears *out, const rp_job *job, const rp_weights *weights)
{
    rp_status st = RP_OK;
    const rp_model_config *config = rp_weights_config(weights);
    rp_linears linears = {.n = config->n_layers * RP_SLOT_LINEARS};

    memset(out, 0, sizeof(*out));
    if (job->output.formats.n > RP_MAX_OUTPUTS) {
        return RP_FAIL(RP_ERR_CONFIG, "output.formats: at most %d, got %lld", RP_MAX_OUTPUTS,
                       (long long)job->output.formats.n);
    }
    linears.needs_measuring = needs_measuring(job);
    linears.needs_calibration = job->output.imatrix != NULL || linears.needs_measuring;
    RP_TRY(rp_calloc(&linears.items, (size_t)linears.n, sizeof(*linears.items)));
    for (int64_t i = 0; i < linears.n; i++) {
        RP_TRY(fill(&linears.items[i], job, weights, i / RP_SLOT_LINEARS,
                    (rp_slot)(i % RP_SLOT_LINEARS)));
    }
    RP_TRY(choose_types(&linears, job, weights));
    RP_TRY(rp_linears_take_types(&linears, job));
    for (int64_t i = 0; i < linears.n; i++) {
        rp_linear *linear = &linears.items[i];
        if (linear->n_forms > 0) {
            if (rp_solver_find(rp_method_name(linear->choice.method)) == NULL) {
                st = RP_FAIL(RP_ERR_CONFIG, "recipe: no method %s",
                             rp_method_name(linear->choice.method));
                goto out;
            }
            linears.corrects_drift =
                linears.corrects_drift || linear->choice.drift != RP_DRIFT_NONE;
            linears.needs_calibration = linears.needs_calibration || needs_statistics(linear);
        }
    }
    RP_TRY(check_targets(&linears, job));
    *out = linears;
    memset(&linears, 0, sizeof(linears));
out:
    rp_linears_destroy(&linears);
    return st;
}

void rp_linears_destroy(rp_linears *linears)
{
    for (int k = 0; k < RP_MAX_OUTPUTS; k++) {
        rp_gguf_types_destroy(&linears->types[k]);
    }
    free(linears->items);
    memset(linears, 0, sizeof(*linears));
}

const rp_linear *rp_linears_at(const rp_linears *linears, int64_t layer, rp_slot slot)
{
    return &linears->items[layer * RP_SLOT_LINEARS + (int64_t)slot];
}

const rp_linear *rp_linears_find(const rp_linears *linears, const char *weight_name)
{
    const char *suffix = strstr(weight_name, ".weight");

    for (int64_t i = 0; suffix != NULL && i < linears->n; i++) {
        const char *module = linears->items[i].module;
        const size_t length = (size_t)(suffix - weight_name);
        if (strncmp(module, weight_name, length) == 0 && module[length] == '\0') {
            return &linears->items[i];
        }
    }
    return NULL;
}

bool rp_linear_is_kept_dense(const rp_linears *linears, const rp_linear *linear, int64_t k)
{
    const rp_gguf_mix_tensor *tensor = NULL;

    if (linear->choice.is_dense || linear->form_of_output[k] != RP_FORM_NONE) {
        return false;
    }
    tensor = linears->types[k].n > 0 ? tensor_of(linears, linear, k) : NULL;
    return tensor != NULL && tensor->is_fallback && tensor->type->is_float;
}

bool rp_linear_is_copied(const rp_linears *linears, const rp_linear *linear, int64_t k)
{
    return linear->form_of_output[k] == RP_FORM_NONE && linear->stored_as != NULL &&
           !linear->stored_as->is_float && linears->types[k].n > 0 &&
           tensor_of(linears, linear, k)->type == linear->stored_as;
}

void rp_linear_unit(char *out, size_t out_bytes, const rp_linear *linear, int form)
{
    const char *name = strstr(linear->module, ".layers.");
    const char *tail = name == NULL ? NULL : strchr(name + 8, '.');

    (void)snprintf(out, out_bytes, "layer/%lld/%s/%d", (long long)linear->layer,
                   tail == NULL ? linear->module : tail + 1, form);
}

size_t rp_linear_stored_bytes(const rp_linear *linear)
{
    size_t nbytes = 0;

    for (int f = 0; f < linear->n_forms; f++) {
        const rp_form form = {.kind = RP_FORM_CODES,
                              .rows = linear->rows,
                              .cols = linear->cols,
                              .grid = linear->grid[f]};
        const rp_piece piece = rp_piece_of_form(&form, 0, form.rows);
        nbytes += rp_piece_bytes(&piece);
    }
    return nbytes;
}

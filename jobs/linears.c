/* Matches the recipe against the model and gives each linear its grids, one for each distinct need
 * of the outputs. */
#include "jobs/linears.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/gguf_blocks.h"
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
    const rp_gguf_block_type *type = NULL;

    if (format->kind == RP_FORMAT_SAFETENSORS) {
        return true;
    }
    if (format->kind != RP_FORMAT_GGUF) {
        return false;
    }
    type = rp_gguf_block_type_find(format->gguf_type);
    return type != NULL && type->is_float;
}

/* The grid of a linear in one output; *is_dense when the file's blocks do not fit its width. */
static rp_status output_grid(rp_grid *grid, bool *is_dense, const rp_output_format *format,
                             const rp_linear *linear)
{
    const rp_container *container = NULL;
    const rp_gguf_block_type *type = NULL;
    rp_container_opts opts = {.v2 = format->is_v2, .dense_type = RP_F16};

    *is_dense = false;
    if (format->kind == RP_FORMAT_GGUF) {
        type = rp_gguf_block_type_find(format->gguf_type);
        if (type == NULL) {
            return RP_FAIL(RP_ERR_CONFIG, "output.formats: unknown GGUF type %s",
                           format->gguf_type);
        }
        *is_dense = linear->cols % type->block_elems != 0;
        return *is_dense ? RP_OK : rp_gguf_grid(grid, type);
    }
    container = rp_container_find(rp_format_kind_name(format->kind));
    if (container == NULL) {
        return RP_FAIL(RP_ERR_INTERNAL, "no container %s", rp_format_kind_name(format->kind));
    }
    return container->grid(grid, &opts, &linear->choice.scheme, linear->rows, linear->cols);
}

/* Forms of a linear: one a distinct grid. A dense output takes what the first output made. */
static rp_status assign_forms(rp_linear *linear, const rp_job *job)
{
    rp_status st = RP_OK;
    const rp_output_formats *formats = &job->output.formats;

    for (int64_t k = 0; k < formats->n; k++) {
        const rp_output_format *format = &formats->items[k];
        rp_grid grid = {0};
        bool is_dense = false;
        int f = 0;

        linear->form_of_output[k] = RP_FORM_NONE;
        if (is_dense_output(format) && k > 0) {
            linear->form_of_output[k] = linear->n_forms > 0 ? 0 : RP_FORM_NONE;
            continue;
        }
        if (format->kind == RP_FORMAT_GGUF && is_dense_output(format)) {
            /* A float GGUF as the first output: the recipe's own scheme, decoded. */
            const rp_output_format plain = {.kind = RP_FORMAT_SAFETENSORS};
            RP_TRY(output_grid(&grid, &is_dense, &plain, linear));
        } else {
            RP_TRY(output_grid(&grid, &is_dense, format, linear));
        }
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
out:
    if (st != RP_OK) {
        st = rp_error_prefix(st, "%s", linear->module);
    }
    return st;
}

static bool is_gguf_grid(const rp_grid *grid)
{
    return grid->ops->fixed_bits != 0;
}

int64_t rp_linear_sweeps(const rp_linear *linear, int form)
{
    if (linear->choice.sweeps != RP_SWEEPS_AUTO) {
        return linear->choice.sweeps;
    }
    return is_gguf_grid(&linear->grid[form]) ? GGUF_SWEEPS : 0;
}

static rp_status fill(rp_linear *linear, const rp_job *job, const rp_model_config *config,
                      int64_t layer, rp_slot slot)
{
    rp_status st = RP_OK;
    char *suffix = NULL;
    bool is_plain_conversion = job->recipe.n == 0;

    linear->layer = layer;
    linear->slot = slot;
    rp_model_slot_name(linear->module, sizeof(linear->module), layer, slot);
    suffix = strstr(linear->module, ".weight");
    if (suffix != NULL) {
        *suffix = '\0';
    }
    rp_model_slot_shape(config, slot, &linear->rows, &linear->cols);
    RP_TRY(rp_recipe_match(&linear->choice, job, linear->module));
    if (linear->choice.is_dense && is_plain_conversion &&
        !is_dense_output(&job->output.formats.items[0]) &&
        job->output.formats.items[0].kind == RP_FORMAT_GGUF) {
        /* No recipe: a plain conversion, as llama-quantize does it. */
        linear->choice.is_dense = false;
        linear->choice.method = RP_METHOD_RTN;
    }
    if (linear->choice.is_dense) {
        for (int64_t k = 0; k < job->output.formats.n; k++) {
            linear->form_of_output[k] = RP_FORM_NONE;
        }
        return RP_OK;
    }
    RP_TRY(assign_forms(linear, job));
    if (linear->choice.actorder == RP_ACTORDER_AUTO) {
        linear->choice.actorder = linear->n_forms > 0 && is_gguf_grid(&linear->grid[0])
                                      ? RP_ACTORDER_NONE
                                      : RP_ACTORDER_STATIC;
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

rp_status rp_linears_create(rp_linears *out, const rp_job *job, const rp_model_config *config)
{
    rp_status st = RP_OK;
    rp_linears linears = {.n = config->n_layers * RP_SLOT_LINEARS};

    memset(out, 0, sizeof(*out));
    if (job->output.formats.n > RP_MAX_OUTPUTS) {
        return RP_FAIL(RP_ERR_CONFIG, "output.formats: at most %d, got %lld", RP_MAX_OUTPUTS,
                       (long long)job->output.formats.n);
    }
    RP_TRY(rp_calloc(&linears.items, (size_t)linears.n, sizeof(*linears.items)));
    for (int64_t i = 0; i < linears.n; i++) {
        rp_linear *linear = &linears.items[i];
        RP_TRY(fill(linear, job, config, i / RP_SLOT_LINEARS, (rp_slot)(i % RP_SLOT_LINEARS)));
        if (linear->n_forms > 0) {
            const rp_solver *solver = rp_solver_find(rp_method_name(linear->choice.method));
            if (solver == NULL) {
                st = RP_FAIL(RP_ERR_CONFIG, "recipe: no method %s",
                             rp_method_name(linear->choice.method));
                goto out;
            }
            linears.corrects_drift =
                linears.corrects_drift || linear->choice.drift != RP_DRIFT_NONE;
            linears.needs_calibration =
                linears.needs_calibration || solver->needs_gram || linears.corrects_drift;
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

void rp_linear_unit(char *out, size_t out_bytes, const rp_linear *linear, int form)
{
    const char *name = strstr(linear->module, ".layers.");
    const char *tail = name == NULL ? NULL : strchr(name + 8, '.');

    (void)snprintf(out, out_bytes, "layer/%lld/%s/%d", (long long)linear->layer,
                   tail == NULL ? linear->module : tail + 1, form);
}

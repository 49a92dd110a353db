/* compressed-tensors "pack-quantized" (weights only, int 4 and 8), for W [out, in]:
 *
 *     weight_packed     I32 [out, in * bits / 32]   codes packed along in, row by row
 *     weight_scale      [out, groups] in the model's float type
 *     weight_shape      I64 [2] = {out, in}
 *     weight_zero_point I32 [out * bits / 32, groups]   asymmetric only, packed along out
 *
 * The format's signed codes are stored with 2^(bits-1) added, which are our unsigned ones. Loaders
 * of releases before 0.15 pad other widths differently, so those are refused; the config keeps to
 * the keys that old and new releases accept. */
#include "formats/containers.h"

#include "base/mem.h"
#include "formats/bitpack.h"
#include "formats/scheme_classes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PART_PACKED = 0, PART_SCALE, PART_SHAPE, PART_ZERO_POINT };

static rp_status ct_grid(rp_grid *out, const rp_container_opts *opts, const rp_scheme *scheme,
                         int64_t rows, int64_t cols)
{
    const int codes_per_word = 32 / scheme->bits;

    if (scheme->bits != 4 && scheme->bits != 8) {
        return RP_FAIL(RP_ERR_CONFIG, "compressed-tensors holds 4 or 8 bits, not %d", scheme->bits);
    }
    if (scheme->group_size > 0 && cols % scheme->group_size != 0) {
        return RP_FAIL(RP_ERR_CONFIG,
                       "compressed-tensors needs whole groups: %lld columns are no multiple of "
                       "group_size %lld",
                       (long long)cols, (long long)scheme->group_size);
    }
    if (cols % codes_per_word != 0 || (!scheme->is_symmetric && rows % codes_per_word != 0)) {
        return RP_FAIL(RP_ERR_CONFIG,
                       "compressed-tensors needs columns (asymmetric: rows too) in multiples of %d "
                       "at %d bits; this linear is %lld x %lld",
                       codes_per_word, scheme->bits, (long long)rows, (long long)cols);
    }
    *out = (rp_grid){
        .ops = rp_grid_find("affine"),
        .bits = scheme->bits,
        .is_symmetric = scheme->is_symmetric,
        .mse = scheme->mse,
        .group = scheme->group_size,
        .scale_type = opts->dense_type,
    };
    return RP_OK;
}

static rp_status ct_parts(const rp_container_opts *opts, const char *module, const rp_grid *grid,
                          int64_t rows, int64_t cols, rp_part out[RP_MAX_PARTS], int *n_parts)
{
    rp_status st = RP_OK;
    const int64_t groups = rp_grid_ngroups(grid, cols);

    (void)opts;
    RP_TRY(rp_part_set(&out[PART_PACKED], module, ".weight_packed", RP_I32, rows,
                       rp_bits_words(cols, grid->bits)));
    RP_TRY(rp_part_set(&out[PART_SCALE], module, ".weight_scale", grid->scale_type, rows, groups));
    RP_TRY(rp_part_set(&out[PART_SHAPE], module, ".weight_shape", RP_I64, 2, -1));
    *n_parts = PART_ZERO_POINT;
    if (!grid->is_symmetric) {
        RP_TRY(rp_part_set(&out[PART_ZERO_POINT], module, ".weight_zero_point", RP_I32,
                           rp_bits_words(rows, grid->bits), groups));
        *n_parts = PART_ZERO_POINT + 1;
    }
out:
    return st;
}

static void encode_packed(const rp_form *form, uint32_t *dst)
{
    const int64_t n_words = rp_bits_words(form->cols, form->grid.bits);

    for (int64_t n = 0; n < form->rows; n++) {
        rp_bits_pack(dst + n * n_words, form->codes + n * form->cols, form->cols, form->grid.bits);
    }
}

static rp_status encode_scale(const rp_form *form, void *dst)
{
    rp_status st = RP_OK;
    const int64_t n = form->rows * rp_grid_ngroups(&form->grid, form->cols);
    float *scales = NULL;

    RP_TRY(rp_alloc_array(&scales, (size_t)n, sizeof(*scales)));
    for (int64_t i = 0; i < n; i++) {
        scales[i] = form->params[i * 2];
    }
    rp_from_f32(dst, scales, form->grid.scale_type, n);
out:
    free(scales);
    return st;
}

static rp_status encode_zero_point(const rp_form *form, uint32_t *dst)
{
    rp_status st = RP_OK;
    const int64_t groups = rp_grid_ngroups(&form->grid, form->cols);
    const int64_t n_words = rp_bits_words(form->rows, form->grid.bits);
    uint8_t *zeros = NULL;
    uint32_t *words = NULL;

    RP_TRY(rp_alloc(&zeros, (size_t)form->rows));
    RP_TRY(rp_alloc_array(&words, (size_t)n_words, sizeof(*words)));
    for (int64_t g = 0; g < groups; g++) {
        for (int64_t n = 0; n < form->rows; n++) {
            zeros[n] = (uint8_t)form->params[(n * groups + g) * 2 + 1];
        }
        rp_bits_pack(words, zeros, form->rows, form->grid.bits);
        for (int64_t w = 0; w < n_words; w++) {
            dst[w * groups + g] = words[w];
        }
    }
out:
    free(zeros);
    free(words);
    return st;
}

static rp_status ct_encode(const rp_container_opts *opts, const rp_form *form, int index, void *dst)
{
    const int64_t shape[2] = {form->rows, form->cols};

    (void)opts;
    switch (index) {
    case PART_PACKED:
        encode_packed(form, dst);
        return RP_OK;
    case PART_SCALE:
        return encode_scale(form, dst);
    case PART_SHAPE:
        memcpy(dst, shape, sizeof(shape));
        return RP_OK;
    default:
        return encode_zero_point(form, dst);
    }
}

/* Modules of one class by name; with a single class all linears that are not ignored. */
static json_t *make_targets(const rp_scheme_classes *classes, int64_t which,
                            const rp_module_scheme *modules, int64_t n)
{
    json_t *targets = json_array();

    if (classes->n == 1) {
        (void)json_array_append_new(targets, json_string("Linear"));
        return targets;
    }
    for (int64_t i = 0; i < n; i++) {
        if (classes->class_of[i] == which) {
            (void)json_array_append_new(targets, json_string(modules[i].module));
        }
    }
    return targets;
}

static json_t *make_group(const rp_module_scheme *scheme, json_t *targets)
{
    const rp_grid *grid = &scheme->grid;
    json_t *group_size = grid->group == 0 ? json_null() : json_integer(grid->group);

    return json_pack(
        "{s:o, s:{s:i, s:s, s:b, s:s, s:o, s:b, s:s, s:s?}, s:n, s:n}", "targets", targets,
        "weights", "num_bits", grid->bits, "type", "int", "symmetric", (int)grid->is_symmetric,
        "strategy", grid->group == 0 ? "channel" : "group", "group_size", group_size, "dynamic", 0,
        "observer", grid->mse ? "mse" : "minmax", "actorder", scheme->is_actorder ? "weight" : NULL,
        "input_activations", "output_activations");
}

/* Dense linears, and the output head unless it is quantised. */
static json_t *make_ignore(const rp_module_scheme *modules, int64_t n)
{
    json_t *ignore = json_array();
    bool has_head = false;

    for (int64_t i = 0; i < n; i++) {
        has_head |= strcmp(modules[i].module, "lm_head") == 0;
        if (!modules[i].is_quantised) {
            (void)json_array_append_new(ignore, json_string(modules[i].module));
        }
    }
    if (!has_head) {
        (void)json_array_append_new(ignore, json_string("lm_head"));
    }
    return ignore;
}

static rp_status ct_config(json_t **out, const rp_container_opts *opts,
                           const rp_module_scheme *modules, int64_t n, double dampening_frac)
{
    rp_status st = RP_OK;
    rp_scheme_classes classes;
    json_t *groups = json_object();
    int failed = 0;

    (void)opts;
    (void)dampening_frac;
    *out = NULL;
    RP_TRY(rp_scheme_classes_create(&classes, modules, n));
    if (classes.n == 0) {
        goto out;
    }
    for (int64_t c = 0; c < classes.n; c++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "group_%lld", (long long)c);
        failed |= json_object_set_new(
            groups, name, make_group(classes.first[c], make_targets(&classes, c, modules, n)));
    }
    *out = json_pack("{s:s, s:s, s:s, s:O, s:o, s:n, s:n, s:{}}", "quant_method",
                     "compressed-tensors", "format", "pack-quantized", "quantization_status",
                     "compressed", "config_groups", groups, "ignore", make_ignore(modules, n),
                     "kv_cache_scheme", "global_compression_ratio", "sparsity_config");
    if (*out == NULL || failed != 0) {
        json_decref(*out);
        *out = NULL;
        st = RP_FAIL(RP_ERR_MEMORY, "no memory for the quantisation config");
    }
out:
    json_decref(groups);
    rp_scheme_classes_destroy(&classes);
    return st;
}

const rp_container rp_container_compressed_tensors = {
    .name = "compressed-tensors",
    .grid = ct_grid,
    .parts = ct_parts,
    .encode = ct_encode,
    .config = ct_config,
};

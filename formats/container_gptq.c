/* GPTQ checkpoints (AutoGPTQ, GPTQModel; checkpoint_format gptq and gptq_v2), for W [out, in]:
 *
 *     qweight I32 [in * bits / 32, out]   codes packed along in, one stream a column
 *     qzeros  I32 [groups, out * bits / 32]   zero points packed along out; gptq stores zero - 1
 *     scales  F16 [groups, out]
 *     g_idx   I32 [in]   k / group: groups are those of the original order, static act-order too
 *
 * Asymmetric zero points are at least 1 in gptq: a stored -1 would carry into its neighbours when a
 * loader adds 1 to whole words. */
#include "formats/containers.h"

#include "base/mem.h"
#include "formats/bitpack.h"
#include "formats/scheme_classes.h"

#include <stdlib.h>
#include <string.h>

#define UNIT 32 /* codes that fill whole words at every width */

enum { PART_QWEIGHT = 0, PART_QZEROS, PART_SCALES, PART_G_IDX, PART_COUNT };

static rp_status gptq_grid(rp_grid *out, const rp_container_opts *opts, const rp_scheme *scheme,
                           int64_t rows, int64_t cols)
{
    const int bits = scheme->bits;

    if (bits != 2 && bits != 3 && bits != 4 && bits != 8) {
        return RP_FAIL(RP_ERR_CONFIG, "gptq holds 2, 3, 4 or 8 bits, not %d", bits);
    }
    if (rows % UNIT != 0 || cols % UNIT != 0) {
        return RP_FAIL(RP_ERR_CONFIG,
                       "gptq needs rows and columns in multiples of %d; this linear is %lld x %lld",
                       UNIT, (long long)rows, (long long)cols);
    }
    *out = (rp_grid){
        .ops = rp_grid_find("affine"),
        .bits = bits,
        .is_symmetric = scheme->is_symmetric,
        .mse = scheme->mse,
        .zero_min = opts->v2 ? 0 : 1,
        .group = scheme->group_size,
        .scale_type = RP_F16,
    };
    return RP_OK;
}

static rp_status gptq_parts(const rp_container_opts *opts, const char *module, const rp_grid *grid,
                            int64_t rows, int64_t cols, rp_part out[RP_MAX_PARTS], int *n_parts)
{
    rp_status st = RP_OK;
    const int64_t groups = rp_grid_ngroups(grid, cols);

    (void)opts;
    RP_TRY(rp_part_set(&out[PART_QWEIGHT], module, ".qweight", RP_I32,
                       rp_bits_words(cols, grid->bits), rows));
    RP_TRY(rp_part_set(&out[PART_QZEROS], module, ".qzeros", RP_I32, groups,
                       rp_bits_words(rows, grid->bits)));
    RP_TRY(rp_part_set(&out[PART_SCALES], module, ".scales", RP_F16, groups, rows));
    RP_TRY(rp_part_set(&out[PART_G_IDX], module, ".g_idx", RP_I32, cols, -1));
    *n_parts = PART_COUNT;
out:
    return st;
}

/* Packs tiles of 16 rows by 128 columns and writes them turned, a cache line at a time. */
static void encode_qweight(const rp_form *form, uint32_t *dst)
{
    enum { TILE_ROWS = 16, TILE_COLS = 4 * UNIT };
    const int bits = form->grid.bits;
    uint32_t tile[TILE_ROWS][TILE_COLS / UNIT * 8];

    for (int64_t row0 = 0; row0 < form->rows; row0 += TILE_ROWS) {
        const int64_t n = RP_MIN(TILE_ROWS, form->rows - row0);
        for (int64_t col0 = 0; col0 < form->cols; col0 += TILE_COLS) {
            const int64_t n_cols = RP_MIN(TILE_COLS, form->cols - col0);
            const int64_t n_words = rp_bits_words(n_cols, bits);
            for (int64_t i = 0; i < n; i++) {
                rp_bits_pack(tile[i], form->codes + (row0 + i) * form->cols + col0, n_cols, bits);
            }
            uint32_t *out = dst + rp_bits_words(col0, bits) * form->rows + row0;
            for (int64_t w = 0; w < n_words; w++, out += form->rows) {
                for (int64_t i = 0; i < n; i++) {
                    out[i] = tile[i][w];
                }
            }
        }
    }
}

static rp_status encode_qzeros(const rp_container_opts *opts, const rp_form *form, uint32_t *dst)
{
    rp_status st = RP_OK;
    const int64_t groups = rp_grid_ngroups(&form->grid, form->cols);
    const int64_t n_words = rp_bits_words(form->rows, form->grid.bits);
    const int lowest = opts->v2 ? 0 : 1;
    const int highest = (1 << form->grid.bits) - 1;
    uint8_t *zeros = NULL;

    RP_TRY(rp_alloc(&zeros, (size_t)form->rows));
    for (int64_t g = 0; g < groups; g++) {
        for (int64_t n = 0; n < form->rows; n++) {
            const float zero = form->params[(n * groups + g) * 2 + 1];
            if (!(zero >= (float)lowest && zero <= (float)highest)) {
                st = RP_FAIL(RP_ERR_INTERNAL, "zero point %g of row %lld: want %d to %d",
                             (double)zero, (long long)n, lowest, highest);
                goto out;
            }
            zeros[n] = (uint8_t)((int)zero - lowest);
        }
        rp_bits_pack(dst + g * n_words, zeros, form->rows, form->grid.bits);
    }
out:
    free(zeros);
    return st;
}

static void encode_scales(const rp_form *form, uint16_t *dst)
{
    const int64_t groups = rp_grid_ngroups(&form->grid, form->cols);

    for (int64_t g = 0; g < groups; g++) {
        for (int64_t n = 0; n < form->rows; n++) {
            dst[g * form->rows + n] = rp_f32_to_f16(form->params[(n * groups + g) * 2]);
        }
    }
}

static rp_status gptq_encode(const rp_container_opts *opts, const rp_form *form, int index,
                             void *dst)
{
    rp_status st = RP_OK;
    int32_t *g_idx = dst;

    switch (index) {
    case PART_QWEIGHT:
        encode_qweight(form, dst);
        break;
    case PART_QZEROS:
        st = encode_qzeros(opts, form, dst);
        break;
    case PART_SCALES:
        encode_scales(form, dst);
        break;
    default:
        for (int64_t k = 0; k < form->cols; k++) {
            g_idx[k] = (int32_t)(k / rp_grid_group_cols(&form->grid, form->cols));
        }
        break;
    }
    return st;
}

/* "<sign>:^model\.layers\.0$": a rule for exactly this module. */
static rp_status make_rule_name(char **out, char sign, const char *module)
{
    rp_status st = RP_OK;
    char *c = NULL;

    RP_TRY(rp_alloc(out, 2 * strlen(module) + sizeof("+:^$")));
    c = *out;
    *c++ = sign;
    *c++ = ':';
    *c++ = '^';
    for (const char *m = module; *m != '\0'; m++) {
        if (*m == '.') {
            *c++ = '\\';
        }
        *c++ = *m;
    }
    *c++ = '$';
    *c = '\0';
out:
    return st;
}

static json_int_t group_size_of(const rp_module_scheme *module)
{
    return module->grid.group == 0 ? -1 : (json_int_t)module->grid.group;
}

/* Rules for the modules that are not as `base` says. lm_head has its own key. */
static rp_status make_dynamic(json_t *dynamic, const rp_scheme_classes *classes, int64_t base,
                              const rp_module_scheme *modules, int64_t n)
{
    rp_status st = RP_OK;
    char *name = NULL;

    for (int64_t i = 0; i < n; i++) {
        const rp_module_scheme *module = &modules[i];
        json_t *rule = NULL;
        if (classes->class_of[i] == base ||
            (!module->is_quantised && strcmp(module->module, "lm_head") == 0)) {
            continue;
        }
        free(name);
        name = NULL;
        RP_TRY(make_rule_name(&name, module->is_quantised ? '+' : '-', module->module));
        rule = !module->is_quantised
                   ? json_object()
                   : json_pack("{s:i, s:I, s:b}", "bits", module->grid.bits, "group_size",
                               group_size_of(module), "sym", (int)module->grid.is_symmetric);
        if (json_object_set_new(dynamic, name, rule) != 0) {
            st = RP_FAIL(RP_ERR_MEMORY, "no memory for the quantisation config");
            goto out;
        }
    }
out:
    free(name);
    return st;
}

static rp_status gptq_config(json_t **out, const rp_container_opts *opts,
                             const rp_module_scheme *modules, int64_t n, double dampening_frac)
{
    rp_status st = RP_OK;
    rp_scheme_classes classes;
    const rp_module_scheme *most = NULL;
    json_t *dynamic = json_object();
    bool is_head_quantised = false;

    *out = NULL;
    RP_TRY(rp_scheme_classes_create(&classes, modules, n));
    if (classes.n == 0) {
        goto out;
    }
    most = classes.first[rp_scheme_classes_most(&classes)];
    for (int64_t i = 0; i < n; i++) {
        is_head_quantised |= modules[i].is_quantised && strcmp(modules[i].module, "lm_head") == 0;
    }
    RP_TRY(make_dynamic(dynamic, &classes, rp_scheme_classes_most(&classes), modules, n));
    *out = json_pack("{s:s, s:i, s:I, s:b, s:b, s:b, s:b, s:b, s:f, s:s, s:s, s:{s:[s]}}",
                     "quant_method", "gptq", "bits", most->grid.bits, "group_size",
                     group_size_of(most), "desc_act", 0, "sym", (int)most->grid.is_symmetric,
                     "lm_head", (int)is_head_quantised, "true_sequential", 1, "static_groups",
                     (int)most->is_actorder, "damp_percent", dampening_frac, "checkpoint_format",
                     opts->v2 ? "gptq_v2" : "gptq", "pack_dtype", "int32", "meta", "quantizer",
                     "rankpress:" RP_VERSION);
    if (*out == NULL ||
        (json_object_size(dynamic) > 0 && json_object_set(*out, "dynamic", dynamic) != 0)) {
        json_decref(*out);
        *out = NULL;
        st = RP_FAIL(RP_ERR_MEMORY, "no memory for the quantisation config");
    }
out:
    json_decref(dynamic);
    rp_scheme_classes_destroy(&classes);
    return st;
}

const rp_container rp_container_gptq = {
    .name = "gptq",
    .grid = gptq_grid,
    .parts = gptq_parts,
    .encode = gptq_encode,
    .config = gptq_config,
};

/* The table of GGUF's tensor types, and rows of them. All types' sizes are listed so that files
 * holding others can be inspected. */
#include "formats/gguf_blocks.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "formats/gguf_decode_iq.h"
#include "formats/gguf_pack.h"
#include "kernels/clones.h"

/* What is quantised before it is packed: values, codes and parameters stay in the first-level
 * cache, or with importance as many rows as its searches take together. */
#define PIECE_BLOCKS 64
#define PIECE_ELEMS 4096
#define PIECE_ROWS 16

/* ---- Layouts ---- */

static const int8_t iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};
static const int8_t fp4_levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
static const int8_t sign_levels[16] = {-1, 1};

#define NO_MIN RP_GGUF_NONE

static const rp_gguf_layout q4_0 = {
    .elems = 32, .bytes = 18, .d = 0, .min = NO_MIN, .low = {2, 4, 16}, .zero = 8};
static const rp_gguf_layout q4_1 = {.elems = 32, .bytes = 20, .d = 0, .min = 2, .low = {4, 4, 16}};
static const rp_gguf_layout q5_0 = {.elems = 32,
                                    .bytes = 22,
                                    .d = 0,
                                    .min = NO_MIN,
                                    .low = {6, 4, 16},
                                    .high = {2, 1, 1},
                                    .zero = 16};
static const rp_gguf_layout q5_1 = {
    .elems = 32, .bytes = 24, .d = 0, .min = 2, .low = {8, 4, 16}, .high = {4, 1, 1}};
static const rp_gguf_layout q8_0 = {
    .elems = 32, .bytes = 34, .d = 0, .min = NO_MIN, .low = {2, 8, 32}, .zero = 128};

static const rp_gguf_layout q2_k = {.elems = 256,
                                    .bytes = 84,
                                    .d = 80,
                                    .min = 82,
                                    .scales = &rp_gguf_scales_q2_k,
                                    .scales_at = 0,
                                    .low = {16, 2, 32}};
static const rp_gguf_layout q3_k = {.elems = 256,
                                    .bytes = 110,
                                    .d = 108,
                                    .min = NO_MIN,
                                    .scales = &rp_gguf_scales_q3_k,
                                    .scales_at = 96,
                                    .low = {32, 2, 32},
                                    .high = {0, 1, 32},
                                    .zero = 4};
static const rp_gguf_layout q4_k = {.elems = 256,
                                    .bytes = 144,
                                    .d = 0,
                                    .min = 2,
                                    .scales = &rp_gguf_scales_q4_k,
                                    .scales_at = 4,
                                    .low = {16, 4, 32}};
static const rp_gguf_layout q5_k = {.elems = 256,
                                    .bytes = 176,
                                    .d = 0,
                                    .min = 2,
                                    .scales = &rp_gguf_scales_q4_k,
                                    .scales_at = 4,
                                    .low = {48, 4, 32},
                                    .high = {16, 1, 32}};
static const rp_gguf_layout q6_k = {.elems = 256,
                                    .bytes = 210,
                                    .d = 208,
                                    .min = NO_MIN,
                                    .scales = &rp_gguf_scales_q6_k,
                                    .scales_at = 192,
                                    .low = {0, 4, 64},
                                    .high = {128, 2, 32},
                                    .zero = 32};

static const rp_gguf_layout iq4_nl = {
    .elems = 32, .bytes = 18, .d = 0, .min = NO_MIN, .low = {2, 4, 16}, .levels = iq4_levels};
static const rp_gguf_layout iq4_xs = {.elems = 256,
                                      .bytes = 136,
                                      .d = 0,
                                      .min = NO_MIN,
                                      .scales = &rp_gguf_scales_iq4_xs,
                                      .scales_at = 2,
                                      .low = {8, 4, 16},
                                      .levels = iq4_levels};
static const rp_gguf_layout tq1_0 = {
    .elems = 256, .bytes = 54, .d = 52, .min = NO_MIN, .is_ternary = true, .zero = 1};
static const rp_gguf_layout tq2_0 = {
    .elems = 256, .bytes = 66, .d = 64, .min = NO_MIN, .low = {0, 2, 32}, .zero = 1};
static const rp_gguf_layout mxfp4 = {.elems = 32,
                                     .bytes = 17,
                                     .d = 0,
                                     .min = NO_MIN,
                                     .is_power = true,
                                     .low = {1, 4, 16},
                                     .levels = fp4_levels};
static const rp_gguf_layout nvfp4 = {.elems = 64,
                                     .bytes = 36,
                                     .d = RP_GGUF_NONE,
                                     .min = NO_MIN,
                                     .scales = &rp_gguf_scales_nvfp4,
                                     .scales_at = 0,
                                     .low = {4, 4, 8},
                                     .levels = fp4_levels};
static const rp_gguf_layout q1_0 = {
    .elems = 128, .bytes = 18, .d = 0, .min = NO_MIN, .low = {2, 1, 1}, .levels = sign_levels};
static const rp_gguf_layout q2_0 = {
    .elems = 64, .bytes = 18, .d = 0, .min = NO_MIN, .low = {2, 2, 1}, .zero = 1};

/* ---- Types ---- */

#define FLOATS(title, number, element, nbytes)                                                     \
    {                                                                                              \
        .name = (title), .id = (number), .block_elems = 1, .block_bytes = (nbytes),                \
        .is_float = true, .dtype = (element),                                                      \
    }
#define BLOCKS(title, number, elems, nbytes, how)                                                  \
    {                                                                                              \
        .name = (title), .id = (number), .block_elems = (elems), .block_bytes = (nbytes),          \
        .layout = (how),                                                                           \
    }
#define CODEBOOK(title, number, nbytes, how)                                                       \
    {                                                                                              \
        .name = (title), .id = (number), .block_elems = 256, .block_bytes = (nbytes),              \
        .codebook = (how),                                                                         \
    }

static const rp_gguf_block_type block_types[] = {
    FLOATS("F32", 0, RP_F32, 4),
    FLOATS("F16", 1, RP_F16, 2),
    FLOATS("BF16", 30, RP_BF16, 2),
    BLOCKS("Q4_0", 2, 32, 18, &q4_0),
    BLOCKS("Q4_1", 3, 32, 20, &q4_1),
    BLOCKS("Q5_0", 6, 32, 22, &q5_0),
    BLOCKS("Q5_1", 7, 32, 24, &q5_1),
    BLOCKS("Q8_0", 8, 32, 34, &q8_0),
    BLOCKS("Q8_1", 9, 32, 36, NULL), /* of llama.cpp's activations, not of files */
    BLOCKS("Q2_K", 10, 256, 84, &q2_k),
    BLOCKS("Q3_K", 11, 256, 110, &q3_k),
    BLOCKS("Q4_K", 12, 256, 144, &q4_k),
    BLOCKS("Q5_K", 13, 256, 176, &q5_k),
    BLOCKS("Q6_K", 14, 256, 210, &q6_k),
    BLOCKS("Q8_K", 15, 256, 292, NULL), /* of llama.cpp's activations, not of files */
    CODEBOOK("IQ2_XXS", 16, 66, &rp_gguf_iq2_xxs),
    CODEBOOK("IQ2_XS", 17, 74, &rp_gguf_iq2_xs),
    CODEBOOK("IQ3_XXS", 18, 98, &rp_gguf_iq3_xxs),
    CODEBOOK("IQ1_S", 19, 50, &rp_gguf_iq1_s),
    BLOCKS("IQ4_NL", 20, 32, 18, &iq4_nl),
    CODEBOOK("IQ3_S", 21, 110, &rp_gguf_iq3_s),
    CODEBOOK("IQ2_S", 22, 82, &rp_gguf_iq2_s),
    BLOCKS("IQ4_XS", 23, 256, 136, &iq4_xs),
    BLOCKS("I8", 24, 1, 1, NULL),
    BLOCKS("I16", 25, 1, 2, NULL),
    BLOCKS("I32", 26, 1, 4, NULL),
    BLOCKS("I64", 27, 1, 8, NULL),
    BLOCKS("F64", 28, 1, 8, NULL),
    CODEBOOK("IQ1_M", 29, 56, &rp_gguf_iq1_m),
    BLOCKS("TQ1_0", 34, 256, 54, &tq1_0),
    BLOCKS("TQ2_0", 35, 256, 66, &tq2_0),
    BLOCKS("MXFP4", 39, 32, 17, &mxfp4),
    BLOCKS("NVFP4", 40, 64, 36, &nvfp4),
    BLOCKS("Q1_0", 41, 128, 18, &q1_0),
    BLOCKS("Q2_0", 42, 64, 18, &q2_0),
    {.block_elems = 1},
};

const rp_gguf_block_type *rp_gguf_block_type_table(void)
{
    return block_types;
}

const rp_gguf_block_type *rp_gguf_block_type_find(const char *name)
{
    for (const rp_gguf_block_type *type = block_types; type->name != NULL; type++) {
        if (strcasecmp(type->name, name) == 0) {
            return type;
        }
    }
    return NULL;
}

const rp_gguf_block_type *rp_gguf_block_type_of(uint32_t id)
{
    for (const rp_gguf_block_type *type = block_types; type->name != NULL; type++) {
        if (type->id == id) {
            return type;
        }
    }
    return NULL;
}

bool rp_gguf_can_decode(const rp_gguf_block_type *type)
{
    return type->is_float || type->layout != NULL || type->codebook != NULL;
}

bool rp_gguf_can_encode(const rp_gguf_block_type *type)
{
    return type->is_float || rp_gguf_grid_ops(type) != NULL;
}

const rp_grid_ops *rp_gguf_grid_ops(const rp_gguf_block_type *type)
{
    return type->layout != NULL ? rp_grid_find(type->name) : NULL;
}

size_t rp_gguf_row_bytes(const rp_gguf_block_type *type, int64_t cols)
{
    return (size_t)(cols / type->block_elems) * type->block_bytes;
}

rp_status rp_gguf_grid(rp_grid *out, const rp_gguf_block_type *type)
{
    const rp_grid_ops *ops = rp_gguf_grid_ops(type);

    if (ops == NULL) {
        return RP_FAIL(RP_ERR_CONFIG, "%s: not a quantised GGUF type of this program", type->name);
    }
    *out = (rp_grid){
        .ops = ops, .bits = ops->fixed_bits, .group = ops->fixed_group, .scale_type = RP_F16};
    return RP_OK;
}

/* ---- Encoding ---- */

/* elem: number of the element in rows of cols. */
static rp_status fail_not_finite(const rp_gguf_block_type *type, int64_t elem, int64_t cols)
{
    return RP_FAIL(RP_ERR_FORMAT, "row %lld, column %lld: value not finite as %s",
                   (long long)(elem / cols), (long long)(elem % cols), type->name);
}

/* The first element stored as infinity or NaN, whose exponent's bits are all set, or -1. */
RP_CLONES static int64_t find_bad_half(const uint16_t *half, unsigned exponent, int64_t n)
{
    int is_bad = 0;

    for (int64_t i = 0; i < n; i++) {
        is_bad |= (half[i] & exponent) == exponent;
    }
    for (int64_t i = 0; is_bad && i < n; i++) {
        if ((half[i] & exponent) == exponent) {
            return i;
        }
    }
    return -1;
}

/* n values as a float type; the first that is not finite there, or -1. */
static int64_t encode_floats(rp_dtype dtype, const float *values, int64_t n, void *dst)
{
    rp_from_f32(dst, values, dtype, n);
    return dtype == RP_F32 ? rp_find_non_finite(values, n)
                           : find_bad_half(dst, dtype == RP_F16 ? 0x7c00U : 0x7f80U, n);
}

static rp_status encode_float_rows(const rp_gguf_block_type *type, const rp_form *form,
                                   int64_t row0, int64_t nrows, uint8_t *dst)
{
    rp_status st = RP_OK;
    const size_t row_bytes = rp_gguf_row_bytes(type, form->cols);
    float *scratch = NULL;

    if (form->kind != RP_FORM_DENSE) {
        RP_TRY(rp_alloc_array(&scratch, (size_t)form->cols, sizeof(float)));
    }
    for (int64_t row = row0; row < row0 + nrows; row++, dst += row_bytes) {
        const float *values = scratch;
        if (form->kind == RP_FORM_DENSE) {
            values = form->values + row * form->cols;
        } else {
            rp_form_decode_rows(form, row, 1, scratch);
        }
        const int64_t bad = encode_floats(type->dtype, values, form->cols, dst);
        if (bad >= 0) {
            st = fail_not_finite(type, row * form->cols + bad, form->cols);
            goto out;
        }
    }
out:
    free(scratch);
    return st;
}

/* Codes and parameters of n elements, the first of which is number `first` of rows of cols. */
static rp_status pack_elems(const rp_gguf_block_type *type, int64_t first, int64_t n, int64_t cols,
                            const float *params, const uint8_t *codes, uint8_t *dst)
{
    const int64_t bad = rp_gguf_pack(type->layout, n / type->block_elems, params, codes, dst);

    return bad < 0 ? RP_OK : fail_not_finite(type, first + bad * type->block_elems, cols);
}

/* Without importance rows do not matter. */
static rp_status quantise_rows(const rp_gguf_block_type *type, const rp_form *form, int64_t row0,
                               int64_t nrows, const float *importance, uint8_t *dst)
{
    rp_status st = RP_OK;
    const int64_t end = (row0 + nrows) * form->cols;
    const int64_t cols = importance != NULL ? form->cols : type->block_elems;
    const int64_t step =
        importance != NULL ? RP_MIN(PIECE_ROWS, nrows) : RP_MIN(PIECE_BLOCKS, PIECE_ELEMS / cols);
    rp_form piece = {0};
    rp_grid grid;

    RP_TRY(rp_gguf_grid(&grid, type));
    RP_TRY(rp_form_create_codes(&piece, &grid, step, cols));
    for (int64_t first = row0 * form->cols; first < end; first += step * cols) {
        const int64_t n = RP_MIN(step * cols, end - first);
        const float *x = form->values + first;
        const int64_t bad = rp_find_non_finite(x, n);
        if (bad >= 0) {
            st = fail_not_finite(type, first + bad, form->cols);
            goto out;
        }
        grid.ops->quantise(&grid, n / cols, cols, x, importance, piece.params, piece.codes);
        RP_TRY(pack_elems(type, first, n, form->cols, piece.params, piece.codes, dst));
        dst += rp_gguf_row_bytes(type, n);
    }
out:
    rp_form_destroy(&piece);
    return st;
}

static rp_status check_encodable(const rp_gguf_block_type *type, const rp_form *form)
{
    char grid[64];

    if (!rp_gguf_can_encode(type)) {
        return RP_FAIL(RP_ERR_CONFIG, "%s: GGUF type not written by this program", type->name);
    }
    if (form->cols % type->block_elems != 0) {
        return RP_FAIL(RP_ERR_CONFIG, "%s: %lld columns do not fill blocks of %lld", type->name,
                       (long long)form->cols, (long long)type->block_elems);
    }
    if (!type->is_float && form->kind == RP_FORM_CODES &&
        form->grid.ops != rp_gguf_grid_ops(type)) {
        rp_grid_describe(&form->grid, grid, sizeof(grid));
        return RP_FAIL(RP_ERR_CONFIG, "%s: cannot hold codes of %s", type->name, grid);
    }
    return RP_OK;
}

rp_status rp_gguf_encode_rows(const rp_gguf_block_type *type, const rp_form *form, int64_t row0,
                              int64_t nrows, const float *importance, void *dst)
{
    rp_status st = RP_OK;

    RP_TRY(check_encodable(type, form));
    if (type->is_float) {
        RP_TRY(encode_float_rows(type, form, row0, nrows, dst));
    } else if (form->kind == RP_FORM_CODES) {
        const rp_form view = rp_form_view_rows(form, row0, nrows);
        RP_TRY(pack_elems(type, row0 * form->cols, nrows * form->cols, form->cols, view.params,
                          view.codes, dst));
    } else {
        RP_TRY(quantise_rows(type, form, row0, nrows, importance, dst));
    }
out:
    return st;
}

/* ---- Decoding ---- */

void rp_gguf_decode_rows(const rp_gguf_block_type *type, const void *src, int64_t nrows,
                         int64_t cols, float *dst)
{
    const int64_t nblocks = nrows * (cols / type->block_elems);

    RP_ASSERT(rp_gguf_can_decode(type) && cols % type->block_elems == 0);
    if (type->is_float) {
        rp_to_f32(dst, src, type->dtype, nrows * cols);
    } else if (type->layout != NULL) {
        rp_gguf_decode(type->layout, nblocks, src, dst);
    } else {
        rp_gguf_decode_codebook(type->codebook, nblocks, src, dst);
    }
}

void rp_gguf_unpack_rows(const rp_gguf_block_type *type, const void *src, int64_t nrows,
                         int64_t cols, float *params, uint8_t *codes)
{
    RP_ASSERT(rp_gguf_grid_ops(type) != NULL && cols % type->block_elems == 0);
    rp_gguf_unpack(type->layout, nrows * (cols / type->block_elems), src, params, codes);
}

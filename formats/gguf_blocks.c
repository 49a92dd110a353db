/* Blocks of GGUF tensors: packing codes of the grids of kernels/grid_gguf.c, and back.
 *
 * Layouts in the header; source: ggml's src/ggml-common.h and dequantize_row_* of
 * src/ggml-quants.c. All types' sizes are listed so that files holding others can be inspected. */
#include "formats/gguf_blocks.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "kernels/grid_gguf.h"

#define HALF_BLOCK (RP_GGUF_BLOCK / 2)

/* name, id, block_elems, block_bytes, is_float, dtype, grid, file_type */
static const rp_gguf_block_type block_types[] = {
    {"F32", 0, 1, 4, true, RP_F32, NULL, 0},
    {"F16", 1, 1, 2, true, RP_F16, NULL, 1},
    {"BF16", 30, 1, 2, true, RP_BF16, NULL, 32},
    {"Q4_0", 2, 32, 18, false, RP_F32, &rp_grid_q4_0, 2},
    {"Q4_1", 3, 32, 20, false, RP_F32, &rp_grid_q4_1, 3},
    {"Q5_0", 6, 32, 22, false, RP_F32, &rp_grid_q5_0, 8},
    {"Q5_1", 7, 32, 24, false, RP_F32, &rp_grid_q5_1, 9},
    {"Q8_0", 8, 32, 34, false, RP_F32, &rp_grid_q8_0, 7},
    {"Q8_1", 9, 32, 36, false, RP_F32, NULL, -1},
    {"Q2_K", 10, 256, 84, false, RP_F32, NULL, 10},
    {"Q3_K", 11, 256, 110, false, RP_F32, NULL, 12},
    {"Q4_K", 12, 256, 144, false, RP_F32, NULL, 15},
    {"Q5_K", 13, 256, 176, false, RP_F32, NULL, 17},
    {"Q6_K", 14, 256, 210, false, RP_F32, NULL, 18},
    {"Q8_K", 15, 256, 292, false, RP_F32, NULL, -1},
    {"IQ2_XXS", 16, 256, 66, false, RP_F32, NULL, 19},
    {"IQ2_XS", 17, 256, 74, false, RP_F32, NULL, 20},
    {"IQ3_XXS", 18, 256, 98, false, RP_F32, NULL, 23},
    {"IQ1_S", 19, 256, 50, false, RP_F32, NULL, 24},
    {"IQ4_NL", 20, 32, 18, false, RP_F32, NULL, 25},
    {"IQ3_S", 21, 256, 110, false, RP_F32, NULL, 26},
    {"IQ2_S", 22, 256, 82, false, RP_F32, NULL, 28},
    {"IQ4_XS", 23, 256, 136, false, RP_F32, NULL, 30},
    {"I8", 24, 1, 1, false, RP_I8, NULL, -1},
    {"I16", 25, 1, 2, false, RP_I16, NULL, -1},
    {"I32", 26, 1, 4, false, RP_I32, NULL, -1},
    {"I64", 27, 1, 8, false, RP_I64, NULL, -1},
    {"F64", 28, 1, 8, false, RP_F64, NULL, -1},
    {"IQ1_M", 29, 256, 56, false, RP_F32, NULL, 31},
    {"TQ1_0", 34, 256, 54, false, RP_F32, NULL, 36},
    {"TQ2_0", 35, 256, 66, false, RP_F32, NULL, 37},
    {"MXFP4", 39, 32, 17, false, RP_F32, NULL, 38},
    {"NVFP4", 40, 64, 36, false, RP_F32, NULL, -1},
    {NULL, 0, 1, 0, false, RP_F32, NULL, -1},
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

bool rp_gguf_is_supported(const rp_gguf_block_type *type)
{
    return type->is_float || type->grid != NULL;
}

size_t rp_gguf_row_bytes(const rp_gguf_block_type *type, int64_t cols)
{
    return (size_t)(cols / type->block_elems) * type->block_bytes;
}

rp_status rp_gguf_grid(rp_grid *out, const rp_gguf_block_type *type)
{
    if (type->grid == NULL) {
        return RP_FAIL(RP_ERR_CONFIG, "%s: not a quantised GGUF type of this program", type->name);
    }
    *out = (rp_grid){.ops = type->grid,
                     .bits = type->grid->fixed_bits,
                     .group = type->grid->fixed_group,
                     .scale_type = RP_F16};
    return RP_OK;
}

/* ---- One block ---- */

/* Where the pieces of a block lie. */
typedef struct block_layout {
    size_t min, high_bits, codes; /* offsets in the block */
    bool has_min, has_high_bits, is_bytes;
} block_layout;

static block_layout layout_of(const rp_gguf_block_type *type)
{
    block_layout at = {.min = sizeof(uint16_t)};

    at.has_min = type->grid == &rp_grid_q4_1 || type->grid == &rp_grid_q5_1;
    at.has_high_bits = type->grid->fixed_bits == 5;
    at.is_bytes = type->grid->fixed_bits == 8;
    at.high_bits = at.min + (at.has_min ? sizeof(uint16_t) : 0);
    at.codes = at.high_bits + (at.has_high_bits ? sizeof(uint32_t) : 0);
    return at;
}

static bool put_half(uint8_t *dst, float value)
{
    const uint16_t half = rp_f32_to_f16(value);

    dst[0] = (uint8_t)half;
    dst[1] = (uint8_t)(half >> 8);
    return (half & 0x7c00u) != 0x7c00u;
}

static float get_half(const uint8_t *src)
{
    return rp_f16_to_f32((uint16_t)(src[0] | (unsigned)src[1] << 8));
}

/* The fifth bits of 8 codes as a byte, the first lowest: the product moves the bit of byte j, 8 j,
 * to 56 + j, and no two of its terms meet. */
static uint8_t fifth_bits(const uint8_t *code)
{
    uint64_t eight = 0;

    memcpy(&eight, code, sizeof(eight));
    return (uint8_t)(((eight >> 4 & 0x0101010101010101u) * 0x0102040810204080u) >> 56);
}

/* False when a parameter is not finite as fp16. */
static bool pack_block(const block_layout *at, const float *params, const uint8_t *code,
                       uint8_t *dst)
{
    uint8_t *qs = dst + at->codes;
    bool is_finite = put_half(dst, params[0]);

    if (at->has_min) {
        is_finite = put_half(dst + at->min, params[1]) && is_finite;
    }
    if (at->is_bytes) {
        for (int i = 0; i < RP_GGUF_BLOCK; i++) {
            qs[i] = (uint8_t)(code[i] ^ 0x80u); /* code - 128 as a signed byte */
        }
        return is_finite;
    }
    for (int i = 0; i < HALF_BLOCK; i++) {
        qs[i] = (uint8_t)((code[i] & 15u) | (code[i + HALF_BLOCK] & 15u) << 4);
    }
    if (at->has_high_bits) {
        for (size_t i = 0; i < RP_GGUF_BLOCK / 8; i++) {
            dst[at->high_bits + i] = fifth_bits(code + 8 * i);
        }
    }
    return is_finite;
}

static void unpack_block(const block_layout *at, const uint8_t *src, float *params, uint8_t *code)
{
    const uint8_t *qs = src + at->codes;
    const uint8_t *high = src + at->high_bits;

    params[0] = get_half(src);
    params[1] = at->has_min ? get_half(src + at->min) : 0.0f;
    if (at->is_bytes) {
        for (int i = 0; i < RP_GGUF_BLOCK; i++) {
            code[i] = (uint8_t)(qs[i] ^ 0x80u);
        }
        return;
    }
    for (int i = 0; i < HALF_BLOCK; i++) {
        code[i] = qs[i] & 15u;
        code[i + HALF_BLOCK] = (uint8_t)(qs[i] >> 4);
    }
    if (at->has_high_bits) {
        for (int i = 0; i < RP_GGUF_BLOCK; i++) {
            code[i] = (uint8_t)(code[i] | ((high[i / 8] >> (i % 8)) & 1u) << 4);
        }
    }
}

/* ---- Rows ---- */

static rp_status fail_not_finite(const rp_gguf_block_type *type, int64_t row, int64_t col)
{
    return RP_FAIL(RP_ERR_FORMAT, "row %lld, column %lld: value not finite as %s", (long long)row,
                   (long long)col, type->name);
}

/* The row's values: borrowed from a dense form, else decoded into scratch [cols]. */
static const float *row_values(const rp_form *form, int64_t row, float *scratch)
{
    if (form->kind == RP_FORM_DENSE) {
        return form->values + row * form->cols;
    }
    rp_form_decode_rows(form, row, 1, scratch);
    return scratch;
}

static rp_status encode_float_row(const rp_gguf_block_type *type, const rp_form *form, int64_t row,
                                  float *scratch, uint8_t *dst)
{
    rp_from_f32(dst, row_values(form, row, scratch), type->dtype, form->cols);
    rp_to_f32(scratch, dst, type->dtype, form->cols);
    const int64_t bad = rp_find_non_finite(scratch, form->cols);
    return bad < 0 ? RP_OK : fail_not_finite(type, row, bad);
}

static rp_status encode_code_row(const rp_gguf_block_type *type, const rp_form *form, int64_t row,
                                 uint8_t *dst)
{
    const block_layout at = layout_of(type);
    const rp_form view = rp_form_view_rows(form, row, 1);

    for (int64_t c = 0; c < form->cols; c += RP_GGUF_BLOCK) {
        const float *params = view.params + c / RP_GGUF_BLOCK * type->grid->n_params;
        if (!pack_block(&at, params, view.codes + c, dst)) {
            return fail_not_finite(type, row, c);
        }
        dst += type->block_bytes;
    }
    return RP_OK;
}

static rp_status quantise_row(const rp_gguf_block_type *type, const rp_form *form, int64_t row,
                              uint8_t *dst)
{
    const block_layout at = layout_of(type);
    const float *x = form->values + row * form->cols;
    rp_grid grid;
    float params[RP_GRID_MAX_PARAMS];
    uint8_t code[RP_GGUF_BLOCK];
    rp_status st = RP_OK;

    RP_TRY(rp_gguf_grid(&grid, type));
    if (rp_find_non_finite(x, form->cols) >= 0) {
        return fail_not_finite(type, row, rp_find_non_finite(x, form->cols));
    }
    for (int64_t c = 0; c < form->cols; c += RP_GGUF_BLOCK) {
        grid.ops->quantise(&grid, 1, RP_GGUF_BLOCK, x + c, NULL, params, code);
        if (!pack_block(&at, params, code, dst)) {
            return fail_not_finite(type, row, c);
        }
        dst += type->block_bytes;
    }
out:
    return st;
}

static rp_status check_encodable(const rp_gguf_block_type *type, const rp_form *form)
{
    char grid[64];

    if (!rp_gguf_is_supported(type)) {
        return RP_FAIL(RP_ERR_CONFIG, "%s: GGUF type not written by this program", type->name);
    }
    if (form->cols % type->block_elems != 0) {
        return RP_FAIL(RP_ERR_CONFIG, "%s: %lld columns do not fill blocks of %lld", type->name,
                       (long long)form->cols, (long long)type->block_elems);
    }
    if (type->grid != NULL && form->kind == RP_FORM_CODES && form->grid.ops != type->grid) {
        rp_grid_describe(&form->grid, grid, sizeof(grid));
        return RP_FAIL(RP_ERR_CONFIG, "%s: cannot hold codes of %s", type->name, grid);
    }
    return RP_OK;
}

rp_status rp_gguf_encode_rows(const rp_gguf_block_type *type, const rp_form *form, int64_t row0,
                              int64_t nrows, void *dst)
{
    rp_status st = RP_OK;
    float *scratch = NULL;
    const size_t row_bytes = rp_gguf_row_bytes(type, form->cols);
    uint8_t *to = dst;

    RP_TRY(check_encodable(type, form));
    if (type->is_float) {
        RP_TRY(rp_alloc_array(&scratch, (size_t)form->cols, sizeof(float)));
    }
    for (int64_t row = row0; row < row0 + nrows; row++, to += row_bytes) {
        if (type->is_float) {
            RP_TRY(encode_float_row(type, form, row, scratch, to));
        } else if (form->kind == RP_FORM_CODES) {
            RP_TRY(encode_code_row(type, form, row, to));
        } else {
            RP_TRY(quantise_row(type, form, row, to));
        }
    }
out:
    free(scratch);
    return st;
}

void rp_gguf_decode_rows(const rp_gguf_block_type *type, const void *src, int64_t nrows,
                         int64_t cols, float *dst)
{
    const uint8_t *from = src;

    RP_ASSERT(rp_gguf_is_supported(type) && cols % type->block_elems == 0);
    if (type->is_float) {
        rp_to_f32(dst, src, type->dtype, nrows * cols);
        return;
    }
    const block_layout at = layout_of(type);
    const rp_grid grid = {
        .ops = type->grid, .bits = type->grid->fixed_bits, .group = type->grid->fixed_group};
    for (int64_t i = 0; i < nrows * cols; i += RP_GGUF_BLOCK) {
        float params[RP_GRID_MAX_PARAMS];
        uint8_t code[RP_GGUF_BLOCK];
        unpack_block(&at, from, params, code);
        grid.ops->decode(&grid, params, RP_GGUF_BLOCK, code, dst + i);
        from += type->block_bytes;
    }
}

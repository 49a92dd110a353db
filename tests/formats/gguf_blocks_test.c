/* Blocks of GGUF types: bytes and codes there and back, values against the grids' own, and values
 * that ggml's decoders gave for the same bytes. */
#include "formats/gguf_blocks.h"
#include "formats/gguf_pack.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 70, MAX_ELEMS = BLOCKS * 256, MAX_BYTES = BLOCKS * 210, MAX_FLOATS = BLOCKS * 34 };

/* The types that are written: codes are 0 .. n_codes - 1, scales and minima within bounds. */
static const struct {
    const char *name;
    int n_codes, scale_lo, scale_hi, min_hi;
} written[] = {
    {"Q4_0", 16, 0, 0, 0},      {"Q4_1", 16, 0, 0, 0},   {"Q5_0", 32, 0, 0, 0},
    {"Q5_1", 32, 0, 0, 0},      {"Q8_0", 256, 0, 0, 0},  {"Q2_K", 4, 0, 15, 15},
    {"Q3_K", 8, -32, 31, 0},    {"Q4_K", 16, 0, 63, 63}, {"Q5_K", 32, 0, 63, 63},
    {"Q6_K", 64, -128, 127, 0}, {"IQ4_NL", 16, 0, 0, 0}, {"IQ4_XS", 16, -32, 31, 0},
    {"TQ1_0", 3, 0, 0, 0},      {"TQ2_0", 3, 0, 0, 0},   {"MXFP4", 16, 0, 0, 0},
};

enum { WRITTEN = sizeof(written) / sizeof(written[0]) };

static const rp_gguf_block_type *type_of(const char *name)
{
    const rp_gguf_block_type *type = rp_gguf_block_type_find(name);

    assert_non_null(type);
    return type;
}

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525U + 1013904223U;
    return *seed >> 8;
}

static int between(uint32_t *seed, int lo, int hi)
{
    return lo + (int)(next(seed) % (uint32_t)(hi - lo + 1));
}

/* A value of fp16, or a power of two in a byte, as the parameters are. */
static float random_param(const rp_gguf_layout *layout, uint32_t *seed)
{
    return layout->is_power ? ldexpf(1.0F, between(seed, -128, 126))
                            : rp_f16_to_f32((uint16_t)(next(seed) & 0xbfffU));
}

static void random_form(int which, const rp_gguf_layout *layout, int64_t nblocks, uint32_t *seed,
                        float *params, uint8_t *codes)
{
    const bool has_min = layout->min != RP_GGUF_NONE;
    const int n = layout->scales == NULL ? 0 : layout->scales->n;

    for (int64_t i = 0; i < nblocks * layout->elems; i++) {
        codes[i] = (uint8_t)between(seed, 0, written[which].n_codes - 1);
    }
    for (int64_t b = 0; b < nblocks; b++) {
        *params++ = random_param(layout, seed);
        if (has_min) {
            *params++ = random_param(layout, seed);
        }
        for (int k = 0; k < n; k++) {
            *params++ = (float)between(seed, written[which].scale_lo, written[which].scale_hi);
        }
        for (int k = 0; has_min && k < n; k++) {
            *params++ = (float)between(seed, 0, written[which].min_hi);
        }
    }
}

/* What the parameters and codes mean, by the words of kernels/grid.h. */
static void plain_values(const rp_gguf_layout *layout, const float *params, const uint8_t *code,
                         float *out)
{
    const bool has_min = layout->min != RP_GGUF_NONE;
    const int n = layout->scales == NULL ? 0 : layout->scales->n;

    for (int i = 0; i < layout->elems; i++) {
        const float level = layout->levels != NULL ? (float)layout->levels[code[i]]
                                                   : (float)(code[i] - layout->zero);
        if (n == 0) {
            out[i] = params[0] * level;
            out[i] = has_min ? out[i] + params[1] : out[i];
            continue;
        }
        const int k = i / (layout->elems / n);
        const float *s = params + (has_min ? 2 : 1);
        const float scale = params[0] * s[k];
        out[i] = scale * level;
        if (has_min) {
            const float min = params[1] * s[n + k];
            out[i] = out[i] - min;
        }
    }
}

static void there_and_back(void **state)
{
    static float params[MAX_FLOATS], params_again[MAX_FLOATS], want[MAX_ELEMS], got[MAX_ELEMS];
    static uint8_t codes[MAX_ELEMS], codes_again[MAX_ELEMS], bytes[MAX_BYTES];
    uint32_t seed = 5;

    (void)state;
    for (int w = 0; w < WRITTEN; w++) {
        const rp_gguf_block_type *type = type_of(written[w].name);
        const rp_gguf_layout *layout = type->layout;
        const int n_params = rp_gguf_layout_params(layout);
        assert_int_equal(layout->elems, type->block_elems);
        assert_int_equal(layout->bytes, type->block_bytes);
        for (int64_t nblocks = 1; nblocks <= BLOCKS; nblocks += nblocks < 3 ? 1 : 67) {
            const size_t n = (size_t)(nblocks * layout->elems);
            random_form(w, layout, nblocks, &seed, params, codes);
            assert_int_equal(rp_gguf_pack(layout, nblocks, params, codes, bytes), -1);
            rp_gguf_unpack(layout, nblocks, bytes, params_again, codes_again);
            assert_memory_equal(codes, codes_again, n);
            assert_memory_equal(params, params_again, (size_t)(nblocks * n_params) * sizeof(float));
            for (int64_t b = 0; b < nblocks; b++) {
                plain_values(layout, params + b * n_params, codes + b * layout->elems,
                             want + b * layout->elems);
            }
            rp_gguf_decode_rows(type, bytes, 1, (int64_t)n, got);
            assert_memory_equal(want, got, n * sizeof(float));
        }
    }
}

/* A grid of the same name gives the same values, and its forms are taken as they are. */
static void forms_of_grids(void **state)
{
    enum { ROWS = 2, COLS = 512 };
    static float want[ROWS * COLS], got[ROWS * COLS];
    static uint8_t bytes[ROWS * COLS * 2];
    uint32_t seed = 9;

    (void)state;
    for (int w = 0; w < WRITTEN; w++) {
        const rp_gguf_block_type *type = type_of(written[w].name);
        rp_form form;
        rp_grid grid;
        assert_true(rp_gguf_can_encode(type));
        assert_int_equal(rp_gguf_grid(&grid, type), RP_OK);
        assert_int_equal(grid.ops->n_params, rp_gguf_layout_params(type->layout));
        assert_int_equal(grid.group, type->block_elems);
        assert_int_equal(grid.ops->scale_lo, written[w].scale_lo);
        assert_int_equal(grid.ops->scale_hi, written[w].scale_hi);
        assert_int_equal(grid.ops->min_hi, written[w].min_hi);
        assert_int_equal(rp_form_create_codes(&form, &grid, ROWS, COLS), RP_OK);
        random_form(w, type->layout, ROWS * COLS / type->block_elems, &seed, form.params,
                    form.codes);
        assert_int_equal(rp_gguf_encode_rows(type, &form, 0, ROWS, NULL, bytes), RP_OK);
        rp_form_decode_rows(&form, 0, ROWS, want);
        rp_gguf_decode_rows(type, bytes, ROWS, COLS, got);
        assert_memory_equal(want, got, sizeof(want));
        rp_form_destroy(&form);
    }
}

/* Dense rows become what the grid's quantiser makes of them, with importance and without. */
static void dense_rows(void **state)
{
    enum { ROWS = 37, COLS = 768 };
    static uint8_t bytes[ROWS * COLS * 2], own[ROWS * COLS * 2];
    static float importance[COLS];
    rp_form dense;
    uint32_t seed = 3;

    (void)state;
    assert_int_equal(rp_form_create_dense(&dense, ROWS, COLS), RP_OK);
    for (int i = 0; i < ROWS * COLS; i++) {
        dense.values[i] = (float)between(&seed, -99999, 99999) * 1e-6F;
    }
    for (int i = 0; i < COLS; i++) {
        importance[i] = (float)between(&seed, 0, 1000);
    }
    for (int w = 0; w < WRITTEN * 2; w++) {
        const rp_gguf_block_type *type = type_of(written[w / 2].name);
        const float *weight = w % 2 ? importance : NULL;
        rp_form form;
        rp_grid grid;
        assert_int_equal(rp_gguf_grid(&grid, type), RP_OK);
        assert_int_equal(rp_form_create_codes(&form, &grid, ROWS, COLS), RP_OK);
        grid.ops->quantise(&grid, ROWS, COLS, dense.values, weight, form.params, form.codes);
        assert_int_equal(rp_gguf_encode_rows(type, &form, 0, ROWS, NULL, own), RP_OK);
        assert_int_equal(rp_gguf_encode_rows(type, &dense, 0, ROWS, weight, bytes), RP_OK);
        assert_memory_equal(own, bytes, ROWS * rp_gguf_row_bytes(type, COLS));
        rp_form_destroy(&form);
    }
    rp_form_destroy(&dense);
}

/* Bytes of the tests below: pseudo-random, with exponents of fp16 that are finite. */
static void random_blocks(const rp_gguf_block_type *type, int64_t nblocks, uint8_t *bytes)
{
    const struct rp_gguf_layout *layout = type->layout;
    uint32_t seed = type->id;

    for (int64_t b = 0; b < nblocks; b++, bytes += type->block_bytes) {
        for (size_t i = 0; i < type->block_bytes; i++) {
            bytes[i] = (uint8_t)(next(&seed) >> 16);
        }
        if (layout == NULL) { /* IQ1_M's scale is spread over four, the top bits in the last byte */
            bytes[strcmp(type->name, "IQ1_M") == 0 ? 55 : 1] &= 0xbf;
        } else if (layout->d != RP_GGUF_NONE && !layout->is_power) {
            bytes[layout->d + 1] &= 0xbf;
            bytes[(layout->min == RP_GGUF_NONE ? layout->d : layout->min) + 1] &= 0xbf;
        }
    }
}

static uint32_t hash_of(const float *values, size_t n)
{
    uint32_t hash = 2166136261U;

    for (size_t i = 0; i < n; i++) {
        uint32_t bits = 0;
        memcpy(&bits, &values[i], sizeof(bits));
        hash = (hash ^ bits) * 16777619U;
    }
    return hash;
}

/* FNV-1a over the bits of 70 such blocks' values; values by ggml's dequantize_row functions. */
static void values_of_ggml(void **state)
{
    static const struct {
        const char *name;
        uint32_t hash;
    } want[] = {
        {"Q4_0", 0x8a13b8c5},    {"Q4_1", 0x5a94334a},    {"Q5_0", 0x99adfac5},
        {"Q5_1", 0x393ddc4e},    {"Q8_0", 0xe8b94505},    {"Q2_K", 0x95db1e78},
        {"Q3_K", 0x6c007fc5},    {"Q4_K", 0x3cd04bd7},    {"Q5_K", 0xb28b1bc6},
        {"Q6_K", 0xabe9d151},    {"IQ2_XXS", 0x32691e09}, {"IQ2_XS", 0xc67018b9},
        {"IQ3_XXS", 0xb9ed8615}, {"IQ1_S", 0x380805c5},   {"IQ4_NL", 0xbf5c3285},
        {"IQ3_S", 0x519591d5},   {"IQ2_S", 0x65d51329},   {"IQ4_XS", 0x794fd795},
        {"IQ1_M", 0x2d48f145},   {"TQ1_0", 0xb1f015c5},   {"TQ2_0", 0x4a5d15c5},
        {"MXFP4", 0x6f6aa4c5},   {"NVFP4", 0x57f5abc5},   {"Q1_0", 0x4b64b9c5},
        {"Q2_0", 0xb4d24bc5},
    };
    static uint8_t bytes[MAX_BYTES];
    static float values[MAX_ELEMS];

    (void)state;
    for (size_t k = 0; k < sizeof(want) / sizeof(want[0]); k++) {
        const rp_gguf_block_type *type = type_of(want[k].name);
        const int64_t n = BLOCKS * type->block_elems;
        assert_true(rp_gguf_can_decode(type));
        random_blocks(type, BLOCKS, bytes);
        rp_gguf_decode_rows(type, bytes, 1, n, values);
        assert_int_equal(hash_of(values, (size_t)n), want[k].hash);
    }
}

/* Any bytes decode to something, at every number of blocks, and no byte beyond is touched. */
static void any_bytes(void **state)
{
    uint32_t seed = 77;

    (void)state;
    for (const rp_gguf_block_type *type = rp_gguf_block_type_table(); type->name != NULL; type++) {
        if (!rp_gguf_can_decode(type)) {
            continue;
        }
        for (int64_t nblocks = 1; nblocks < BLOCKS; nblocks = 2 * nblocks + 1) {
            const size_t nbytes = (size_t)nblocks * type->block_bytes;
            const size_t n = (size_t)(nblocks * type->block_elems);
            uint8_t *bytes = malloc(nbytes); /* of its own, for the sanitizers */
            float *values = malloc(n * sizeof(*values));
            assert_true(bytes != NULL && values != NULL);
            for (size_t i = 0; i < nbytes; i++) {
                bytes[i] = (uint8_t)(next(&seed) >> 16);
            }
            rp_gguf_decode_rows(type, bytes, 1, (int64_t)n, values);
            free(values);
            free(bytes);
        }
    }
}

static void refusals(void **state)
{
    const rp_gguf_layout *q4_k = type_of("Q4_K")->layout;
    const rp_gguf_layout *mxfp4 = type_of("MXFP4")->layout;
    static float params[MAX_FLOATS];
    static uint8_t codes[MAX_ELEMS], bytes[MAX_BYTES];

    (void)state;
    memset(params, 0, sizeof(params));
    params[3 * 18] = 65520.0F; /* rounds beyond the largest fp16 */
    params[7 * 18 + 1] = NAN;
    assert_int_equal(rp_gguf_pack(q4_k, 8, params, codes, bytes), 3);
    params[3 * 18] = 65504.0F;
    assert_int_equal(rp_gguf_pack(q4_k, 8, params, codes, bytes), 7);
    for (int b = 0; b < BLOCKS; b++) {
        params[b] = 1.0F;
    }
    assert_int_equal(rp_gguf_pack(mxfp4, BLOCKS, params, codes, bytes), -1);
    const float bad[] = {0.0F, -1.0F, 3.0F, 0x1p127F, 0x1p-129F, INFINITY, NAN};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        params[69] = bad[i];
        assert_int_equal(rp_gguf_pack(mxfp4, BLOCKS, params, codes, bytes), 69);
    }
    assert_false(rp_gguf_can_encode(type_of("IQ2_S")));
    assert_false(rp_gguf_can_encode(type_of("NVFP4")));
    assert_false(rp_gguf_can_decode(type_of("Q8_1")));
    assert_false(rp_gguf_can_decode(type_of("Q8_K")));
    assert_false(rp_gguf_can_decode(type_of("F64")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back), cmocka_unit_test(forms_of_grids),
        cmocka_unit_test(dense_rows),     cmocka_unit_test(values_of_ggml),
        cmocka_unit_test(any_bytes),      cmocka_unit_test(refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

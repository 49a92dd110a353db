/* GGUF grids: blocks worked out by hand, ggml's arithmetic written a second time and plainly, the
 * fits against the plain quantiser, and rounding of columns against all values. */
#include "kernels/grid_gguf.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define N RP_GGUF_BLOCK

static rp_grid grid_of(const rp_grid_ops *ops)
{
    const rp_grid grid = {
        .ops = ops, .bits = ops->fixed_bits, .group = ops->fixed_group, .scale_type = RP_F16};
    return grid;
}

static const rp_grid_ops *const all_ops[] = {&rp_grid_q4_0, &rp_grid_q4_1, &rp_grid_q5_0,
                                             &rp_grid_q5_1, &rp_grid_q8_0};

/* One block to nearest; y may be NULL. */
static void quantise(const rp_grid *grid, const float *x, float *params, uint8_t *code, float *y)
{
    grid->ops->quantise(grid, 1, N, x, NULL, params, code);
    if (y != NULL) {
        grid->ops->decode(grid, params, N, code, y);
    }
}

static float next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return ((float)(*state >> 8) / 8388608.0f - 1.0f) * 0.05f;
}

static void q4_0_by_hand(void **state)
{
    const rp_grid grid = grid_of(&rp_grid_q4_0);
    float x[N] = {-8.0f, 7.0f, 0.0f, 0.5f, -0.5f, 3.49f, 3.5f, 20.0f};
    float params[2];
    uint8_t code[N];
    float y[N];

    (void)state;
    x[7] = 6.0f;
    quantise(&grid, x, params, code, y);
    assert_true(params[0] == 1.0f); /* the element of largest magnitude, -8, over -8 */
    const uint8_t want[8] = {0, 15, 8, 9, 8, 11, 12, 14}; /* trunc(x + 8.5) */
    assert_memory_equal(code, want, sizeof(want));
    assert_true(y[0] == -8.0f && y[1] == 7.0f && y[2] == 0.0f && y[3] == 1.0f);
    x[0] = 8.0f; /* a positive extreme gives a negative scale; it becomes code 0 */
    quantise(&grid, x, params, code, y);
    assert_true(params[0] == -1.0f);
    assert_int_equal(code[0], 0);
    assert_true(y[0] == 8.0f && y[1] == 7.0f);
}

static void q4_1_by_hand(void **state)
{
    const rp_grid grid = grid_of(&rp_grid_q4_1);
    float x[N];
    float params[2];
    uint8_t code[N];
    float y[N];

    (void)state;
    for (int i = 0; i < N; i++) {
        x[i] = 1.0f + (float)(i % 16) * 0.25f;
    }
    quantise(&grid, x, params, code, y);
    assert_true(params[0] == 0.25f && params[1] == 1.0f);
    for (int i = 0; i < N; i++) {
        assert_int_equal(code[i], i % 16);
        assert_true(y[i] == x[i]);
    }
}

static void q8_0_by_hand(void **state)
{
    const rp_grid grid = grid_of(&rp_grid_q8_0);
    const float x[N] = {127.0f, -127.0f, 0.5f, -0.5f, 0.49999997f, 1.5f, 2.5f, -2.5f};
    const uint8_t want[8] = {255, 1, 129, 127, 128, 130, 131, 125};
    float params[2];
    uint8_t code[N];

    (void)state;
    quantise(&grid, x, params, code, NULL);
    assert_true(params[0] == 1.0f);
    assert_memory_equal(code, want, sizeof(want));
}

/* All zeros: no division by zero, all decoded to zero. */
static void zero_block(void **state)
{
    const float x[N] = {0};
    float params[2];
    uint8_t code[N];
    float y[N];

    (void)state;
    for (size_t k = 0; k < sizeof(all_ops) / sizeof(all_ops[0]); k++) {
        const rp_grid grid = grid_of(all_ops[k]);
        quantise(&grid, x, params, code, y);
        for (int i = 0; i < N; i++) {
            assert_true(y[i] == 0.0f);
        }
        grid.ops->fit(&grid, 1, N, x, NULL, params);
        assert_true(params[0] == 0.0f);
    }
}

/* ggml's reference for one block, as its text has it. */
static void reference_codes(const rp_grid *grid, const float *x, uint8_t *code)
{
    float min = x[0];
    float max = x[0];
    float top = 0.0f;

    for (int i = 0; i < N; i++) {
        min = fminf(min, x[i]);
        max = fmaxf(max, x[i]);
        top = fabsf(x[i]) > fabsf(top) ? x[i] : top;
    }
    const float half = (float)(1 << (grid->bits - 1));
    const float levels = 2.0f * half - 1.0f;
    for (int i = 0; i < N; i++) {
        if (grid->bits == 8) {
            const float id = 1.0f / (fabsf(top) / 127.0f);
            code[i] = (uint8_t)(128 + (int)roundf(x[i] * id));
        } else if (grid->ops == &rp_grid_q4_0 || grid->ops == &rp_grid_q5_0) {
            const float id = 1.0f / (top / -half);
            code[i] = (uint8_t)fminf(levels, truncf(x[i] * id + half + 0.5f));
        } else {
            const float id = 1.0f / ((max - min) / levels);
            code[i] = (uint8_t)fminf(levels, truncf((x[i] - min) * id + 0.5f));
        }
    }
}

static void plain_fit_is_the_reference(void **state)
{
    uint32_t seed = 1;
    float x[N];
    float params[2];
    float y[N];
    uint8_t code[N];
    uint8_t want[N];

    (void)state;
    for (int trial = 0; trial < 20000; trial++) {
        const rp_grid grid = grid_of(all_ops[trial % 5]);
        for (int i = 0; i < N; i++) {
            x[i] = next_random(&seed);
        }
        quantise(&grid, x, params, code, y);
        reference_codes(&grid, x, want);
        assert_memory_equal(code, want, sizeof(want));
    }
}

/* round_column takes the nearest value, also beyond the fitted range, and decodes as decode does.
 */
static void columns_are_nearest(void **state)
{
    uint32_t seed = 7;
    float x[N];
    float params[2];
    float planes[2 * N];
    float y_column[N];
    uint8_t code_column[N];

    (void)state;
    for (int trial = 0; trial < 5000; trial++) {
        const rp_grid grid = grid_of(all_ops[trial % 5]);
        for (int i = 0; i < N; i++) {
            x[i] = next_random(&seed) * (trial % 3 == 0 ? 1e-2f : 1.0f);
        }
        grid.ops->fit(&grid, 1, N, x, NULL, params);
        for (int i = 0; i < N; i++) {
            x[i] *= 3.0f;
            planes[i] = params[0];
            planes[N + i] = params[grid.ops->n_params - 1];
        }
        grid.ops->round_column(&grid, N, planes, 0, x, code_column, y_column);
        for (int i = 0; i < N; i++) {
            float y = 0.0f;
            float best = INFINITY;
            grid.ops->decode(&grid, params, 1, &code_column[i], &y);
            assert_true(y == y_column[i]);
            for (int c = grid.bits == 8; c < 1 << grid.bits; c++) {
                const uint8_t code = (uint8_t)c;
                float other = 0.0f;
                grid.ops->decode(&grid, params, 1, &code, &other);
                best = fminf(best, fabsf(x[i] - other));
            }
            assert_true(fabsf(x[i] - y) <= best * 1.00001f);
        }
    }
}

static double squared_error(const rp_grid *grid, const float *params, const float *x,
                            const float *importance)
{
    double sum = 0.0;

    for (int i = 0; i < N; i++) {
        uint8_t code = 0;
        float y = 0.0f;
        grid->ops->round_column(grid, 1, params, 0, &x[i], &code, &y);
        sum += (importance == NULL ? 1.0 : importance[i]) * (x[i] - y) * (x[i] - y);
    }
    return sum;
}

/* Over many blocks the fits beat the plain quantiser in what they minimise. */
static void searches_reduce_the_error(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        double plain[2] = {0, 0};
        double searched[2] = {0, 0};
        uint32_t seed = 3;
        for (int trial = 0; trial < 2000; trial++) {
            const rp_grid grid = grid_of(all_ops[k]);
            float x[N];
            float importance[N];
            float params[2];
            uint8_t code[N];
            for (int i = 0; i < N; i++) {
                x[i] = next_random(&seed) + next_random(&seed) + next_random(&seed);
                importance[i] = i < 4 ? 50.0f : 1.0f;
            }
            quantise(&grid, x, params, code, NULL);
            plain[0] += squared_error(&grid, params, x, NULL);
            plain[1] += squared_error(&grid, params, x, importance);
            grid.ops->fit(&grid, 1, N, x, importance, params);
            searched[1] += squared_error(&grid, params, x, importance);
            grid.ops->fit(&grid, 1, N, x, NULL, params);
            searched[0] += squared_error(&grid, params, x, NULL);
        }
        assert_true(searched[0] < 0.97 * plain[0]);
        assert_true(searched[1] < 0.97 * plain[1]);
    }
}

/* Parameters come out as fp16 has them. */
static void scales_are_stored_as_fp16(void **state)
{
    uint32_t seed = 5;

    (void)state;
    for (int trial = 0; trial < 200000; trial++) {
        const rp_grid grid = grid_of(all_ops[trial % 5]);
        float x[N];
        float params[2];
        uint8_t code[N];
        for (int i = 0; i < N; i++) {
            x[i] = ldexpf(next_random(&seed), trial % 40 - 25);
        }
        quantise(&grid, x, params, code, NULL);
        for (int p = 0; p < grid.ops->n_params; p++) {
            const float want = rp_f16_to_f32(rp_f32_to_f16(params[p]));
            assert_memory_equal(&params[p], &want, sizeof(want));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(q4_0_by_hand),
        cmocka_unit_test(q4_1_by_hand),
        cmocka_unit_test(q8_0_by_hand),
        cmocka_unit_test(zero_block),
        cmocka_unit_test(plain_fit_is_the_reference),
        cmocka_unit_test(columns_are_nearest),
        cmocka_unit_test(searches_reduce_the_error),
        cmocka_unit_test(scales_are_stored_as_fp16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

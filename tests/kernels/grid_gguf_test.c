/* GGUF grids: blocks worked out by hand, the quantisers against plain ones (grid_reference.c), the
 * fits against the quantisers, and rounding of columns against all values.
 *
 * RP_TEST_REPEATS=15 makes bits_of_the_reference compare a million blocks. */
#include "kernels/grid_gguf.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "grid_reference.h"
#include "kernels/grid_search.h"

enum { MAX_BLOCK = 256, ROWS = 5, COLS = 1280 };

static const rp_grid_ops *const all_ops[] = {
    &rp_grid_q4_0,   &rp_grid_q4_1,   &rp_grid_q5_0,  &rp_grid_q5_1,  &rp_grid_q8_0,
    &rp_grid_q2_k,   &rp_grid_q3_k,   &rp_grid_q4_k,  &rp_grid_q5_k,  &rp_grid_q6_k,
    &rp_grid_iq4_nl, &rp_grid_iq4_xs, &rp_grid_tq1_0, &rp_grid_tq2_0, &rp_grid_mxfp4,
};
enum { N_OPS = sizeof(all_ops) / sizeof(all_ops[0]) };

static rp_grid grid_of(const rp_grid_ops *ops)
{
    const rp_grid grid = {
        .ops = ops, .bits = ops->fixed_bits, .group = ops->fixed_group, .scale_type = RP_F16};
    return grid;
}

static int block_of(const rp_grid *grid)
{
    return (int)grid->group;
}

/* One block to nearest; y may be NULL. */
static void quantise(const rp_grid *grid, const float *x, float *params, uint8_t *code, float *y)
{
    grid->ops->quantise(grid, 1, block_of(grid), x, NULL, params, code);
    if (y != NULL) {
        grid->ops->decode(grid, params, block_of(grid), code, y);
    }
}

static uint32_t seed = 1;

/* In (0, 1). */
static float uniform(void)
{
    seed = seed * 1664525u + 1013904223u;
    return ((float)(seed >> 8) + 0.5f) / 16777216.0f;
}

static float gaussian(void)
{
    return sqrtf(-2.0f * logf(uniform())) * cosf(6.2831853f * uniform());
}

static void q4_0_by_hand(void **state)
{
    const rp_grid grid = grid_of(&rp_grid_q4_0);
    float x[32] = {-8.0f, 7.0f, 0.0f, 0.5f, -0.5f, 3.49f, 3.5f, 20.0f};
    float params[2];
    uint8_t code[32];
    float y[32];

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
    float x[32];
    float params[2];
    uint8_t code[32];
    float y[32];

    (void)state;
    for (int i = 0; i < 32; i++) {
        x[i] = 1.0f + (float)(i % 16) * 0.25f;
    }
    quantise(&grid, x, params, code, y);
    assert_true(params[0] == 0.25f && params[1] == 1.0f);
    for (int i = 0; i < 32; i++) {
        assert_int_equal(code[i], i % 16);
        assert_true(y[i] == x[i]);
    }
}

static void q8_0_by_hand(void **state)
{
    const rp_grid grid = grid_of(&rp_grid_q8_0);
    const float x[32] = {127.0f, -127.0f, 0.5f, -0.5f, 0.49999997f, 1.5f, 2.5f, -2.5f};
    const uint8_t want[8] = {255, 1, 129, 127, 128, 130, 131, 125};
    float params[2];
    uint8_t code[32];

    (void)state;
    quantise(&grid, x, params, code, NULL);
    assert_true(params[0] == 1.0f);
    assert_memory_equal(code, want, sizeof(want));
}

static void mxfp4_by_hand(void **state)
{
    const rp_grid grid = grid_of(&rp_grid_mxfp4);
    const float x[32] = {6.0f, -6.0f, 0.25f, 0.26f, -0.26f, 2.5f, 5.0f, -1.0f};
    const uint8_t want[8] = {7, 15, 0, 1, 9, 4, 6, 10}; /* ties take the lower magnitude */
    float params[1];
    uint8_t code[32];
    float y[32];

    (void)state;
    quantise(&grid, x, params, code, y);
    assert_true(params[0] == 0.5f); /* floor(log2 6) - 2 = 0: E2M1 values as they are, doubled */
    assert_memory_equal(code, want, sizeof(want));
    assert_true(y[0] == 6.0f && y[1] == -6.0f && y[5] == 2.0f && y[7] == -1.0f);
}

static void two_levels_by_hand(void **state)
{
    const rp_grid q4 = grid_of(&rp_grid_q4_k);
    const rp_grid q6 = grid_of(&rp_grid_q6_k);
    float params[RP_GRID_MAX_PARAMS] = {0.5f, 0.25f};
    uint8_t code[MAX_BLOCK] = {0};
    float y[MAX_BLOCK];

    (void)state;
    params[2 + 1] = 3.0f;     /* sub-group 1 of 8: s */
    params[2 + 8 + 1] = 2.0f; /* m */
    code[32] = 7;
    q4.ops->decode(&q4, params, MAX_BLOCK, code, y);
    assert_true(y[0] == 0.0f && y[32] == 10.0f && y[33] == -0.5f);
    params[1 + 2] = -4.0f; /* sub-group 2 of 16 */
    code[33] = 40;
    q6.ops->decode(&q6, params, MAX_BLOCK, code, y);
    assert_true(y[32] == -4.0f * 0.5f * (7.0f - 32.0f) && y[33] == -16.0f);
}

/* ---- The quantisers ---- */

typedef enum family {
    GAUSSIAN,
    HEAVY_TAIL,
    SPARSE,
    ZEROS,
    DENORMAL,
    TINY,
    NEAR_F16_DENORMAL,
    NEAR_F16_OVERFLOW,
    CONSTANT,
    NEARLY_CONSTANT,
    SPIKE,
    INTEGERS,
    POSITIVE,
    MIXED_SCALES,
    N_FAMILIES,
} family;

static float sample(family f, int i, float row_scale, float constant)
{
    const float g = gaussian();

    switch (f) {
    case HEAVY_TAIL:
        return g / (0.01f + fabsf(gaussian()));
    case SPARSE:
        return uniform() < 0.05f ? g : 0.0f;
    case ZEROS:
        return g < 0.0f ? -0.0f : 0.0f;
    case DENORMAL:
        return g * 1e-39f;
    case TINY:
        return g * powf(10.0f, -30.0f * row_scale);
    case NEAR_F16_DENORMAL:
        return g * powf(10.0f, -8.0f + 4.0f * row_scale);
    case NEAR_F16_OVERFLOW:
        return g * powf(10.0f, 4.0f + 2.0f * row_scale);
    case CONSTANT:
        return constant;
    case NEARLY_CONSTANT:
        return constant * (1.0f + 1.2e-7f * rintf(2.0f * g));
    case SPIKE:
        return i % 37 == 5 ? g : g * 1e-6f;
    case INTEGERS:
        return rintf(4.0f * g);
    case POSITIVE:
        return fabsf(g);
    case MIXED_SCALES:
        return g * powf(10.0f, -3.0f * uniform());
    default:
        return 0.02f * g;
    }
}

static void fill(family f, float *x)
{
    float constant = 0.0f;

    for (int r = 0; r < ROWS; r++) {
        const float row_scale = uniform();
        for (int i = 0; i < COLS; i++) {
            constant = i % 48 == 0 ? gaussian() : constant;
            x[r * COLS + i] = sample(f, i, row_scale, constant);
        }
    }
}

/* kind 0: none, 1: spread, 2: with zeros, a whole block of them too. */
static const float *fill_importance(int kind, float *v)
{
    for (int i = 0; i < COLS; i++) {
        v[i] = expf(2.0f * gaussian());
        if (kind == 2 && (uniform() < 0.3f || (i >= 256 && i < 512))) {
            v[i] = 0.0f;
        }
    }
    return kind == 0 ? NULL : v;
}

static bool same_floats(int64_t n, const float *a, const float *b)
{
    for (int64_t i = 0; i < n; i++) {
        if (memcmp(&a[i], &b[i], sizeof(float)) != 0 && !(isnan(a[i]) && isnan(b[i]))) {
            return false;
        }
    }
    return true;
}

static void compare_matrix(const rp_grid_ops *ops, family f, int kind)
{
    static float x[ROWS * COLS], importance[COLS], params[ROWS * COLS], want_params[COLS];
    static uint8_t codes[ROWS * COLS], want_codes[COLS];
    const rp_grid grid = grid_of(ops);
    const int64_t n_params = rp_grid_ngroups(&grid, COLS) * ops->n_params;

    fill(f, x);
    const float *v = fill_importance(kind, importance);
    ops->quantise(&grid, ROWS, COLS, x, v, params, codes);
    for (int r = 0; r < ROWS; r++) {
        reference_quantise(ops->name, COLS, x + r * COLS, v, want_params, want_codes);
        if (!same_floats(n_params, params + r * n_params, want_params) ||
            memcmp(codes + r * COLS, want_codes, COLS) != 0) {
            fail_msg("%s, family %d, importance %d, row %d", ops->name, f, kind, r);
        }
    }
}

/* Vectors of every width that the processor has. */
static void bits_of_the_reference(void **state)
{
    static const int widths[3] = {4, 8, 16};
    const char *repeats = getenv("RP_TEST_REPEATS");
    const int n = repeats == NULL ? 3 : atoi(repeats);

    (void)state;
    for (int repeat = 0; repeat < n; repeat++) {
        rp_search_limit_lanes(widths[repeat % 3]);
        for (int f = 0; f < N_FAMILIES; f++) {
            for (int k = 0; k < N_OPS; k++) {
                for (int kind = 0; kind < 3; kind++) {
                    compare_matrix(all_ops[k], (family)f, kind);
                }
            }
        }
    }
    rp_search_limit_lanes(16);
}

/* Zeros have no division by zero, and are decoded to zero. */
static void zero_block(void **state)
{
    const float x[MAX_BLOCK] = {0};
    float params[RP_GRID_MAX_PARAMS];
    uint8_t code[MAX_BLOCK];
    float y[MAX_BLOCK];

    (void)state;
    for (int k = 0; k < N_OPS; k++) {
        const rp_grid grid = grid_of(all_ops[k]);
        quantise(&grid, x, params, code, y);
        for (int i = 0; i < block_of(&grid); i++) {
            assert_true(y[i] == 0.0f);
        }
        grid.ops->fit(&grid, 1, block_of(&grid), x, NULL, params);
        for (int i = 0; i < block_of(&grid); i++) {
            const int sub = (int)(i / rp_grid_sub_cols(&grid, block_of(&grid)));
            grid.ops->round_column(&grid, 1, params, sub, &x[i], &code[i], &y[i]);
            assert_true(y[i] == 0.0f);
        }
    }
}

/* ---- For solvers ---- */

static void random_block(const rp_grid *grid, float scale, float *x, float *importance)
{
    for (int i = 0; i < block_of(grid); i++) {
        x[i] = scale * gaussian();
        importance[i] = expf(gaussian());
    }
}

static int sub_of(const rp_grid *grid, int i)
{
    return (int)(i / rp_grid_sub_cols(grid, grid->group));
}

static void decode_one(const rp_grid *grid, const float *params, int i, uint8_t code, float *y)
{
    uint8_t codes[MAX_BLOCK] = {0};
    float decoded[MAX_BLOCK];

    codes[i] = code;
    grid->ops->decode(grid, params, block_of(grid), codes, decoded);
    *y = decoded[i];
}

/* round_column takes the nearest value, also beyond the fitted range, and decodes as decode does;
 * a tile of rows gives what each row gives. */
static void columns_are_nearest(void **state)
{
    enum { TILE = 3 };

    (void)state;
    for (int trial = 0; trial < 10 * N_OPS; trial++) {
        const rp_grid grid = grid_of(all_ops[trial % N_OPS]);
        float x[TILE][MAX_BLOCK], importance[MAX_BLOCK], params[TILE][RP_GRID_MAX_PARAMS];
        float planes[RP_GRID_MAX_PARAMS * TILE];
        for (int r = 0; r < TILE; r++) {
            random_block(&grid, r == 1 ? 1e-4f : 0.05f, x[r], importance);
            grid.ops->fit(&grid, 1, block_of(&grid), x[r], importance, params[r]);
            for (int p = 0; p < grid.ops->n_params; p++) {
                planes[p * TILE + r] = params[r][p];
            }
        }
        for (int i = 0; i < block_of(&grid); i++) {
            float column[TILE], y[TILE];
            uint8_t code[TILE];
            for (int r = 0; r < TILE; r++) {
                column[r] = x[r][i] * (trial % 2 == 0 ? 1.0f : 3.0f);
            }
            grid.ops->round_column(&grid, TILE, planes, sub_of(&grid, i), column, code, y);
            for (int r = 0; r < TILE; r++) {
                const int top = grid.ops->top_code > 0 ? grid.ops->top_code : (1 << grid.bits) - 1;
                float other = 0.0f;
                float best = INFINITY;
                decode_one(&grid, params[r], i, code[r], &other);
                assert_memory_equal(&y[r], &other, sizeof(float));
                for (int c = grid.bits == 8; c <= top; c++) {
                    decode_one(&grid, params[r], i, (uint8_t)c, &other);
                    best = fminf(best, fabsf(column[r] - other));
                }
                assert_true(fabsf(column[r] - y[r]) <= best * 1.00001f + 1e-9f);
            }
        }
    }
}

static double squared_error(const rp_grid *grid, const float *params, const float *x,
                            const float *importance)
{
    double sum = 0.0;

    for (int i = 0; i < block_of(grid); i++) {
        uint8_t code = 0;
        float y = 0.0f;
        grid->ops->round_column(grid, 1, params, sub_of(grid, i), &x[i], &code, &y);
        sum += (importance == NULL ? 1.0 : importance[i]) * (x[i] - y) * (x[i] - y);
    }
    return sum;
}

/* Over many blocks the fits beat ggml's quantisers in what they minimise: by a third where ggml
 * knows no importance (ternary), by some per cent where its weights differ. */
static void fits_reduce_the_error(void **state)
{
    (void)state;
    for (int k = 0; k < N_OPS; k++) {
        const rp_grid grid = grid_of(all_ops[k]);
        double plain[2] = {0, 0};
        double fitted[2] = {0, 0};
        double weighted = 0;
        for (int trial = 0; trial < 300; trial++) {
            float x[MAX_BLOCK], importance[MAX_BLOCK], params[RP_GRID_MAX_PARAMS];
            uint8_t code[MAX_BLOCK];
            random_block(&grid, 0.02f, x, importance);
            quantise(&grid, x, params, code, NULL);
            plain[0] += squared_error(&grid, params, x, NULL);
            plain[1] += squared_error(&grid, params, x, importance);
            grid.ops->quantise(&grid, 1, block_of(&grid), x, importance, params, code);
            weighted += squared_error(&grid, params, x, importance);
            grid.ops->fit(&grid, 1, block_of(&grid), x, NULL, params);
            fitted[0] += squared_error(&grid, params, x, NULL);
            grid.ops->fit(&grid, 1, block_of(&grid), x, importance, params);
            fitted[1] += squared_error(&grid, params, x, importance);
        }
        assert_true(grid.bits == 8 || fitted[0] < 0.99 * plain[0]);
        assert_true(grid.bits == 8 || fitted[1] < 0.96 * plain[1]);
        assert_true(fitted[1] < weighted * (grid.bits == 8 ? 1.0001 : 0.995));
    }
}

/* All pairs of integers of a sub-group, by round_column. */
static double exhaustive(const rp_grid *grid, int sub, const float *params, const float *x,
                         const float *w)
{
    const rp_grid_ops *ops = grid->ops;
    const int width = block_of(grid) / ops->n_sub;
    const int at = (ops->has_min ? 2 : 1) + sub;
    float own[RP_GRID_MAX_PARAMS];
    double best = INFINITY;

    memcpy(own, params, sizeof(own));
    for (int s = ops->scale_lo; s <= ops->scale_hi; s++) {
        for (int m = 0; m <= ops->min_hi; m++) {
            double error = 0.0;
            own[at] = (float)s;
            if (ops->has_min) {
                own[at + ops->n_sub] = (float)m;
            }
            for (int i = 0; i < width; i++) {
                uint8_t code = 0;
                float y = 0.0f;
                ops->round_column(grid, 1, own, sub, &x[i], &code, &y);
                error += w[i] * (x[i] - y) * (x[i] - y);
            }
            best = fmin(best, error);
        }
    }
    return best;
}

/* refit's integers are within some per cent of the best ones, also where values have moved since d
 * was chosen, and leave the other parameters alone. */
static void refits_are_near_the_best(void **state)
{
    (void)state;
    seed = 1;
    for (int k = 0; k < N_OPS; k++) {
        const rp_grid grid = grid_of(all_ops[k]);
        const int n_sub = grid.ops->n_sub;
        double refitted = 0;
        double best = 0;
        if (n_sub == 0) {
            assert_null(grid.ops->refit);
            continue;
        }
        for (int trial = 0; trial < 32; trial++) {
            float x[MAX_BLOCK], w[MAX_BLOCK], params[RP_GRID_MAX_PARAMS], old[RP_GRID_MAX_PARAMS];
            const int sub = trial % n_sub;
            const int first = sub * MAX_BLOCK / n_sub;
            random_block(&grid, 0.02f, x, w);
            grid.ops->fit(&grid, 1, MAX_BLOCK, x, w, params);
            for (int i = 0; i < MAX_BLOCK; i++) {
                x[i] += 0.004f * gaussian();
            }
            memcpy(old, params, sizeof(old));
            grid.ops->refit(&grid, sub, MAX_BLOCK / n_sub, x + first, w + first, params);
            for (int p = 0; p < grid.ops->n_params; p++) {
                const int own = p - (grid.ops->has_min ? 2 : 1);
                if (own < 0 || own % n_sub != sub) {
                    assert_true(params[p] == old[p]);
                }
            }
            double error = 0.0;
            for (int i = first; i < first + MAX_BLOCK / n_sub; i++) {
                uint8_t code = 0;
                float y = 0.0f;
                grid.ops->round_column(&grid, 1, params, sub, &x[i], &code, &y);
                error += w[i] * (x[i] - y) * (x[i] - y);
            }
            refitted += error;
            best += exhaustive(&grid, sub, params, x + first, w + first);
        }
        assert_true(refitted < 1.08 * best);
    }
}

static void assert_stored(const rp_grid *grid, const float *params)
{
    const rp_grid_ops *ops = grid->ops;
    const int reals = ops->n_sub == 0 ? ops->n_params : (ops->has_min ? 2 : 1);

    for (int p = 0; p < reals && ops != &rp_grid_mxfp4; p++) {
        const float want = rp_f16_to_f32(rp_f32_to_f16(params[p]));
        assert_memory_equal(&params[p], &want, sizeof(want));
    }
    for (int p = reals; p < ops->n_params; p++) {
        const bool is_min = p >= reals + ops->n_sub;
        assert_true(params[p] == rintf(params[p]));
        assert_true(params[p] >= (is_min ? 0.0f : (float)ops->scale_lo));
        assert_true(params[p] <= (float)(is_min ? ops->min_hi : ops->scale_hi));
    }
}

/* Parameters come out as the container stores them, from all ranges of values. */
static void params_are_what_is_stored(void **state)
{
    (void)state;
    for (int trial = 0; trial < 100 * N_OPS; trial++) {
        const rp_grid grid = grid_of(all_ops[trial % N_OPS]);
        float x[MAX_BLOCK], importance[MAX_BLOCK], params[RP_GRID_MAX_PARAMS];
        uint8_t code[MAX_BLOCK];
        random_block(&grid, ldexpf(1.0f, trial % 40 - 28), x, importance);
        quantise(&grid, x, params, code, NULL);
        assert_stored(&grid, params);
        grid.ops->fit(&grid, 1, block_of(&grid), x, importance, params);
        assert_stored(&grid, params);
    }
}

/* Q4_K and Q5_K leave room above the largest scale for refits. */
static void fits_leave_head_room(void **state)
{
    const rp_grid_ops *const types[2] = {&rp_grid_q4_k, &rp_grid_q5_k};

    (void)state;
    for (int k = 0; k < 2; k++) {
        const rp_grid grid = grid_of(types[k]);
        float sum = 0.0f;
        for (int trial = 0; trial < 100; trial++) {
            float x[MAX_BLOCK], importance[MAX_BLOCK], params[RP_GRID_MAX_PARAMS];
            float max = 0.0f;
            random_block(&grid, 0.02f, x, importance);
            grid.ops->fit(&grid, 1, MAX_BLOCK, x, NULL, params);
            for (int p = 2; p < 2 + grid.ops->n_sub; p++) {
                max = fmaxf(max, params[p]);
            }
            sum += max;
        }
        assert_true(sum / 100.0f > 58.0f && sum / 100.0f < 61.5f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(q4_0_by_hand),
        cmocka_unit_test(q4_1_by_hand),
        cmocka_unit_test(q8_0_by_hand),
        cmocka_unit_test(mxfp4_by_hand),
        cmocka_unit_test(two_levels_by_hand),
        cmocka_unit_test(bits_of_the_reference),
        cmocka_unit_test(zero_block),
        cmocka_unit_test(columns_are_nearest),
        cmocka_unit_test(fits_reduce_the_error),
        cmocka_unit_test(refits_are_near_the_best),
        cmocka_unit_test(params_are_what_is_stored),
        cmocka_unit_test(fits_leave_head_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

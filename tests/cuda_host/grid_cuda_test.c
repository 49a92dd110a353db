/* Grids on a GPU against the processor's: the same bits of parameters, codes and values, for whole
 * matrices, for one group of all rows and for one thread, on every grid. */
#include "base/mem.h"
#include "kernels/grid_gguf.h"
#include "tests/cuda_host/grid_one_cuda.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS = 37, LD = 40, COLS = 512, ARENA_BYTES = 64 << 20 };

static const char *const names[] = {"affine", "Q4_0",  "Q4_1",  "Q5_0", "Q5_1", "Q8_0",
                                    "Q2_K",   "Q3_K",  "Q4_K",  "Q5_K", "Q6_K", "IQ4_NL",
                                    "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4"};

static rp_gpu *gpu;
static uint32_t seed = 1;

/* ---- Values ---- */

static float uniform(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 8388608.0f - 1.0f;
}

typedef enum row_kind {
    GAUSSIAN,
    HEAVY_TAILED,
    CONSTANT,
    ZERO,
    SIGNED_ZEROS,
    TINY,
    HUGE_VALUES,
    NEARLY_FLAT,
    INTEGERS, /* with ties of both signs */
    POSITIVE,
    SPARSE,
    NEAR_F16_END,
    ROW_KINDS
} row_kind;

static float sample(row_kind kind)
{
    const float v = uniform() + uniform() + uniform() + uniform();

    switch (kind) {
    case HEAVY_TAILED:
        return v * v * v * v * v;
    case CONSTANT:
        return -0.37f;
    case ZERO:
        return 0.0f;
    case SIGNED_ZEROS:
        return copysignf(0.0f, v);
    case TINY:
        return 1e-39f * v;
    case HUGE_VALUES:
        return 1e18f * v;
    case NEARLY_FLAT:
        return -1.0f - 1e-6f * fabsf(v);
    case INTEGERS:
        return rintf(2.0f * v);
    case POSITIVE:
        return 0.5f + fabsf(v);
    case SPARSE:
        return fabsf(v) > 2.0f ? v : 0.0f;
    case NEAR_F16_END:
        return 3e4f * v;
    default:
        return v;
    }
}

/* Groups of all kinds: value i of row r at x[r * cols + i]; a row changes kind after 256 values. */
static void fill(int64_t rows, int64_t cols, float *x)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c++) {
            x[r * cols + c] = sample((row_kind)((r + c / 256 * 5) % ROW_KINDS));
        }
    }
}

typedef enum weight_kind { NO_WEIGHTS, WEIGHTS, ZERO_WEIGHTS, WEIGHT_KINDS } weight_kind;

/* NULL for NO_WEIGHTS. */
static const float *fill_weights(weight_kind kind, int64_t n, float *w)
{
    for (int64_t i = 0; i < n; i++) {
        const float v = fabsf(uniform());
        w[i] = kind == ZERO_WEIGHTS ? 0.0f : (i % 11 == 3 ? 0.0f : v * v * v);
    }
    return kind == NO_WEIGHTS ? NULL : w;
}

/* ---- The two sides ---- */

typedef struct arrays {
    float x[ROWS * COLS], column[ROWS * COLS], weight[COLS];
    float want_params[ROWS * COLS], got_params[ROWS * COLS];
    float want[ROWS * COLS], got[ROWS * COLS], again[ROWS * COLS];
    uint8_t want_codes[ROWS * COLS], got_codes[ROWS * COLS];
} arrays;

static arrays *a; /* on the host */
static arrays *on_gpu;

#define PUT(field, count) put(on_gpu->field, a->field, (size_t)(count) * sizeof(a->field[0]))
#define GET(field, count) get(a->field, on_gpu->field, (size_t)(count) * sizeof(a->field[0]))

static void put(void *to, const void *from, size_t nbytes)
{
    rp_gpu_put(gpu, to, nbytes, from, nbytes, nbytes, 1);
}

static void get(void *to, const void *from, size_t nbytes)
{
    rp_gpu_get(gpu, to, nbytes, from, nbytes, nbytes, 1);
}

static void assert_gpu_is_well(void)
{
    if (rp_gpu_sync(gpu) != RP_OK) {
        fail_msg("%s", rp_error_message());
    }
}

static uint32_t bits_of(float v)
{
    uint32_t bits = 0;

    memcpy(&bits, &v, sizeof(bits));
    return bits;
}

/* Bits; a NaN is any NaN. */
static void assert_same(const char *what, const rp_grid *grid, int64_t n, const float *want,
                        const float *got)
{
    char name[64];

    rp_grid_describe(grid, name, sizeof(name));
    for (int64_t i = 0; i < n; i++) {
        if (bits_of(want[i]) != bits_of(got[i]) && !(isnan(want[i]) && isnan(got[i]))) {
            fail_msg("%s of %s: value %lld is %a instead of %a", what, name, (long long)i,
                     (double)got[i], (double)want[i]);
        }
    }
}

static void assert_same_codes(const char *what, const rp_grid *grid, int64_t n, const uint8_t *want,
                              const uint8_t *got)
{
    char name[64];

    rp_grid_describe(grid, name, sizeof(name));
    for (int64_t i = 0; i < n; i++) {
        if (want[i] != got[i]) {
            fail_msg("%s of %s: code %lld is %d instead of %d", what, name, (long long)i, got[i],
                     want[i]);
        }
    }
}

/* ---- Grids ---- */

typedef void check(const rp_grid *grid, weight_kind weights);

/* All grids of GGUF, and affine ones of all widths, storage types and forms. */
static void for_all_grids(check *run)
{
    for (size_t i = 0; i < RP_COUNT(names); i++) {
        const rp_grid_ops *ops = rp_grid_find(names[i]);
        const int trials = ops->fixed_bits != 0 ? 1 : 14;
        for (int trial = 0; trial < trials; trial++) {
            const rp_grid grid = {.ops = ops,
                                  .bits = ops->fixed_bits != 0 ? ops->fixed_bits : 2 + trial % 7,
                                  .is_symmetric = trial % 2 == 0,
                                  .mse = trial / 2 % 2 == 0,
                                  .zero_min = trial / 3 % 2,
                                  .group = ops->fixed_group != 0 ? ops->fixed_group : 128,
                                  .scale_type = (rp_dtype)(trial / 4 % 3)};
            for (int weights = NO_WEIGHTS; weights < WEIGHT_KINDS; weights++) {
                run(&grid, (weight_kind)weights);
            }
        }
    }
}

static void check_quantise(const rp_grid *grid, int64_t rows, int64_t cols, weight_kind weights)
{
    const rp_device_grid g = rp_device_grid_of(grid, cols);
    const float *weight = fill_weights(weights, cols, a->weight);
    const int64_t nparams = rows * rp_grid_ngroups(grid, cols) * grid->ops->n_params;

    fill(rows, cols, a->x);
    memset(a->got_codes, 99, sizeof(a->got_codes));
    PUT(x, rows * cols);
    PUT(weight, cols);
    PUT(got_codes, ROWS * COLS);
    rp_quantise_rows_cuda(gpu, &g, rows, cols, on_gpu->x, weight == NULL ? NULL : on_gpu->weight,
                          on_gpu->got_params, on_gpu->got_codes);
    GET(got_params, nparams);
    GET(got_codes, ROWS * COLS);
    assert_gpu_is_well();
    memset(a->want_codes, 99, sizeof(a->want_codes));
    grid->ops->quantise(grid, rows, cols, a->x, weight, a->want_params, a->want_codes);
    assert_same("params", grid, nparams, a->want_params, a->got_params);
    assert_same_codes("codes", grid, ROWS * COLS, a->want_codes, a->got_codes);
}

static void quantise_grid(const rp_grid *grid, weight_kind weights)
{
    rp_grid own = *grid;

    check_quantise(grid, ROWS, COLS, weights);
    check_quantise(grid, 1, COLS, weights);
    if (grid->ops->fixed_group == RP_GGUF_BLOCK) {
        check_quantise(grid, ROWS, 3 * RP_GGUF_BLOCK, weights);
    }
    if (grid->ops->fixed_group == 0) {
        check_quantise(grid, ROWS, 200, weights); /* a ragged group */
        own.group = 0;
        check_quantise(&own, ROWS, 333, weights);
    }
}

static void whole_matrices_agree(void **state)
{
    (void)state;
    for_all_grids(quantise_grid);
}

/* ---- Fits ---- */

typedef void fit(rp_gpu *, const rp_device_grid *, int64_t rows, int64_t n, rp_strided x,
                 rp_strided weight, float *params, int64_t ld);
typedef void refit(rp_gpu *, const rp_device_grid *, int sub, int64_t rows, int64_t n, rp_strided x,
                   rp_strided weight, float *params, int64_t ld);

/* a->x [ROWS, n] to the GPU with columns of LD rows, the first column last when `is_reversed`. */
static rp_strided put_columns(int64_t n, bool is_reversed)
{
    const rp_strided up = {on_gpu->column, LD};
    const rp_strided down = {on_gpu->column + (n - 1) * LD, -LD};

    memset(a->column, 0, sizeof(a->column));
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = is_reversed ? n - 1 - i : i;
        for (int64_t r = 0; r < ROWS; r++) {
            a->column[at * LD + r] = a->x[r * n + i];
        }
    }
    PUT(column, n * LD);
    return is_reversed ? down : up;
}

/* got_params [n_params][LD] against want_params [ROWS, n_params]. */
static void assert_same_params(const char *what, const rp_grid *grid)
{
    const int n_params = grid->ops->n_params;

    GET(got_params, n_params * LD);
    assert_gpu_is_well();
    for (int64_t r = 0; r < ROWS; r++) {
        for (int p = 0; p < n_params; p++) {
            a->got[r * n_params + p] = a->got_params[p * LD + r];
        }
    }
    assert_same(what, grid, (int64_t)ROWS * n_params, a->want_params, a->got);
}

/* Both forms of fit after the processor's; the groups' parameters stay in want_params. */
static void check_fit(const rp_grid *grid, int64_t n, weight_kind weights)
{
    fit *const forms[] = {rp_fit_groups_cuda, grid_one_fit};
    const rp_device_grid g = rp_device_grid_of(grid, COLS);
    const float *weight = fill_weights(weights, n, a->weight);
    const rp_strided on_columns = {weight == NULL ? NULL : on_gpu->weight, 1};

    fill(ROWS, n, a->x);
    PUT(weight, n);
    grid->ops->fit(grid, ROWS, n, a->x, weight, a->want_params);
    for (size_t i = 0; i < RP_COUNT(forms); i++) {
        memset(a->got_params, 0xff, sizeof(a->got_params));
        PUT(got_params, RP_GRID_MAX_PARAMS * LD);
        forms[i](gpu, &g, ROWS, n, put_columns(n, i == 1), on_columns, on_gpu->got_params, LD);
        assert_same_params(i == 0 ? "fit" : "fit by one thread", grid);
    }
}

static void fit_grid(const rp_grid *grid, weight_kind weights)
{
    check_fit(grid, grid->group, weights);
    if (grid->ops->fixed_group == 0) {
        check_fit(grid, 77, weights);
    }
}

static void fits_agree(void **state)
{
    (void)state;
    for_all_grids(fit_grid);
}

/* The parameters of check_fit, with other values for a sub-group. */
static void check_refit(const rp_grid *grid, int sub, weight_kind weights)
{
    refit *const forms[] = {rp_refit_groups_cuda, grid_one_refit};
    const rp_device_grid g = rp_device_grid_of(grid, COLS);
    const int n_params = grid->ops->n_params;
    const int64_t n = g.sub_cols;
    const float *weight = fill_weights(weights, n, a->weight);
    const rp_strided on_columns = {weight == NULL ? NULL : on_gpu->weight, 1};

    fill(ROWS, n, a->x);
    PUT(weight, n);
    for (int64_t i = 0; i < (int64_t)ROWS * n_params; i++) {
        a->got_params[i % n_params * LD + i / n_params] = a->want_params[i];
    }
    for (int64_t r = 0; r < ROWS; r++) {
        grid->ops->refit(grid, sub, n, a->x + r * n, weight, a->want_params + r * n_params);
    }
    for (size_t i = 0; i < RP_COUNT(forms); i++) {
        PUT(got_params, n_params * LD);
        forms[i](gpu, &g, sub, ROWS, n, put_columns(n, i == 0), on_columns, on_gpu->got_params, LD);
        GET(got_params, n_params * LD);
        assert_same_params(i == 0 ? "refit" : "refit by one thread", grid);
        for (int64_t k = 0; k < (int64_t)ROWS * n_params; k++) { /* once more from the start */
            const int own = (int)(k % n_params) - g.n_steps;
            if (own == sub || own == g.n_sub + sub) {
                a->got_params[k % n_params * LD + k / n_params] = 1.0f;
            }
        }
    }
}

static void refit_grid(const rp_grid *grid, weight_kind weights)
{
    if (grid->ops->refit == NULL) {
        return;
    }
    check_fit(grid, grid->group, weights);
    for (int sub = 0; sub < grid->ops->n_sub; sub += 3) {
        check_refit(grid, sub, weights);
    }
}

static void refits_agree(void **state)
{
    (void)state;
    for_all_grids(refit_grid);
}

/* ---- Rounding ---- */

/* Columns of the processor: want_codes, want [n][ROWS] by parameters planes [n_params][ROWS]. */
static void round_columns(const rp_grid *grid, int64_t n, const float *planes)
{
    const int64_t sub_cols = rp_grid_sub_cols(grid, COLS);
    float column[ROWS];

    for (int64_t i = 0; i < n; i++) {
        for (int64_t r = 0; r < ROWS; r++) {
            column[r] = a->x[r * n + i];
        }
        grid->ops->round_column(grid, ROWS, planes, (int)(i / sub_cols), column,
                                a->want_codes + i * ROWS, a->want + i * ROWS);
    }
}

/* Values of other kinds than those that the parameters were fitted for. */
static void round_grid(const rp_grid *grid, weight_kind weights)
{
    const rp_device_grid g = rp_device_grid_of(grid, COLS);
    const int64_t n = grid->group;
    const int n_params = grid->ops->n_params;
    float planes[RP_GRID_MAX_PARAMS * ROWS];

    check_fit(grid, n, weights);
    fill(ROWS, n, a->x);
    for (int64_t i = 0; i < (int64_t)ROWS * n_params; i++) {
        planes[i % n_params * ROWS + i / n_params] = a->want_params[i];
        a->got_params[i % n_params * LD + i / n_params] = a->want_params[i];
    }
    PUT(got_params, n_params * LD);
    const rp_strided x = put_columns(n, false);
    grid_one_round(gpu, &g, ROWS, n, x, on_gpu->got_params, LD, on_gpu->got_codes, on_gpu->got,
                   on_gpu->again);
    GET(got_codes, ROWS * n);
    GET(got, ROWS * n);
    GET(again, ROWS * n);
    assert_gpu_is_well();
    round_columns(grid, n, planes);
    assert_same_codes("rounding", grid, ROWS * n, a->want_codes, a->got_codes);
    assert_same("rounding", grid, ROWS * n, a->want, a->got);
    for (int64_t r = 0; r < ROWS; r++) {
        uint8_t codes[256];
        float decoded[256];
        for (int64_t i = 0; i < n; i++) {
            codes[i] = a->want_codes[i * ROWS + r];
        }
        grid->ops->decode(grid, a->want_params + r * n_params, n, codes, decoded);
        for (int64_t i = 0; i < n; i++) {
            a->want[i * ROWS + r] = decoded[i];
        }
    }
    assert_same("decoding", grid, ROWS * n, a->want, a->again);
}

static void rounding_agrees(void **state)
{
    (void)state;
    for_all_grids(round_grid);
}

static int set_up(void **state)
{
    void *memory = NULL;

    (void)state;
    a = malloc(sizeof(*a));
    if (a == NULL || rp_gpu_create(&gpu, 0, ARENA_BYTES) != RP_OK ||
        rp_gpu_alloc(&memory, gpu, sizeof(*a)) != RP_OK) {
        print_error("%s\n", rp_error_message());
        return 1;
    }
    on_gpu = memory;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rp_gpu_free(gpu, on_gpu);
    rp_gpu_destroy(&gpu);
    free(a);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_matrices_agree),
        cmocka_unit_test(fits_agree),
        cmocka_unit_test(refits_agree),
        cmocka_unit_test(rounding_agrees),
    };

    if (rp_gpu_count() == 0) {
        return 77;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

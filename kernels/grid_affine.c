/* Uniform integer grid: value = scale * (code - zero), codes 0 .. 2^bits - 1.
 *
 * Symmetric: zero = 2^(bits-1), scale = max|x| / ((2^bits - 1) / 2). Asymmetric: the range is
 * stretched to hold 0, zero is an integer in [zero_min, 2^bits - 1]. The scale is rounded to its
 * storage type before the zero point is chosen. With `mse` the range is shrunk in steps of 1 % down
 * to 20 % and the one with the least squared error, weighted with the importance, is kept. */
#include "kernels/grid_affine.h"

#include <math.h>
#include <stddef.h>

#include "base/mem.h"
#include "kernels/clones.h"

#define LANES 16
typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float))));
typedef int32_t lane_mask __attribute__((vector_size(LANES * sizeof(float))));

/* a where the mask is set, else b. A macro: vectors of this width are not passed by value alike on
 * all processors. */
#define SELECT(mask, a, b) ((lanes)(((mask) & (lane_mask)(a)) | (~(mask) & (lane_mask)(b))))

static float max_code(const rp_grid *grid)
{
    return (float)((1 << grid->bits) - 1);
}

RP_CLONES static void round_values(float top, float scale, float zero, int64_t n, const float *x,
                                   uint8_t *code)
{
    const float inverse = 1.0f / scale;

    for (int64_t i = 0; i < n; i++) {
        code[i] = (uint8_t)rp_affine_code(top, inverse, zero, x[i]);
    }
}

RP_CLONES static void decode_values(float scale, float zero, int64_t n, const uint8_t *code,
                                    float *out)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = scale * ((float)code[i] - zero);
    }
}

RP_CLONES static void round_rows(float top, int64_t rows, const float *scale, const float *zero,
                                 const float *x, uint8_t *code, float *decoded)
{
    for (int64_t i = 0; i < rows; i++) {
        const float q = rp_affine_code(top, 1.0f / scale[i], zero[i], x[i]);
        code[i] = (uint8_t)q;
        decoded[i] = scale[i] * (q - zero[i]);
    }
}

/* w * (x - decode(round(x)))^2 of 16 values. The sum 1.5 2^23 + y has y's nearest integer in its
 * last bits, ties to even, for |y| < 2^22: here y is clamped before it is rounded, which gives the
 * same code as rounding first. */
RP_INLINE void add_squared_error(lanes *sums, const lanes *x, const lanes *importance,
                                 float inverse, float scale, float lowest, float highest)
{
    const lanes none = {0};
    const lanes magic = none + 12582912.0f;
    lanes y = *x * inverse;
    lanes e;

    y = SELECT(y < none + lowest, none + lowest, y);
    y = SELECT(y > none + highest, none + highest, y);
    y = (y + magic) - magic;
    e = *x - scale * y;
    *sums += *importance * (e * e);
}

/* Sum of the squared errors in 16 lanes, so that the order of additions is fixed. Codes are found
 * with the inverse of the scale: the search compares errors, it does not make codes. importance
 * NULL: all 1. */
RP_CLONES static float weighted_error(float top, float scale, float zero, int64_t n, const float *x,
                                      const float *importance)
{
    const float inverse = 1.0f / scale;
    const lanes none = {0};
    lanes sums = {0};
    float sum = 0;

    for (int64_t i = 0; i < n; i += LANES) {
        lanes v = none;
        lanes w = none; /* beyond the end: no weight */
        const int64_t left = n - i;
        if (left >= LANES) {
            v = *(const lanes *)(const void *)(x + i);
            w = importance == NULL ? none + 1.0f : *(const lanes *)(const void *)(importance + i);
        } else {
            for (int64_t k = 0; k < left; k++) {
                v[k] = x[i + k];
                w[k] = importance == NULL ? 1.0f : importance[i + k];
            }
        }
        add_squared_error(&sums, &v, &w, inverse, scale, -zero, top - zero);
    }
    for (int k = 0; k < LANES; k++) {
        sum += sums[k];
    }
    return sum;
}

/* Lane k meets the lane that the list names: after four folds the first lane holds the extremes. */
#define FOLD(lows, highs, ...)                                                                     \
    do {                                                                                           \
        const lanes other_lows = __builtin_shufflevector(lows, lows, __VA_ARGS__);                 \
        const lanes other_highs = __builtin_shufflevector(highs, highs, __VA_ARGS__);              \
        (lows) = SELECT(other_lows < (lows), other_lows, lows);                                    \
        (highs) = SELECT(other_highs > (highs), other_highs, highs);                               \
    } while (0)

/* Smallest and largest of x and 0. */
RP_CLONES static void range_of(int64_t n, const float *x, float *low, float *high)
{
    lanes lows = {0};
    lanes highs = {0};

    for (int64_t i = 0; i + LANES <= n; i += LANES) {
        const lanes v = *(const lanes *)(const void *)(x + i);
        lows = SELECT(v < lows, v, lows);
        highs = SELECT(v > highs, v, highs);
    }
    FOLD(lows, highs, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    FOLD(lows, highs, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3);
    FOLD(lows, highs, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1);
    FOLD(lows, highs, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0);
    *low = lows[0];
    *high = highs[0];
    for (int64_t i = n - n % LANES; i < n; i++) {
        *low = x[i] < *low ? x[i] : *low;
        *high = x[i] > *high ? x[i] : *high;
    }
}

static void fit_group(const rp_grid *grid, int64_t n, const float *x, const float *importance,
                      float *params)
{
    const rp_affine a = {.top = max_code(grid),
                         .zero_min = (float)grid->zero_min,
                         .is_symmetric = grid->is_symmetric,
                         .scale_type = grid->scale_type};
    float low = 0;
    float high = 0;
    float best = INFINITY;

    range_of(n, x, &low, &high);
    if (grid->is_symmetric) {
        high = -low > high ? -low : high;
        low = -high;
    }
    rp_affine_range(&a, low, high, params);
    if (!grid->mse || low == high) {
        return;
    }
    for (int step = 0; step < RP_AFFINE_STEPS; step++) {
        const float shrink = rp_affine_shrink(step);
        float tried[2];
        rp_affine_range(&a, shrink * low, shrink * high, tried);
        const float error = weighted_error(a.top, tried[0], tried[1], n, x, importance);
        if (error < best) {
            best = error;
            params[0] = tried[0];
            params[1] = tried[1];
        }
    }
}

static void affine_fit(const rp_grid *grid, int64_t nrows, int64_t n, const float *x,
                       const float *importance, float *params)
{
    for (int64_t r = 0; r < nrows; r++) {
        fit_group(grid, n, x + r * n, importance, params + r * grid->ops->n_params);
    }
}

static void affine_quantise(const rp_grid *grid, int64_t nrows, int64_t cols, const float *x,
                            const float *importance, float *params, uint8_t *codes)
{
    const int64_t group = rp_grid_group_cols(grid, cols);

    for (int64_t r = 0; r < nrows; r++) {
        for (int64_t c = 0; c < cols; c += group, params += 2) {
            const int64_t n = RP_MIN(group, cols - c);
            fit_group(grid, n, x + r * cols + c, importance == NULL ? NULL : importance + c,
                      params);
            round_values(max_code(grid), params[0], params[1], n, x + r * cols + c,
                         codes + r * cols + c);
        }
    }
}

static void affine_round_column(const rp_grid *grid, int64_t rows, const float *params, int sub,
                                const float *x, uint8_t *code, float *decoded)
{
    (void)sub;
    round_rows(max_code(grid), rows, params, params + rows, x, code, decoded);
}

static void affine_decode(const rp_grid *grid, const float *params, int64_t n, const uint8_t *code,
                          float *out)
{
    (void)grid;
    decode_values(params[0], params[1], n, code, out);
}

const rp_grid_ops rp_grid_affine = {
    .name = "affine",
    .n_params = 2,
    .quantise = affine_quantise,
    .fit = affine_fit,
    .round_column = affine_round_column,
    .decode = affine_decode,
};

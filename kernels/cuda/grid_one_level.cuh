/* Groups with one scale, by one thread or, where a function has a team, by several: affine
 * (grid_affine.c), Q4_0 .. Q8_0 and IQ4_NL (grid_gguf.c), ternary and MXFP4 (grid_levels.c). */
#ifndef RP_KERNELS_CUDA_GRID_ONE_LEVEL_CUH
#define RP_KERNELS_CUDA_GRID_ONE_LEVEL_CUH

#include "kernels/cuda/grid_search.cuh"
#include "kernels/grid_affine.h"
#include "kernels/grid_gguf.h"
#include "kernels/grid_mxfp4.h"

#define RP_MAGIC 12582912.0f /* 1.5 * 2^23 */
#define RP_ERROR_LANES 16    /* of the sums of the clipping search */
#define RP_TERNARY_SHARES 64

/* Magnitudes of floats order as their bits do. */
static inline __device__ float rp_larger_magnitude(float magnitude, float x)
{
    const float other = fabsf(x);

    return other > magnitude ? other : magnitude;
}

static inline __device__ float rp_group_magnitude(int64_t n, rp_strided x)
{
    float largest = 0.0f;

    for (int64_t i = 0; i < n; i++) {
        largest = rp_larger_magnitude(largest, rp_at(x, i));
    }
    return largest;
}

/* ---- Affine ---- */

static inline __device__ rp_affine rp_affine_of(const rp_device_grid &g)
{
    const rp_affine a = {(float)g.top, (float)g.zero_min, g.is_symmetric, g.scale_type};

    return a;
}

/* The range that the clipping search shrinks, from the least and the largest of the values and 0.
 */
static inline __device__ void rp_affine_full_range(bool is_symmetric, float *low, float *high)
{
    if (is_symmetric) {
        *high = -*low > *high ? -*low : *high;
        *low = -*high;
    }
}

/* w (x - decode(round(x)))^2; clamped before it is rounded, which gives the same code. */
static inline __device__ float rp_affine_error(float top, float scale, float inverse, float zero,
                                               float x, float weight)
{
    float y = x * inverse;

    y = y < -zero ? -zero : y;
    y = y > top - zero ? top - zero : y;
    y = (y + RP_MAGIC) - RP_MAGIC;
    const float e = x - scale * y;
    return weight * (e * e);
}

/* In the processor's order: sixteen sums side by side. */
static inline __device__ float rp_affine_error_sum(float top, const float *params, int64_t n,
                                                   rp_strided x, rp_strided weight)
{
    const float inverse = 1.0f / params[0];
    float sums[RP_ERROR_LANES] = {0};
    float sum = 0.0f;

    for (int64_t first = 0; first < n; first += RP_ERROR_LANES) {
        RP_UNROLL(16)
        for (int k = 0; k < RP_ERROR_LANES; k++) {
            if (first + k < n) {
                sums[k] += rp_affine_error(top, params[0], inverse, params[1], rp_at(x, first + k),
                                           rp_weight_at(weight, first + k));
            }
        }
    }
    RP_UNROLL(16)
    for (int k = 0; k < RP_ERROR_LANES; k++) {
        sum += sums[k];
    }
    return sum;
}

static inline __device__ void rp_affine_bounds(bool is_symmetric, int64_t n, rp_strided x,
                                               float *low, float *high)
{
    *low = *high = 0.0f;
    for (int64_t i = 0; i < n; i++) {
        const float v = rp_at(x, i);
        *low = v < *low ? v : *low;
        *high = v > *high ? v : *high;
    }
    rp_affine_full_range(is_symmetric, low, high);
}

/* The best of the steps first, first + stride ..; number RP_AFFINE_STEPS: none has a finite error.
 */
static inline __device__ rp_trial rp_affine_search(const rp_affine &a, float low, float high,
                                                   int64_t n, rp_strided x, rp_strided weight,
                                                   int first, int stride)
{
    rp_trial best = {INFINITY, RP_AFFINE_STEPS};

    for (int step = first; step < RP_AFFINE_STEPS; step += stride) {
        const float shrink = rp_affine_shrink(step);
        float tried[2];
        rp_affine_range(&a, shrink * low, shrink * high, tried);
        const float error = rp_affine_error_sum(a.top, tried, n, x, weight);
        if (error < best.error) {
            best.error = error;
            best.number = step;
        }
    }
    return best;
}

/* The parameters of a step of the search. */
static inline __device__ void rp_affine_step(const rp_affine &a, float low, float high, int step,
                                             float *params)
{
    const float shrink = step < RP_AFFINE_STEPS ? rp_affine_shrink(step) : 1.0f;

    rp_affine_range(&a, shrink * low, shrink * high, params);
}

static inline __device__ void rp_affine_fit(const rp_device_grid &g, int64_t n, rp_strided x,
                                            rp_strided weight, float *params)
{
    const rp_affine a = rp_affine_of(g);
    int step = RP_AFFINE_STEPS;
    float low, high;

    rp_affine_bounds(g.is_symmetric, n, x, &low, &high);
    if (g.mse && low != high) {
        step = rp_affine_search(a, low, high, n, x, weight, 0, 1).number;
    }
    rp_affine_step(a, low, high, step, params);
}

/* ---- Blocks of 32 without a search ---- */

/* An infinite inverse stands for codes of 0 before the zero point, as in grid_plain_lanes.h. */
typedef struct rp_plain {
    float d, m, inverse, shift;
} rp_plain;

static inline __device__ rp_plain rp_plain_of(float d, float m, float shift)
{
    const float inverse = rp_inverse(d);
    const bool is_lost = isinf(inverse);
    const rp_plain p = {d, m, is_lost ? 0.0f : inverse, is_lost ? 0.0f : shift};

    return p;
}

static inline __device__ rp_plain rp_plain_block(const rp_device_grid &g, rp_strided x)
{
    float low = rp_at(x, 0);
    float high = low;
    float largest = 0.0f;

    for (int i = 0; i < RP_GGUF_BLOCK; i++) {
        const float v = rp_at(x, i);
        low = v < low ? v : low;
        high = v > high ? v : high;
        largest = fabsf(v) > fabsf(largest) ? v : largest;
    }
    switch (g.kind) {
    case RP_GRID_Q8:
        return rp_plain_of(fabsf(largest) / 127.0f, 0.0f, 0.0f);
    case RP_GRID_SYMMETRIC:
        return rp_plain_of(largest / g.lowest, 0.0f, 0.5f - g.lowest);
    default:
        return rp_plain_of((high - low) / (float)g.top, low, 0.5f);
    }
}

/* Q8: half away from zero, by an addend below 0.5 (0.49999997 is 0). The others: down. */
static inline __device__ uint8_t rp_plain_code(const rp_device_grid &g, const rp_plain &p, float x)
{
    if (g.kind == RP_GRID_Q8) {
        const float v = x * p.inverse;
        return (uint8_t)((int)rp_clamp(v + copysignf(0x1.fffffep-2f, v), -128.0f, 127.0f) + 128);
    }
    return (uint8_t)(int)rp_clamp((x - p.m) * p.inverse + p.shift, 0.0f, (float)g.top);
}

/* ---- Blocks of 32 ---- */

static inline __device__ void rp_block_store(const rp_device_grid &g, float d, float m,
                                             rp_strided_mut params)
{
    rp_put(params, 0, rp_nearest_f16(d));
    if (g.has_min) {
        rp_put(params, 1, rp_nearest_f16(m));
    }
}

static inline __device__ void rp_block_fit(const rp_device_grid &g, rp_strided x, rp_strided weight,
                                           rp_strided_mut params)
{
    rp_tile tile;
    rp_found found;

    if (g.kind == RP_GRID_Q8) {
        rp_block_store(g, rp_plain_block(g, x).d, 0.0f, params);
        return;
    }
    rp_load_tile(RP_GGUF_BLOCK, x, weight, RP_WEIGHT_IMPORTANCE, 0.0f, &tile);
    rp_search_group(g.search.weighted, g.top, g.weighted_steps, &tile, &found);
    rp_block_store(g, found.scale[0], found.min[0], params);
}

static inline __device__ void rp_block_search(const rp_device_grid &g, rp_strided x,
                                              rp_strided importance, float mean_square,
                                              rp_strided_mut params, uint8_t *code)
{
    const bool is_weighted = importance.data != NULL;
    rp_tile tile;
    rp_found found;

    rp_load_tile(RP_GGUF_BLOCK, x, importance,
                 is_weighted ? g.search.weighted_weight : g.search.plain_weight, mean_square,
                 &tile);
    rp_search_group(is_weighted ? g.search.weighted : g.search.plain, g.top, g.weighted_steps,
                    &tile, &found);
    const float inverse = rp_inverse(found.scale[0]);
    for (int i = 0; i < RP_GGUF_BLOCK; i++) {
        code[i] = g.is_iq4 ? (uint8_t)rp_iq4_code(inverse * tile.x[i][0]) : found.code[i][0];
    }
    rp_block_store(g, found.scale[0], found.min[0], params);
}

/* mean_square: of the row, for the searches with importance but IQ4_NL's, which takes its block's.
 */
static inline __device__ void rp_block_quantise(const rp_device_grid &g, rp_strided x,
                                                rp_strided importance, float mean_square,
                                                rp_strided_mut params, uint8_t *code)
{
    if (g.is_iq4) {
        float squares = 0.0f;
        for (int i = 0; i < RP_GGUF_BLOCK; i++) {
            squares += rp_at(x, i) * rp_at(x, i);
        }
        mean_square = squares * g.search.times;
    }
    if (g.is_iq4 || (g.kind != RP_GRID_Q8 && importance.data != NULL)) {
        rp_block_search(g, x, importance, mean_square, params, code);
        return;
    }
    const rp_plain p = rp_plain_block(g, x);
    for (int i = 0; i < RP_GGUF_BLOCK; i++) {
        code[i] = rp_plain_code(g, p, rp_at(x, i));
    }
    rp_block_store(g, p.d, p.m, params);
}

/* ---- Ternary ---- */

/* Half away from zero. */
static inline __device__ uint8_t rp_ternary_code(float v)
{
    v = rp_clamp(v, -1.0f, 1.0f);
    return (uint8_t)(1 + (v >= 0.5f) - (v <= -0.5f));
}

template <int SIZE>
static __device__ void rp_ternary_quantise(const rp_device_grid &g, const rp_team<SIZE> &team,
                                           rp_values x, rp_strided_mut params, uint8_t *code,
                                           int64_t code_pitch)
{
    const int n = (int)g.sub_cols / SIZE;
    const rp_strided own = rp_values_sub(x, team.lane);
    float d = rp_group_magnitude(n, own);

    for (int lanes = SIZE / 2; lanes > 0; lanes /= 2) {
        d = rp_larger_magnitude(d, team.across(d, lanes));
    }
    const float inverse = rp_inverse(d);
    for (int i = 0; i < n; i++) { /* an infinite inverse: ggml's conversion gives level 0 */
        code[team.lane * code_pitch + i] =
            rp_ternary_code(rp_at(own, i) * (isinf(inverse) ? 0.0f : inverse));
    }
    if (team.lane == 0) {
        rp_put(params, 0, rp_nearest_f16(d));
    }
}

typedef struct rp_share_sums {
    float w, x;
} rp_share_sums;

/* Sums over the magnitudes beyond a share of the largest, in sub-groups of n. */
static inline __device__ rp_share_sums rp_sum_share(int n_subs, int n, float bound, rp_values x,
                                                    rp_values weight)
{
    rp_share_sums sums = {0.0f, 0.0f};

    for (int sub = 0; sub < n_subs; sub++) {
        const rp_strided own = rp_values_sub(x, sub);
        const rp_strided own_weight = rp_values_sub(weight, sub);
        for (int i = 0; i < n; i++) {
            const float magnitude = fabsf(rp_at(own, i));
            const float w = rp_weight_at(own_weight, i);
            sums.w += magnitude > bound ? w : 0.0f;
            sums.x += magnitude > bound ? w * magnitude : 0.0f;
        }
    }
    return sums;
}

/* The best d for the values beyond a share is their weighted mean; every thread sums other shares,
 * and all choose. */
template <int SIZE>
static __device__ void rp_ternary_fit(const rp_device_grid &g, const rp_team<SIZE> &team,
                                      rp_values x, rp_values weight, rp_strided_mut params)
{
    const int n = (int)g.sub_cols / SIZE;
    float largest = rp_group_magnitude(n, rp_values_sub(x, team.lane));
    float best = 0.0f;
    float d = 0.0f;

    for (int lanes = SIZE / 2; lanes > 0; lanes /= 2) {
        largest = rp_larger_magnitude(largest, team.across(largest, lanes));
    }
    for (int first = 0; first < RP_TERNARY_SHARES; first += SIZE) {
        const float share = (float)(first + team.lane) + 0.5f;
        const rp_share_sums own =
            rp_sum_share(SIZE, n, largest * share / (float)RP_TERNARY_SHARES, x, weight);
        for (int k = 0; k < SIZE; k++) {
            const float sum_w = team.from(own.w, k);
            const float sum_x = team.from(own.x, k);
            if (sum_w > 0.0f && sum_x * sum_x > best * sum_w) {
                best = sum_x * sum_x / sum_w;
                d = rp_nearest_f16(sum_x / sum_w);
            }
        }
    }
    if (team.lane == 0) {
        rp_put(params, 0, d);
    }
}

/* ---- MXFP4 ---- */

static inline __device__ void rp_mxfp4_quantise(rp_strided x, rp_strided_mut params, uint8_t *code)
{
    const float d = rp_mxfp4_scale(rp_mxfp4_exponent(rp_group_magnitude(RP_MXFP4_BLOCK, x)));

    for (int i = 0; i < RP_MXFP4_BLOCK; i++) {
        code[i] = rp_mxfp4_code(rp_at(x, i), d, rp_mxfp4_top(d));
    }
    rp_put(params, 0, d);
}

static inline __device__ void rp_mxfp4_fit(int64_t n, rp_strided x, rp_strided weight,
                                           rp_strided_mut params)
{
    const int middle = rp_mxfp4_middle(rp_group_magnitude(n, x));
    float best = INFINITY;
    float best_d = rp_mxfp4_scale(middle);

    for (int exponent = middle - 2; exponent <= middle + 2 && exponent < 255; exponent++) {
        const float d = rp_mxfp4_scale(exponent);
        float error = 0.0f;
        for (int64_t i = 0; i < n; i++) {
            const float v = rp_at(x, i);
            const float e = v - d * rp_mxfp4_level(rp_mxfp4_code(v, d, rp_mxfp4_top(d)));
            error += rp_weight_at(weight, i) * (e * e);
        }
        if (error < best) {
            best = error;
            best_d = d;
        }
    }
    rp_put(params, 0, best_d);
}

#endif

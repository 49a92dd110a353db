/* Grids of the GGUF block types TQ1_0 and TQ2_0 (ternary) and MXFP4 (E2M1 with a power of two).
 *
 * Source: ggml's reference quantisers (src/ggml-quants.c of ggml-org/ggml), reimplemented from
 * their description.
 *
 *   TQ1_0, TQ2_0  value = d * (code - 1)        params {d}, code 0..2
 *   MXFP4         value = d * level[code]       params {d}, d = 2^(e - 128), e the stored byte */
#include "kernels/grid_gguf.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/grid_mxfp4.h"
#include "kernels/grid_params.h"
#include "kernels/grid_round.h"

#define TERNARY_BLOCK 256
#define TERNARY_ZERO 1

RP_CLONES static float largest_magnitude(int64_t n, const float *x)
{
    return rp_largest_magnitude(n, x);
}

/* ---- Ternary ---- */

/* Half away from zero. */
RP_CLONES static void round_ternary(float inverse, int64_t n, const float *x, uint8_t *code)
{
    for (int64_t i = 0; i < n; i++) {
        const float v = rp_clamp(x[i] * inverse, -1.0f, 1.0f);
        code[i] = (uint8_t)(TERNARY_ZERO + (v >= 0.5f) - (v <= -0.5f));
    }
}

static void ternary_quantise(const rp_grid *grid, int64_t nrows, int64_t cols, const float *x,
                             const float *importance, float *params, uint8_t *codes)
{
    (void)grid;
    (void)importance;
    RP_ASSERT(cols % TERNARY_BLOCK == 0);
    for (int64_t i = 0; i < nrows * cols; i += TERNARY_BLOCK) {
        const float d = largest_magnitude(TERNARY_BLOCK, x + i);
        const float inverse = rp_inverse(d);
        /* an infinite inverse: ggml's conversion gives level 0 */
        round_ternary(isinf(inverse) ? 0.0f : inverse, TERNARY_BLOCK, x + i, codes + i);
        params[i / TERNARY_BLOCK] = rp_nearest_f16(d);
    }
}

/* Sums over the values beyond a share of the largest: the best d for them is their weighted mean.
 */
static void ternary_fit_group(int64_t n, const float *x, const float *importance, float *params)
{
    enum { SHARES = 64 };
    const float largest = largest_magnitude(n, x);
    float best = 0.0f;

    params[0] = 0.0f;
    for (int k = 0; k < SHARES; k++) {
        const float bound = largest * ((float)k + 0.5f) / (float)SHARES;
        float sum_w = 0.0f;
        float sum_x = 0.0f;
        for (int64_t i = 0; i < n; i++) {
            const float w = importance == NULL ? 1.0f : importance[i];
            sum_w += fabsf(x[i]) > bound ? w : 0.0f;
            sum_x += fabsf(x[i]) > bound ? w * fabsf(x[i]) : 0.0f;
        }
        if (sum_w > 0.0f && sum_x * sum_x > best * sum_w) {
            best = sum_x * sum_x / sum_w;
            params[0] = rp_nearest_f16(sum_x / sum_w);
        }
    }
}

static void ternary_fit(const rp_grid *grid, int64_t nrows, int64_t n, const float *x,
                        const float *importance, float *params)
{
    (void)grid;
    for (int64_t r = 0; r < nrows; r++) {
        ternary_fit_group(n, x + r * n, importance, params + r);
    }
}

static void ternary_round_column(const rp_grid *grid, int64_t rows, const float *params, int sub,
                                 const float *x, uint8_t *code, float *decoded)
{
    static const rp_uniform levels = {-1, 1, TERNARY_ZERO};

    (void)grid;
    (void)sub;
    rp_round_uniform(&levels, rows, params, NULL, x, code, decoded);
}

static void ternary_decode(const rp_grid *grid, const float *params, int64_t n, const uint8_t *code,
                           float *out)
{
    (void)grid;
    rp_decode_uniform(params[0], 0.0f, TERNARY_ZERO, n, code, out);
}

/* ---- MXFP4 ---- */

static const float mxfp4_levels[16] = RP_MXFP4_LEVELS;

RP_CLONES static void round_mxfp4(float d, int top, int64_t n, const float *x, uint8_t *code)
{
    for (int64_t i = 0; i < n; i++) {
        code[i] = rp_mxfp4_code(x[i], d, top);
    }
}

static void mxfp4_quantise(const rp_grid *grid, int64_t nrows, int64_t cols, const float *x,
                           const float *importance, float *params, uint8_t *codes)
{
    (void)grid;
    (void)importance;
    RP_ASSERT(cols % RP_MXFP4_BLOCK == 0);
    for (int64_t i = 0; i < nrows * cols; i += RP_MXFP4_BLOCK) {
        const float d = rp_mxfp4_scale(rp_mxfp4_exponent(largest_magnitude(RP_MXFP4_BLOCK, x + i)));
        round_mxfp4(d, rp_mxfp4_top(d), RP_MXFP4_BLOCK, x + i, codes + i);
        params[i / RP_MXFP4_BLOCK] = d;
    }
}

/* ggml's exponent and its neighbours: the best of five. */
static void mxfp4_fit_group(int64_t n, const float *x, const float *importance, float *params)
{
    const float largest = largest_magnitude(n, x);
    const int middle = rp_mxfp4_middle(largest);
    float best = INFINITY;

    for (int exponent = middle - 2; exponent <= middle + 2 && exponent < 255; exponent++) {
        const float d = rp_mxfp4_scale(exponent);
        float error = 0.0f;
        for (int64_t i = 0; i < n; i++) {
            const float e = x[i] - d * rp_mxfp4_level(rp_mxfp4_code(x[i], d, rp_mxfp4_top(d)));
            error += (importance == NULL ? 1.0f : importance[i]) * (e * e);
        }
        if (error < best) {
            best = error;
            params[0] = d;
        }
    }
    params[0] = best < INFINITY ? params[0] : rp_mxfp4_scale(middle);
}

static void mxfp4_fit(const rp_grid *grid, int64_t nrows, int64_t n, const float *x,
                      const float *importance, float *params)
{
    (void)grid;
    for (int64_t r = 0; r < nrows; r++) {
        mxfp4_fit_group(n, x + r * n, importance, params + r);
    }
}

static void mxfp4_round_column(const rp_grid *grid, int64_t rows, const float *params, int sub,
                               const float *x, uint8_t *code, float *decoded)
{
    (void)grid;
    (void)sub;
    for (int64_t i = 0; i < rows; i++) {
        code[i] = rp_mxfp4_code(x[i], params[i], rp_mxfp4_top(params[i]));
        decoded[i] = params[i] * rp_mxfp4_level(code[i]);
    }
}

static void levels_decode(const rp_grid *grid, const float *params, int64_t n, const uint8_t *code,
                          float *out)
{
    rp_decode_levels(params[0], grid->ops->levels, n, code, out);
}

#define TERNARY(title)                                                                             \
    {                                                                                              \
        .name = (title), .n_params = 1, .fixed_group = TERNARY_BLOCK, .fixed_bits = 2,             \
        .levels = rp_integer_levels + 127, .top_code = 2, .quantise = ternary_quantise,            \
        .fit = ternary_fit, .round_column = ternary_round_column, .decode = ternary_decode,        \
    }

const rp_grid_ops rp_grid_tq1_0 = TERNARY("TQ1_0");
const rp_grid_ops rp_grid_tq2_0 = TERNARY("TQ2_0");
const rp_grid_ops rp_grid_mxfp4 = {
    .name = "MXFP4",
    .n_params = 1,
    .fixed_group = RP_MXFP4_BLOCK,
    .fixed_bits = 4,
    .levels = mxfp4_levels,
    .is_power_scale = true,
    .quantise = mxfp4_quantise,
    .fit = mxfp4_fit,
    .round_column = mxfp4_round_column,
    .decode = levels_decode,
};

/* Grids of the GGUF block types Q4_0, Q5_0 (scale), Q4_1, Q5_1 (scale and minimum) and Q8_0.
 *
 * Source: ggml's reference quantisers and its weighted searches make_qx_quants and make_qkx3_quants
 * (src/ggml-quants.c of ggml-org/ggml), reimplemented from their description; all arithmetic is
 * fp32 in the same order, without contraction, so the blocks are the same bits.
 *
 *   Q4_0, Q5_0  value = d * (code - 2^(bits-1))    params {d}
 *   Q8_0        value = d * (code - 128)           params {d}, code 1..255
 *   Q4_1, Q5_1  value = d * code + m               params {d, m}
 *
 * ggml stores d and m as fp16 but chooses codes with the fp32 ones: so does `quantise`; `fit`
 * rounds them first, and `round_column` uses what is stored. */
#include "kernels/grid_gguf.h"

#include <math.h>
#include <string.h>

#include "kernels/clones.h"

#define Q8_ZERO 128
#define Q8_MAX 127.0f
#define TINY 1e-15f /* a block whose largest magnitude is below is all zeros in ggml's search */

static bool has_min(const rp_grid *grid)
{
    return grid->ops == &rp_grid_q4_1 || grid->ops == &rp_grid_q5_1;
}

/* The code that decodes to the minimum, or to 0 where there is none. */
static float zero_code(const rp_grid *grid)
{
    return has_min(grid) ? 0.0f : (float)(1 << (grid->bits - 1));
}

/* The nearest fp16 value (ties to even), inline so that loops over it are vectors. Below 2^-14 fp16
 * is a fixed point of 2^-24 steps, which is the spacing of fp32 at 0.5. */
RP_INLINE float stored(float param)
{
    const float magnitude = fabsf(param);
    float normal = magnitude;
    uint32_t bits = 0;

    memcpy(&bits, &magnitude, sizeof(bits));
    bits = (bits + 0xfffu + ((bits >> 13) & 1u)) & ~0x1fffu;
    memcpy(&normal, &bits, sizeof(bits));
    normal = magnitude < 65520.0f ? normal : INFINITY;
    return copysignf(magnitude < 0x1p-14f ? (magnitude + 0.5f) - 0.5f : normal, param);
}

RP_INLINE float inverse(float d)
{
    return d != 0.0f ? 1.0f / d : 0.0f;
}

/* Within 0..top, to be truncated; values beyond it come from error feedback. NaN gives 0. */
RP_INLINE float clamp_code(float v, float top)
{
    v = v > 0.0f ? v : 0.0f;
    return v < top ? v : top;
}

/* Nearest integer, ties to even, within lo..hi. */
static int nearest(float v, int lo, int hi)
{
    if (!(v > (float)lo)) {
        return lo;
    }
    return v >= (float)hi ? hi : (int)nearbyintf(v);
}

/* The first element of largest magnitude. Magnitudes of floats order as their bits do, and a
 * maximum of integers is a vector operation; so is the least index of those that reach it. */
RP_INLINE float signed_max_of(int32_t n, const float *x)
{
    int32_t largest = 0;
    int32_t first = n;

    for (int32_t i = 0; i < n; i++) {
        int32_t bits = 0;
        memcpy(&bits, &x[i], sizeof(bits));
        bits &= INT32_MAX;
        largest = bits > largest ? bits : largest;
    }
    for (int32_t i = 0; i < n; i++) {
        int32_t bits = 0;
        memcpy(&bits, &x[i], sizeof(bits));
        const int32_t candidate = (bits & INT32_MAX) == largest ? i : n;
        first = candidate < first ? candidate : first;
    }
    return largest > 0 && first < n ? x[first] : 0.0f;
}

/* Whole blocks, the usual case, get loops of constant length. */
RP_CLONES static float signed_max(int64_t n, const float *x)
{
    return n == RP_GGUF_BLOCK ? signed_max_of(RP_GGUF_BLOCK, x) : signed_max_of((int32_t)n, x);
}

/* Weights of a search, all 1 without importance; x [n], n <= RP_GGUF_BLOCK. sigma2 >= 0: ggml's
 * own, importance * sqrt(sigma2 + x^2); else the importance as it is. */
static void search_weights(int64_t n, const float *x, const float *importance, float sigma2,
                           float *w)
{
    RP_ASSERT(n <= RP_GGUF_BLOCK);
    for (int64_t i = 0; i < n; i++) {
        const float own = importance == NULL ? 1.0f : importance[i];
        w[i] = sigma2 < 0.0f ? own : own * sqrtf(sigma2 + x[i] * x[i]);
    }
}

/* ---- Q4_0, Q5_0 ---- */

/* Best scale over 19 inverse scales around -half/max (make_qx_quants). */
static float search_scale(int64_t n, const float *x, const float *w, int half)
{
    const float max = signed_max(n, x);
    float scale = 0.0f;
    float best = 0.0f;

    if (fabsf(max) < TINY) {
        return 0.0f;
    }
    for (int trial = 0; trial < 19; trial++) {
        /* step 0 first, then -9..-1 and 1..9, as the reference does: the first of equals wins */
        const int step = trial == 0 ? 0 : trial - 10 + (trial >= 10);
        const float iscale = -((float)half + 0.1f * (float)step) / max;
        float sum_xl = 0.0f;
        float sum_l2 = 0.0f;
        for (int64_t i = 0; i < n; i++) {
            const float l = (float)nearest(iscale * x[i], -half, half - 1);
            sum_xl += w[i] * x[i] * l;
            sum_l2 += w[i] * l * l;
        }
        if (sum_l2 > 0.0f && (trial == 0 || sum_xl * sum_xl > best * sum_l2)) {
            scale = sum_xl / sum_l2;
            best = scale * sum_xl;
        }
    }
    return scale;
}

static void find_scale(const rp_grid *grid, int64_t n, const float *x, const float *w,
                       float *params)
{
    const int half = 1 << (grid->bits - 1);

    params[0] = w == NULL ? signed_max(n, x) / (float)-half : search_scale(n, x, w, half);
}

/* ---- Q4_1, Q5_1 ---- */

typedef struct min_fit {
    float scale, min;
} min_fit;

typedef struct min_sums {
    float l, l2, xl; /* weighted sums of l, l^2, x l */
} min_sums;

/* code [n] = nearest((x - code_min) * iscale), and its sums. */
static min_sums quantise_from(int64_t n, const float *x, const float *w, float code_min,
                              float iscale, int top, float *code)
{
    min_sums s = {0.0f, 0.0f, 0.0f};

    for (int64_t i = 0; i < n; i++) {
        const float l = (float)nearest(iscale * (x[i] - code_min), 0, top);
        code[i] = l;
        s.l += w[i] * l;
        s.l2 += w[i] * l * l;
        s.xl += w[i] * l * x[i];
    }
    return s;
}

static float min_error(int64_t n, const float *x, const float *w, const float *code, min_fit fit)
{
    float error = 0.0f;

    for (int64_t i = 0; i < n; i++) {
        const float diff = fit.scale * code[i] + fit.min - x[i];
        error += w[i] * (diff * diff);
    }
    return error;
}

/* Scale and minimum (never above 0) by least squares over 37 inverse scales (make_qkx3_quants). The
 * minimum that a winner found is the origin of the next candidates' codes. */
static min_fit search_min(int64_t n, const float *x, const float *w, int top)
{
    min_fit best = {0.0f, 0.0f};
    float max = x[0];
    float sum_w = 0.0f;
    float sum_x = 0.0f;
    float best_error = 0.0f;
    float code[RP_GGUF_BLOCK];

    best.min = x[0];
    for (int64_t i = 0; i < n; i++) {
        best.min = fminf(best.min, x[i]);
        max = fmaxf(max, x[i]);
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    best.min = fminf(best.min, 0.0f);
    if (max <= best.min) {
        return best;
    }
    best.scale = 1.0f / ((float)top / (max - best.min));
    (void)quantise_from(n, x, w, best.min, (float)top / (max - best.min), top, code);
    best_error = min_error(n, x, w, code, best);
    for (int step = 0; step <= 36; step++) {
        const float iscale = (-0.9f + 0.05f * (float)step + (float)top) / (max - best.min);
        const min_sums s = quantise_from(n, x, w, best.min, iscale, top, code);
        const float det = sum_w * s.l2 - s.l * s.l;
        if (det > 0.0f) {
            min_fit trial = {(sum_w * s.xl - sum_x * s.l) / det, (s.l2 * sum_x - s.l * s.xl) / det};
            if (trial.min > 0.0f) {
                trial.min = 0.0f;
                trial.scale = s.xl / s.l2;
            }
            const float error = min_error(n, x, w, code, trial);
            if (error < best_error) {
                best_error = error;
                best = trial;
            }
        }
    }
    return best;
}

static void find_min(const rp_grid *grid, int64_t n, const float *x, const float *w, float *params)
{
    const int top = (1 << grid->bits) - 1;

    if (w == NULL) {
        float min = x[0];
        float max = x[0];
        for (int64_t i = 1; i < n; i++) {
            min = x[i] < min ? x[i] : min;
            max = x[i] > max ? x[i] : max;
        }
        params[0] = (max - min) / (float)top;
        params[1] = min;
        return;
    }
    const min_fit fit = search_min(n, x, w, top);
    params[0] = fit.scale;
    params[1] = fit.min;
}

/* ggml's fp32 parameters; w NULL: without a search. Q8_0 knows none. */
static void find_params(const rp_grid *grid, int64_t n, const float *x, const float *w,
                        float *params)
{
    if (grid->ops == &rp_grid_q8_0) {
        params[0] = fabsf(signed_max(n, x)) / Q8_MAX;
    } else if (has_min(grid)) {
        find_min(grid, n, x, w, params);
    } else {
        find_scale(grid, n, x, w, params);
    }
}

static void store_params(const rp_grid *grid, float *params)
{
    for (int p = 0; p < grid->ops->n_params; p++) {
        params[p] = stored(params[p]);
    }
}

static void gguf_fit(const rp_grid *grid, int64_t n, const float *x, const float *importance,
                     float *params)
{
    float w[RP_GGUF_BLOCK];

    search_weights(n, x, importance, -1.0f, w);
    find_params(grid, n, x, w, params);
    store_params(grid, params);
}

/* ---- Rounding and decoding ---- */

RP_INLINE void round_n(float id, float m, float bias, float top, int32_t n, const float *x,
                       uint8_t *code)
{
    for (int32_t i = 0; i < n; i++) {
        code[i] = (uint8_t)(int)clamp_code((x[i] - m) * id + bias, top);
    }
}

/* q = trunc((x - m) / d + bias), from the fp32 parameters. */
RP_CLONES static void round_values(float d, float m, float bias, float top, int64_t n,
                                   const float *x, uint8_t *code)
{
    if (n == RP_GGUF_BLOCK) {
        round_n(inverse(d), m, bias, top, RP_GGUF_BLOCK, x, code);
    } else {
        round_n(inverse(d), m, bias, top, (int32_t)n, x, code);
    }
}

RP_CLONES static void round_rows(int64_t rows, const float *d, const float *m, float bias,
                                 float top, const float *x, uint8_t *code)
{
    for (int64_t i = 0; i < rows; i++) {
        code[i] = (uint8_t)(int)clamp_code(
            (x[i] - (m == NULL ? 0.0f : m[i])) * inverse(d[i]) + bias, top);
    }
}

/* Half away from zero within -127..127 (ggml never makes -128). The addend is the float below 0.5:
 * with 0.5 itself 0.49999997 would become 1. */
RP_INLINE float round_q8(float v)
{
    v = v > -Q8_MAX ? v : -Q8_MAX;
    v = v < Q8_MAX ? v : Q8_MAX;
    return v + copysignf(0x1.fffffep-2f, v);
}

RP_INLINE void round_n_q8(float id, int32_t n, const float *x, uint8_t *code)
{
    for (int32_t i = 0; i < n; i++) {
        code[i] = (uint8_t)(Q8_ZERO + (int)round_q8(x[i] * id));
    }
}

RP_CLONES static void round_values_q8(float d, int64_t n, const float *x, uint8_t *code)
{
    if (n == RP_GGUF_BLOCK) {
        round_n_q8(inverse(d), RP_GGUF_BLOCK, x, code);
    } else {
        round_n_q8(inverse(d), (int32_t)n, x, code);
    }
}

RP_CLONES static void round_rows_q8(int64_t rows, const float *d, const float *x, uint8_t *code)
{
    for (int64_t i = 0; i < rows; i++) {
        code[i] = (uint8_t)(Q8_ZERO + (int)round_q8(x[i] * inverse(d[i])));
    }
}

/* m is -0 where there is no minimum: adding it changes nothing, not even the sign of a zero. */
RP_CLONES static void decode_values(float d, float m, float zero, int64_t n, const uint8_t *code,
                                    float *out)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = d * ((float)code[i] - zero) + m;
    }
}

RP_CLONES static void decode_rows(int64_t rows, const float *d, const float *m, float zero,
                                  const uint8_t *code, float *out)
{
    for (int64_t i = 0; i < rows; i++) {
        out[i] = d[i] * ((float)code[i] - zero) + (m == NULL ? -0.0f : m[i]);
    }
}

static float top_code(const rp_grid *grid)
{
    return (float)((1 << grid->bits) - 1);
}

static float round_bias(const rp_grid *grid)
{
    return zero_code(grid) + 0.5f;
}

static void gguf_decode(const rp_grid *grid, const float *params, int64_t n, const uint8_t *code,
                        float *out)
{
    decode_values(params[0], has_min(grid) ? params[1] : -0.0f, zero_code(grid), n, code, out);
}

static void gguf_round(const rp_grid *grid, const float *params, int64_t n, const float *x,
                       uint8_t *code)
{
    if (grid->ops == &rp_grid_q8_0) {
        round_values_q8(params[0], n, x, code);
    } else {
        round_values(params[0], has_min(grid) ? params[1] : 0.0f, round_bias(grid), top_code(grid),
                     n, x, code);
    }
}

/* ggml weighs with the mean square of the row for these types. */
static float row_sigma2(int64_t cols, const float *x)
{
    float sum = 0.0f;

    for (int64_t i = 0; i < cols; i++) {
        sum += x[i] * x[i];
    }
    return sum / (float)cols;
}

static void gguf_quantise(const rp_grid *grid, int64_t nrows, int64_t cols, const float *x,
                          const float *importance, float *params, uint8_t *codes)
{
    float w[RP_GGUF_BLOCK];

    for (int64_t r = 0; r < nrows; r++) {
        const float sigma2 = importance == NULL ? 0.0f : row_sigma2(cols, x);
        for (int64_t c = 0; c < cols; c += RP_GGUF_BLOCK, params += grid->ops->n_params) {
            if (importance != NULL) {
                search_weights(RP_GGUF_BLOCK, x + c, importance + c, sigma2, w);
            }
            find_params(grid, RP_GGUF_BLOCK, x + c, importance == NULL ? NULL : w, params);
            gguf_round(grid, params, RP_GGUF_BLOCK, x + c, codes + c);
            store_params(grid, params);
        }
        x += cols;
        codes += cols;
    }
}

static void gguf_round_column(const rp_grid *grid, int64_t rows, const float *params, int sub,
                              const float *x, uint8_t *code, float *decoded)
{
    const float *d = params;
    const float *m = has_min(grid) ? params + rows : NULL;

    (void)sub;
    if (grid->ops == &rp_grid_q8_0) {
        round_rows_q8(rows, d, x, code);
    } else {
        round_rows(rows, d, m, round_bias(grid), top_code(grid), x, code);
    }
    decode_rows(rows, d, m, zero_code(grid), code, decoded);
}

static const float l40[]={-8.0f,-7.0f,-6.0f,-5.0f,-4.0f,-3.0f,-2.0f,-1.0f,0.0f,1.0f,2.0f,3.0f,4.0f,5.0f,6.0f,7.0f};static const float l41[]={0.0f,1.0f,2.0f,3.0f,4.0f,5.0f,6.0f,7.0f,8.0f,9.0f,10.0f,11.0f,12.0f,13.0f,14.0f,15.0f};static const float l50[]={-16.0f,-15.0f,-14.0f,-13.0f,-12.0f,-11.0f,-10.0f,-9.0f,-8.0f,-7.0f,-6.0f,-5.0f,-4.0f,-3.0f,-2.0f,-1.0f,0.0f,1.0f,2.0f,3.0f,4.0f,5.0f,6.0f,7.0f,8.0f,9.0f,10.0f,11.0f,12.0f,13.0f,14.0f,15.0f};static const float l51[]={0.0f,1.0f,2.0f,3.0f,4.0f,5.0f,6.0f,7.0f,8.0f,9.0f,10.0f,11.0f,12.0f,13.0f,14.0f,15.0f,16.0f,17.0f,18.0f,19.0f,20.0f,21.0f,22.0f,23.0f,24.0f,25.0f,26.0f,27.0f,28.0f,29.0f,30.0f,31.0f};static const float l80[]={-128.0f,-127.0f,-126.0f,-125.0f,-124.0f,-123.0f,-122.0f,-121.0f,-120.0f,-119.0f,-118.0f,-117.0f,-116.0f,-115.0f,-114.0f,-113.0f,-112.0f,-111.0f,-110.0f,-109.0f,-108.0f,-107.0f,-106.0f,-105.0f,-104.0f,-103.0f,-102.0f,-101.0f,-100.0f,-99.0f,-98.0f,-97.0f,-96.0f,-95.0f,-94.0f,-93.0f,-92.0f,-91.0f,-90.0f,-89.0f,-88.0f,-87.0f,-86.0f,-85.0f,-84.0f,-83.0f,-82.0f,-81.0f,-80.0f,-79.0f,-78.0f,-77.0f,-76.0f,-75.0f,-74.0f,-73.0f,-72.0f,-71.0f,-70.0f,-69.0f,-68.0f,-67.0f,-66.0f,-65.0f,-64.0f,-63.0f,-62.0f,-61.0f,-60.0f,-59.0f,-58.0f,-57.0f,-56.0f,-55.0f,-54.0f,-53.0f,-52.0f,-51.0f,-50.0f,-49.0f,-48.0f,-47.0f,-46.0f,-45.0f,-44.0f,-43.0f,-42.0f,-41.0f,-40.0f,-39.0f,-38.0f,-37.0f,-36.0f,-35.0f,-34.0f,-33.0f,-32.0f,-31.0f,-30.0f,-29.0f,-28.0f,-27.0f,-26.0f,-25.0f,-24.0f,-23.0f,-22.0f,-21.0f,-20.0f,-19.0f,-18.0f,-17.0f,-16.0f,-15.0f,-14.0f,-13.0f,-12.0f,-11.0f,-10.0f,-9.0f,-8.0f,-7.0f,-6.0f,-5.0f,-4.0f,-3.0f,-2.0f,-1.0f,0.0f,1.0f,2.0f,3.0f,4.0f,5.0f,6.0f,7.0f,8.0f,9.0f,10.0f,11.0f,12.0f,13.0f,14.0f,15.0f,16.0f,17.0f,18.0f,19.0f,20.0f,21.0f,22.0f,23.0f,24.0f,25.0f,26.0f,27.0f,28.0f,29.0f,30.0f,31.0f,32.0f,33.0f,34.0f,35.0f,36.0f,37.0f,38.0f,39.0f,40.0f,41.0f,42.0f,43.0f,44.0f,45.0f,46.0f,47.0f,48.0f,49.0f,50.0f,51.0f,52.0f,53.0f,54.0f,55.0f,56.0f,57.0f,58.0f,59.0f,60.0f,61.0f,62.0f,63.0f,64.0f,65.0f,66.0f,67.0f,68.0f,69.0f,70.0f,71.0f,72.0f,73.0f,74.0f,75.0f,76.0f,77.0f,78.0f,79.0f,80.0f,81.0f,82.0f,83.0f,84.0f,85.0f,86.0f,87.0f,88.0f,89.0f,90.0f,91.0f,92.0f,93.0f,94.0f,95.0f,96.0f,97.0f,98.0f,99.0f,100.0f,101.0f,102.0f,103.0f,104.0f,105.0f,106.0f,107.0f,108.0f,109.0f,110.0f,111.0f,112.0f,113.0f,114.0f,115.0f,116.0f,117.0f,118.0f,119.0f,120.0f,121.0f,122.0f,123.0f,124.0f,125.0f,126.0f,127.0f};
#define OPS(title, n_bits, n_p, lev)                                                                    \
    {                                                                                              \
        .name = (title), .levels=lev, .n_params = (n_p), .fixed_group = RP_GGUF_BLOCK, .fixed_bits = (n_bits),  \
        .has_min = (n_p) == 2, .quantise = gguf_quantise, .fit = gguf_fit,                         \
        .round_column = gguf_round_column, .decode = gguf_decode,                                  \
    }

const rp_grid_ops rp_grid_q4_0 = OPS("Q4_0", 4, 1,l40);
const rp_grid_ops rp_grid_q4_1 = OPS("Q4_1", 4, 2,l41);
const rp_grid_ops rp_grid_q5_0 = OPS("Q5_0", 5, 1,l50);
const rp_grid_ops rp_grid_q5_1 = OPS("Q5_1", 5, 2,l51);
const rp_grid_ops rp_grid_q8_0 = OPS("Q8_0", 8, 1,l80);

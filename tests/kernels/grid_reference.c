#include "grid_reference.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "kernels/dtype.h"

#define TINY 1e-15f

static float f16(float v)
{
    return rp_f16_to_f32(rp_f32_to_f16(v));
}

/* The integer in the low 23 bits of 1.5 * 2^23 + v. */
static int nint(float v)
{
    const float sum = v + 12582912.0f;
    int32_t bits;

    memcpy(&bits, &sum, sizeof(bits));
    return (bits & 0x007fffff) - 0x00400000;
}

static int clamp(int v, int lo, int hi)
{
    return v < lo ? lo : (v > hi ? hi : v);
}

static float signed_max(int n, const float *x)
{
    float max = 0.0f;

    for (int i = 0; i < n; i++) {
        if (fabsf(x[i]) > fabsf(max)) {
            max = x[i];
        }
    }
    return max;
}

/* ---- The searches ---- */

static float make_qx(int n, int nmax, const float *x, const float *w, int *q)
{
    const float max = signed_max(n, x);
    float scale = 0.0f;
    float best = 0.0f;

    for (int i = 0; i < n; i++) {
        q[i] = 0;
    }
    if (fabsf(max) < TINY) {
        return 0.0f;
    }
    for (int trial = -10; trial <= 9; trial++) {
        const bool is_first = trial == -10;
        const float inverse =
            is_first ? -(float)nmax / max : -((float)nmax + 0.1f * (float)trial) / max;
        float sum_lx = 0.0f;
        float sum_l2 = 0.0f;
        if (trial == 0) {
            continue;
        }
        for (int i = 0; i < n; i++) {
            const float l = (float)clamp(nint(inverse * x[i]), -nmax, nmax - 1);
            sum_lx += w[i] * x[i] * l;
            sum_l2 += w[i] * l * l;
        }
        if (is_first || (sum_l2 > 0.0f && sum_lx * sum_lx > best * sum_l2)) {
            scale = sum_l2 != 0.0f ? sum_lx / sum_l2 : 0.0f;
            best = scale * sum_lx;
            for (int i = 0; i < n; i++) {
                q[i] = clamp(nint(inverse * x[i]), -nmax, nmax - 1) + nmax;
            }
        }
    }
    return scale;
}

static float make_q3(int n, int nmax, const float *x, int *q)
{
    const float max = signed_max(n, x);
    float sum_lx = 0.0f;
    float sum_l2 = 0.0f;
    bool changed = true;

    for (int i = 0; i < n; i++) {
        q[i] = fabsf(max) < TINY ? 0 : clamp(nint(-(float)nmax / max * x[i]), -nmax, nmax - 1);
        sum_lx += x[i] * x[i] * x[i] * (float)q[i];
        sum_l2 += x[i] * x[i] * (float)q[i] * (float)q[i];
    }
    if (fabsf(max) < TINY) {
        return 0.0f;
    }
    for (int pass = 0; pass < 5 && changed; pass++) {
        changed = false;
        for (int i = 0; i < n; i++) {
            const float w = x[i] * x[i];
            float lx = sum_lx - w * x[i] * (float)q[i];
            float l2 = sum_l2 - w * (float)q[i] * (float)q[i];
            if (!(lx > 0.0f)) {
                continue;
            }
            const int l = clamp(nint(x[i] * l2 / lx), -nmax, nmax - 1);
            lx += w * x[i] * (float)l;
            l2 += w * (float)l * (float)l;
            if (l != q[i] && l2 > 0.0f && lx * lx * sum_l2 > sum_lx * sum_lx * l2) {
                q[i] = l;
                sum_lx = lx;
                sum_l2 = l2;
                changed = true;
            }
        }
    }
    for (int i = 0; i < n; i++) {
        q[i] += nmax;
    }
    return sum_l2 > 0.0f ? sum_lx / sum_l2 : 0.0f;
}

/* *min comes out negative or 0. */
static float make_qkx(int n, int nmax, const float *x, const float *w, float first, float delta,
                      int last, bool absolute, int *q, float *min)
{
    float lowest = x[0];
    float max = x[0];
    float sum_w = w[0];
    float sum_x = w[0] * x[0];
    float scale = 0.0f;
    float best = 0.0f;
    int trial_q[32];

    for (int i = 1; i < n; i++) {
        lowest = x[i] < lowest ? x[i] : lowest;
        max = x[i] > max ? x[i] : max;
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    *min = lowest > 0.0f ? 0.0f : lowest;
    for (int i = 0; i < n; i++) {
        q[i] = 0;
    }
    if (max <= *min) {
        return 0.0f;
    }
    for (int trial = -1; trial <= last; trial++) {
        const float range = max - *min;
        const float inverse =
            trial < 0 ? (float)nmax / range : (first + delta * (float)trial + (float)nmax) / range;
        float sum_l = 0.0f;
        float sum_l2 = 0.0f;
        float sum_lx = 0.0f;
        float error = 0.0f;
        float s = 1.0f / inverse;
        float m = *min;
        for (int i = 0; i < n; i++) {
            trial_q[i] = clamp(nint(inverse * (x[i] - *min)), 0, nmax);
            sum_l += w[i] * (float)trial_q[i];
            sum_l2 += w[i] * (float)trial_q[i] * (float)trial_q[i];
            sum_lx += w[i] * (float)trial_q[i] * x[i];
        }
        const float det = sum_w * sum_l2 - sum_l * sum_l;
        if (trial >= 0) {
            if (!(det > 0.0f)) {
                continue;
            }
            s = (sum_w * sum_lx - sum_x * sum_l) / det;
            m = (sum_l2 * sum_x - sum_l * sum_lx) / det;
            if (m > 0.0f) {
                m = 0.0f;
                s = sum_lx / sum_l2;
            }
        }
        for (int i = 0; i < n; i++) {
            const float diff = s * (float)trial_q[i] + m - x[i];
            error += w[i] * (absolute ? fabsf(diff) : diff * diff);
        }
        if (trial < 0 || error < best) {
            best = error;
            scale = s;
            *min = m;
            memcpy(q, trial_q, (size_t)n * sizeof(int));
        }
    }
    return scale;
}

static float make_qp(int n, int nmax, const float *x, const float *w, int *q)
{
    float max = 0.0f;
    float inverse, best = 0.0f;
    float sum_lx = 0.0f;
    float sum_l2 = 0.0f;
    bool changed = true;

    for (int i = 0; i < n; i++) {
        max = max > x[i] ? max : x[i];
        q[i] = 0;
    }
    if (max < TINY) {
        return 0.0f;
    }
    inverse = (float)nmax / max;
    for (int i = 0; i < n; i++) {
        const float diff = x[i] - 1.0f / inverse * (float)(nint(inverse * x[i]) & 255);
        best += w[i] * diff * diff;
    }
    for (int trial = -4; trial <= 4; trial++) {
        const float tried = (0.1f * (float)trial + (float)nmax) / max;
        float error = 0.0f;
        for (int i = 0; i < n; i++) {
            const int l = nint(tried * x[i]);
            const float diff = x[i] - 1.0f / tried * (float)(l < nmax ? l : nmax);
            error += w[i] * diff * diff;
        }
        if (trial != 0 && error < best) {
            best = error;
            inverse = tried;
        }
    }
    for (int i = 0; i < n; i++) {
        int l = nint(inverse * x[i]);
        l = l < nmax ? l : nmax;
        q[i] = l & 255;
        sum_lx += w[i] * x[i] * (float)l;
        sum_l2 += w[i] * (float)l * (float)l;
    }
    for (int pass = 0; pass < 5 && changed; pass++) {
        changed = false;
        for (int i = 0; i < n; i++) {
            float lx = sum_lx - w[i] * x[i] * (float)q[i];
            float l2 = sum_l2 - w[i] * (float)q[i] * (float)q[i];
            if (!(lx > 0.0f && l2 > 0.0f)) {
                continue;
            }
            int l = nint(x[i] * l2 / lx);
            l = l < nmax ? l : nmax;
            lx += w[i] * x[i] * (float)l;
            l2 += w[i] * (float)l * (float)l;
            if (l != q[i] && lx * lx * sum_l2 > sum_lx * sum_lx * l2) {
                q[i] = l & 255;
                sum_lx = lx;
                sum_l2 = l2;
                changed = true;
            }
        }
    }
    return sum_l2 > 0.0f ? sum_lx / sum_l2 : 0.0f;
}

/* ---- 32 values ---- */

static const int iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};

/* As ggml does: the neighbours are found first, then the nearer of them. */
static int iq4_index(float v)
{
    int above = 1;

    if (v <= (float)iq4_values[0]) {
        return 0;
    }
    if (v >= (float)iq4_values[15]) {
        return 15;
    }
    while (above < 15 && !(v < (float)iq4_values[above])) {
        above++;
    }
    return v - (float)iq4_values[above - 1] < (float)iq4_values[above] - v ? above - 1 : above;
}

static float search_iq4(const float *x, const float *w)
{
    const float max = signed_max(32, x);
    float d = 0.0f;
    float best = 0.0f;

    if (fabsf(max) < TINY) {
        return 0.0f;
    }
    for (int trial = -8; trial <= 7; trial++) {
        const float inverse = trial == -8 ? 1.0f / (-max / (float)iq4_values[0])
                                          : (float)(trial + iq4_values[0]) / max;
        float sum_qx = 0.0f;
        float sum_q2 = 0.0f;
        for (int i = 0; i < 32; i++) {
            const float v = (float)iq4_values[iq4_index(inverse * x[i])];
            sum_qx += w[i] * v * x[i];
            sum_q2 += w[i] * v * v;
        }
        if (trial == -8 || (sum_q2 > 0.0f && sum_qx * sum_qx > best * sum_q2)) {
            d = sum_q2 > 0.0f ? sum_qx / sum_q2 : 0.0f;
            best = d * sum_qx;
        }
    }
    return d;
}

static float square_sum(int64_t n, const float *x)
{
    float sum = 0.0f;

    for (int64_t i = 0; i < n; i++) {
        sum += x[i] * x[i];
    }
    return sum;
}

static void importance_weights(int64_t n, const float *x, const float *v, float sigma2, float *w)
{
    for (int64_t i = 0; i < n; i++) {
        w[i] = v[i] * sqrtf(sigma2 + x[i] * x[i]);
    }
}

static void put_codes(int64_t n, const int *q, uint8_t *codes)
{
    for (int64_t i = 0; i < n; i++) {
        codes[i] = (uint8_t)q[i];
    }
}

/* The conversion of an infinite or undefined product is 0 in its low byte. */
static int truncated(float v)
{
    return isfinite(v) ? (int)v : 0;
}

static float inverse_of(float d)
{
    return d != 0.0f ? 1.0f / d : 0.0f;
}

static void symmetric_32(int bits, const float *x, const float *w, float *params, uint8_t *codes)
{
    const int half = 1 << (bits - 1);
    int q[32];

    if (w != NULL) {
        params[0] = f16(make_qx(32, half, x, w, q));
    } else {
        const float d = signed_max(32, x) / (float)-half;
        for (int i = 0; i < 32; i++) {
            q[i] = truncated(x[i] * inverse_of(d) + (float)half + 0.5f);
            q[i] = q[i] > 2 * half - 1 ? 2 * half - 1 : q[i];
        }
        params[0] = f16(d);
    }
    put_codes(32, q, codes);
}

static void min_32(int bits, const float *x, const float *w, float *params, uint8_t *codes)
{
    const int top = (1 << bits) - 1;
    int q[32];
    float min = x[0];

    if (w != NULL) {
        params[0] = f16(make_qkx(32, top, x, w, -0.9f, 0.05f, 36, false, q, &min));
    } else {
        float max = x[0];
        for (int i = 0; i < 32; i++) {
            min = x[i] < min ? x[i] : min;
            max = x[i] > max ? x[i] : max;
        }
        const float d = (max - min) / (float)top;
        for (int i = 0; i < 32; i++) {
            q[i] = truncated((x[i] - min) * inverse_of(d) + 0.5f);
            q[i] = q[i] > top ? top : q[i];
        }
        params[0] = f16(d);
    }
    params[1] = f16(min);
    put_codes(32, q, codes);
}

static void q8_32(const float *x, float *params, uint8_t *codes)
{
    const float d = fabsf(signed_max(32, x)) / 127.0f;

    for (int i = 0; i < 32; i++) {
        codes[i] = (uint8_t)(128 + truncated(roundf(x[i] * inverse_of(d))));
    }
    params[0] = f16(d);
}

static void iq4_nl(const float *x, const float *importance, float *params, uint8_t *codes)
{
    float w[32];

    for (int i = 0; i < 32; i++) {
        w[i] = x[i] * x[i];
    }
    if (importance != NULL) {
        importance_weights(32, x, importance, square_sum(32, x) * (2.0f / 32.0f), w);
    }
    const float d = search_iq4(x, w);
    for (int i = 0; i < 32; i++) {
        codes[i] = (uint8_t)iq4_index(inverse_of(d) * x[i]);
    }
    params[0] = f16(d);
}

static void mxfp4(const float *x, float *params, uint8_t *codes)
{
    static const float levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    const float max = fabsf(signed_max(32, x));
    const int exponent = max > 0.0f ? (int)floorf(log2f(max)) - 2 + 127 : 0;
    const float d = ldexpf(1.0f, (exponent & 255) - 128);

    for (int i = 0; i < 32; i++) {
        codes[i] = 0;
        for (int k = 1; k < 16; k++) {
            if (fabsf(levels[k] * d - x[i]) < fabsf(levels[codes[i]] * d - x[i])) {
                codes[i] = (uint8_t)k;
            }
        }
    }
    params[0] = d;
}

/* ---- 256 values ---- */

static void ternary(const float *x, float *params, uint8_t *codes)
{
    const float d = fabsf(signed_max(256, x));

    for (int i = 0; i < 256; i++) {
        codes[i] = (uint8_t)(1 + truncated(roundf(x[i] * inverse_of(d))));
    }
    params[0] = f16(d);
}

/* q[256] hold the codes of the search on entry. */
static void round_subs(int n_sub, int lo, int hi, float d, float dmin, const int *s, const int *m,
                       const float *x, int *q)
{
    const int width = 256 / n_sub;

    for (int i = 0; i < 256; i++) {
        const float step = d * (float)s[i / width];
        if (step != 0.0f) {
            const float offset = m == NULL ? 0.0f : dmin * (float)m[i / width];
            q[i] = clamp(nint((x[i] + offset) / step), lo, hi) - lo;
        }
    }
}

/* values >= 0 by their largest */
static float linear_codes(int n, int top, bool is_loose, const float *x, int *out)
{
    float max = 0.0f;

    for (int j = 0; j < n; j++) {
        max = x[j] > max ? x[j] : max;
    }
    for (int j = 0; j < n; j++) {
        const int l = nint((max > 0.0f ? (float)top / max : 0.0f) * x[j]) & 255;
        out[j] = l > top && !is_loose ? top : l;
    }
    return max / (float)top;
}

static void put_ints(int n, const int *v, float *params)
{
    for (int j = 0; j < n; j++) {
        params[j] = (float)v[j];
    }
}

/* Through the bytes of the block and back: bits beyond the bounds fall on others. */
static void pack_and_unpack(int bits, int *s, int *m)
{
    uint8_t bytes[24] = {0};

    for (int j = 0; j < (bits == 2 ? 16 : 8); j++) {
        if (bits == 2) {
            bytes[j] = (uint8_t)(s[j] | m[j] << 4);
            s[j] = bytes[j] & 15;
            m[j] = bytes[j] >> 4;
        } else if (j < 4) {
            bytes[j] = (uint8_t)s[j];
            bytes[j + 4] = (uint8_t)m[j];
        } else {
            bytes[j + 4] = (uint8_t)((s[j] & 15) | (m[j] & 15) << 4);
            bytes[j - 4] = (uint8_t)(bytes[j - 4] | s[j] >> 4 << 6);
            bytes[j] = (uint8_t)(bytes[j] | m[j] >> 4 << 6);
        }
    }
    for (int j = 0; j < 8 && bits != 2; j++) {
        s[j] = j < 4 ? bytes[j] & 63 : (bytes[j + 4] & 15) | bytes[j - 4] >> 6 << 4;
        m[j] = j < 4 ? bytes[j + 4] & 63 : bytes[j + 4] >> 4 | bytes[j] >> 6 << 4;
    }
}

/* Q2_K, Q4_K, Q5_K */
static void min_256(int bits, const float *x, const float *importance, float *params,
                    uint8_t *codes)
{
    const int n_sub = bits == 2 ? 16 : 8;
    const int width = 256 / n_sub;
    const int top = (1 << bits) - 1;
    const int top_s = bits == 2 ? 15 : 63;
    const float first = bits == 4 ? -1.0f : -0.5f;
    const float sum = square_sum(256, x);
    float scales[16], mins[16], sums[16], w[32], d, dmin;
    int q[256], s[16], m[16];

    for (int j = 0; j < n_sub; j++) {
        const float *sub = x + (size_t)j * width;
        const float rms = bits == 2 ? 0.0f : sqrtf(square_sum(width, sub) / (float)width);
        sums[j] = 0.0f;
        for (int i = 0; i < width; i++) {
            w[i] = rms + fabsf(sub[i]);
        }
        if (importance != NULL) {
            importance_weights(width, sub, importance + (size_t)j * width,
                               bits == 2 ? sum / 256.0f : 2.0f * sum / 256.0f, w);
            scales[j] =
                make_qkx(width, top, sub, w, -0.9f, 0.05f, 36, false, q + j * width, &mins[j]);
        } else {
            scales[j] = make_qkx(width, top, sub, w, first, 0.1f, bits == 4 ? 20 : 15, bits == 2,
                                 q + j * width, &mins[j]);
        }
        mins[j] = -mins[j];
        for (int i = 0; i < width; i++) {
            sums[j] += w[i];
        }
    }
    if (importance != NULL) {
        d = f16(make_qp(n_sub, top_s, scales, sums, s));
        dmin = f16(make_qp(n_sub, top_s, mins, sums, m));
    } else {
        d = f16(linear_codes(n_sub, top_s, bits == 2, scales, s));
        dmin = f16(linear_codes(n_sub, top_s, bits == 2, mins, m));
    }
    for (int j = 0; j < n_sub && bits == 5; j++) {
        s[j] = s[j] > 63 ? 63 : s[j];
        m[j] = m[j] > 63 ? 63 : m[j];
    }
    pack_and_unpack(bits, s, m);
    round_subs(n_sub, 0, top, d, dmin, s, m, x, q);
    params[0] = d;
    params[1] = dmin;
    put_ints(n_sub, s, params + 2);
    put_ints(n_sub, m, params + 2 + n_sub);
    put_codes(256, q, codes);
}

static void q3_256(const float *x, const float *importance, float *params, uint8_t *codes)
{
    const float sigma2 = 2.0f * square_sum(256, x) / 256.0f;
    float scales[16], sums[16], w[16], d;
    int q[256], s[16];

    for (int j = 0; j < 16; j++) {
        const float *sub = x + (size_t)j * 16;
        if (importance == NULL) {
            scales[j] = make_q3(16, 4, sub, q + j * 16);
            continue;
        }
        importance_weights(16, sub, importance + (size_t)j * 16, sigma2, w);
        scales[j] = make_qx(16, 4, sub, w, q + j * 16);
        sums[j] = 0.0f;
        for (int i = 0; i < 16; i++) {
            sums[j] += w[i];
        }
    }
    if (importance != NULL) {
        d = make_qx(16, 32, scales, sums, s);
    } else {
        const float inverse = -32.0f / signed_max(16, scales);
        d = isfinite(inverse) ? 1.0f / inverse : 0.0f;
        for (int j = 0; j < 16; j++) {
            s[j] = isfinite(inverse) ? clamp(nint(inverse * scales[j]), -32, 31) + 32 : 0;
        }
    }
    for (int j = 0; j < 16; j++) {
        s[j] -= 32;
    }
    round_subs(16, -4, 3, f16(d), 0.0f, s, NULL, x, q);
    params[0] = f16(d);
    put_ints(16, s, params + 1);
    put_codes(256, q, codes);
}

static void q6_256(const float *x, const float *importance, float *params, uint8_t *codes)
{
    float scales[16], w[16], max;
    int q[256] = {0}, s[16] = {0};

    for (int j = 0; j < 16; j++) {
        for (int i = 0; i < 16; i++) {
            w[i] = importance == NULL ? x[j * 16 + i] * x[j * 16 + i] : importance[j * 16 + i];
        }
        scales[j] = make_qx(16, 32, x + (size_t)j * 16, w, q + j * 16);
    }
    max = signed_max(16, scales);
    params[0] = 0.0f;
    if (fabsf(max) < TINY) {
        memset(q, 0, sizeof(q));
    } else {
        const float inverse = -128.0f / max;
        params[0] = f16(1.0f / inverse);
        for (int j = 0; j < 16; j++) {
            s[j] = clamp(nint(inverse * scales[j]), -128, 127);
        }
        round_subs(16, -32, 31, params[0], 0.0f, s, NULL, x, q);
    }
    put_ints(16, s, params + 1);
    put_codes(256, q, codes);
}

static void iq4_xs(const float *x, const float *importance, float *params, uint8_t *codes)
{
    const float sigma2 = square_sum(256, x) * (2.0f / 256.0f);
    float scales[8], w[32];

    for (int j = 0; j < 8; j++) {
        const float *sub = x + (size_t)j * 32;
        for (int i = 0; i < 32; i++) {
            w[i] = sub[i] * sub[i];
        }
        if (importance != NULL) {
            importance_weights(32, sub, importance + (size_t)j * 32, sigma2, w);
        }
        scales[j] = search_iq4(sub, w);
    }
    const float d = -signed_max(8, scales) / 32.0f;
    for (int j = 0; j < 8; j++) {
        const int l = clamp(nint(inverse_of(d) * scales[j]), -32, 31);
        for (int i = 0; i < 32; i++) {
            codes[j * 32 + i] = (uint8_t)iq4_index(inverse_of(d * (float)l) * x[j * 32 + i]);
        }
        params[1 + j] = (float)l;
    }
    params[0] = f16(d);
}

static int quantise_256(const char *name, const float *x, const float *v, float *params,
                        uint8_t *codes)
{
    if (name[0] == 'T') {
        ternary(x, params, codes);
        return 1;
    }
    if (name[0] == 'I') {
        iq4_xs(x, v, params, codes);
        return 9;
    }
    if (name[1] == '3') {
        q3_256(x, v, params, codes);
        return 17;
    }
    if (name[1] == '6') {
        q6_256(x, v, params, codes);
        return 17;
    }
    min_256(name[1] - '0', x, v, params, codes);
    return name[1] == '2' ? 34 : 18;
}

/* w: weights of a search or NULL; v: importance or NULL. */
static int quantise_32(const char *name, const float *x, const float *v, const float *w,
                       float *params, uint8_t *codes)
{
    if (name[0] == 'I') {
        iq4_nl(x, v, params, codes);
    } else if (name[0] == 'M') {
        mxfp4(x, params, codes);
    } else if (name[1] == '8') {
        q8_32(x, params, codes);
    } else if (name[3] == '1') {
        min_32(name[1] - '0', x, w, params, codes);
        return 2;
    } else {
        symmetric_32(name[1] - '0', x, w, params, codes);
    }
    return 1;
}

void reference_quantise(const char *name, int64_t cols, const float *x, const float *importance,
                        float *params, uint8_t *codes)
{
    const bool is_super =
        strchr(name, 'K') != NULL || strchr(name, 'X') == name + 4 || name[0] == 'T';
    const float sigma2 = square_sum(cols, x) / (float)cols;

    for (int64_t c = 0; c < cols; c += is_super ? 256 : 32) {
        const float *v = importance == NULL ? NULL : importance + c;
        if (is_super) {
            params += quantise_256(name, x + c, v, params, codes + c);
        } else {
            float w[32];
            if (v != NULL) {
                importance_weights(32, x + c, v, sigma2, w);
            }
            params += quantise_32(name, x + c, v, v == NULL ? NULL : w, params, codes + c);
        }
    }
}

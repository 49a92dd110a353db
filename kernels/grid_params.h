/* Small arithmetic that GGUF's grids share: inline, so that loops over it are vectors. */
#ifndef RP_KERNELS_GRID_PARAMS_H
#define RP_KERNELS_GRID_PARAMS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/clones.h"

/* The nearest fp16 value (ties to even). Below 2^-14 fp16 is a fixed point of 2^-24 steps, which is
 * the spacing of fp32 at 0.5. */
RP_INLINE float rp_nearest_f16(float v)
{
    const float magnitude = fabsf(v);
    float normal = magnitude;
    uint32_t bits = 0;

    memcpy(&bits, &magnitude, sizeof(bits));
    bits = (bits + 0xfffu + ((bits >> 13) & 1u)) & ~0x1fffu;
    memcpy(&normal, &bits, sizeof(bits));
    normal = magnitude < 65520.0f ? normal : magnitude * INFINITY; /* NaN stays */
    return copysignf(magnitude < 0x1p-14f ? (magnitude + 0.5f) - 0.5f : normal, v);
}

/* The nearest bf16 value (ties to even). */
RP_INLINE float rp_nearest_bf16(float v)
{
    float nearest = v;
    uint32_t bits = 0;

    memcpy(&bits, &v, sizeof(bits));
    bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
    memcpy(&nearest, &bits, sizeof(bits));
    return v == v ? nearest : v;
}

RP_INLINE float rp_inverse(float d)
{
    return d != 0.0f ? 1.0f / d : 0.0f;
}

/* As ggml rounds: 1.5 * 2^23 + v has the nearest integer (ties to even) in its low bits for
 * |v| < 2^22, and other bits beyond, which are kept, too. */
RP_INLINE int32_t rp_nearest_int(float v)
{
    const float sum = v + 12582912.0f;
    int32_t bits = 0;

    memcpy(&bits, &sum, sizeof(bits));
    return (bits & 0x7fffff) - 0x400000;
}

RP_INLINE int32_t rp_nearest_int_in(float v, int32_t lo, int32_t hi)
{
    int32_t l = rp_nearest_int(v);

    l = l > lo ? l : lo;
    return l < hi ? l : hi;
}

/* Magnitudes of floats order as their bits do, and a maximum of integers is a vector operation. */
RP_INLINE float rp_largest_magnitude(int64_t n, const float *x)
{
    int32_t largest = 0;
    float magnitude = 0.0f;

    RP_UNROLL(1)
    for (int64_t i = 0; i < n; i++) {
        int32_t bits = 0;
        memcpy(&bits, &x[i], sizeof(bits));
        bits &= INT32_MAX;
        largest = bits > largest ? bits : largest;
    }
    memcpy(&magnitude, &largest, sizeof(magnitude));
    return magnitude;
}

/* Within lo .. hi; NaN gives lo. */
RP_INLINE float rp_clamp(float v, float lo, float hi)
{
    v = v > lo ? v : lo;
    return v < hi ? v : hi;
}

#endif

/* Loops that the compiler turns into vectors, with the same bits on every processor.
 *
 * Element-wise loops under RP_CLONES give the same bits at any width, because contraction is off
 * and IEEE operations are exact functions. Sums over floats are not associative: they use the lanes
 * of rp_d8 and rp_f16 and the fixed reductions below. Maxima are associative and may use a simd
 * reduction. */
#ifndef RP_KERNELS_CPU_SIMD_H
#define RP_KERNELS_CPU_SIMD_H

#include "kernels/clones.h"

#include <stdint.h>
#include <string.h>

typedef double rp_d8 __attribute__((vector_size(64)));
typedef float rp_f16 __attribute__((vector_size(64)));
typedef float rp_f8_unaligned __attribute__((vector_size(32), aligned(4), may_alias));

/* The sum of eight lanes in one fixed order. */
RP_INLINE double rp_d8_sum(const rp_d8 *v)
{
    double lane[8];

    memcpy(lane, v, sizeof(lane));
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) +
           ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

/* The sum of sixteen lanes in one fixed order. */
RP_INLINE float rp_f16_sum(const rp_f16 *v)
{
    float lane[16];

    memcpy(lane, v, sizeof(lane));
    for (int half = 8; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            lane[i] += lane[i + half];
        }
    }
    return lane[0];
}

/* e^x with a relative error below 2e-7 for x in [-87.3, 88.3]; 0 below, NaN for NaN, the value at
 * 88.3 above. x = n ln 2 + r with n by the addition of 1.5 * 2^23, e^r by its Taylor series to r^7
 * (|r| <= 0.347: truncated at 6e-9), 2^n by its exponent bits. ln 2 is split so that n * hi is
 * exact. */
RP_INLINE float rp_exp_lane(float x)
{
    const float magic = 12582912.0F;
    const float held = x > 88.3F ? 88.3F : x;
    const float t = held * 1.44269504F + magic;
    const float n = t - magic;
    const float r = (held - n * 0.693145752F) - n * 1.42860677e-6F;
    uint32_t bits;
    float scale, p;

    memcpy(&bits, &t, sizeof(bits));
    bits = (bits + 127U) << 23; /* magic's own low bits are 0 where they are kept */
    memcpy(&scale, &bits, sizeof(scale));
    p = 1.0F / 720.0F + r * (1.0F / 5040.0F);
    p = 1.0F / 120.0F + r * p;
    p = 1.0F / 24.0F + r * p;
    p = 1.0F / 6.0F + r * p;
    p = 0.5F + r * p;
    p = 1.0F + (r + (r * r) * p);
    return x < -87.3F ? 0.0F : p * scale;
}

#endif

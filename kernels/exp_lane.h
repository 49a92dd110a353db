/* The exponential of gates and softmax: plain operations that vectorise, with the same bits on
 * every processor and GPU. */
#ifndef RP_KERNELS_EXP_LANE_H
#define RP_KERNELS_EXP_LANE_H

#include "kernels/clones.h"

#include <stdint.h>
#include <string.h>

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

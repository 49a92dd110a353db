/* MXFP4: value = d * level[code], levels E2M1 doubled, d = 2^(e - 128), e the stored byte. */
#ifndef RP_KERNELS_GRID_MXFP4_H
#define RP_KERNELS_GRID_MXFP4_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/clones.h"

#define RP_MXFP4_BLOCK 32
#define RP_MXFP4_NEGATIVE 8 /* added to the code of a magnitude that is not 0 */
#define RP_MXFP4_LEVELS                                                                            \
    {                                                                                              \
        0.0f, 1.0f, 2.0f, 3.0f, 4.0f, 6.0f, 8.0f, 12.0f, 0.0f, -1.0f, -2.0f, -3.0f, -4.0f, -6.0f,  \
            -8.0f, -12.0f,                                                                         \
    }

RP_INLINE float rp_mxfp4_level(int code)
{
    static const float levels[16] = RP_MXFP4_LEVELS;

    return levels[code];
}

/* d exact; top: the largest magnitude's code. A magnitude halfway takes the lower level. */
RP_INLINE uint8_t rp_mxfp4_code(float x, float d, int top)
{
    static const float bounds[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5.0f, 7.0f, 10.0f};
    const float magnitude = fabsf(x);
    int code = 0;

    for (int k = 0; k < 7; k++) {
        code += magnitude > bounds[k] * d ? 1 : 0;
    }
    code = code < top ? code : top;
    return (uint8_t)(x < 0.0f && code > 0 ? code + RP_MXFP4_NEGATIVE : code);
}

/* The integer at or below fp32's log2(v), which just below a power of two is that power's. In f64
 * and rounded it does not depend on the library. */
RP_INLINE int rp_mxfp4_log2(float v)
{
    uint32_t bits = 0;

    memcpy(&bits, &v, sizeof(bits));
    if (bits >= 0x00800000u && (bits & 0x7fffffu) < 0x7fff00u) {
        return (int)(bits >> 23) - 127;
    }
    return (int)floorf((float)log2((double)v));
}

/* ggml's byte, which wraps below 2^-125 as its conversion does. */
RP_INLINE uint8_t rp_mxfp4_exponent(float largest)
{
    return largest > 0.0f ? (uint8_t)(rp_mxfp4_log2(largest) - 2 + 127) : 0;
}

RP_INLINE float rp_mxfp4_scale(int exponent)
{
    return ldexpf(1.0f, exponent - 128);
}

/* Levels that overflow are never nearest: near fp32's largest numbers 8 d and 12 d do. */
RP_INLINE int rp_mxfp4_top(float d)
{
    return d < 0x1p125f ? 7 : 5;
}

/* The exponents that a fit tries: ggml's and its neighbours. */
RP_INLINE int rp_mxfp4_middle(float largest)
{
    return largest > 0x1p-120f ? (int)rp_mxfp4_exponent(largest) : 2;
}

#endif

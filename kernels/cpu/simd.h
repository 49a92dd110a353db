/* Loops that the compiler turns into vectors, with the same bits on every processor.
 *
 * Element-wise loops under RP_CLONES give the same bits at any width, because contraction is off
 * and IEEE operations are exact functions. Sums over floats are not associative: they use the lanes
 * of rp_d8 and rp_f16 and the fixed reductions below. Maxima are associative and may use a simd
 * reduction. */
#ifndef RP_KERNELS_CPU_SIMD_H
#define RP_KERNELS_CPU_SIMD_H

#include "kernels/clones.h"
#include "kernels/exp_lane.h"

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

#endif

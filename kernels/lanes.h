/* Sixteen values side by side, one a lane: how searches over many small groups become vectors.
 *
 * Each lane carries out a sequential computation of its own, so that its sums have the order of
 * that computation; branches become masks. Helpers take pointers: vectors of this width are not
 * passed by value alike on all processors. */
#ifndef RP_KERNELS_LANES_H
#define RP_KERNELS_LANES_H

#include "kernels/clones.h"

#include <stdbool.h>
#include <stdint.h>

#define RP_LANES 16

typedef float rp_lanes __attribute__((vector_size(RP_LANES * sizeof(float))));
typedef int32_t rp_lane_mask __attribute__((vector_size(RP_LANES * sizeof(float))));

/* a where the mask is set, else b. */
#define RP_SELECT(mask, a, b)                                                                      \
    ((rp_lanes)(((mask) & (rp_lane_mask)(a)) | (~(mask) & (rp_lane_mask)(b))))
#define RP_SELECT_INT(mask, a, b) (((mask) & (a)) | (~(mask) & (b)))
#define RP_MAGNITUDE(v) ((rp_lanes)((rp_lane_mask)(v)&INT32_MAX))

/* *v to the nearest integer, ties to even, within lo .. hi. As ggml rounds: 1.5 * 2^23 + v has the
 * integer in its low bits for |v| < 2^22, and other bits beyond, which are kept, too. */
RP_INLINE rp_lane_mask *rp_lanes_nearest(const rp_lanes *v, rp_lane_mask *out)
{
    *out = ((rp_lane_mask)(*v + 12582912.0f) & 0x7fffff) - 0x400000;
    return out;
}

RP_INLINE void rp_lanes_nearest_in(const rp_lanes *v, int lo, int hi, rp_lanes *out)
{
    const rp_lane_mask none = {0};
    rp_lane_mask l;

    rp_lanes_nearest(v, &l);
    l = RP_SELECT_INT(l < lo, none + lo, l);
    l = RP_SELECT_INT(l > hi, none + hi, l);
    *out = __builtin_convertvector(l, rp_lanes);
}

RP_INLINE bool rp_lanes_any(const rp_lane_mask *mask)
{
    int32_t any = 0;

    for (int k = 0; k < RP_LANES; k++) {
        any |= (*mask)[k];
    }
    return any != 0;
}

#endif

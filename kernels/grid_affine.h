/* The uniform integer grid; see grid_affine.c. */
#ifndef RP_KERNELS_GRID_AFFINE_H
#define RP_KERNELS_GRID_AFFINE_H

#include <math.h>

#include "kernels/grid.h"
#include "kernels/grid_params.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const rp_grid_ops rp_grid_affine;

#define RP_AFFINE_STEPS 80 /* ranges of the clipping search */

/* What the parameters depend on. */
typedef struct rp_affine {
    float top, zero_min;
    bool is_symmetric;
    rp_dtype scale_type;
} rp_affine;

RP_INLINE float rp_affine_stored(float scale, rp_dtype scale_type)
{
    if (scale_type == RP_F16) {
        return rp_nearest_f16(scale);
    }
    return scale_type == RP_BF16 ? rp_nearest_bf16(scale) : scale;
}

/* {scale, zero} of the range [low, high], which holds 0. */
RP_INLINE void rp_affine_range(const rp_affine *a, float low, float high, float *params)
{
    float scale = rp_affine_stored((high - low) / a->top, a->scale_type);
    float zero = (a->top + 1) / 2;

    if (!(scale > 1e-30f)) { /* all zero, or too small to be stored or inverted */
        scale = rp_affine_stored(6.103515625e-05f, a->scale_type);
    }
    if (isinf(scale)) {
        scale = 65504.0f;
    }
    if (!a->is_symmetric) {
        zero = rintf(-low / scale);
        zero = zero < a->zero_min ? a->zero_min : zero;
        zero = zero > a->top ? a->top : zero;
    }
    params[0] = scale;
    params[1] = zero;
}

/* The share of the range that step `step` of the clipping search tries. */
RP_INLINE float rp_affine_shrink(int step)
{
    return 1.0f - (float)step / 100.0f;
}

/* The code by the inverse of the scale: a division a value would take most of the time. */
RP_INLINE float rp_affine_code(float top, float inverse, float zero, float x)
{
    float q = rintf(x * inverse) + zero;

    q = q < 0 ? 0 : q;
    return q > top ? top : q;
}

#ifdef __cplusplus
}
#endif
#endif

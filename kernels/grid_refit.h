/* Integers that a refit of one sub-group tries, with d and dmin as they are stored: scale d s and
 * minimum dmin m, sixteen pairs at once (RP_CANDIDATES). What the processor's vectors and the GPU's
 * threads have in common. */
#ifndef RP_KERNELS_GRID_REFIT_H
#define RP_KERNELS_GRID_REFIT_H

#include <math.h>
#include <stdbool.h>

#include "kernels/grid_params.h"

typedef struct rp_pair {
    float s, m;
} rp_pair;

/* What the pairs depend on. */
typedef struct rp_refit {
    float d, dmin;
    bool has_min;
    float scale_lo, scale_hi, min_hi;
    float lowest, highest; /* levels */
} rp_refit;

/* Of x[n] with weights: sums of w and w x, the least of x and 0, the largest of x. */
typedef struct rp_refit_range {
    float w, x, min, max;
} rp_refit_range;

RP_INLINE float rp_rounded_ratio(float v, float d)
{
    return d != 0.0f ? (float)rp_nearest_int(rp_clamp(v / d, -256.0f, 256.0f)) : 0.0f;
}

RP_INLINE void rp_refit_range_start(float x0, rp_refit_range *r)
{
    r->w = r->x = r->min = 0.0f;
    r->max = x0;
}

RP_INLINE void rp_refit_range_add(float x, float w, rp_refit_range *r)
{
    r->min = x < r->min ? x : r->min;
    r->max = x > r->max ? x : r->max;
    r->w += w;
    r->x += w * x;
}

/* The inverse scale whose codes line_pair k fits. */
RP_INLINE float rp_line_inverse(const rp_refit *f, const rp_refit_range *r, int k)
{
    return (f->highest + 0.12f * ((float)k - 7.5f)) / (r->max - r->min);
}

/* Real scale and minimum of least squares for codes with weighted sums of l, l^2, l x. */
RP_INLINE rp_pair rp_line_pair(const rp_refit *f, const rp_refit_range *r, float l, float l2,
                               float lx)
{
    const float det = r->w * l2 - l * l;
    const float origin = det > 0.0f ? (l2 * r->x - l * lx) / det : r->min;
    rp_pair p;

    p.m = rp_clamp(rp_rounded_ratio(-origin, f->dmin), 0.0f, f->min_hi);
    const float shifted = lx + f->dmin * p.m * l;
    p.s = rp_rounded_ratio(l2 > 0.0f ? shifted / l2 : 0.0f, f->d);
    return p;
}

/* Scales that put the largest magnitude onto the outermost level or somewhat beyond, of its sign.
 */
RP_INLINE rp_pair rp_signed_pair(const rp_refit *f, float largest, float sign, int k)
{
    const float scale = sign * largest / fabsf(f->lowest);
    const rp_pair p = {rp_rounded_ratio((0.75f + 0.04f * (float)k) * scale, f->d), 0.0f};

    return p;
}

/* Four scales by four minima, from an offset to the best. */
RP_INLINE rp_pair rp_square_pair(rp_pair from, int ds, int dm, int k)
{
    const int row = k / 4;
    const rp_pair p = {from.s + (float)(ds + k % 4), from.m + (float)(dm + row)};

    return p;
}

/* Around the best: three scales by five minima, or sixteen scales. */
RP_INLINE rp_pair rp_near_pair(bool has_min, rp_pair best, int k)
{
    const int row = k / 3 % 5;
    const rp_pair p = {best.s + (float)(has_min ? k % 3 - 1 : k - 8),
                       best.m + (float)(has_min ? row - 2 : 0)};

    return p;
}

RP_INLINE rp_pair rp_bounded_pair(const rp_refit *f, rp_pair p)
{
    p.s = rp_clamp(p.s, f->scale_lo, f->scale_hi);
    p.m = rp_clamp(p.m, 0.0f, f->min_hi);
    return p;
}

/* Scales and minima of a pair: value = step * level - offset. */
RP_INLINE float rp_pair_step(const rp_refit *f, rp_pair p)
{
    return f->d * p.s;
}

RP_INLINE float rp_pair_offset(const rp_refit *f, rp_pair p)
{
    return f->has_min ? f->dmin * p.m : 0.0f;
}

#endif

#include "kernels/grid_search.h"

#include <math.h>
#include <string.h>

#include "kernels/grid_round.h"

const rp_search_steps rp_search_weighted_steps = {-0.9f, 0.05f, 36, false};

/* ---- Tiles ---- */

typedef float four __attribute__((vector_size(16)));

/* Values i .. i + 3 of sixteen sources, by transposing pieces of 4 x 4. */
RP_INLINE void gather4(const float *const *x, int64_t i, rp_lanes *out)
{
    for (int k = 0; k < RP_LANES; k += 4) {
        four a, b, c, d;
        memcpy(&a, x[k] + i, sizeof(a));
        memcpy(&b, x[k + 1] + i, sizeof(b));
        memcpy(&c, x[k + 2] + i, sizeof(c));
        memcpy(&d, x[k + 3] + i, sizeof(d));
        const four ab_lo = __builtin_shufflevector(a, b, 0, 4, 1, 5);
        const four ab_hi = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        const four cd_lo = __builtin_shufflevector(c, d, 0, 4, 1, 5);
        const four cd_hi = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        const four columns[4] = {
            __builtin_shufflevector(ab_lo, cd_lo, 0, 1, 4, 5),
            __builtin_shufflevector(ab_lo, cd_lo, 2, 3, 6, 7),
            __builtin_shufflevector(ab_hi, cd_hi, 0, 1, 4, 5),
            __builtin_shufflevector(ab_hi, cd_hi, 2, 3, 6, 7),
        };
        for (int j = 0; j < 4; j++) {
            memcpy((float *)&out[j] + k, &columns[j], sizeof(four));
        }
    }
}

/* GNU vectors have no square root; a loop over the lanes becomes one. */
RP_INLINE void square_root(rp_lanes *v)
{
    float lane[RP_LANES];

    memcpy(lane, v, sizeof(lane));
    for (int k = 0; k < RP_LANES; k++) {
        lane[k] = sqrtf(lane[k]);
    }
    memcpy(v, lane, sizeof(lane));
}

RP_CLONES void rp_search_squares(int64_t n, const float *const *x, rp_lanes *out)
{
    rp_lanes sum = {0};

    for (int64_t i = 0; i < n; i += 4) {
        rp_lanes v[4];
        gather4(x, i, v);
        for (int j = 0; j < 4; j++) {
            sum += v[j] * v[j];
        }
    }
    *out = sum;
}

RP_INLINE void weigh(rp_search_tile *t, rp_search_weight weight, const rp_lanes *sigma2)
{
    rp_lanes rms = {0};

    if (weight == RP_WEIGHT_RMS) {
        for (int i = 0; i < t->n; i++) {
            rms += t->x[i] * t->x[i];
        }
        rms /= (float)t->n;
        square_root(&rms);
    }
    for (int i = 0; i < t->n; i++) {
        const rp_lanes x = t->x[i];
        if (weight == RP_WEIGHT_SQUARE) {
            t->w[i] = x * x;
        } else if (weight == RP_WEIGHT_IMPORTANCE_SIGMA) {
            rp_lanes root = *sigma2 + x * x;
            square_root(&root);
            t->w[i] *= root;
        } else if (weight != RP_WEIGHT_IMPORTANCE) {
            t->w[i] = rms + RP_MAGNITUDE(x);
        }
    }
}

RP_CLONES void rp_search_load(rp_search_tile *tile, int n, const float *const *x,
                              const float *const *importance, rp_search_weight weight,
                              const rp_lanes *sigma2)
{
    const rp_lanes none = {0};

    tile->n = n;
    for (int i = 0; i < n; i += 4) {
        gather4(x, i, &tile->x[i]);
        for (int j = 0; j < 4 && importance == NULL; j++) {
            tile->w[i + j] = none + 1.0f;
        }
        if (importance != NULL) {
            gather4(importance, i, &tile->w[i]);
        }
    }
    weigh(tile, weight, sigma2);
}

RP_CLONES void rp_search_sum_weights(const rp_search_tile *tile, rp_lanes *out)
{
    rp_lanes sum = {0};

    for (int i = 0; i < tile->n; i++) {
        sum += tile->w[i];
    }
    *out = sum;
}

RP_INLINE void put_codes(const rp_lanes *v, uint8_t *out)
{
    for (int k = 0; k < RP_LANES; k++) {
        out[k] = (uint8_t)(int)(*v)[k];
    }
}

/* The first value of largest magnitude of each group. Returns the groups that are all zeros. */
RP_INLINE void signed_max(const rp_search_tile *t, rp_lanes *max, rp_lane_mask *is_zero)
{
    rp_lanes largest = {0};

    *max = largest;
    for (int i = 0; i < t->n; i++) {
        const rp_lanes magnitude = RP_MAGNITUDE(t->x[i]);
        const rp_lane_mask above = magnitude > largest;
        largest = RP_SELECT(above, magnitude, largest);
        *max = RP_SELECT(above, t->x[i], *max);
    }
    *is_zero = largest < RP_SEARCH_TINY;
}

/* ---- A scale ---- */

typedef struct scale_sums {
    rp_lanes lx, l2; /* weighted sums of l x and l^2 */
} scale_sums;

RP_INLINE void symmetric_sums(const rp_search_tile *t, const rp_lanes *inverse, int half,
                              scale_sums *sums)
{
    *sums = (scale_sums){{0}, {0}};
    for (int i = 0; i < t->n; i++) {
        const rp_lanes scaled = *inverse * t->x[i];
        rp_lanes l;
        rp_lanes_nearest_in(&scaled, -half, half - 1, &l);
        sums->lx += t->w[i] * t->x[i] * l;
        sums->l2 += t->w[i] * l * l;
    }
}

/* The inverse scale's sums against the best so far. */
RP_INLINE void keep_better(const scale_sums *sums, const rp_lanes *inverse, rp_lanes *best,
                           rp_lanes *best_inverse, rp_lanes *scale)
{
    const rp_lanes found = sums->lx / sums->l2;
    const rp_lane_mask better = (sums->l2 > 0.0f) & (sums->lx * sums->lx > *best * sums->l2);

    *scale = RP_SELECT(better, found, *scale);
    *best = RP_SELECT(better, found * sums->lx, *best);
    *best_inverse = RP_SELECT(better, *inverse, *best_inverse);
}

RP_CLONES static void search_symmetric(const rp_search_tile *tile, int half, rp_search_result *out)
{
    const rp_lanes none = {0};
    rp_lanes max, inverse, best, best_inverse, scale;
    rp_lane_mask is_zero;
    scale_sums sums;

    signed_max(tile, &max, &is_zero);
    best_inverse = (float)-half / max;
    symmetric_sums(tile, &best_inverse, half, &sums);
    scale = RP_SELECT(sums.l2 != 0.0f, sums.lx / sums.l2, none);
    best = scale * sums.lx;
    for (int step = -9; step <= 9; step++) {
        if (step != 0) {
            inverse = -((float)half + 0.1f * (float)step) / max;
            symmetric_sums(tile, &inverse, half, &sums);
            keep_better(&sums, &inverse, &best, &best_inverse, &scale);
        }
    }
    out->scale = RP_SELECT(is_zero, none, scale);
    out->min = none;
    for (int i = 0; i < tile->n; i++) {
        const rp_lanes scaled = best_inverse * tile->x[i];
        rp_lanes l;
        rp_lanes_nearest_in(&scaled, -half, half - 1, &l);
        l = RP_SELECT(is_zero, none, l + (float)half);
        put_codes(&l, out->code[i]);
    }
}

/* One pass over the values in order: each takes the code that is best with the others as they are.
 * Returns whether any changed. */
RP_INLINE bool descend(const rp_search_tile *t, int half, rp_lanes *code, scale_sums *sums)
{
    rp_lane_mask any = {0};

    for (int i = 0; i < t->n; i++) {
        const rp_lanes w = t->w[i];
        const rp_lanes wx = w * t->x[i];
        scale_sums s = {sums->lx - wx * code[i], sums->l2 - w * code[i] * code[i]};
        const rp_lanes wanted = t->x[i] * s.l2 / s.lx;
        rp_lane_mask take = s.lx > 0.0f;
        rp_lanes l;
        rp_lanes_nearest_in(&wanted, -half, half - 1, &l);
        take &= l != code[i];
        s.lx += wx * l;
        s.l2 += w * l * l;
        take &= (s.l2 > 0.0f) & (s.lx * s.lx * sums->l2 > sums->lx * sums->lx * s.l2);
        code[i] = RP_SELECT(take, l, code[i]);
        sums->lx = RP_SELECT(take, s.lx, sums->lx);
        sums->l2 = RP_SELECT(take, s.l2, sums->l2);
        any |= take;
    }
    return rp_lanes_any(&any);
}

#define DESCENT_PASSES 5

RP_CLONES static void search_descent(const rp_search_tile *tile, int half, rp_search_result *out)
{
    const rp_lanes none = {0};
    rp_lanes max, inverse;
    rp_lane_mask is_zero;
    rp_lanes code[RP_SEARCH_MAX];
    scale_sums sums = {{0}, {0}};

    signed_max(tile, &max, &is_zero);
    inverse = (float)-half / max;
    for (int i = 0; i < tile->n; i++) {
        const rp_lanes scaled = inverse * tile->x[i];
        rp_lanes_nearest_in(&scaled, -half, half - 1, &code[i]);
        sums.lx += tile->w[i] * tile->x[i] * code[i];
        sums.l2 += tile->w[i] * code[i] * code[i];
    }
    for (int pass = 0; pass < DESCENT_PASSES; pass++) {
        if (!descend(tile, half, code, &sums)) {
            break;
        }
    }
    out->scale = RP_SELECT((sums.l2 > 0.0f) & ~is_zero, sums.lx / sums.l2, none);
    out->min = none;
    for (int i = 0; i < tile->n; i++) {
        const rp_lanes l = RP_SELECT(is_zero, none, code[i] + (float)half);
        put_codes(&l, out->code[i]);
    }
}

/* *v to the nearest integer <= top, and the byte that ggml keeps of it. */
RP_INLINE void positive_code(const rp_lanes *v, int top, rp_lanes *l, rp_lanes *byte)
{
    const rp_lane_mask none = {0};
    rp_lane_mask q;

    rp_lanes_nearest(v, &q);
    q = RP_SELECT_INT(q > top, none + top, q);
    *l = __builtin_convertvector(q, rp_lanes);
    *byte = __builtin_convertvector(q & 255, rp_lanes);
}

/* Weighted squared error of an inverse scale's codes. ggml compares the first as bytes. */
RP_INLINE void positive_error(const rp_search_tile *t, const rp_lanes *inverse, bool is_first,
                              int top, rp_lanes *error)
{
    const rp_lanes scale = 1.0f / *inverse;

    *error = (rp_lanes){0};
    for (int i = 0; i < t->n; i++) {
        const rp_lanes scaled = *inverse * t->x[i];
        rp_lanes l, byte;
        positive_code(&scaled, is_first ? INT32_MAX : top, &l, &byte);
        const rp_lanes diff = t->x[i] - scale * (is_first ? byte : l);
        *error += t->w[i] * diff * diff;
    }
}

/* As descend(), for values >= 0. */
RP_INLINE bool descend_positive(const rp_search_tile *t, int top, rp_lanes *code, scale_sums *sums)
{
    rp_lane_mask any = {0};

    for (int i = 0; i < t->n; i++) {
        const rp_lanes w = t->w[i];
        const rp_lanes wx = w * t->x[i];
        scale_sums s = {sums->lx - wx * code[i], sums->l2 - w * code[i] * code[i]};
        const rp_lanes wanted = t->x[i] * s.l2 / s.lx;
        rp_lane_mask take = (s.lx > 0.0f) & (s.l2 > 0.0f);
        rp_lanes l, byte;
        positive_code(&wanted, top, &l, &byte);
        take &= l != code[i];
        s.lx += wx * l;
        s.l2 += w * l * l;
        take &= s.lx * s.lx * sums->l2 > sums->lx * sums->lx * s.l2;
        code[i] = RP_SELECT(take, byte, code[i]);
        sums->lx = RP_SELECT(take, s.lx, sums->lx);
        sums->l2 = RP_SELECT(take, s.l2, sums->l2);
        any |= take;
    }
    return rp_lanes_any(&any);
}

RP_INLINE void best_positive_inverse(const rp_search_tile *t, const rp_lanes *max, int top,
                                     rp_lanes *best_inverse)
{
    rp_lanes inverse, best, error;

    *best_inverse = (float)top / *max;
    positive_error(t, best_inverse, true, top, &best);
    for (int step = -4; step <= 4; step++) {
        if (step != 0) {
            inverse = (0.1f * (float)step + (float)top) / *max;
            positive_error(t, &inverse, false, top, &error);
            *best_inverse = RP_SELECT(error < best, inverse, *best_inverse);
            best = RP_SELECT(error < best, error, best);
        }
    }
}

RP_CLONES void rp_search_positive(const rp_search_tile *tile, int top, rp_search_result *out)
{
    const rp_lanes none = {0};
    rp_lanes max = none;
    rp_lanes inverse;
    rp_lanes code[RP_SEARCH_MAX];
    scale_sums sums = {{0}, {0}};

    for (int i = 0; i < tile->n; i++) {
        max = RP_SELECT(max > tile->x[i], max, tile->x[i]);
    }
    const rp_lane_mask is_zero = max < RP_SEARCH_TINY;
    best_positive_inverse(tile, &max, top, &inverse);
    for (int i = 0; i < tile->n; i++) {
        const rp_lanes scaled = inverse * tile->x[i];
        rp_lanes l;
        positive_code(&scaled, top, &l, &code[i]);
        sums.lx += tile->w[i] * tile->x[i] * l;
        sums.l2 += tile->w[i] * l * l;
    }
    for (int pass = 0; pass < DESCENT_PASSES; pass++) {
        if (!descend_positive(tile, top, code, &sums)) {
            break;
        }
    }
    out->scale = RP_SELECT((sums.l2 > 0.0f) & ~is_zero, sums.lx / sums.l2, none);
    out->min = none;
    for (int i = 0; i < tile->n; i++) {
        const rp_lanes l = RP_SELECT(is_zero, none, code[i]);
        put_codes(&l, out->code[i]);
    }
}

/* ---- A scale and a minimum ---- */

typedef struct line {
    rp_lanes scale, min;
} line;

typedef struct line_sums {
    rp_lanes w, x;      /* of all trials: sums of w, w x */
    rp_lanes l, l2, lx; /* of one trial's codes, weighted */
} line_sums;

RP_INLINE void line_codes(const rp_search_tile *t, const rp_lanes *inverse, const rp_lanes *min,
                          int top, rp_lanes *code, line_sums *sums)
{
    const rp_lanes none = {0};

    sums->l = sums->l2 = sums->lx = none;
    for (int i = 0; i < t->n; i++) {
        const rp_lanes scaled = *inverse * (t->x[i] - *min);
        rp_lanes_nearest_in(&scaled, 0, top, &code[i]);
        const rp_lanes wl = t->w[i] * code[i];
        sums->l += wl;
        sums->l2 += wl * code[i];
        sums->lx += wl * t->x[i];
    }
}

RP_INLINE void line_error(const rp_search_tile *t, const line *at, const rp_lanes *code,
                          bool absolute, rp_lanes *error)
{
    *error = (rp_lanes){0};
    for (int i = 0; i < t->n; i++) {
        const rp_lanes diff = at->scale * code[i] + at->min - t->x[i];
        *error += t->w[i] * (absolute ? RP_MAGNITUDE(diff) : diff * diff);
    }
}

/* Least squares for the codes that gave the sums, the minimum never above 0. */
RP_INLINE void line_fit(const line_sums *s, const rp_lanes *det, line *fit)
{
    const rp_lanes none = {0};

    fit->scale = (s->w * s->lx - s->x * s->l) / *det;
    fit->min = (s->l2 * s->x - s->l * s->lx) / *det;
    const rp_lane_mask above = fit->min > 0.0f;
    fit->scale = RP_SELECT(above, s->lx / s->l2, fit->scale);
    fit->min = RP_SELECT(above, none, fit->min);
}

RP_INLINE void line_start(const rp_search_tile *t, rp_lanes *min, rp_lanes *max, line_sums *sums)
{
    const rp_lanes none = {0};

    *min = *max = t->x[0];
    sums->w = t->w[0];
    sums->x = t->w[0] * t->x[0];
    for (int i = 1; i < t->n; i++) {
        *min = RP_SELECT(t->x[i] < *min, t->x[i], *min);
        *max = RP_SELECT(t->x[i] > *max, t->x[i], *max);
        sums->w += t->w[i];
        sums->x += t->w[i] * t->x[i];
    }
    *min = RP_SELECT(*min > 0.0f, none, *min);
}

/* The minimum that a winner found is the origin of the next trials' codes. */
RP_CLONES static void search_min(const rp_search_tile *tile, int top, const rp_search_steps *steps,
                                 rp_search_result *out)
{
    const rp_lanes none = {0};
    rp_lanes max, inverse, best, best_inverse, best_origin, error;
    rp_lanes code[RP_SEARCH_MAX];
    line_sums sums;
    line at, trial;

    line_start(tile, &at.min, &max, &sums);
    const rp_lane_mask is_flat = max <= at.min;
    best_origin = at.min;
    best_inverse = (float)top / (max - at.min);
    at.scale = 1.0f / best_inverse;
    line_codes(tile, &best_inverse, &at.min, top, code, &sums);
    line_error(tile, &at, code, steps->absolute, &best);
    for (int step = 0; step <= steps->last; step++) {
        inverse = (steps->first + steps->step * (float)step + (float)top) / (max - at.min);
        line_codes(tile, &inverse, &at.min, top, code, &sums);
        const rp_lanes det = sums.w * sums.l2 - sums.l * sums.l;
        line_fit(&sums, &det, &trial);
        line_error(tile, &trial, code, steps->absolute, &error);
        const rp_lane_mask better = (det > 0.0f) & (error < best) & ~is_flat;
        best = RP_SELECT(better, error, best);
        best_inverse = RP_SELECT(better, inverse, best_inverse);
        best_origin = RP_SELECT(better, at.min, best_origin);
        at.scale = RP_SELECT(better, trial.scale, at.scale);
        at.min = RP_SELECT(better, trial.min, at.min);
    }
    out->scale = RP_SELECT(is_flat, none, at.scale);
    out->min = at.min;
    for (int i = 0; i < tile->n; i++) {
        const rp_lanes scaled = best_inverse * (tile->x[i] - best_origin);
        rp_lanes l;
        rp_lanes_nearest_in(&scaled, 0, top, &l);
        l = RP_SELECT(is_flat, none, l);
        put_codes(&l, out->code[i]);
    }
}

/* ---- Levels that are not uniform ---- */

RP_INLINE void level_sums(const rp_search_tile *t, const rp_lanes *inverse, scale_sums *sums)
{
    *sums = (scale_sums){{0}, {0}};
    for (int i = 0; i < t->n; i++) {
        const rp_lanes scaled = *inverse * t->x[i];
        rp_lanes level;
        rp_lanes_nearest_iq4(&scaled, &level);
        const rp_lanes wl = t->w[i] * level;
        sums->lx += wl * t->x[i];
        sums->l2 += wl * level;
    }
}

RP_CLONES static void search_levels(const rp_search_tile *tile, rp_search_result *out)
{
    const rp_lanes none = {0};
    rp_lanes max, inverse, best, best_inverse, scale;
    rp_lane_mask is_zero;
    scale_sums sums;

    signed_max(tile, &max, &is_zero);
    best_inverse = 1.0f / (-max / rp_iq4_levels[0]);
    level_sums(tile, &best_inverse, &sums);
    scale = RP_SELECT(sums.l2 > 0.0f, sums.lx / sums.l2, none);
    best = scale * sums.lx;
    for (int step = -7; step <= 7; step++) {
        inverse = ((float)step + rp_iq4_levels[0]) / max;
        level_sums(tile, &inverse, &sums);
        keep_better(&sums, &inverse, &best, &best_inverse, &scale);
    }
    out->scale = RP_SELECT(is_zero, none, scale);
    out->min = none;
    memset(out->code, 0, sizeof(out->code));
}

void rp_search_run(rp_search_kind kind, const rp_search_tile *tile, int top,
                   const rp_search_steps *steps, rp_search_result *out)
{
    switch (kind) {
    case RP_SEARCH_SYMMETRIC:
        search_symmetric(tile, (top + 1) / 2, out);
        break;
    case RP_SEARCH_DESCENT:
        search_descent(tile, (top + 1) / 2, out);
        break;
    case RP_SEARCH_MIN:
        search_min(tile, top, steps, out);
        break;
    case RP_SEARCH_LEVELS:
        search_levels(tile, out);
        break;
    }
}

/* The searches of grid_search.h for one width of vectors, with LANES defined: included by
 * grid_search_tiles.h for every kind of processor, and with one lane by what runs on GPUs. */
#include <math.h>
#include <stddef.h>

#include "kernels/grid_round.h"
#include "kernels/grid_search.h"
#include "kernels/lanes.h"

#ifndef RP_KERNELS_GRID_SEARCH_LANES_H
#define RP_KERNELS_GRID_SEARCH_LANES_H
#define DESCENT_PASSES 5
typedef enum symmetric_reach { REACH_ANY, REACH_FINITE, REACH_INSIDE } symmetric_reach;
#endif

#if LANES == 1 /* tiles of one group */
#define TILE LANES_NAME(tile)
#define RESULT LANES_NAME(result)
typedef struct TILE {
    int n, ngroups;
    float x[RP_SEARCH_MAX][1], w[RP_SEARCH_MAX][1];
} TILE;
typedef struct RESULT {
    float scale[1], min[1];
    uint8_t code[RP_SEARCH_MAX][1];
} RESULT;
#define SYMMETRIC_ABREAST 1
#else
#define TILE rp_search_tile
#define RESULT rp_search_result
#define SYMMETRIC_ABREAST 2 /* vectors of groups side by side, so that their operations overlap */
#endif

#define LOAD(row, at) (*(const VEC *)(const void *)&(row)[at])
#define STORE(row, at, v) (*(VEC *)(void *)&(row)[at] = (v))

/* ---- A scale ---- */

typedef struct LANES_NAME(scale_sums) {
    VEC lx, l2; /* weighted sums of l x and l^2 */
} LANES_NAME(scale_sums);
#define SCALE_SUMS LANES_NAME(scale_sums)

/* One vector of groups: values, weights, and their products. */
typedef struct LANES_NAME(part) {
    VEC x[RP_SEARCH_MAX], w[RP_SEARCH_MAX], wx[RP_SEARCH_MAX];
    VEC max; /* the first value of largest magnitude */
    MASK is_zero;
} LANES_NAME(part);
#define PART LANES_NAME(part)

RP_INLINE void LANES_NAME(load_part)(const TILE *t, int n, int at, PART *p)
{
    VEC largest = ALL_OF(0.0f);

    p->max = largest;
    for (int i = 0; i < n; i++) {
        p->x[i] = LOAD(t->x[i], at);
        p->w[i] = LOAD(t->w[i], at);
        p->wx[i] = p->w[i] * p->x[i];
        const VEC magnitude = LANES_NAME(magnitude)(p->x[i]);
        const MASK above = LESS(largest, magnitude);
        largest = SELECT(above, magnitude, largest);
        p->max = SELECT(above, p->x[i], p->max);
    }
    p->is_zero = LESS(largest, ALL_OF(RP_SEARCH_TINY));
}

RP_INLINE void LANES_NAME(put_codes)(RESULT *out, int i, int at, VEC v)
{
    for (int k = 0; k < LANES; k++) {
        out->code[i][at + k] = (uint8_t)(int)LANE(v, k);
    }
}

/* What is known of inverse * x: nothing, that it is far below 2^22, or below centre + 0.5. */
RP_INLINE VEC LANES_NAME(symmetric_code)(VEC v, float centre, symmetric_reach reach)
{
    if (reach == REACH_INSIDE) {
        return MIN_OF((v + MAGIC) - MAGIC, ALL_OF(centre - 1.0f));
    }
    return reach == REACH_FINITE ? LANES_NAME(nearest_in)(v, -centre, centre - 1.0f)
                                 : LANES_NAME(any_nearest_in)(v, -centre, centre - 1.0f);
}

RP_INLINE void LANES_NAME(symmetric_sums)(const PART *p, int abreast, int n, const VEC *inverse,
                                          float centre, symmetric_reach reach, SCALE_SUMS *out)
{
    SCALE_SUMS s[SYMMETRIC_ABREAST];

    for (int k = 0; k < abreast; k++) {
        s[k] = (SCALE_SUMS){ALL_OF(0.0f), ALL_OF(0.0f)};
    }
    RP_UNROLL(2)
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < abreast; k++) {
            const VEC l = LANES_NAME(symmetric_code)(inverse[k] * p[k].x[i], centre, reach);
            s[k].lx += p[k].wx[i] * l;
            s[k].l2 += p[k].w[i] * l * l;
        }
    }
    for (int k = 0; k < abreast; k++) {
        out[k] = s[k];
    }
}

typedef struct LANES_NAME(best_scale) {
    VEC scale, inverse, score;
} LANES_NAME(best_scale);
#define BEST_SCALE LANES_NAME(best_scale)

/* The sums of an inverse scale against the best so far. */
RP_INLINE void LANES_NAME(keep_better)(SCALE_SUMS s, VEC inverse, BEST_SCALE *best)
{
    const VEC found = s.lx / s.l2;
    const VEC bound = SELECT(LESS(ALL_OF(0.0f), s.l2), best->score * s.l2, ALL_OF(INFINITY));
    const MASK better = LESS(bound, s.lx * s.lx);

    best->scale = SELECT(better, found, best->scale);
    best->score = SELECT(better, found * s.lx, best->score);
    best->inverse = SELECT(better, inverse, best->inverse);
}

RP_INLINE void LANES_NAME(put_symmetric)(const PART *p, int n, int at, float centre,
                                         symmetric_reach reach, const BEST_SCALE *best, RESULT *out)
{
    const VEC none = ALL_OF(0.0f);

    STORE(out->scale, at, SELECT(p->is_zero, none, best->scale));
    STORE(out->min, at, none);
    for (int i = 0; i < n; i++) {
        const VEC l = LANES_NAME(symmetric_code)(best->inverse * p->x[i], centre, reach);
        LANES_NAME(put_codes)(out, i, at, SELECT(p->is_zero, none, l + centre));
    }
}

/* Inverse scales from step `first` to `last`. */
RP_INLINE void LANES_NAME(symmetric_steps)(const PART *p, int abreast, int n, float centre,
                                           symmetric_reach reach, int first, int last,
                                           BEST_SCALE *best)
{
    VEC inverse[SYMMETRIC_ABREAST];
    SCALE_SUMS s[SYMMETRIC_ABREAST];

    for (int step = first; step <= last; step++) {
        for (int k = 0; k < abreast; k++) {
            inverse[k] = -(centre + 0.1f * (float)step) / p[k].max;
        }
        LANES_NAME(symmetric_sums)(p, abreast, n, inverse, centre, reach, s);
        for (int k = 0; k < abreast; k++) {
            LANES_NAME(keep_better)(s[k], inverse[k], &best[k]);
        }
    }
}

/* `abreast` vectors of groups, so that their sums overlap. */
RP_INLINE void LANES_NAME(symmetric_parts)(const TILE *t, int n, int at, int abreast, float centre,
                                           symmetric_reach reach, RESULT *out)
{
    PART p[SYMMETRIC_ABREAST];
    BEST_SCALE best[SYMMETRIC_ABREAST];
    VEC inverse[SYMMETRIC_ABREAST];
    SCALE_SUMS s[SYMMETRIC_ABREAST];

    for (int k = 0; k < abreast; k++) {
        LANES_NAME(load_part)(t, n, at + k * LANES, &p[k]);
        inverse[k] = -centre / p[k].max;
    }
    LANES_NAME(symmetric_sums)(p, abreast, n, inverse, centre, reach, s);
    for (int k = 0; k < abreast; k++) {
        const VEC none = ALL_OF(0.0f);
        best[k].inverse = inverse[k];
        best[k].scale = SELECT(DIFFER(s[k].l2, none), s[k].lx / s[k].l2, none);
        best[k].score = best[k].scale * s[k].lx;
    }
    const symmetric_reach inner = reach == REACH_FINITE ? REACH_INSIDE : reach;
    LANES_NAME(symmetric_steps)(p, abreast, n, centre, inner, -9, -1, best);
    LANES_NAME(symmetric_steps)(p, abreast, n, centre, inner, 1, 4, best);
    LANES_NAME(symmetric_steps)(p, abreast, n, centre, reach, 5, 9, best);
    for (int k = 0; k < abreast; k++) {
        LANES_NAME(put_symmetric)(&p[k], n, at + k * LANES, centre, reach, &best[k], out);
    }
}

static inline RP_HOST_DEVICE void LANES_NAME(search_symmetric)(const TILE *t, int centre,
                                                               bool is_finite, RESULT *out)
{
    enum { ABREAST = SYMMETRIC_ABREAST, STEP = ABREAST * LANES };
    const int pairs = t->ngroups / STEP * STEP;

    for (int at = 0; at < pairs && is_finite; at += STEP) {
        if (t->n == 16) {
            LANES_NAME(symmetric_parts)(t, 16, at, ABREAST, (float)centre, REACH_FINITE, out);
        } else {
            LANES_NAME(symmetric_parts)(t, t->n, at, ABREAST, (float)centre, REACH_FINITE, out);
        }
    }
    for (int at = is_finite ? pairs : 0; at < t->ngroups; at += LANES) {
        LANES_NAME(symmetric_parts)
        (t, t->n, at, 1, (float)centre, is_finite ? REACH_FINITE : REACH_ANY, out);
    }
}

/* ---- Coordinate descent ---- */

typedef struct LANES_NAME(descent) {
    PART p;
    VEC code[RP_SEARCH_MAX];
    SCALE_SUMS s;
    MASK any;
} LANES_NAME(descent);
#define DESCENT LANES_NAME(descent)

/* Value i takes the code that is best with the others as they are. positive: ggml's variant for
 * values >= 0, which keeps codes as bytes. */
RP_INLINE void LANES_NAME(descend)(DESCENT *d, int i, float lo, float hi, bool positive)
{
    const VEC none = ALL_OF(0.0f);
    const VEC w = d->p.w[i];
    const VEC wx = d->p.wx[i];
    const VEC code = d->code[i];
    const VEC lx = d->s.lx - wx * code;
    const VEC l2 = d->s.l2 - w * code * code;
    const VEC rounded = LANES_NAME(nearest)(d->p.x[i] * l2 / lx);
    const VEC l = MIN_OF(positive ? rounded : MAX_OF(rounded, ALL_OF(lo)), ALL_OF(hi));
    const VEC new_lx = lx + wx * l;
    const VEC new_l2 = l2 + w * l * l;
    const MASK valid = LESS(none, lx) & LESS(none, positive ? l2 : new_l2) & DIFFER(l, code);
    const MASK take = valid & LESS(d->s.lx * d->s.lx * new_l2, new_lx * new_lx * d->s.l2);

    d->code[i] = SELECT(take, positive ? LANES_NAME(byte_of)(l) : l, code);
    d->s.lx = SELECT(take, new_lx, d->s.lx);
    d->s.l2 = SELECT(take, new_l2, d->s.l2);
    d->any |= take;
}

/* Up to `passes` over the values of `abreast` vectors of groups. */
RP_INLINE void LANES_NAME(descend_all)(DESCENT *d, int passes, int abreast, int n, float lo,
                                       float hi, bool positive)
{
    bool changed = true;

    for (int pass = 0; pass < passes && changed; pass++) {
        for (int k = 0; k < abreast; k++) {
            d[k].any = LESS(d[k].s.l2, d[k].s.l2); /* none */
        }
        for (int i = 0; i < n; i++) {
            for (int k = 0; k < abreast; k++) {
                LANES_NAME(descend)(&d[k], i, lo, hi, positive);
            }
        }
        changed = false;
        for (int k = 0; k < abreast; k++) {
            changed |= LANES_NAME(any)(d[k].any);
        }
    }
}

RP_INLINE VEC LANES_NAME(descent_scale)(const DESCENT *d)
{
    const VEC scale = SELECT(LESS(ALL_OF(0.0f), d->s.l2), d->s.lx / d->s.l2, ALL_OF(0.0f));

    return SELECT(d->p.is_zero, ALL_OF(0.0f), scale);
}

RP_INLINE void LANES_NAME(start_descent)(const TILE *t, int n, int at, float centre, DESCENT *d)
{
    LANES_NAME(load_part)(t, n, at, &d->p);
    d->s = (SCALE_SUMS){ALL_OF(0.0f), ALL_OF(0.0f)};
    const VEC inverse = -centre / d->p.max;
    for (int i = 0; i < n; i++) {
        d->code[i] = LANES_NAME(nearest_in)(inverse * d->p.x[i], -centre, centre - 1.0f);
        d->s.lx += d->p.wx[i] * d->code[i];
        d->s.l2 += d->p.w[i] * d->code[i] * d->code[i];
    }
}

RP_INLINE void LANES_NAME(put_descent)(const DESCENT *d, int n, int at, float centre, RESULT *out)
{
    STORE(out->scale, at, LANES_NAME(descent_scale)(d));
    STORE(out->min, at, ALL_OF(0.0f));
    for (int i = 0; i < n; i++) {
        LANES_NAME(put_codes)
        (out, i, at, SELECT(d->p.is_zero, ALL_OF(0.0f), d->code[i] + centre));
    }
}

/* ---- Values >= 0 ---- */

/* The nearest integer <= top. */
RP_INLINE VEC LANES_NAME(positive_code)(VEC v, float top)
{
    return MIN_OF(LANES_NAME(nearest)(v), ALL_OF(top));
}

/* Weighted squared error of an inverse scale's codes. ggml compares the first as bytes. */
RP_INLINE VEC LANES_NAME(positive_error)(const PART *p, int n, VEC inverse, bool is_first,
                                         float top)
{
    const VEC scale = 1.0f / inverse;
    VEC error = ALL_OF(0.0f);

    for (int i = 0; i < n; i++) {
        const VEC scaled = inverse * p->x[i];
        const VEC l = is_first ? LANES_NAME(byte_of)(LANES_NAME(nearest)(scaled))
                               : LANES_NAME(positive_code)(scaled, top);
        const VEC diff = p->x[i] - scale * l;
        error += p->w[i] * diff * diff;
    }
    return error;
}

RP_INLINE VEC LANES_NAME(best_positive)(const PART *p, int n, VEC max, float top)
{
    VEC best_inverse = top / max;
    VEC best = LANES_NAME(positive_error)(p, n, best_inverse, true, top);

    for (int step = -4; step <= 4; step++) {
        if (step != 0) {
            const VEC inverse = (0.1f * (float)step + top) / max;
            const VEC error = LANES_NAME(positive_error)(p, n, inverse, false, top);
            const MASK better = LESS(error, best);
            best_inverse = SELECT(better, inverse, best_inverse);
            best = SELECT(better, error, best);
        }
    }
    return best_inverse;
}

static inline RP_HOST_DEVICE void LANES_NAME(search_positive)(const TILE *t, int top, RESULT *out)
{
    for (int at = 0; at < t->ngroups; at += LANES) {
        DESCENT d;
        VEC max = ALL_OF(0.0f);
        LANES_NAME(load_part)(t, t->n, at, &d.p);
        for (int i = 0; i < t->n; i++) {
            max = SELECT(LESS(d.p.x[i], max), max, d.p.x[i]);
        }
        d.p.is_zero = LESS(max, ALL_OF(RP_SEARCH_TINY));
        const VEC inverse = LANES_NAME(best_positive)(&d.p, t->n, max, (float)top);
        d.s = (SCALE_SUMS){ALL_OF(0.0f), ALL_OF(0.0f)};
        for (int i = 0; i < t->n; i++) {
            const VEC l = LANES_NAME(positive_code)(inverse * d.p.x[i], (float)top);
            d.code[i] = LANES_NAME(byte_of)(l);
            d.s.lx += d.p.wx[i] * l;
            d.s.l2 += d.p.w[i] * l * l;
        }
        LANES_NAME(descend_all)(&d, DESCENT_PASSES, 1, t->n, 0.0f, (float)top, true);
        STORE(out->scale, at, LANES_NAME(descent_scale)(&d));
        STORE(out->min, at, ALL_OF(0.0f));
        for (int i = 0; i < t->n; i++) {
            LANES_NAME(put_codes)(out, i, at, SELECT(d.p.is_zero, ALL_OF(0.0f), d.code[i]));
        }
    }
}

/* ---- A scale and a minimum ---- */

typedef struct LANES_NAME(line) {
    VEC scale, min;
} LANES_NAME(line);
#define LINE LANES_NAME(line)

typedef struct LANES_NAME(line_sums) {
    VEC w, x;      /* of all trials: sums of w, w x */
    VEC l, l2, lx; /* of one trial's codes, weighted */
} LANES_NAME(line_sums);
#define LINE_SUMS LANES_NAME(line_sums)

/* What is constant in the search for one vector of groups. */
typedef struct LANES_NAME(line_part) {
    const TILE *t;
    int n, at;
    float top;
    bool absolute;
    VEC lowest, highest; /* of the values */
} LANES_NAME(line_part);
#define LINE_PART LANES_NAME(line_part)

RP_INLINE void LANES_NAME(line_codes)(const LINE_PART *p, VEC inverse, VEC min, bool is_finite,
                                      VEC *code, LINE_SUMS *sums)
{
    VEC sum_l = ALL_OF(0.0f);
    VEC sum_l2 = sum_l;
    VEC sum_lx = sum_l;

    for (int i = 0; i < p->n; i++) {
        const VEC x = LOAD(p->t->x[i], p->at);
        const VEC v = inverse * (x - min);
        code[i] = is_finite ? LANES_NAME(nearest_in)(v, 0.0f, p->top)
                            : LANES_NAME(any_nearest_in)(v, 0.0f, p->top);
        const VEC wl = LOAD(p->t->w[i], p->at) * code[i];
        sum_l += wl;
        sum_l2 += wl * code[i];
        sum_lx += wl * x;
    }
    sums->l = sum_l;
    sums->l2 = sum_l2;
    sums->lx = sum_lx;
}

/* Whether the scaled values are below 2^22, where rounding is simple: all but always. */
RP_INLINE bool LANES_NAME(is_simple)(const LINE_PART *p, VEC inverse, VEC min, MASK is_flat)
{
    const VEC low = LANES_NAME(magnitude)(p->lowest - min);
    const VEC high = LANES_NAME(magnitude)(p->highest - min);
    const VEC bound =
        SELECT(is_flat, ALL_OF(0.0f), LANES_NAME(magnitude)(inverse) * MAX_OF(low, high));
    const VEC beyond = SELECT(LESS(bound, ALL_OF(0x1p21f)), ALL_OF(0.0f), ALL_OF(1.0f));

    return !LANES_NAME(any)(DIFFER(beyond, ALL_OF(0.0f)));
}

RP_INLINE VEC LANES_NAME(line_error)(const LINE_PART *p, LINE at, const VEC *code)
{
    VEC error = ALL_OF(0.0f);

    for (int i = 0; i < p->n; i++) {
        const VEC diff = at.scale * code[i] + at.min - LOAD(p->t->x[i], p->at);
        const VEC size = LANES_NAME(magnitude)(diff);
        const VEC square = diff * diff;
        error += LOAD(p->t->w[i], p->at) * (p->absolute ? size : square);
    }
    return error;
}

/* Least squares for the codes that gave the sums, the minimum never above 0. */
RP_INLINE LINE LANES_NAME(line_fit)(const LINE_SUMS *s, VEC det)
{
    const VEC scale = (s->w * s->lx - s->x * s->l) / det;
    const VEC min = (s->l2 * s->x - s->l * s->lx) / det;
    const MASK above = LESS(ALL_OF(0.0f), min);
    const LINE fit = {SELECT(above, s->lx / s->l2, scale), SELECT(above, ALL_OF(0.0f), min)};

    return fit;
}

RP_INLINE void LANES_NAME(line_start)(LINE_PART *p, LINE_SUMS *sums)
{
    const VEC first = LOAD(p->t->x[0], p->at);

    p->lowest = p->highest = first;
    sums->w = LOAD(p->t->w[0], p->at);
    sums->x = sums->w * first;
    for (int i = 1; i < p->n; i++) {
        const VEC x = LOAD(p->t->x[i], p->at);
        const VEC w = LOAD(p->t->w[i], p->at);
        p->lowest = MIN_OF(x, p->lowest);
        p->highest = MAX_OF(x, p->highest);
        sums->w += w;
        sums->x += w * x;
    }
}

RP_INLINE void LANES_NAME(line_trial)(const LINE_PART *p, VEC inverse, VEC min, MASK is_flat,
                                      VEC *code, LINE_SUMS *sums)
{
    if (LANES_NAME(is_simple)(p, inverse, min, is_flat)) {
        LANES_NAME(line_codes)(p, inverse, min, true, code, sums);
    } else {
        LANES_NAME(line_codes)(p, inverse, min, false, code, sums);
    }
}

/* The minimum that a winner found is the origin of the next trials' codes. */
RP_INLINE void LANES_NAME(min_part)(LINE_PART *p, const rp_search_steps *steps, RESULT *out)
{
    VEC code[RP_SEARCH_MAX];
    LINE_SUMS sums;
    LINE at;

    LANES_NAME(line_start)(p, &sums);
    at.min = SELECT(LESS(ALL_OF(0.0f), p->lowest), ALL_OF(0.0f), p->lowest);
    const MASK is_flat = AT_MOST(p->highest, at.min);
    VEC best_origin = at.min;
    VEC best_inverse = p->top / (p->highest - at.min);
    at.scale = 1.0f / best_inverse;
    LANES_NAME(line_trial)(p, best_inverse, at.min, is_flat, code, &sums);
    VEC best = LANES_NAME(line_error)(p, at, code);
    best = SELECT(is_flat, ALL_OF(-INFINITY), best);
    for (int step = 0; step <= steps->last; step++) {
        const VEC inverse =
            (steps->first + steps->step * (float)step + p->top) / (p->highest - at.min);
        LANES_NAME(line_trial)(p, inverse, at.min, is_flat, code, &sums);
        const VEC det = sums.w * sums.l2 - sums.l * sums.l;
        const LINE trial = LANES_NAME(line_fit)(&sums, det);
        VEC error = LANES_NAME(line_error)(p, trial, code);
        error = SELECT(LESS(ALL_OF(0.0f), det), error, ALL_OF(INFINITY));
        const MASK better = LESS(error, best);
        best = SELECT(better, error, best);
        best_inverse = SELECT(better, inverse, best_inverse);
        best_origin = SELECT(better, at.min, best_origin);
        at.scale = SELECT(better, trial.scale, at.scale);
        at.min = SELECT(better, trial.min, at.min);
    }
    STORE(out->scale, p->at, SELECT(is_flat, ALL_OF(0.0f), at.scale));
    STORE(out->min, p->at, at.min);
    for (int i = 0; i < p->n; i++) {
        const VEC v = best_inverse * (LOAD(p->t->x[i], p->at) - best_origin);
        const VEC l = LANES_NAME(any_nearest_in)(v, 0.0f, p->top);
        LANES_NAME(put_codes)(out, i, p->at, SELECT(is_flat, ALL_OF(0.0f), l));
    }
}

static inline RP_HOST_DEVICE void LANES_NAME(search_min)(const TILE *t, int top,
                                                         const rp_search_steps *steps, RESULT *out)
{
    for (int at = 0; at < t->ngroups; at += LANES) {
        LINE_PART p;
        p.t = t;
        p.n = t->n;
        p.at = at;
        p.top = (float)top;
        if (steps->absolute) {
            p.absolute = true;
            LANES_NAME(min_part)(&p, steps, out);
        } else {
            p.absolute = false;
            LANES_NAME(min_part)(&p, steps, out);
        }
    }
}

/* ---- Levels that are not uniform ---- */

/* The nearest level; NaN gives the last, as in ggml. */
RP_INLINE VEC LANES_NAME(nearest_iq4)(VEC v)
{
    VEC level = ALL_OF(rp_iq4_level(0));

    for (int k = 0; k < 15; k++) {
        const VEC up = level + (rp_iq4_level(k + 1) - rp_iq4_level(k));
        level = SELECT(LESS(v, ALL_OF(rp_iq4_bound(k))), level, up);
    }
    return level;
}

RP_INLINE SCALE_SUMS LANES_NAME(level_sums)(const PART *p, int n, VEC inverse)
{
    SCALE_SUMS s = {ALL_OF(0.0f), ALL_OF(0.0f)};

    for (int i = 0; i < n; i++) {
        const VEC level = LANES_NAME(nearest_iq4)(inverse * p->x[i]);
        const VEC wl = p->w[i] * level;
        s.lx += wl * p->x[i];
        s.l2 += wl * level;
    }
    return s;
}

static inline RP_HOST_DEVICE void LANES_NAME(search_levels)(const TILE *t, RESULT *out)
{
    for (int at = 0; at < t->ngroups; at += LANES) {
        PART p;
        BEST_SCALE best;
        LANES_NAME(load_part)(t, t->n, at, &p);
        best.inverse = 1.0f / (-p.max / rp_iq4_level(0));
        const SCALE_SUMS first = LANES_NAME(level_sums)(&p, t->n, best.inverse);
        best.scale = SELECT(LESS(ALL_OF(0.0f), first.l2), first.lx / first.l2, ALL_OF(0.0f));
        best.score = best.scale * first.lx;
        for (int step = -7; step <= 7; step++) {
            const VEC inverse = ((float)step + rp_iq4_level(0)) / p.max;
            LANES_NAME(keep_better)(LANES_NAME(level_sums)(&p, t->n, inverse), inverse, &best);
        }
        STORE(out->scale, at, SELECT(p.is_zero, ALL_OF(0.0f), best.scale));
        STORE(out->min, at, ALL_OF(0.0f));
    }
}

/* ---- Candidates for one group ---- */

/* Weighted squares for value = step * level - offset, levels lo .. hi or those of IQ4. w NULL: 1.
 */
RP_INLINE VEC LANES_NAME(candidate_error)(VEC step, VEC offset, bool is_iq4, float lo, float hi,
                                          int64_t n, const float *x, const float *w)
{
    const VEC inverse = SELECT(DIFFER(step, ALL_OF(0.0f)), 1.0f / step, ALL_OF(0.0f));
    VEC sum = ALL_OF(0.0f);

    for (int64_t i = 0; i < n; i++) {
        const VEC v = (x[i] + offset) * inverse;
        const VEC level =
            is_iq4 ? LANES_NAME(nearest_iq4)(v) : LANES_NAME(clamped_nearest)(v, lo, hi);
        const VEC diff = x[i] + offset - step * level;
        sum += (w == NULL ? 1.0f : w[i]) * (diff * diff);
    }
    return sum;
}

/* Weighted sums for the codes 0 .. top of (x - min) * inverse. */
RP_INLINE void LANES_NAME(candidate_sum)(VEC inverse, float min, float top, int64_t n,
                                         const float *x, const float *w, LINE_SUMS *sums)
{
    VEC sum_l = ALL_OF(0.0f);
    VEC sum_l2 = sum_l;
    VEC sum_lx = sum_l;

    for (int64_t i = 0; i < n; i++) {
        const VEC l = LANES_NAME(clamped_nearest)((x[i] - min) * inverse, 0.0f, top);
        const VEC wl = l * (w == NULL ? 1.0f : w[i]);
        sum_l += wl;
        sum_l2 += wl * l;
        sum_lx += wl * x[i];
    }
    sums->l = sum_l;
    sums->l2 = sum_l2;
    sums->lx = sum_lx;
}

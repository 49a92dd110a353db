/* The searches of grid_search.h for one width of vectors: included by grid_search.c once for every
 * processor, with LANES defined. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/grid_plain_lanes.h"
#include "kernels/grid_round.h"
#include "kernels/grid_search.h"

#ifndef RP_KERNELS_GRID_SEARCH_LANES_H
#define RP_KERNELS_GRID_SEARCH_LANES_H
#define DESCENT_PASSES 5
/* Vectors of groups side by side, so that their chains of operations overlap. */
#define SYMMETRIC_ABREAST 2
#define DESCENT_ABREAST 4
typedef enum symmetric_reach { REACH_ANY, REACH_FINITE, REACH_INSIDE } symmetric_reach;
#define MAX_PENDING (RP_SEARCH_TILES * RP_SEARCH_GROUPS + 16 * DESCENT_ABREAST)

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

RP_INLINE void LANES_NAME(load_part)(const rp_search_tile *t, int n, int at, PART *p)
{
    VEC largest = ALL_OF(0.0f);

    p->max = largest;
    for (int i = 0; i < n; i++) {
        p->x[i] = LOAD(t->x[i], at);
        p->w[i] = LOAD(t->w[i], at);
        p->wx[i] = p->w[i] * p->x[i];
        const VEC magnitude = MAGNITUDE(p->x[i]);
        const MASK above = LESS(largest, magnitude);
        largest = SELECT(above, magnitude, largest);
        p->max = SELECT(above, p->x[i], p->max);
    }
    p->is_zero = LESS(largest, ALL_OF(RP_SEARCH_TINY));
}

RP_INLINE void LANES_NAME(put_codes)(rp_search_result *out, int i, int at, VEC v)
{
    for (int k = 0; k < LANES; k++) {
        out->code[i][at + k] = (uint8_t)(int)v[k];
    }
}

/* What is known of inverse * x: nothing, that it is far below 2^22, or below half + 0.5. */
RP_INLINE VEC LANES_NAME(symmetric_code)(VEC v, float half, symmetric_reach reach)
{
    if (reach == REACH_INSIDE) {
        return MIN_OF((v + MAGIC) - MAGIC, ALL_OF(half - 1.0f));
    }
    return reach == REACH_FINITE ? LANES_NAME(nearest_in)(v, -half, half - 1.0f)
                                 : LANES_NAME(any_nearest_in)(v, -half, half - 1.0f);
}

RP_INLINE void LANES_NAME(symmetric_sums)(const PART *p, int abreast, int n, const VEC *inverse,
                                          float half, symmetric_reach reach, SCALE_SUMS *out)
{
    SCALE_SUMS s[SYMMETRIC_ABREAST];

    for (int k = 0; k < abreast; k++) {
        s[k] = (SCALE_SUMS){ALL_OF(0.0f), ALL_OF(0.0f)};
    }
#pragma GCC unroll 2
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < abreast; k++) {
            const VEC l = LANES_NAME(symmetric_code)(inverse[k] * p[k].x[i], half, reach);
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

RP_INLINE void LANES_NAME(put_symmetric)(const PART *p, int n, int at, float half,
                                         symmetric_reach reach, const BEST_SCALE *best,
                                         rp_search_result *out)
{
    const VEC none = ALL_OF(0.0f);

    STORE(out->scale, at, SELECT(p->is_zero, none, best->scale));
    STORE(out->min, at, none);
    for (int i = 0; i < n; i++) {
        const VEC l = LANES_NAME(symmetric_code)(best->inverse * p->x[i], half, reach);
        LANES_NAME(put_codes)(out, i, at, SELECT(p->is_zero, none, l + half));
    }
}

/* Inverse scales from step `first` to `last`. */
RP_INLINE void LANES_NAME(symmetric_steps)(const PART *p, int abreast, int n, float half,
                                           symmetric_reach reach, int first, int last,
                                           BEST_SCALE *best)
{
    VEC inverse[SYMMETRIC_ABREAST];
    SCALE_SUMS s[SYMMETRIC_ABREAST];

    for (int step = first; step <= last; step++) {
        for (int k = 0; k < abreast; k++) {
            inverse[k] = -(half + 0.1f * (float)step) / p[k].max;
        }
        LANES_NAME(symmetric_sums)(p, abreast, n, inverse, half, reach, s);
        for (int k = 0; k < abreast; k++) {
            LANES_NAME(keep_better)(s[k], inverse[k], &best[k]);
        }
    }
}

/* `abreast` vectors of groups, so that their sums overlap. */
RP_INLINE void LANES_NAME(symmetric_parts)(const rp_search_tile *t, int n, int at, int abreast,
                                           float half, symmetric_reach reach, rp_search_result *out)
{
    PART p[SYMMETRIC_ABREAST];
    BEST_SCALE best[SYMMETRIC_ABREAST];
    VEC inverse[SYMMETRIC_ABREAST];
    SCALE_SUMS s[SYMMETRIC_ABREAST];

    for (int k = 0; k < abreast; k++) {
        LANES_NAME(load_part)(t, n, at + k * LANES, &p[k]);
        inverse[k] = -half / p[k].max;
    }
    LANES_NAME(symmetric_sums)(p, abreast, n, inverse, half, reach, s);
    for (int k = 0; k < abreast; k++) {
        const VEC none = ALL_OF(0.0f);
        best[k].inverse = inverse[k];
        best[k].scale = SELECT(DIFFER(s[k].l2, none), s[k].lx / s[k].l2, none);
        best[k].score = best[k].scale * s[k].lx;
    }
    const symmetric_reach inner = reach == REACH_FINITE ? REACH_INSIDE : reach;
    LANES_NAME(symmetric_steps)(p, abreast, n, half, inner, -9, -1, best);
    LANES_NAME(symmetric_steps)(p, abreast, n, half, inner, 1, 4, best);
    LANES_NAME(symmetric_steps)(p, abreast, n, half, reach, 5, 9, best);
    for (int k = 0; k < abreast; k++) {
        LANES_NAME(put_symmetric)(&p[k], n, at + k * LANES, half, reach, &best[k], out);
    }
}

static void LANES_NAME(search_symmetric)(const rp_search_tile *t, int half, bool is_finite,
                                         rp_search_result *out)
{
    const int pairs = t->ngroups / (2 * LANES) * (2 * LANES);

    for (int at = 0; at < pairs && is_finite; at += SYMMETRIC_ABREAST * LANES) {
        if (t->n == 16) {
            LANES_NAME(symmetric_parts)(t, 16, at, 2, (float)half, REACH_FINITE, out);
        } else {
            LANES_NAME(symmetric_parts)(t, t->n, at, 2, (float)half, REACH_FINITE, out);
        }
    }
    for (int at = is_finite ? pairs : 0; at < t->ngroups; at += LANES) {
        LANES_NAME(symmetric_parts)
        (t, t->n, at, 1, (float)half, is_finite ? REACH_FINITE : REACH_ANY, out);
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

/* The byte that ggml keeps of an integer. */
RP_INLINE VEC LANES_NAME(byte_of)(VEC l)
{
    return __builtin_convertvector(__builtin_convertvector(l, INTS) & 255, VEC);
}

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

RP_INLINE void LANES_NAME(start_descent)(const rp_search_tile *t, int n, int at, float half,
                                         DESCENT *d)
{
    LANES_NAME(load_part)(t, n, at, &d->p);
    d->s = (SCALE_SUMS){ALL_OF(0.0f), ALL_OF(0.0f)};
    const VEC inverse = -half / d->p.max;
    for (int i = 0; i < n; i++) {
        d->code[i] = LANES_NAME(nearest_in)(inverse * d->p.x[i], -half, half - 1.0f);
        d->s.lx += d->p.wx[i] * d->code[i];
        d->s.l2 += d->p.w[i] * d->code[i] * d->code[i];
    }
}

/* Groups that may change, and their sums. */
typedef struct LANES_NAME(pending) {
    int count;
    short tile[MAX_PENDING], group[MAX_PENDING];
    RP_SEARCH_ALIGNED float lx[MAX_PENDING];
    float l2[MAX_PENDING];
} LANES_NAME(pending);
#define PENDING LANES_NAME(pending)

RP_INLINE void LANES_NAME(put_descent)(const DESCENT *d, int n, int at, float half,
                                       rp_search_result *out)
{
    STORE(out->scale, at, LANES_NAME(descent_scale)(d));
    STORE(out->min, at, ALL_OF(0.0f));
    for (int i = 0; i < n; i++) {
        LANES_NAME(put_codes)
        (out, i, at, SELECT(d->p.is_zero, ALL_OF(0.0f), d->code[i] + half));
    }
}

RP_INLINE void LANES_NAME(note_changed)(const DESCENT *d, int tile, int at, int ngroups,
                                        PENDING *pending)
{
    const VEC none = ALL_OF(0.0f);
    const VEC changed = SELECT(d->p.is_zero, none, SELECT(d->any, none + 1.0f, none));

    for (int k = 0; k < LANES && at + k < ngroups; k++) {
        pending->tile[pending->count] = (short)tile;
        pending->group[pending->count] = (short)(at + k);
        pending->lx[pending->count] = d->s.lx[k];
        pending->l2[pending->count] = d->s.l2[k];
        pending->count += changed[k] != 0.0f;
    }
}

/* Which groups the first pass may change. As long as nothing changes the sums stay, and a value
 * keeps its code for certain when its best one is less than half away, by a margin that covers
 * rounding errors. The largest code also stands for all beyond it. */
RP_INLINE MASK LANES_NAME(may_change)(const DESCENT *d, int n, float hi)
{
    const VEC none = ALL_OF(0.0f);
    MASK any = LESS(none, none);

    for (int i = 0; i < n; i++) {
        const VEC code = d->code[i];
        const VEC lx = d->s.lx - d->p.wx[i] * code;
        const VEC l2 = d->s.l2 - d->p.w[i] * code * code;
        const VEC product = d->p.x[i] * l2;
        const VEC below = code - 0.4999f;
        const VEC above = SELECT(DIFFER(code, ALL_OF(hi)), code + 0.4999f, ALL_OF(1e6f));
        const MASK keeps = LESS(below * lx, product) & LESS(product, above * lx);
        any |= (MASK)(LESS(none, lx) & ~keeps);
    }
    return any;
}

RP_INLINE void LANES_NAME(sift)(int tile, const rp_search_tile *t, int n, int at, float half,
                                rp_search_result *out, PENDING *pending)
{
    DESCENT d;

    LANES_NAME(start_descent)(t, n, at, half, &d);
    d.any = LANES_NAME(may_change)(&d, n, half - 1.0f);
    LANES_NAME(put_descent)(&d, n, at, half, out);
    LANES_NAME(note_changed)(&d, tile, at, t->ngroups, pending);
}

/* Lane k of pending groups first .. to d; lanes beyond the last are zeros. */
RP_INLINE void LANES_NAME(gather_pending)(const rp_search_tile *t, const rp_search_result *out,
                                          int n, float half, const PENDING *pending, int first,
                                          DESCENT *d)
{
    memset(d->p.x, 0, (size_t)n * sizeof(VEC));
    memset(d->code, 0, (size_t)n * sizeof(VEC));
    for (int k = 0; k < LANES && first + k < pending->count; k++) {
        const int group = pending->group[first + k];
        const rp_search_tile *tile = &t[pending->tile[first + k]];
        const rp_search_result *start = &out[pending->tile[first + k]];
        for (int i = 0; i < n; i++) {
            ((float *)&d->p.x[i])[k] = tile->x[i][group];
            ((float *)&d->code[i])[k] = (float)start->code[i][group] - half;
        }
    }
    for (int i = 0; i < n; i++) {
        d->p.w[i] = d->p.x[i] * d->p.x[i];
        d->p.wx[i] = d->p.w[i] * d->p.x[i];
    }
    d->s.lx = LOAD(pending->lx, first);
    d->s.l2 = LOAD(pending->l2, first);
    d->p.is_zero = LESS(d->s.l2, d->s.l2); /* none */
}

RP_INLINE void LANES_NAME(scatter_pending)(const DESCENT *d, int n, float half,
                                           const PENDING *pending, int first, rp_search_result *out)
{
    const VEC scale = LANES_NAME(descent_scale)(d);

    for (int k = 0; k < LANES && first + k < pending->count; k++) {
        const int group = pending->group[first + k];
        rp_search_result *to = &out[pending->tile[first + k]];
        to->scale[group] = scale[k];
        for (int i = 0; i < n; i++) {
            to->code[i][group] = (uint8_t)(int)(((const float *)&d->code[i])[k] + half);
        }
    }
}

RP_INLINE void LANES_NAME(passes)(const rp_search_tile *t, int n, int abreast, float half,
                                  const PENDING *pending, int first, rp_search_result *out)
{
    DESCENT d[DESCENT_ABREAST];

    for (int k = 0; k < abreast; k++) {
        LANES_NAME(gather_pending)(t, out, n, half, pending, first + k * LANES, &d[k]);
    }
    LANES_NAME(descend_all)
    (d, DESCENT_PASSES, abreast, n, -half, half - 1.0f, false);
    for (int k = 0; k < abreast; k++) {
        LANES_NAME(scatter_pending)(&d[k], n, half, pending, first + k * LANES, out);
    }
}

/* Most groups stay as they start: the others of all tiles are gathered. */
static void LANES_NAME(search_descent)(int ntiles, const rp_search_tile *tiles, int half,
                                       rp_search_result *out)
{
    PENDING pending;

    pending.count = 0;
    memset(pending.lx, 0, sizeof(pending.lx));
    memset(pending.l2, 0, sizeof(pending.l2));
    for (int t = 0; t < ntiles; t++) {
        for (int at = 0; at < tiles[t].ngroups; at += LANES) {
            if (tiles[t].n == 16) {
                LANES_NAME(sift)(t, &tiles[t], 16, at, (float)half, &out[t], &pending);
            } else {
                LANES_NAME(sift)(t, &tiles[t], tiles[t].n, at, (float)half, &out[t], &pending);
            }
        }
    }
    int first = 0;
    for (; first + 2 * LANES < pending.count; first += DESCENT_ABREAST * LANES) {
        LANES_NAME(passes)
        (tiles, tiles[0].n, DESCENT_ABREAST, (float)half, &pending, first, out);
    }
    for (; first < pending.count; first += LANES) {
        LANES_NAME(passes)(tiles, tiles[0].n, 1, (float)half, &pending, first, out);
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

static void LANES_NAME(search_positive)(const rp_search_tile *t, int top, rp_search_result *out)
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
    const rp_search_tile *t;
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
    const VEC low = MAGNITUDE(p->lowest - min);
    const VEC high = MAGNITUDE(p->highest - min);
    const VEC bound = SELECT(is_flat, ALL_OF(0.0f), MAGNITUDE(inverse) * MAX_OF(low, high));
    const VEC beyond = SELECT(LESS(bound, ALL_OF(0x1p21f)), ALL_OF(0.0f), ALL_OF(1.0f));

    return !LANES_NAME(any)(DIFFER(beyond, ALL_OF(0.0f)));
}

RP_INLINE VEC LANES_NAME(line_error)(const LINE_PART *p, LINE at, const VEC *code)
{
    VEC error = ALL_OF(0.0f);

    for (int i = 0; i < p->n; i++) {
        const VEC diff = at.scale * code[i] + at.min - LOAD(p->t->x[i], p->at);
        const VEC size = MAGNITUDE(diff);
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
RP_INLINE void LANES_NAME(min_part)(LINE_PART *p, const rp_search_steps *steps,
                                    rp_search_result *out)
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

static void LANES_NAME(search_min)(const rp_search_tile *t, int top, const rp_search_steps *steps,
                                   rp_search_result *out)
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
    VEC level = ALL_OF(rp_iq4_levels[0]);

    for (int k = 0; k < 15; k++) {
        const VEC up = level + (rp_iq4_levels[k + 1] - rp_iq4_levels[k]);
        level = SELECT(LESS(v, ALL_OF(rp_iq4_bounds[k])), level, up);
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

static void LANES_NAME(search_levels)(const rp_search_tile *t, rp_search_result *out)
{
    for (int at = 0; at < t->ngroups; at += LANES) {
        PART p;
        BEST_SCALE best;
        LANES_NAME(load_part)(t, t->n, at, &p);
        best.inverse = 1.0f / (-p.max / rp_iq4_levels[0]);
        const SCALE_SUMS first = LANES_NAME(level_sums)(&p, t->n, best.inverse);
        best.scale = SELECT(LESS(ALL_OF(0.0f), first.l2), first.lx / first.l2, ALL_OF(0.0f));
        best.score = best.scale * first.lx;
        for (int step = -7; step <= 7; step++) {
            const VEC inverse = ((float)step + rp_iq4_levels[0]) / p.max;
            LANES_NAME(keep_better)(LANES_NAME(level_sums)(&p, t->n, inverse), inverse, &best);
        }
        STORE(out->scale, at, SELECT(p.is_zero, ALL_OF(0.0f), best.scale));
        STORE(out->min, at, ALL_OF(0.0f));
    }
}

/* ---- Candidates for one group ---- */

static void LANES_NAME(candidate_errors)(const rp_candidates *c, int64_t n, const float *x,
                                         const float *w, float *error)
{
    for (int at = 0; at < RP_CANDIDATES; at += LANES) {
        const VEC step = LOAD(c->step, at);
        const VEC offset = LOAD(c->offset, at);
        const VEC inverse = SELECT(DIFFER(step, ALL_OF(0.0f)), 1.0f / step, ALL_OF(0.0f));
        VEC sum = ALL_OF(0.0f);
        for (int64_t i = 0; i < n; i++) {
            const VEC v = (x[i] + offset) * inverse;
            const VEC level = c->is_iq4 ? LANES_NAME(nearest_iq4)(v)
                                        : LANES_NAME(clamped_nearest)(v, c->lo, c->hi);
            const VEC diff = x[i] + offset - step * level;
            sum += (w == NULL ? 1.0f : w[i]) * (diff * diff);
        }
        STORE(error, at, sum);
    }
}

/* Sums of the codes of inverse scales, weighted. */
static void LANES_NAME(candidate_sums)(const float *inverse, float min, float top, int64_t n,
                                       const float *x, const float *w, rp_candidate_sums *out)
{
    for (int at = 0; at < RP_CANDIDATES; at += LANES) {
        VEC sum_l = ALL_OF(0.0f);
        VEC sum_l2 = sum_l;
        VEC sum_lx = sum_l;
        for (int64_t i = 0; i < n; i++) {
            const VEC v = (x[i] - min) * LOAD(inverse, at);
            const VEC l = LANES_NAME(clamped_nearest)(v, 0.0f, top);
            const VEC wl = l * (w == NULL ? 1.0f : w[i]);
            sum_l += wl;
            sum_l2 += wl * l;
            sum_lx += wl * x[i];
        }
        STORE(out->l, at, sum_l);
        STORE(out->l2, at, sum_l2);
        STORE(out->lx, at, sum_lx);
    }
}

/* ---- Rounding with what is stored ---- */

static void LANES_NAME(round_groups)(int ngroups, int n, const float *step, const float *offset,
                                     float lo, float hi, const float *x, uint8_t *code)
{
    for (int g = 0; g < ngroups; g++) {
        for (int i = 0; i < n && step[g] != 0.0f; i += LANES) {
            const int64_t at = (int64_t)g * n + i;
            VEC v;
            memcpy(&v, x + at, sizeof(v));
            v = LANES_NAME(any_nearest_in)((v + offset[g]) / step[g], lo, hi) - lo;
            for (int k = 0; k < LANES; k++) {
                code[at + k] = (uint8_t)(int)v[k];
            }
        }
    }
}

static const rp_search_functions LANES_NAME(functions) = {
    LANES_NAME(search_symmetric), LANES_NAME(search_descent), LANES_NAME(search_positive),
    LANES_NAME(search_min),       LANES_NAME(search_levels),  LANES_NAME(candidate_errors),
    LANES_NAME(candidate_sums),   LANES_NAME(round_groups),   LANES_NAME(plain_q8),
    LANES_NAME(plain_symmetric),  LANES_NAME(plain_min),
};

#undef SCALE_SUMS
#undef PART
#undef BEST_SCALE
#undef DESCENT
#undef PENDING
#undef LINE
#undef LINE_SUMS
#undef LINE_PART
#undef LOAD
#undef STORE

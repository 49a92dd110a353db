/* The searches over many tiles for one width of vectors, and the functions of that width: included
 * by grid_search.c once for every processor, with LANES defined. */
#include <string.h>

#include "base/mem.h"
#include "kernels/grid_plain_lanes.h"
#include "kernels/grid_search_lanes.h"

#ifndef RP_KERNELS_GRID_SEARCH_TILES_H
#define RP_KERNELS_GRID_SEARCH_TILES_H
#define DESCENT_ABREAST 4 /* as SYMMETRIC_ABREAST */
#define MAX_PENDING (RP_SEARCH_TILES * RP_SEARCH_GROUPS + 16 * DESCENT_ABREAST)
#endif

/* ---- Coordinate descent ---- */

/* Groups that may change, and their sums. */
typedef struct LANES_NAME(pending) {
    int count;
    short tile[MAX_PENDING], group[MAX_PENDING];
    RP_SEARCH_ALIGNED float lx[MAX_PENDING];
    float l2[MAX_PENDING];
} LANES_NAME(pending);
#define PENDING LANES_NAME(pending)

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
 * keeps its code for certain when its best one is less than centre away, by a margin that covers
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

RP_INLINE void LANES_NAME(sift)(int tile, const rp_search_tile *t, int n, int at, float centre,
                                rp_search_result *out, PENDING *pending)
{
    DESCENT d;

    LANES_NAME(start_descent)(t, n, at, centre, &d);
    d.any = LANES_NAME(may_change)(&d, n, centre - 1.0f);
    LANES_NAME(put_descent)(&d, n, at, centre, out);
    LANES_NAME(note_changed)(&d, tile, at, t->ngroups, pending);
}

/* Lane k of pending groups first .. to d; lanes beyond the last are zeros. */
RP_INLINE void LANES_NAME(gather_pending)(const rp_search_tile *t, const rp_search_result *out,
                                          int n, float centre, const PENDING *pending, int first,
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
            ((float *)&d->code[i])[k] = (float)start->code[i][group] - centre;
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

RP_INLINE void LANES_NAME(scatter_pending)(const DESCENT *d, int n, float centre,
                                           const PENDING *pending, int first, rp_search_result *out)
{
    const VEC scale = LANES_NAME(descent_scale)(d);

    for (int k = 0; k < LANES && first + k < pending->count; k++) {
        const int group = pending->group[first + k];
        rp_search_result *to = &out[pending->tile[first + k]];
        to->scale[group] = scale[k];
        for (int i = 0; i < n; i++) {
            to->code[i][group] = (uint8_t)(int)(((const float *)&d->code[i])[k] + centre);
        }
    }
}

RP_INLINE void LANES_NAME(passes)(const rp_search_tile *t, int n, int abreast, float centre,
                                  const PENDING *pending, int first, rp_search_result *out)
{
    DESCENT d[DESCENT_ABREAST];

    for (int k = 0; k < abreast; k++) {
        LANES_NAME(gather_pending)(t, out, n, centre, pending, first + k * LANES, &d[k]);
    }
    LANES_NAME(descend_all)
    (d, DESCENT_PASSES, abreast, n, -centre, centre - 1.0f, false);
    for (int k = 0; k < abreast; k++) {
        LANES_NAME(scatter_pending)(&d[k], n, centre, pending, first + k * LANES, out);
    }
}

/* Most groups stay as they start: the others of all tiles are gathered. */
static void LANES_NAME(search_descent)(int ntiles, const rp_search_tile *tiles, int centre,
                                       rp_search_result *out)
{
    PENDING pending;

    pending.count = 0;
    memset(pending.lx, 0, sizeof(pending.lx));
    memset(pending.l2, 0, sizeof(pending.l2));
    for (int t = 0; t < ntiles; t++) {
        for (int at = 0; at < tiles[t].ngroups; at += LANES) {
            if (tiles[t].n == 16) {
                LANES_NAME(sift)(t, &tiles[t], 16, at, (float)centre, &out[t], &pending);
            } else {
                LANES_NAME(sift)(t, &tiles[t], tiles[t].n, at, (float)centre, &out[t], &pending);
            }
        }
    }
    int first = 0;
    for (; first + 2 * LANES < pending.count; first += DESCENT_ABREAST * LANES) {
        LANES_NAME(passes)
        (tiles, tiles[0].n, DESCENT_ABREAST, (float)centre, &pending, first, out);
    }
    for (; first < pending.count; first += LANES) {
        LANES_NAME(passes)(tiles, tiles[0].n, 1, (float)centre, &pending, first, out);
    }
}

/* ---- Candidates for one group ---- */

static void LANES_NAME(candidate_errors)(const rp_candidates *c, int64_t n, const float *x,
                                         const float *w, float *error)
{
    for (int at = 0; at < RP_CANDIDATES; at += LANES) {
        STORE(error, at,
              LANES_NAME(candidate_error)(LOAD(c->step, at), LOAD(c->offset, at), c->is_iq4, c->lo,
                                          c->hi, n, x, w));
    }
}

static void LANES_NAME(candidate_sums)(const float *inverse, float min, float top, int64_t n,
                                       const float *x, const float *w, rp_candidate_sums *out)
{
    for (int at = 0; at < RP_CANDIDATES; at += LANES) {
        LINE_SUMS sums;
        LANES_NAME(candidate_sum)(LOAD(inverse, at), min, top, n, x, w, &sums);
        STORE(out->l, at, sums.l);
        STORE(out->l2, at, sums.l2);
        STORE(out->lx, at, sums.lx);
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

#undef PENDING

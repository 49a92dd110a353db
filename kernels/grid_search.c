/* Tiles of groups, and the choice of the processor's width for the searches over them. */
#include "kernels/grid_search.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/clones.h"

#define LANES_SOURCE "kernels/grid_search_tiles.h"
#define LANES_TABLE rp_search_functions
#include "kernels/lanes_all.h"

const rp_search_functions *rp_search_functions_of(int lanes)
{
    return functions_of(lanes);
}

const rp_search_steps rp_search_weighted_steps = {-0.9f, 0.05f, 36, false};

/* ---- Tiles ---- */

typedef float four __attribute__((vector_size(16)));

/* Values i .. i + 3 of four sources into rows of `ld` floats, by transposing. */
RP_INLINE void gather4(const float *const *x, int64_t i, float *out, int ld)
{
    four a, b, c, d;

    memcpy(&a, x[0] + i, sizeof(a));
    memcpy(&b, x[1] + i, sizeof(b));
    memcpy(&c, x[2] + i, sizeof(c));
    memcpy(&d, x[3] + i, sizeof(d));
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
        memcpy(out + (int64_t)j * ld, &columns[j], sizeof(four));
    }
}

/* count sources, a multiple of 4 */
RP_INLINE void gather(int count, int64_t n, const float *const *x, float (*out)[RP_SEARCH_GROUPS])
{
    for (int64_t i = 0; i < n; i += 4) {
        for (int k = 0; k < count; k += 4) {
            gather4(x + k, i, &out[i][k], RP_SEARCH_GROUPS);
        }
    }
}

RP_CLONES void rp_search_squares(int count, int64_t n, const float *const *x, float *out)
{
    const float *source[RP_SEARCH_ROWS];
    float sums[RP_SEARCH_ROWS] = {0};

    for (int k = 0; k < RP_SEARCH_ROWS; k++) {
        source[k] = x[k < count ? k : 0];
    }
    for (int64_t i = 0; i < n; i += 4) {
        float v[4][RP_SEARCH_ROWS];
        for (int k = 0; k < RP_SEARCH_ROWS; k += 4) {
            gather4(source + k, i, &v[0][k], RP_SEARCH_ROWS);
        }
        for (int j = 0; j < 4; j++) {
            for (int k = 0; k < RP_SEARCH_ROWS; k++) {
                sums[k] += v[j][k] * v[j][k];
            }
        }
    }
    memcpy(out, sums, (size_t)count * sizeof(float));
}

RP_INLINE void weigh_by_rms(rp_search_tile *t)
{
    float rms[RP_SEARCH_GROUPS] = {0};

    for (int i = 0; i < t->n; i++) {
        for (int k = 0; k < RP_SEARCH_GROUPS; k++) {
            rms[k] += t->x[i][k] * t->x[i][k];
        }
    }
    for (int k = 0; k < RP_SEARCH_GROUPS; k++) {
        rms[k] = sqrtf(rms[k] / (float)t->n);
    }
    for (int i = 0; i < t->n; i++) {
        for (int k = 0; k < RP_SEARCH_GROUPS; k++) {
            t->w[i][k] = rms[k] + fabsf(t->x[i][k]);
        }
    }
}

RP_INLINE void weigh_row(rp_search_weight weight, const float *sigma2, const float *x, float *w)
{
    if (weight == RP_WEIGHT_SQUARE) {
        for (int k = 0; k < RP_SEARCH_GROUPS; k++) {
            w[k] = x[k] * x[k];
        }
    } else if (weight == RP_WEIGHT_MAGNITUDE) {
        for (int k = 0; k < RP_SEARCH_GROUPS; k++) {
            w[k] = fabsf(x[k]);
        }
    } else {
        for (int k = 0; k < RP_SEARCH_GROUPS; k++) {
            w[k] *= sqrtf(sigma2[k] + x[k] * x[k]);
        }
    }
}

RP_CLONES static void weigh(rp_search_tile *t, rp_search_weight weight, const float *sigma2)
{
    if (weight == RP_WEIGHT_RMS) {
        weigh_by_rms(t);
    } else if (weight != RP_WEIGHT_IMPORTANCE) {
        for (int i = 0; i < t->n; i++) {
            weigh_row(weight, sigma2, t->x[i], t->w[i]);
        }
    }
}

RP_CLONES static void load_rows(rp_search_tile *tile, const float *const *x,
                                const float *const *importance, bool needs_ones)
{
    gather(tile->ngroups, tile->n, x, tile->x);
    if (importance != NULL) {
        gather(tile->ngroups, tile->n, importance, tile->w);
    }
    for (int i = 0; i < tile->n && needs_ones; i++) {
        for (int k = 0; k < RP_SEARCH_GROUPS; k++) {
            tile->w[i][k] = 1.0f;
        }
    }
}

void rp_search_load(rp_search_tile *tile, int n, int ngroups, const float *const *x,
                    const float *const *importance, rp_search_weight weight, const float *sigma2)
{
    static const float zeros[RP_SEARCH_MAX];
    const float *source[RP_SEARCH_GROUPS];
    const float *weights[RP_SEARCH_GROUPS];
    float padded[RP_SEARCH_GROUPS] = {0};

    tile->n = n;
    tile->ngroups = ngroups;
    if (ngroups < RP_SEARCH_GROUPS) {
        memset(tile->x, 0, sizeof(tile->x));
        memset(tile->w, 0, sizeof(tile->w));
    }
    for (int k = 0; k < RP_SEARCH_GROUPS; k++) {
        source[k] = k < ngroups ? x[k] : zeros;
        weights[k] = k < ngroups && importance != NULL ? importance[k] : zeros;
        padded[k] = k < ngroups && sigma2 != NULL ? sigma2[k] : 0.0f;
    }
    tile->ngroups = (ngroups + 3) / 4 * 4;
    load_rows(tile, source, importance == NULL ? NULL : weights,
              importance == NULL && weight == RP_WEIGHT_IMPORTANCE);
    weigh(tile, weight, padded);
    tile->ngroups = ngroups;
}

RP_CLONES static void sum_weights(const rp_search_tile *tile, float *sums)
{
    for (int i = 0; i < tile->n; i++) {
        for (int k = 0; k < RP_SEARCH_GROUPS; k++) {
            sums[k] += tile->w[i][k];
        }
    }
}

void rp_search_sum_weights(const rp_search_tile *tile, float *out)
{
    float sums[RP_SEARCH_GROUPS] = {0};

    sum_weights(tile, sums);
    memcpy(out, sums, (size_t)tile->ngroups * sizeof(float));
}

/* ---- Searches ---- */

void rp_search_run(rp_search_kind kind, int ntiles, const rp_search_tile *tiles, int top,
                   const rp_search_steps *steps, rp_search_result *out)
{
    if (kind == RP_SEARCH_DESCENT) {
        functions()->descent(ntiles, tiles, (top + 1) / 2, out);
        return;
    }
    for (int t = 0; t < ntiles; t++) {
        if (kind == RP_SEARCH_SYMMETRIC) {
            functions()->symmetric(&tiles[t], (top + 1) / 2, true, &out[t]);
        } else if (kind == RP_SEARCH_MIN) {
            functions()->min(&tiles[t], top, steps, &out[t]);
        } else {
            functions()->levels(&tiles[t], &out[t]);
        }
    }
}

void rp_search_any_symmetric(const rp_search_tile *tile, int half, rp_search_result *out)
{
    functions()->symmetric(tile, half, false, out);
}

void rp_search_positive(const rp_search_tile *tile, int top, rp_search_result *out)
{
    functions()->positive(tile, top, out);
}

void rp_search_candidate_errors(const rp_candidates *c, int64_t n, const float *x, const float *w,
                                float *error)
{
    functions()->candidate_errors(c, n, x, w, error);
}

void rp_search_candidate_sums(const float *inverse, float min, float top, int64_t n, const float *x,
                              const float *w, rp_candidate_sums *out)
{
    functions()->candidate_sums(inverse, min, top, n, x, w, out);
}

void rp_search_round(int ngroups, int n, const float *step, const float *offset, float lo, float hi,
                     const float *x, uint8_t *code)
{
    functions()->round_groups(ngroups, n, step, offset, lo, hi, x, code);
}

/* ---- Without a search ---- */

void rp_plain_q8(int64_t nblocks, const float *x, float *params, uint8_t *codes)
{
    functions()->plain_q8(nblocks, x, params, codes);
}

void rp_plain_symmetric(int64_t nblocks, int half, const float *x, float *params, uint8_t *codes)
{
    functions()->plain_symmetric(nblocks, half, x, params, codes);
}

void rp_plain_min(int64_t nblocks, int top, const float *x, float *params, uint8_t *codes)
{
    functions()->plain_min(nblocks, top, x, params, codes);
}

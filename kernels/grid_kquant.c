/* Grids of the GGUF block types with two levels of scales: Q2_K .. Q6_K and IQ4_XS.
 *
 * Source: quantize_row_*_ref and quantize_row_*_impl of ggml's src/ggml-quants.c, reimplemented
 * from their description: the sub-groups' scales and minima are searched, quantised to integers
 * with one d and dmin a block, and the values rounded anew with what is stored. Up to sixteen
 * blocks are one batch, so that every search fills its lanes. */
#include "kernels/grid_gguf.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/grid_params.h"
#include "kernels/grid_refit.h"
#include "kernels/grid_round.h"
#include "kernels/grid_search.h"

#define BLOCK 256
#define BATCH 16 /* blocks */
#define MAX_SUBS 16
#define TILES (BATCH * MAX_SUBS / RP_SEARCH_GROUPS) /* RP_SEARCH_TILES */

/* Of up to BATCH blocks. */
typedef struct batch {
    const rp_grid *grid;
    int nblocks, n_sub, width;
    rp_search_kind kind;
    rp_search_weight weight;
    const rp_search_steps *steps;
    bool needs_sums;                /* of the weights */
    const float *x[BATCH];          /* each [BLOCK] */
    const float *importance[BATCH]; /* each [BLOCK]; the first NULL: none */
    float sigma2[BATCH];
    rp_search_tile values[TILES];
    rp_search_result found[TILES]; /* sub-group g is group g % 64 of tile g / 64 */
    rp_search_tile scales, mins;   /* x[sub][block] what was found, w the sums of weights */
    float exact_d[BATCH], exact_dmin[BATCH]; /* before they are rounded */
    float d[BATCH], dmin[BATCH];
    bool is_zero[BATCH];
    int32_t s[MAX_SUBS][BATCH], m[MAX_SUBS][BATCH];
} batch;

static bool is_weighted(const batch *b)
{
    return b->importance[0] != NULL;
}

static int top_of(const rp_grid *grid)
{
    return (1 << grid->bits) - 1;
}

/* ---- Search ---- */

static void load_tile(batch *b, int t)
{
    const int blocks = RP_SEARCH_GROUPS / b->n_sub;
    const int last = RP_MIN(b->nblocks, (t + 1) * blocks);
    const float *x[RP_SEARCH_GROUPS];
    const float *importance[RP_SEARCH_GROUPS];
    float sigma2[RP_SEARCH_GROUPS];
    int k = 0;

    for (int block = t * blocks; block < last; block++) {
        for (int sub = 0; sub < b->n_sub; sub++, k++) {
            x[k] = b->x[block] + (int64_t)sub * b->width;
            importance[k] = is_weighted(b) ? b->importance[block] + (int64_t)sub * b->width : NULL;
            sigma2[k] = b->sigma2[block];
        }
    }
    rp_search_load(&b->values[t], b->width, k, x, is_weighted(b) ? importance : NULL, b->weight,
                   sigma2);
}

/* The results of tile t by sub-group and block. */
static void spread_results(batch *b, int t)
{
    const int blocks = RP_SEARCH_GROUPS / b->n_sub;
    const int last = RP_MIN(b->nblocks, (t + 1) * blocks);
    const rp_search_result *found = &b->found[t];
    float sums[RP_SEARCH_GROUPS];
    int k = 0;

    if (b->needs_sums) {
        rp_search_sum_weights(&b->values[t], sums);
    }
    for (int block = t * blocks; block < last; block++) {
        for (int sub = 0; sub < b->n_sub; sub++, k++) {
            b->scales.x[sub][block] = found->scale[k];
            b->mins.x[sub][block] = -found->min[k];
            if (b->needs_sums) {
                b->scales.w[sub][block] = b->mins.w[sub][block] = sums[k];
            }
        }
    }
}

static void search_subs(batch *b)
{
    const int ntiles = (b->nblocks * b->n_sub + RP_SEARCH_GROUPS - 1) / RP_SEARCH_GROUPS;

    b->scales.n = b->mins.n = b->n_sub;
    b->scales.ngroups = b->mins.ngroups = b->nblocks;
    for (int t = 0; t < ntiles; t++) {
        load_tile(b, t);
    }
    rp_search_run(b->kind, ntiles, b->values, top_of(b->grid), b->steps, b->found);
    for (int t = 0; t < ntiles; t++) {
        spread_results(b, t);
    }
}

static void find_sigma2(batch *b)
{
    const struct rp_grid_search *search = b->grid->ops->search;

    rp_search_squares(b->nblocks, BLOCK, b->x, b->sigma2);
    for (int k = 0; k < b->nblocks; k++) {
        b->sigma2[k] = search->times * b->sigma2[k] / search->over;
    }
}

/* ---- Integers of the sub-groups ---- */

typedef float by_sub[RP_SEARCH_MAX][RP_SEARCH_GROUPS];

/* Largest value onto the largest integer, values >= 0. */
RP_CLONES static void linear_positive(int n, const by_sub *x, int hi, int32_t bound, float *d,
                                      int32_t (*out)[BATCH])
{
    float max[BATCH] = {0};

    for (int j = 0; j < n; j++) {
        for (int k = 0; k < BATCH; k++) {
            max[k] = (*x)[j][k] > max[k] ? (*x)[j][k] : max[k];
        }
    }
    for (int k = 0; k < BATCH; k++) {
        d[k] = max[k] / (float)hi;
        max[k] = max[k] > 0.0f ? (float)hi / max[k] : 0.0f;
    }
    for (int j = 0; j < n; j++) {
        for (int k = 0; k < BATCH; k++) {
            const int32_t byte = rp_nearest_int(max[k] * (*x)[j][k]) & 255;
            out[j][k] = byte < bound ? byte : bound;
        }
    }
}

/* The value of largest magnitude onto the lowest integer. */
RP_CLONES static void linear_signed(const rp_grid_ops *ops, const by_sub *x, bool *is_zero,
                                    float *d, int32_t (*out)[BATCH])
{
    const int n = ops->n_sub;
    const int32_t lo = ops->scale_lo;
    const int32_t hi = ops->scale_hi;
    float max[BATCH] = {0};
    float inverse[BATCH];

    for (int j = 0; j < n; j++) {
        for (int k = 0; k < BATCH; k++) {
            max[k] = fabsf((*x)[j][k]) > fabsf(max[k]) ? (*x)[j][k] : max[k];
        }
    }
    for (int k = 0; k < BATCH; k++) {
        const float step = max[k] / (float)lo;
        is_zero[k] = fabsf(max[k]) < ops->search->least_scale;
        inverse[k] = ops->search->inverts_d ? rp_inverse(step) : (float)lo / max[k];
        d[k] = ops->search->inverts_d ? step : (is_zero[k] ? 0.0f : 1.0f / inverse[k]);
    }
    for (int j = 0; j < n; j++) {
        for (int k = 0; k < BATCH; k++) {
            out[j][k] = rp_nearest_int_in(inverse[k] * (*x)[j][k], lo, hi);
        }
    }
    for (int k = 0; k < BATCH; k++) {
        for (int j = 0; j < n && is_zero[k]; j++) {
            out[j][k] = ops->search->zero_s;
        }
    }
}

static void take_integers(const batch *b, const rp_search_result *found, int zero,
                          int32_t (*out)[BATCH])
{
    for (int j = 0; j < b->n_sub; j++) {
        for (int block = 0; block < b->nblocks; block++) {
            out[j][block] = (int)found->code[j][block] - zero;
        }
    }
}

/* The search can give a slightly negative scale to a group of values that are all but equal; its
 * byte is then beyond the bounds. ggml packs the bytes of Q2_K and Q4_K without a look, which mixes
 * bits; those of Q5_K are held to the bound. These are the integers that a reader finds. */
static void integers_of_bytes(batch *b)
{
    const struct rp_grid_search *search = b->grid->ops->search;
    const int32_t hi = b->grid->ops->scale_hi;

    for (int j = b->n_sub - 1; j >= 0; j--) {
        for (int block = 0; block < b->nblocks; block++) {
            int32_t *s = &b->s[j][block];
            int32_t *m = &b->m[j][block];
            if (search->packing == RP_PACKED_BOUNDED) {
                *s = *s < hi ? *s : hi;
                *m = *m < hi ? *m : hi;
            } else if (search->packing == RP_PACKED_NIBBLES) {
                *m |= *s >> 4;
            } else if (j >= 4) { /* the upper bits of byte j - 4 are those of j */
                *s |= b->s[j - 4][block] >> 6 << 4;
                *m |= b->m[j - 4][block] >> 6 << 4;
            }
            *s &= hi;
            *m &= hi;
        }
    }
}

static void weighted_integers(batch *b)
{
    const rp_grid_ops *ops = b->grid->ops;
    rp_search_result scales, mins;

    if (ops->has_min) {
        rp_search_positive(&b->scales, ops->scale_hi, &scales);
        rp_search_positive(&b->mins, ops->min_hi, &mins);
        take_integers(b, &mins, 0, b->m);
    } else {
        rp_search_any_symmetric(&b->scales, -ops->scale_lo, &scales);
    }
    take_integers(b, &scales, -ops->scale_lo, b->s);
    if (ops->has_min) {
        integers_of_bytes(b);
    }
    for (int block = 0; block < b->nblocks; block++) {
        b->exact_d[block] = scales.scale[block];
        b->exact_dmin[block] = ops->has_min ? mins.scale[block] : 0.0f;
    }
}

static void linear_integers(batch *b)
{
    const rp_grid_ops *ops = b->grid->ops;

    if (ops->has_min) {
        /* Q2_K's bytes are not held to the bound here either */
        const int32_t bound = ops->search->packing == RP_PACKED_NIBBLES ? 255 : ops->scale_hi;
        linear_positive(b->n_sub, &b->scales.x, ops->scale_hi, bound, b->exact_d, b->s);
        linear_positive(b->n_sub, &b->mins.x, ops->min_hi, bound, b->exact_dmin, b->m);
        integers_of_bytes(b);
    } else {
        linear_signed(ops, &b->scales.x, b->is_zero, b->exact_d, b->s);
    }
}

/* ---- Rounding with what is stored ---- */

static void search_codes(const batch *b, int block, int sub, uint8_t *code)
{
    const int g = block * b->n_sub + sub;

    for (int i = 0; i < b->width; i++) {
        code[i] = b->found[g / RP_SEARCH_GROUPS].code[i][g % RP_SEARCH_GROUPS];
    }
}

/* Where a sub-group's step is zero ggml keeps the codes of the search. */
static void round_uniform(const batch *b, int block, uint8_t *code)
{
    const rp_grid_ops *ops = b->grid->ops;
    const float lo = ops->levels[0];
    float step[MAX_SUBS];
    float offset[MAX_SUBS];

    for (int sub = 0; sub < b->n_sub; sub++) {
        step[sub] = b->d[block] * (float)b->s[sub][block];
        offset[sub] = ops->has_min ? b->dmin[block] * (float)b->m[sub][block] : 0.0f;
        if (step[sub] == 0.0f) {
            search_codes(b, block, sub, code + (int64_t)sub * b->width);
        }
    }
    rp_search_round(b->n_sub, b->width, step, offset, lo, lo + (float)top_of(b->grid), b->x[block],
                    code);
}

static void round_iq4(const batch *b, int block, uint8_t *code)
{
    for (int sub = 0; sub < b->n_sub; sub++) {
        const int64_t at = (int64_t)sub * b->width;
        rp_round_iq4_values(rp_inverse(b->exact_d[block] * (float)b->s[sub][block]), b->width,
                            b->x[block] + at, code + at);
    }
}

static void put_params(const batch *b, int block, float *params)
{
    *params++ = b->d[block];
    if (b->grid->ops->has_min) {
        *params++ = b->dmin[block];
    }
    for (int j = 0; j < b->n_sub; j++) {
        params[j] = (float)b->s[j][block];
        if (b->grid->ops->has_min) {
            params[b->n_sub + j] = (float)b->m[j][block];
        }
    }
}

static void round_block(const batch *b, int block, uint8_t *code)
{
    const struct rp_grid_search *search = b->grid->ops->search;

    if (search->zero_codes && b->is_zero[block]) { /* Q6_K's block of zeros is zero bytes */
        memset(code, 0, BLOCK);
    } else if (search->plain == RP_SEARCH_LEVELS) {
        round_iq4(b, block, code);
    } else {
        round_uniform(b, block, code);
    }
}

static void quantise_batch(batch *b, float *params, uint8_t *codes)
{
    const struct rp_grid_search *search = b->grid->ops->search;

    b->kind = is_weighted(b) ? search->weighted : search->plain;
    b->weight = is_weighted(b) ? search->weighted_weight : search->plain_weight;
    b->steps = is_weighted(b) ? &rp_search_weighted_steps : &search->plain_steps;
    if (b->weight == RP_WEIGHT_IMPORTANCE_SIGMA) {
        find_sigma2(b);
    }
    b->needs_sums = is_weighted(b) && !search->linear_scales;
    search_subs(b);
    if (b->needs_sums) {
        weighted_integers(b);
    } else {
        linear_integers(b);
    }
    for (int block = 0; block < b->nblocks; block++) {
        b->d[block] = rp_nearest_f16(b->exact_d[block]);
        b->dmin[block] = rp_nearest_f16(b->exact_dmin[block]);
        put_params(b, block, params + (int64_t)block * b->grid->ops->n_params);
        round_block(b, block, codes + (int64_t)block * BLOCK);
    }
}

/* The tiles of scales are zeroed once: a batch of fewer blocks leaves others in its place. */
static void start_batch(batch *b, const rp_grid *grid)
{
    const int n_sub = grid->ops->n_sub;

    b->grid = grid;
    b->n_sub = n_sub;
    b->width = BLOCK / n_sub;
    memset(b->scales.x, 0, (size_t)n_sub * sizeof(b->scales.x[0]));
    memset(b->scales.w, 0, (size_t)n_sub * sizeof(b->scales.w[0]));
    memset(b->mins.x, 0, (size_t)n_sub * sizeof(b->mins.x[0]));
    memset(b->mins.w, 0, (size_t)n_sub * sizeof(b->mins.w[0]));
    memset(b->sigma2, 0, sizeof(b->sigma2));
    memset(b->is_zero, 0, sizeof(b->is_zero));
    memset(b->s, 0, sizeof(b->s));
    memset(b->m, 0, sizeof(b->m));
    memset(b->exact_dmin, 0, sizeof(b->exact_dmin));
}

static void kquant_quantise(const rp_grid *grid, int64_t nrows, int64_t cols, const float *x,
                            const float *importance, float *params, uint8_t *codes)
{
    const int64_t nblocks = nrows * cols / BLOCK;
    batch b;

    RP_ASSERT(cols % BLOCK == 0);
    start_batch(&b, grid);
    for (int64_t first = 0; first < nblocks; first += BATCH) {
        b.nblocks = (int)RP_MIN(BATCH, nblocks - first);
        for (int k = 0; k < b.nblocks; k++) {
            const int64_t at = (first + k) * BLOCK;
            b.x[k] = x + at;
            b.importance[k] = importance == NULL ? NULL : importance + at % cols;
        }
        quantise_batch(&b, params + first * grid->ops->n_params, codes + first * BLOCK);
    }
}

/* ---- For solvers ---- */

typedef struct sub_fit {
    rp_pair pair;
    float error;
} sub_fit;

static rp_refit refit_of(const rp_grid_ops *ops, int top, const float *params)
{
    const float lo = ops->levels[0];

    return (rp_refit){.d = params[0],
                      .dmin = ops->has_min ? params[1] : 0.0f,
                      .has_min = ops->has_min,
                      .scale_lo = (float)ops->scale_lo,
                      .scale_hi = (float)ops->scale_hi,
                      .min_hi = (float)ops->min_hi,
                      .lowest = lo,
                      .highest = lo + (float)top};
}

/* Keeps the best of RP_CANDIDATES pairs, held to their bounds. */
static void try_pairs(const rp_refit *f, bool is_iq4, int64_t n, const float *x, const float *w,
                      rp_pair *p, sub_fit *best)
{
    rp_candidates c = {.is_iq4 = is_iq4, .lo = f->lowest, .hi = f->highest};
    RP_SEARCH_ALIGNED float error[RP_CANDIDATES];

    for (int k = 0; k < RP_CANDIDATES; k++) {
        p[k] = rp_bounded_pair(f, p[k]);
        c.step[k] = rp_pair_step(f, p[k]);
        c.offset[k] = rp_pair_offset(f, p[k]);
    }
    rp_search_candidate_errors(&c, n, x, w, error);
    for (int k = 0; k < RP_CANDIDATES; k++) {
        if (error[k] < best->error) {
            *best = (sub_fit){p[k], error[k]};
        }
    }
}

/* Real scales of least squares for the codes of sixteen inverse scales, as pairs of integers. */
static void line_pairs(const rp_refit *f, int64_t n, const float *x, const float *w, rp_pair *p)
{
    RP_SEARCH_ALIGNED float inverse[RP_CANDIDATES];
    rp_candidate_sums sums;
    rp_refit_range range;

    rp_refit_range_start(x[0], &range);
    for (int64_t i = 0; i < n; i++) {
        rp_refit_range_add(x[i], w == NULL ? 1.0f : w[i], &range);
    }
    for (int k = 0; k < RP_CANDIDATES; k++) {
        inverse[k] = rp_line_inverse(f, &range, k);
    }
    rp_search_candidate_sums(inverse, range.min, f->highest, n, x, w, &sums);
    for (int k = 0; k < RP_CANDIDATES; k++) {
        p[k] = rp_line_pair(f, &range, sums.l[k], sums.l2[k], sums.lx[k]);
    }
}

static void refit_line(const rp_refit *f, int64_t n, const float *x, const float *w, sub_fit *best)
{
    rp_pair p[RP_CANDIDATES];

    line_pairs(f, n, x, w, p);
    try_pairs(f, false, n, x, w, p, best);
    const rp_pair start = best->pair;
    for (int square = 0; square < 4; square++) {
        for (int k = 0; k < RP_CANDIDATES; k++) {
            p[k] = rp_square_pair(start, square % 2 * 4 - 4, square / 2 * 4 - 4, k);
        }
        try_pairs(f, false, n, x, w, p, best);
    }
}

static void refit_signed(const rp_refit *f, bool is_iq4, int64_t n, const float *x, const float *w,
                         sub_fit *best)
{
    float largest = 0.0f;
    rp_pair p[RP_CANDIDATES];

    for (int64_t i = 0; i < n; i++) {
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    }
    for (int sign = 1; sign >= -1; sign -= 2) {
        for (int k = 0; k < RP_CANDIDATES; k++) {
            p[k] = rp_signed_pair(f, largest, (float)sign, k);
        }
        try_pairs(f, is_iq4, n, x, w, p, best);
    }
}

static void kquant_refit(const rp_grid *grid, int sub, int64_t n, const float *x,
                         const float *importance, float *params)
{
    const rp_grid_ops *ops = grid->ops;
    const bool is_iq4 = ops->search->plain == RP_SEARCH_LEVELS;
    const rp_refit f = refit_of(ops, top_of(grid), params);
    float *own = params + (ops->has_min ? 2 : 1) + sub;
    sub_fit best = {{0.0f, 0.0f}, INFINITY};
    rp_pair p[RP_CANDIDATES];

    if (ops->has_min) {
        refit_line(&f, n, x, importance, &best);
    } else {
        refit_signed(&f, is_iq4, n, x, importance, &best);
    }
    for (int k = 0; k < RP_CANDIDATES; k++) {
        p[k] = rp_near_pair(f.has_min, best.pair, k);
    }
    try_pairs(&f, is_iq4, n, x, importance, p, &best);
    own[0] = best.pair.s;
    if (ops->has_min) {
        own[ops->n_sub] = best.pair.m;
    }
}

static bool is_all_zero(int64_t n, const float *v)
{
    for (int64_t i = 0; i < n; i++) {
        if (v[i] != 0.0f) {
            return false;
        }
    }
    return true;
}

/* d and dmin by the search with importance, then every sub-group's integers for them as stored. */
static void fit_batch(batch *b, const float *importance, float *params)
{
    const rp_grid_ops *ops = b->grid->ops;

    search_subs(b);
    weighted_integers(b);
    for (int k = 0; k < b->nblocks; k++, params += ops->n_params) {
        b->d[k] = rp_nearest_f16(b->exact_d[k] * ops->search->headroom);
        b->dmin[k] = rp_nearest_f16(b->exact_dmin[k] * ops->search->headroom);
        put_params(b, k, params);
        for (int sub = 0; sub < b->n_sub; sub++) {
            const int64_t at = (int64_t)sub * b->width;
            kquant_refit(b->grid, sub, b->width, b->x[k] + at,
                         importance == NULL ? NULL : importance + at, params);
        }
    }
}

static void kquant_fit(const rp_grid *grid, int64_t nrows, int64_t n, const float *x,
                       const float *importance, float *params)
{
    batch b;

    RP_ASSERT(n == BLOCK);
    if (importance != NULL && is_all_zero(n, importance)) {
        importance = NULL;
    }
    start_batch(&b, grid);
    b.kind = grid->ops->search->weighted;
    b.weight = RP_WEIGHT_IMPORTANCE;
    b.steps = &rp_search_weighted_steps;
    b.needs_sums = true;
    for (int64_t r = 0; r < nrows; r += BATCH) {
        b.nblocks = (int)RP_MIN(BATCH, nrows - r);
        for (int k = 0; k < b.nblocks; k++) {
            b.x[k] = x + (r + k) * n;
            b.importance[k] = importance;
        }
        fit_batch(&b, importance, params + r * grid->ops->n_params);
    }
}

/* Steps and offsets of rows first .. first + n - 1 of the planes. */
RP_CLONES static void row_steps(int64_t n, const float *d, const float *s, float *step)
{
    for (int64_t i = 0; i < n; i++) {
        step[i] = d[i] * s[i];
    }
}

static void kquant_round_column(const rp_grid *grid, int64_t rows, const float *params, int sub,
                                const float *x, uint8_t *code, float *decoded)
{
    const rp_grid_ops *ops = grid->ops;
    const float *scales = params + ((ops->has_min ? 2 : 1) + sub) * rows;
    const int lo = (int)ops->levels[0];
    const rp_uniform levels = {lo, lo + top_of(grid), -lo};
    float step[RP_ROUND_ROWS];
    float offset[RP_ROUND_ROWS];

    for (int64_t i = 0; i < rows; i += RP_ROUND_ROWS) {
        const int64_t n = RP_MIN(RP_ROUND_ROWS, rows - i);
        row_steps(n, params + i, scales + i, step);
        if (ops->has_min) {
            row_steps(n, params + rows + i, scales + ops->n_sub * rows + i, offset);
        }
        if (ops->search->plain == RP_SEARCH_LEVELS) {
            rp_round_iq4(n, step, x + i, code + i, decoded + i);
        } else {
            rp_round_uniform(&levels, n, step, ops->has_min ? offset : NULL, x + i, code + i,
                             decoded + i);
        }
    }
}

static void kquant_decode(const rp_grid *grid, const float *params, int64_t n, const uint8_t *code,
                          float *out)
{
    const rp_grid_ops *ops = grid->ops;
    const float *s = params + (ops->has_min ? 2 : 1);
    const int width = BLOCK / ops->n_sub;

    for (int64_t i = 0; i < n; i += width, s++) {
        const int64_t count = RP_MIN(width, n - i);
        const float step = params[0] * s[0];
        const float offset = ops->has_min ? params[1] * s[ops->n_sub] : 0.0f;
        if (ops->search->plain == RP_SEARCH_LEVELS) {
            rp_decode_levels(step, ops->levels, count, code + i, out + i);
        } else {
            rp_decode_uniform(step, offset, -(int)ops->levels[0], count, code + i, out + i);
        }
    }
}

/* ---- Types ---- */

static const struct rp_grid_search q2_search = {
    .plain = RP_SEARCH_MIN,
    .weighted = RP_SEARCH_MIN,
    .plain_weight = RP_WEIGHT_MAGNITUDE,
    .weighted_weight = RP_WEIGHT_IMPORTANCE_SIGMA,
    .plain_steps = {-0.5f, 0.1f, 15, true},
    .times = 1.0f,
    .over = (float)BLOCK,
    .packing = RP_PACKED_NIBBLES,
    .headroom = 1.0f,
};
static const struct rp_grid_search q3_search = {
    .plain = RP_SEARCH_DESCENT,
    .weighted = RP_SEARCH_SYMMETRIC,
    .plain_weight = RP_WEIGHT_SQUARE,
    .weighted_weight = RP_WEIGHT_IMPORTANCE_SIGMA,
    .times = 2.0f,
    .over = (float)BLOCK,
    .least_scale = FLT_TRUE_MIN,
    .zero_s = -32,
    .headroom = 1.0f,
};
static const struct rp_grid_search q4_search = {
    .plain = RP_SEARCH_MIN,
    .weighted = RP_SEARCH_MIN,
    .plain_weight = RP_WEIGHT_RMS,
    .weighted_weight = RP_WEIGHT_IMPORTANCE_SIGMA,
    .plain_steps = {-1.0f, 0.1f, 20, false},
    .times = 2.0f,
    .over = (float)BLOCK,
    .packing = RP_PACKED_SIX_BITS,
    .headroom = 1.05f,
};
static const struct rp_grid_search q5_search = {
    .plain = RP_SEARCH_MIN,
    .weighted = RP_SEARCH_MIN,
    .plain_weight = RP_WEIGHT_RMS,
    .weighted_weight = RP_WEIGHT_IMPORTANCE_SIGMA,
    .plain_steps = {-0.5f, 0.1f, 15, false},
    .times = 2.0f,
    .over = (float)BLOCK,
    .packing = RP_PACKED_BOUNDED,
    .headroom = 1.05f,
};
static const struct rp_grid_search q6_search = {
    .plain = RP_SEARCH_SYMMETRIC,
    .weighted = RP_SEARCH_SYMMETRIC,
    .plain_weight = RP_WEIGHT_SQUARE,
    .weighted_weight = RP_WEIGHT_IMPORTANCE,
    .linear_scales = true,
    .least_scale = RP_SEARCH_TINY,
    .zero_codes = true,
    .headroom = 1.0f,
};
static const struct rp_grid_search iq4_xs_search = {
    .plain = RP_SEARCH_LEVELS,
    .weighted = RP_SEARCH_LEVELS,
    .plain_weight = RP_WEIGHT_SQUARE,
    .weighted_weight = RP_WEIGHT_IMPORTANCE_SIGMA,
    .times = 2.0f / (float)BLOCK,
    .over = 1.0f,
    .linear_scales = true,
    .inverts_d = true,
    .headroom = 1.0f,
};

#define OPS(title, n_bits, n_subs, first_level, ...)                                               \
    {                                                                                              \
        .name = (title), .fixed_group = BLOCK, .fixed_bits = (n_bits), .n_sub = (n_subs),          \
        .levels = (first_level), .quantise = kquant_quantise, .fit = kquant_fit,                   \
        .refit = kquant_refit, .round_column = kquant_round_column, .decode = kquant_decode,       \
        __VA_ARGS__                                                                                \
    }
#define WITH_MIN(type_search, hi, n_subs)                                                          \
    .n_params = 2 + 2 * (n_subs), .has_min = true, .scale_hi = (hi), .min_hi = (hi),               \
    .search = &(type_search)
#define SIGNED(type_search, half, n_subs)                                                          \
    .n_params = 1 + (n_subs), .scale_lo = -(half), .scale_hi = (half)-1, .search = &(type_search)

const rp_grid_ops rp_grid_q2_k =
    OPS("Q2_K", 2, 16, rp_integer_levels + 128, WITH_MIN(q2_search, 15, 16));
const rp_grid_ops rp_grid_q3_k =
    OPS("Q3_K", 3, 16, rp_integer_levels + 124, SIGNED(q3_search, 32, 16));
const rp_grid_ops rp_grid_q4_k =
    OPS("Q4_K", 4, 8, rp_integer_levels + 128, WITH_MIN(q4_search, 63, 8));
const rp_grid_ops rp_grid_q5_k =
    OPS("Q5_K", 5, 8, rp_integer_levels + 128, WITH_MIN(q5_search, 63, 8));
const rp_grid_ops rp_grid_q6_k =
    OPS("Q6_K", 6, 16, rp_integer_levels + 96, SIGNED(q6_search, 128, 16));
const rp_grid_ops rp_grid_iq4_xs = OPS("IQ4_XS", 4, 8, rp_iq4_levels, SIGNED(iq4_xs_search, 32, 8));

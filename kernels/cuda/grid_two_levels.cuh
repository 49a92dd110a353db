/* Super-blocks with two levels of scales, Q2_K .. Q6_K and IQ4_XS (grid_kquant.c), by one thread or
 * by a team: its threads search the sub-groups side by side, tell one another what they found, and
 * each then chooses d and dmin for itself. A team has as many threads as sub-groups, or one. */
#ifndef RP_KERNELS_CUDA_GRID_TWO_LEVELS_CUH
#define RP_KERNELS_CUDA_GRID_TWO_LEVELS_CUH

#include "kernels/cuda/grid_search.cuh"
#include "kernels/grid_refit.h"

#define RP_MAX_SUBS 16

typedef struct rp_super {
    float scale[RP_MAX_SUBS], min[RP_MAX_SUBS]; /* as searched; min >= 0 */
    float sum[RP_MAX_SUBS];                     /* of the weights */
    int s[RP_MAX_SUBS], m[RP_MAX_SUBS];
    float exact_d, exact_dmin; /* before they are rounded */
    float d, dmin;
    bool is_zero;
} rp_super;

/* ---- Integers of the sub-groups ---- */

/* Values >= 0, the largest onto hi. Returns d. */
static inline __device__ float rp_linear_positive(int n, const float *x, int hi, int bound,
                                                  int *out)
{
    float max = 0.0f;

    for (int j = 0; j < n; j++) {
        max = x[j] > max ? x[j] : max;
    }
    const float inverse = max > 0.0f ? (float)hi / max : 0.0f;
    for (int j = 0; j < n; j++) {
        const int byte = rp_nearest_int(inverse * x[j]) & 255;
        out[j] = byte < bound ? byte : bound;
    }
    return max / (float)hi;
}

/* The value of largest magnitude onto the lowest integer. */
static inline __device__ void rp_linear_signed(const rp_device_grid &g, rp_super *b)
{
    float max = 0.0f;

    for (int j = 0; j < g.n_sub; j++) {
        max = fabsf(b->scale[j]) > fabsf(max) ? b->scale[j] : max;
    }
    const float step = max / (float)g.scale_lo;
    const float inverse = g.search.inverts_d ? rp_inverse(step) : (float)g.scale_lo / max;
    b->is_zero = fabsf(max) < g.search.least_scale;
    b->exact_d = g.search.inverts_d ? step : (b->is_zero ? 0.0f : 1.0f / inverse);
    for (int j = 0; j < g.n_sub; j++) {
        b->s[j] = b->is_zero ? g.search.zero_s
                             : rp_nearest_int_in(inverse * b->scale[j], g.scale_lo, g.scale_hi);
    }
}

/* What a reader finds of bytes beyond their bounds. */
static inline __device__ void rp_integers_of_bytes(const rp_device_grid &g, rp_super *b)
{
    const int hi = g.scale_hi;

    for (int j = g.n_sub - 1; j >= 0; j--) {
        if (g.search.packing == RP_PACKED_BOUNDED) {
            b->s[j] = b->s[j] < hi ? b->s[j] : hi;
            b->m[j] = b->m[j] < hi ? b->m[j] : hi;
        } else if (g.search.packing == RP_PACKED_NIBBLES) {
            b->m[j] |= b->s[j] >> 4;
        } else if (j >= 4) {
            b->s[j] |= b->s[j - 4] >> 6 << 4;
            b->m[j] |= b->m[j - 4] >> 6 << 4;
        }
        b->s[j] &= hi;
        b->m[j] &= hi;
    }
}

static inline __device__ float rp_take_integers(int n, const rp_found &found, int lowest, int *out)
{
    for (int j = 0; j < n; j++) {
        out[j] = (int)found.code[j][0] + lowest;
    }
    return found.scale[0];
}

static inline __device__ void rp_tile_of(int n, const float *x, const float *w, rp_tile *t)
{
    t->n = n;
    t->ngroups = 1;
    for (int j = 0; j < n; j++) {
        t->x[j][0] = x[j];
        t->w[j][0] = w[j];
    }
}

static inline __device__ void rp_weighted_integers(const rp_device_grid &g, rp_super *b)
{
    rp_tile tile;
    rp_found found;

    rp_tile_of(g.n_sub, b->scale, b->sum, &tile);
    if (g.has_min) {
        rp_search_positives(&tile, g.scale_hi, &found);
        b->exact_d = rp_take_integers(g.n_sub, found, 0, b->s);
        rp_tile_of(g.n_sub, b->min, b->sum, &tile);
        rp_search_positives(&tile, g.min_hi, &found);
        b->exact_dmin = rp_take_integers(g.n_sub, found, 0, b->m);
        rp_integers_of_bytes(g, b);
    } else {
        rp_search_any(&tile, -g.scale_lo, &found);
        b->exact_d = rp_take_integers(g.n_sub, found, g.scale_lo, b->s);
    }
}

static inline __device__ void rp_linear_integers(const rp_device_grid &g, rp_super *b)
{
    if (g.has_min) { /* Q2_K's bytes are not held to the bound here either */
        const int bound = g.search.packing == RP_PACKED_NIBBLES ? 255 : g.scale_hi;
        b->exact_d = rp_linear_positive(g.n_sub, b->scale, g.scale_hi, bound, b->s);
        b->exact_dmin = rp_linear_positive(g.n_sub, b->min, g.min_hi, bound, b->m);
        rp_integers_of_bytes(g, b);
    } else {
        rp_linear_signed(g, b);
    }
}

static inline __device__ void rp_choose_steps(const rp_device_grid &g, bool is_weighted,
                                              float headroom, rp_super *b)
{
    b->exact_dmin = 0.0f;
    b->is_zero = false;
    if (is_weighted) {
        rp_weighted_integers(g, b);
    } else {
        rp_linear_integers(g, b);
    }
    b->d = rp_nearest_f16(b->exact_d * headroom);
    b->dmin = rp_nearest_f16(b->exact_dmin * headroom);
}

/* ---- Search ---- */

/* Every thread gets what the others found. */
template <int SIZE>
static __device__ void rp_share_found(const rp_device_grid &g, const rp_team<SIZE> &team,
                                      rp_super *b)
{
    if (SIZE == 1) {
        return;
    }
    const float scale = b->scale[team.lane];
    const float min = b->min[team.lane];
    const float sum = b->sum[team.lane];
    for (int sub = 0; sub < g.n_sub; sub++) {
        b->scale[sub] = team.from(scale, sub);
        b->min[sub] = team.from(min, sub);
        b->sum[sub] = team.from(sum, sub);
    }
}

static inline __device__ void rp_keep_found(int sub, const rp_tile &tile, const rp_found &found,
                                            rp_super *b)
{
    float sum = 0.0f;

    for (int i = 0; i < tile.n; i++) {
        sum += tile.w[i][0];
    }
    b->scale[sub] = found.scale[0];
    b->min[sub] = -found.min[0];
    b->sum[sub] = sum;
}

static inline __device__ void rp_put_super(const rp_device_grid &g, int sub, float s, float m,
                                           rp_strided_mut params)
{
    rp_put(params, g.n_steps + sub, s);
    if (g.has_min) {
        rp_put(params, g.n_steps + g.n_sub + sub, m);
    }
}

static inline __device__ void rp_put_steps(const rp_device_grid &g, const rp_super &b,
                                           rp_strided_mut params)
{
    rp_put(params, 0, b.d);
    if (g.has_min) {
        rp_put(params, 1, b.dmin);
    }
}

/* ---- Rounding to nearest ---- */

static inline __device__ float rp_super_squares(const rp_device_grid &g, rp_values x)
{
    float squares = 0.0f;

    for (int sub = 0; sub < g.n_sub; sub++) {
        const rp_strided own = rp_values_sub(x, sub);
        for (int i = 0; i < (int)g.sub_cols; i++) {
            squares += rp_at(own, i) * rp_at(own, i);
        }
    }
    return squares;
}

/* Where a sub-group's step is zero the codes of the search stay. */
static inline __device__ void rp_round_sub(const rp_device_grid &g, const rp_super &b, int sub,
                                           rp_strided x, uint8_t *code)
{
    const int n = (int)g.sub_cols;
    const float s = (float)b.s[sub];
    const float step = b.d * s;
    const float offset = g.has_min ? b.dmin * (float)b.m[sub] : 0.0f;
    const float inverse = rp_inverse(b.exact_d * s); /* of IQ4 */

    for (int i = 0; i < n; i++) {
        if (g.search.zero_codes && b.is_zero) {
            code[i] = 0;
        } else if (g.is_iq4) {
            code[i] = (uint8_t)rp_iq4_code(inverse * rp_at(x, i));
        } else if (step != 0.0f) {
            const float v = (rp_at(x, i) + offset) / step;
            code[i] =
                (uint8_t)(int)(rp_any_nearest(v, g.lowest, g.lowest + (float)g.top) - g.lowest);
        }
    }
}

/* Sub-group k's codes at code[k * code_pitch]. */
template <int SIZE>
static __device__ void rp_super_quantise(const rp_device_grid &g, const rp_team<SIZE> &team,
                                         rp_values x, rp_values importance, rp_strided_mut params,
                                         uint8_t *code, int64_t code_pitch)
{
    const bool is_weighted = importance.data != NULL;
    const rp_search_weight weight = is_weighted ? g.search.weighted_weight : g.search.plain_weight;
    float sigma2 = 0.0f;
    rp_super b;

    if (weight == RP_WEIGHT_IMPORTANCE_SIGMA) {
        sigma2 = g.search.times * rp_super_squares(g, x) / g.search.over;
    }
    for (int sub = team.lane; sub < g.n_sub; sub += team.size()) {
        rp_tile tile;
        rp_found found;
        rp_load_tile((int)g.sub_cols, rp_values_sub(x, sub), rp_values_sub(importance, sub), weight,
                     sigma2, &tile);
        rp_search_group(is_weighted ? g.search.weighted : g.search.plain, g.top,
                        is_weighted ? g.weighted_steps : g.search.plain_steps, &tile, &found);
        rp_keep_found(sub, tile, found, &b);
        for (int i = 0; i < tile.n && !g.is_iq4; i++) {
            code[sub * code_pitch + i] = found.code[i][0];
        }
    }
    rp_share_found(g, team, &b);
    rp_choose_steps(g, is_weighted && !g.search.linear_scales, 1.0f, &b);
    if (team.lane == 0) {
        rp_put_steps(g, b, params);
    }
    for (int sub = team.lane; sub < g.n_sub; sub += team.size()) {
        rp_put_super(g, sub, (float)b.s[sub], g.has_min ? (float)b.m[sub] : 0.0f, params);
        rp_round_sub(g, b, sub, rp_values_sub(x, sub), code + sub * code_pitch);
    }
}

/* ---- For solvers ---- */

typedef struct rp_best_pair {
    rp_pair pair;
    float error;
} rp_best_pair;

static inline __device__ rp_refit rp_refit_of(const rp_device_grid &g, float d, float dmin)
{
    rp_refit f;

    f.d = d;
    f.dmin = dmin;
    f.has_min = g.has_min;
    f.scale_lo = (float)g.scale_lo;
    f.scale_hi = (float)g.scale_hi;
    f.min_hi = (float)g.min_hi;
    f.lowest = g.lowest;
    f.highest = g.lowest + (float)g.top;
    return f;
}

/* Keeps the first best of the pairs pair_of(0 .. RP_CANDIDATES - 1), the team's threads in turn. */
template <int SIZE, typename PAIR_OF>
static __device__ void rp_try_pairs(const rp_team<SIZE> &team, const rp_refit &f, bool is_iq4,
                                    int64_t n, const float *x, const float *w,
                                    const PAIR_OF &pair_of, rp_best_pair *best)
{
    rp_trial own = {INFINITY, RP_CANDIDATES};
    rp_pair own_pair = {0.0f, 0.0f};

    for (int k = team.lane; k < RP_CANDIDATES; k += SIZE) {
        const rp_pair p = rp_bounded_pair(&f, pair_of(k));
        const float error = rp_scale_error(rp_pair_step(&f, p), rp_pair_offset(&f, p), is_iq4,
                                           f.lowest, f.highest, n, x, w);
        if (error < own.error) {
            own.error = error;
            own.number = k;
            own_pair = p;
        }
    }
    const rp_trial first = rp_first_best(team, own);
    const rp_pair found = {team.from(own_pair.s, first.number % SIZE),
                           team.from(own_pair.m, first.number % SIZE)};
    if (first.error < best->error) {
        best->pair = found;
        best->error = first.error;
    }
}

template <int SIZE>
static __device__ void rp_refit_line(const rp_team<SIZE> &team, const rp_refit &f, int64_t n,
                                     const float *x, const float *w, rp_best_pair *best)
{
    rp_refit_range range;

    rp_refit_range_start(x[0], &range);
    for (int64_t i = 0; i < n; i++) {
        rp_refit_range_add(x[i], w == NULL ? 1.0f : w[i], &range);
    }
    rp_try_pairs(
        team, f, false, n, x, w,
        [&](int k) {
            const rp_code_sums sums =
                rp_sum_codes(rp_line_inverse(&f, &range, k), range.min, f.highest, n, x, w);
            return rp_line_pair(&f, &range, sums.l, sums.l2, sums.lx);
        },
        best);
    const rp_pair start = best->pair;
    for (int square = 0; square < 4; square++) {
        rp_try_pairs(
            team, f, false, n, x, w,
            [&](int k) { return rp_square_pair(start, square % 2 * 4 - 4, square / 2 * 4 - 4, k); },
            best);
    }
}

template <int SIZE>
static __device__ void rp_refit_signed(const rp_team<SIZE> &team, const rp_refit &f, bool is_iq4,
                                       int64_t n, const float *x, const float *w,
                                       rp_best_pair *best)
{
    float largest = 0.0f;

    for (int64_t i = 0; i < n; i++) {
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    }
    for (int sign = 1; sign >= -1; sign -= 2) {
        rp_try_pairs(
            team, f, is_iq4, n, x, w,
            [&](int k) { return rp_signed_pair(&f, largest, (float)sign, k); }, best);
    }
}

/* The integers of one sub-group x[n], w[n] (NULL: 1) for d and dmin as stored. */
template <int SIZE>
static __device__ rp_pair rp_super_refit(const rp_device_grid &g, const rp_team<SIZE> &team,
                                         float d, float dmin, int64_t n, const float *x,
                                         const float *w)
{
    const rp_refit f = rp_refit_of(g, d, dmin);
    rp_best_pair best = {{0.0f, 0.0f}, INFINITY};

    if (g.has_min) {
        rp_refit_line(team, f, n, x, w, &best);
    } else {
        rp_refit_signed(team, f, g.is_iq4, n, x, w, &best);
    }
    const rp_pair middle = best.pair;
    rp_try_pairs(
        team, f, g.is_iq4, n, x, w, [&](int k) { return rp_near_pair(f.has_min, middle, k); },
        &best);
    return best.pair;
}

/* Importances that are all zero count as none. */
static inline __device__ rp_values rp_useful_weights(const rp_device_grid &g, rp_values weight)
{
    for (int sub = 0; sub < g.n_sub && weight.data != NULL; sub++) {
        const rp_strided own = rp_values_sub(weight, sub);
        for (int i = 0; i < (int)g.sub_cols; i++) {
            if (rp_at(own, i) != 0.0f) {
                return weight;
            }
        }
    }
    weight.data = NULL;
    return weight;
}

/* d and dmin by the search with importance, then every sub-group's integers for them as stored. */
template <int SIZE>
static __device__ void rp_super_fit(const rp_device_grid &g, const rp_team<SIZE> &team, rp_values x,
                                    rp_values weight, rp_strided_mut params)
{
    const rp_team<1> alone;
    rp_tile tile;
    rp_super b = {};

    weight = rp_useful_weights(g, weight);
    for (int sub = team.lane; sub < g.n_sub; sub += team.size()) {
        rp_found found;
        rp_load_tile((int)g.sub_cols, rp_values_sub(x, sub), rp_values_sub(weight, sub),
                     RP_WEIGHT_IMPORTANCE, 0.0f, &tile);
        rp_search_group(g.search.weighted, g.top, g.weighted_steps, &tile, &found);
        rp_keep_found(sub, tile, found, &b);
    }
    rp_share_found(g, team, &b);
    rp_choose_steps(g, true, g.search.headroom, &b);
    if (team.lane == 0) {
        rp_put_steps(g, b, params);
    }
    for (int sub = team.lane; sub < g.n_sub; sub += team.size()) {
        if (SIZE == 1) {
            rp_load_tile((int)g.sub_cols, rp_values_sub(x, sub), rp_values_sub(weight, sub),
                         RP_WEIGHT_IMPORTANCE, 0.0f, &tile);
        }
        const rp_pair p =
            rp_super_refit(g, alone, b.d, b.dmin, tile.n, &tile.x[0][0], &tile.w[0][0]);
        rp_put_super(g, sub, p.s, p.m, params);
    }
}

#endif

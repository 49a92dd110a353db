/* The searches for scales and minima behind GGUF's grids, many groups side by side.
 *
 * Source: ggml's make_qx_quants, make_q3_quants, make_qkx2_quants, make_qkx3_quants, make_qp_quants
 * and the search of its IQ4 types (src/ggml-quants.c of ggml-org/ggml), reimplemented from their
 * description. All arithmetic is fp32 in the same order, without contraction, so that results are
 * the same bits. */
#ifndef RP_KERNELS_GRID_SEARCH_H
#define RP_KERNELS_GRID_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RP_SEARCH_MAX 32      /* values of a group */
#define RP_SEARCH_GROUPS 64   /* groups of a tile */
#define RP_SEARCH_TINY 1e-15f /* a group whose largest magnitude is below is all zeros */
#define RP_SEARCH_TILES 4     /* of one call */
#define RP_SEARCH_ROWS 16
#define RP_SEARCH_ALIGNED __attribute__((aligned(64)))

/* x[i][k] and w[i][k]: value i of group k and its weight. Groups from ngroups on are zeros. */
typedef struct rp_search_tile {
    int n, ngroups;
    RP_SEARCH_ALIGNED float x[RP_SEARCH_MAX][RP_SEARCH_GROUPS];
    float w[RP_SEARCH_MAX][RP_SEARCH_GROUPS];
} rp_search_tile;

/* Values of group k are about scale[k] * (code[i][k] - half) or scale * code + min, min <= 0. */
typedef struct rp_search_result {
    RP_SEARCH_ALIGNED float scale[RP_SEARCH_GROUPS];
    float min[RP_SEARCH_GROUPS];
    uint8_t code[RP_SEARCH_MAX][RP_SEARCH_GROUPS];
} rp_search_result;

/* Inverse scales (first + step * i + top) / (max - min), i = 0 .. last. */
typedef struct rp_search_steps {
    float first, step;
    int last;
    bool absolute; /* errors are |e|, not e^2 */
} rp_search_steps;

/* How the weights of a search come about from values and importance v. */
typedef enum rp_search_weight {
    RP_WEIGHT_IMPORTANCE,       /* v; 1 without importance */
    RP_WEIGHT_IMPORTANCE_SIGMA, /* v sqrt(sigma^2 + x^2) */
    RP_WEIGHT_MAGNITUDE,        /* |x| */
    RP_WEIGHT_RMS,              /* root mean square of the group + |x| */
    RP_WEIGHT_SQUARE,           /* x^2 */
} rp_search_weight;

typedef enum rp_search_kind {
    RP_SEARCH_SYMMETRIC, /* codes 0 .. 2 half - 1 by the best of 19 inverse scales (make_qx_quants)
                          */
    RP_SEARCH_DESCENT,   /* the same by coordinate descent; weights are squares (make_q3_quants) */
    RP_SEARCH_MIN,       /* codes 0 .. top with a minimum (make_qkx2_quants, make_qkx3_quants) */
    RP_SEARCH_LEVELS,    /* IQ4's sixteen levels; gives no codes */
} rp_search_kind;

/* How ggml packs the integers of sub-groups, which shows where they are beyond their bounds. */
typedef enum rp_search_packing {
    RP_PACKED_BOUNDED,
    RP_PACKED_NIBBLES,  /* s and m in a byte */
    RP_PACKED_SIX_BITS, /* the upper bits of one in the byte of another */
} rp_search_packing;

/* What differs between types. sigma^2 = times * (sum of squares) / over. */
struct rp_grid_search {
    rp_search_kind plain, weighted; /* without and with importance */
    rp_search_weight plain_weight, weighted_weight;
    rp_search_steps plain_steps;
    float times, over;
    /* Two levels: */
    bool linear_scales; /* the largest sub-scale onto the lowest integer, also with importance */
    bool inverts_d;     /* by 1 / d, not by the quotient that d is the inverse of */
    float least_scale;  /* block of zeros: no sub-scale has this magnitude */
    int zero_s;         /* its sub-scales */
    bool zero_codes;    /* and its codes are 0, not those of the search */
    rp_search_packing packing;
    float headroom; /* of d and dmin in fit, for sub-scales that are refitted later */
};

/* The steps of every search with importance. */
extern const rp_search_steps rp_search_weighted_steps;

/* All local. Group k of the tile from x[k] [n] and importance[k] [n] (NULL: none), k < ngroups; n a
 * multiple of 4. sigma2 [ngroups]: of RP_WEIGHT_IMPORTANCE_SIGMA. */
void rp_search_load(rp_search_tile *tile, int n, int ngroups, const float *const *x,
                    const float *const *importance, rp_search_weight weight, const float *sigma2);
/* out [count]: the sums of the squares of x[k] [n], in their order; n a multiple of 4, count at
 * most RP_SEARCH_ROWS. */
void rp_search_squares(int count, int64_t n, const float *const *x, float *out);
/* Sums of the tile's weights [ngroups]. */
void rp_search_sum_weights(const rp_search_tile *tile, float *out);

/* tiles and out [ntiles], ntiles <= RP_SEARCH_TILES. top: the largest code; half: (top + 1) / 2.
 * steps: of RP_SEARCH_MIN. */
void rp_search_run(rp_search_kind kind, int ntiles, const rp_search_tile *tiles, int top,
                   const rp_search_steps *steps, rp_search_result *out);
/* The same for codes of 2 half levels of what a search found, which need not be finite. */
void rp_search_any_symmetric(const rp_search_tile *tile, int half, rp_search_result *out);
/* Values >= 0 with codes 0 .. top and no minimum (make_qp_quants). */
void rp_search_positive(const rp_search_tile *tile, int top, rp_search_result *out);

#define RP_CANDIDATES 16

/* Scales tried for one group: value = step * level - offset, levels lo .. hi or those of IQ4. */
typedef struct rp_candidates {
    RP_SEARCH_ALIGNED float step[RP_CANDIDATES];
    float offset[RP_CANDIDATES];
    bool is_iq4;
    float lo, hi;
} rp_candidates;

/* Weighted sums of l, l^2, l x for the codes l of every candidate. */
typedef struct rp_candidate_sums {
    RP_SEARCH_ALIGNED float l[RP_CANDIDATES];
    float l2[RP_CANDIDATES], lx[RP_CANDIDATES];
} rp_candidate_sums;

/* error [RP_CANDIDATES], aligned as theirs: weighted squares for x[n], w[n] (NULL: 1). */
void rp_search_candidate_errors(const rp_candidates *c, int64_t n, const float *x, const float *w,
                                float *error);
/* inverse [RP_CANDIDATES], aligned: codes 0 .. top of (x - min) * inverse. */
void rp_search_candidate_sums(const float *inverse, float min, float top, int64_t n, const float *x,
                              const float *w, rp_candidate_sums *out);

/* Codes 0 .. hi - lo of x[ngroups * n], n a multiple of 16: the nearest of (x + offset) / step, one
 * step and offset a group. Groups whose step is 0 are left alone. */
void rp_search_round(int ngroups, int n, const float *step, const float *offset, float lo, float hi,
                     const float *x, uint8_t *code);

/* Blocks of 32 values rounded to nearest without a search. params: fp16 values {d} or {d, m}. */
void rp_plain_q8(int64_t nblocks, const float *x, float *params, uint8_t *codes);
/* codes 0 .. 2 half - 1 */
void rp_plain_symmetric(int64_t nblocks, int half, const float *x, float *params, uint8_t *codes);
void rp_plain_min(int64_t nblocks, int top, const float *x, float *params, uint8_t *codes);

/* The same in vectors of one width; what the functions above call. */
typedef struct rp_search_functions {
    void (*symmetric)(const rp_search_tile *t, int half, bool is_finite, rp_search_result *out);
    void (*descent)(int ntiles, const rp_search_tile *tiles, int half, rp_search_result *out);
    void (*positive)(const rp_search_tile *t, int top, rp_search_result *out);
    void (*min)(const rp_search_tile *t, int top, const rp_search_steps *steps,
                rp_search_result *out);
    void (*levels)(const rp_search_tile *t, rp_search_result *out);
    void (*candidate_errors)(const rp_candidates *c, int64_t n, const float *x, const float *w,
                             float *error);
    void (*candidate_sums)(const float *inverse, float min, float top, int64_t n, const float *x,
                           const float *w, rp_candidate_sums *out);
    void (*round_groups)(int ngroups, int n, const float *step, const float *offset, float lo,
                         float hi, const float *x, uint8_t *code);
    void (*plain_q8)(int64_t nblocks, const float *x, float *params, uint8_t *codes);
    void (*plain_symmetric)(int64_t nblocks, int half, const float *x, float *params,
                            uint8_t *codes);
    void (*plain_min)(int64_t nblocks, int top, const float *x, float *params, uint8_t *codes);
} rp_search_functions;

/* Local. Those of 4, 8 or 16 lanes, for tests; NULL where this processor has none. */
const rp_search_functions *rp_search_functions_of(int lanes);

#ifdef __cplusplus
}
#endif
#endif

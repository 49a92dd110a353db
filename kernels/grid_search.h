/* The searches for scales and minima behind GGUF's grids, sixteen groups at a time.
 *
 * Source: ggml's make_qx_quants, make_q3_quants, make_qkx2_quants, make_qkx3_quants, make_qp_quants
 * and the search of its IQ4 types (src/ggml-quants.c of ggml-org/ggml), reimplemented from their
 * description. All arithmetic is fp32 in the same order, without contraction, so that results are
 * the same bits. */
#ifndef RP_KERNELS_GRID_SEARCH_H
#define RP_KERNELS_GRID_SEARCH_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/lanes.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_SEARCH_MAX 32      /* values of a group */
#define RP_SEARCH_TINY 1e-15f /* a group whose largest magnitude is below is all zeros */

/* Lane k of x[i] and w[i]: value i of group k and its weight. */
typedef struct rp_search_tile {
    int n; /* values of a group */
    rp_lanes x[RP_SEARCH_MAX], w[RP_SEARCH_MAX];
} rp_search_tile;

/* One lane a group. Values are about scale * (code - half) or scale * code + min, min <= 0. */
typedef struct rp_search_result {
    rp_lanes scale, min;
    uint8_t code[RP_SEARCH_MAX][RP_LANES];
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
    RP_SEARCH_DESCENT,   /* the same codes by coordinate descent (make_q3_quants) */
    RP_SEARCH_MIN,       /* codes 0 .. top with a minimum (make_qkx2_quants, make_qkx3_quants) */
    RP_SEARCH_LEVELS,    /* IQ4's sixteen levels; gives no codes */
} rp_search_kind;

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
    float headroom;     /* of d and dmin in fit, for sub-scales that are refitted later */
};

/* The steps of every search with importance. */
extern const rp_search_steps rp_search_weighted_steps;

/* All local. Lane k of the tile from x[k] [n] and importance[k] [n] (NULL: none). */
void rp_search_load(rp_search_tile *tile, int n, const float *const *x,
                    const float *const *importance, rp_search_weight weight,
                    const rp_lanes *sigma2);
/* out: lane k is the sum of the squares of x[k] [n], in their order; n a multiple of 4. */
void rp_search_squares(int64_t n, const float *const *x, rp_lanes *out);
/* Sum of the tile's weights, a lane a group. */
void rp_search_sum_weights(const rp_search_tile *tile, rp_lanes *out);

/* top: the largest code; half: (top + 1) / 2. steps: of RP_SEARCH_MIN. */
void rp_search_run(rp_search_kind kind, const rp_search_tile *tile, int top,
                   const rp_search_steps *steps, rp_search_result *out);
/* Values >= 0 with codes 0 .. top and no minimum (make_qp_quants). */
void rp_search_positive(const rp_search_tile *tile, int top, rp_search_result *out);

#ifdef __cplusplus
}
#endif
#endif

/* Inside of coordinate descent: the block in hand, which its moves share. */
#ifndef RP_METHODS_DESCENT_PRIVATE_H
#define RP_METHODS_DESCENT_PRIVATE_H

#include "kernels/product.h"
#include "methods/descent.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_DESCENT_MAX_SUB 32 /* columns of a sub-group */

/* h [block][block]    g, u, hu, change [block][ld]    vectors [ld] */
typedef struct rp_descent {
    rp_descent_tile t;
    const rp_grid_ops *ops;
    int64_t cols, block, group, sub;
    bool has_lines; /* parameters move, too */
    int64_t a, n;   /* the block in hand: columns a .. a + n - 1 by t */
    float *h, *g, *u, *hu, *change;
    float *dot, *curvature, *step, *decoded;
    float *multiplier; /* [block] */
    uint8_t *code;     /* [ld] */
    /* Of a sub-group's search: */
    float *target, *left; /* [sub][ld] */
    float *loss, *best, *s_best, *m_best, *s_kept, *m_kept;
    uint8_t *trial_code, *best_code; /* [sub][ld] */
    double gain;
} rp_descent;

/* All local. to [m][ld] = left [m, k] from [k][ld], or added to it. */
void rp_descent_multiply(const rp_descent *s, int64_t m, int64_t k, rp_left left, const float *from,
                         rp_product_use use, float *to);
/* The block's part of H, from row i and column j of the block. */
rp_left rp_descent_h(const rp_descent *s, int64_t i, int64_t j);
/* out [ld] = sum over i < n of x[i] * y[i]. */
void rp_descent_dot(int64_t ld, int64_t n, const float *x, const float *y, float *out);
/* Columns lo .. lo + n - 1 of the block have changed by change[n]: what that does to the gradient
 * of columns 0 .. until - 1. */
void rp_descent_push(const rp_descent *s, int64_t lo, int64_t n, const float *change,
                     int64_t until);
/* Errors of column i of the block. */
float *rp_descent_error(const rp_descent *s, int64_t i);
/* Parameters of the group that column i of the block belongs to: [n_params][rows]. */
float *rp_descent_params(const rp_descent *s, int64_t i);

/* A sub-group's integers together with its codes: columns lo .. lo + sub - 1 of the block. */
void rp_descent_search_sub(rp_descent *s, int64_t lo);

#ifdef __cplusplus
}
#endif
#endif

/* Grids on a GPU: what grid->ops is on the processor (kernels/grid.h), with its bits.
 *
 * The functions here run on whole matrices and choose the threads; those of one thread for one
 * group of one row, for kernels that round as they go, are in grid_cuda.cuh. */
#ifndef RP_KERNELS_CUDA_GRID_CUDA_H
#define RP_KERNELS_CUDA_GRID_CUDA_H

#include "kernels/gpu.h"
#include "kernels/grid.h"
#include "kernels/grid_search.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Value i at data[i * stride]. */
typedef struct rp_strided {
    const float *data; /* weights: NULL, all are 1 */
    int64_t stride;
} rp_strided;
typedef struct rp_strided_mut {
    float *data;
    int64_t stride;
} rp_strided_mut;

/* Which arithmetic. */
typedef enum rp_grid_kind {
    RP_GRID_AFFINE,
    RP_GRID_SYMMETRIC, /* Q4_0, Q5_0 */
    RP_GRID_MIN,       /* Q4_1, Q5_1 */
    RP_GRID_Q8,
    RP_GRID_IQ4_NL,
    RP_GRID_MXFP4,
    RP_GRID_TERNARY,
    RP_GRID_TWO_LEVELS, /* Q2_K .. Q6_K, IQ4_XS */
    RP_GRID_KINDS
} rp_grid_kind;

/* A grid by value, as kernels take it. */
typedef struct rp_device_grid {
    rp_grid_kind kind;
    int bits, top; /* the largest code of all levels */
    bool is_symmetric, mse, has_min, is_iq4;
    int zero_min;
    rp_dtype scale_type;
    int64_t group, sub_cols; /* columns */
    int n_params, n_sub;
    int n_steps; /* params before the integers of sub-groups: d, or d and dmin or m */
    int scale_lo, scale_hi, min_hi;
    float lowest; /* level of code 0 where levels are uniform */
    struct rp_grid_search search;
    rp_search_steps weighted_steps; /* of every search with importance */
} rp_device_grid;

/* Local. The grid of rows of cols columns. */
rp_device_grid rp_device_grid_of(const rp_grid *grid, int64_t cols);

/* Local. All on the GPU's stream; pointers lie in its memory. ops->quantise: x [rows, cols]
 * contiguous, importance [cols] or NULL, params [rows, ngroups, n_params], codes [rows, cols]. */
void rp_quantise_rows_cuda(rp_gpu *gpu, const rp_device_grid *grid, int64_t rows, int64_t cols,
                           const float *x, const float *importance, float *params, uint8_t *codes);
/* Local. ops->fit for one group of n columns of every row: value i of row r at
 * x.data[i * x.stride + r], its weight at weight.data[i * weight.stride], parameter p at
 * params[p * ld + r]. */
void rp_fit_groups_cuda(rp_gpu *gpu, const rp_device_grid *grid, int64_t rows, int64_t n,
                        rp_strided x, rp_strided weight, float *params, int64_t ld);
/* Local. ops->refit in the same way; two levels only. */
void rp_refit_groups_cuda(rp_gpu *gpu, const rp_device_grid *grid, int sub, int64_t rows, int64_t n,
                          rp_strided x, rp_strided weight, float *params, int64_t ld);

#ifdef __cplusplus
}
#endif
#endif

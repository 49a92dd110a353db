/* Inside of coordinate descent on a piece: the block of columns in hand, as kernels see it. */
#ifndef RP_KERNELS_CUDA_DESCENT_CUDA_CUH
#define RP_KERNELS_CUDA_DESCENT_CUDA_CUH

#include "kernels/cuda/solve_piece.cuh"

#define RP_MAX_SUB 32 /* columns of a sub-group */

typedef struct rp_descent_view {
    rp_piece t;
    rp_descent_scratch s;
    int64_t a, n; /* columns a .. a + n - 1 by t */
} rp_descent_view;

/* H of columns i and j of the block. */
static inline __device__ float rp_view_h(const rp_descent_view &v, int64_t i, int64_t j)
{
    return v.s.h[i * v.s.block + j];
}

/* Original number of column i of the block, without act-order. */
static inline __device__ int rp_view_column(const rp_descent_view &v, int64_t i)
{
    return (int)(v.t.cols - 1 - (v.a + i));
}

/* Where column i of the block is, of row r, in w or delta. */
static inline __device__ int64_t rp_view_at(const rp_descent_view &v, int64_t i, int64_t r)
{
    return (v.a + i) * v.t.ld + r;
}

/* Of grids whose parameters move. */
static inline __device__ float rp_view_level(const rp_descent_view &v, int code)
{
    return v.t.grid.is_iq4 ? rp_iq4_level(code) : v.t.grid.lowest + (float)code;
}

/* All local. Columns lo .. lo + n - 1 of the block have changed by u [n]: what that does to the
 * gradient of columns 0 .. until - 1. */
void rp_descent_push_cuda(rp_gpu *gpu, const rp_descent_view *v, int64_t lo, int64_t n,
                          int64_t until);
/* Factors of all sub-groups' parts of H, for the searches of a run. */
int64_t rp_descent_factor_floats(const rp_piece *t);
void rp_descent_factor_subs(rp_gpu *gpu, const rp_descent_view *v);
/* A sub-group's integers together with its codes: columns lo .. lo + sub - 1 of the block. */
void rp_descent_search_sub_cuda(rp_gpu *gpu, const rp_descent_view *v, int64_t lo);

#endif

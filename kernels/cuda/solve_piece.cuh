/* A piece in hand of a solver, in the scratch: rows of matrices that share grid and factor,
 * transposed. A column is `ld` contiguous floats, and every kernel has one thread a row. Rows do
 * not depend on each other: what comes out of one has the same bits whatever the others are. Index
 * t runs over columns as the factor numbers them.
 *
 * Columns are solved in units of RP_UNIT_COLS: a kernel holds the unit's part of the factor in
 * shared memory and sums in registers. What lazy blocks owe one another is a product. */
#ifndef RP_KERNELS_CUDA_SOLVE_PIECE_CUH
#define RP_KERNELS_CUDA_SOLVE_PIECE_CUH

#include "base/mem.h"
#include "kernels/cuda/gpu_private.h"
#include "kernels/cuda/grid_cuda.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/product_cuda.h"
#include "kernels/ops.h"

#define RP_UNIT_THREADS 32  /* one warp, so that few rows keep many multiprocessors busy */
#define RP_CELL_THREADS 256 /* where rows and columns are independent */

typedef struct rp_piece {
    rp_device_grid grid;
    int64_t rows, ld, cols;
    int group, sub; /* columns */
    float *w;       /* [cols][ld] by t: the target; dead columns 0 */
    float *delta;   /* [cols][ld] by t: target - decoded */
    float *params;  /* [ngroups][n_params][ld] */
    uint8_t *codes; /* [cols][ld] by original column */
    double *loss;   /* [ld] of each row */
    const float *l; /* the factor's, and below its vectors */
    float *d, *diagonal;
    float *weight; /* [cols] by original column: of the errors where parameters are fitted */
    int32_t *order;
    uint8_t *is_dead;
} rp_piece;

/* Hands out the scratch in parts; base NULL measures. */
typedef struct rp_carver {
    char *base;
    size_t at;
} rp_carver;

template <typename T> static void rp_carve(rp_carver *c, T **out, int64_t count)
{
    *out = c->base == NULL ? NULL : (T *)(void *)(c->base + c->at);
    c->at += RP_DIV_UP((size_t)count * sizeof(T), 256) * 256;
}

/* Local. Blocks of so many threads for all rows. */
static inline unsigned rp_piece_blocks(const rp_piece *t, int threads)
{
    return rp_gpu_blocks(t->rows, threads);
}

static inline __device__ int64_t rp_piece_row(void)
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

/* Parameters of row r's group that an original column belongs to. */
static inline __device__ rp_strided_mut rp_piece_params(const rp_piece &t, int column, int64_t r)
{
    const int64_t first = (int64_t)(column / t.group) * t.grid.n_params;
    const rp_strided_mut params = {t.params + first * t.ld + r, t.ld};
    return params;
}

static inline __device__ rp_strided rp_read_only(rp_strided_mut x)
{
    const rp_strided same = {x.data, x.stride};
    return same;
}

static inline __device__ int rp_piece_sub(const rp_piece &t, int column)
{
    return column % t.group / t.sub;
}

/* GPTQ's memory beside the piece's. */
typedef struct rp_gptq_scratch {
    float *p; /* [block][ld] */
    float *x; /* [group][ld] */
} rp_gptq_scratch;

/* All local. */
void rp_gptq_carve(rp_carver *c, const rp_piece *t, int64_t block, rp_gptq_scratch *out);
/* Codes, parameters, delta and each row's loss of a loaded piece. `task`: any of the piece's. */
void rp_gptq_run(rp_gpu *gpu, const rp_piece *t, const rp_tile_solve *task,
                 const rp_gptq_scratch *s);

/* Coordinate descent's memory beside the piece's. */
typedef struct rp_descent_scratch {
    int64_t block;  /* columns */
    float *h;       /* [block][block] */
    float *g;       /* [block][ld] */
    float *factor;  /* of all sub-groups */
    double *gain;   /* [ld] of a sweep */
    int *has_moved; /* did any row gain in the sweep */
} rp_descent_scratch;

void rp_descent_carve(rp_carver *c, const rp_piece *t, const rp_grid *grid,
                      rp_descent_scratch *out);
/* At most `sweeps` passes of methods/descent.c. Each row's loss falls by what it gains. */
void rp_descent_run_cuda(rp_gpu *gpu, const rp_piece *t, const rp_tile_solve *task,
                         const rp_descent_scratch *s);

#endif

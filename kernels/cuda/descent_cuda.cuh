/* Inside of coordinate descent on a piece: the block of columns in hand, as kernels see it, and
 * what a block of threads shares.
 *
 * A move couples the columns of a block by the row's own gradient alone. So one block of threads
 * makes all the moves of 32 rows, a thread a row and warp: the first warp decides what depends on
 * what was decided before, then each pushes what changed into the gradient of a unit of 32 columns.
 * Chains of sums are those of kernels/product.h. */
#ifndef RP_KERNELS_CUDA_DESCENT_CUDA_CUH
#define RP_KERNELS_CUDA_DESCENT_CUDA_CUH

#include "kernels/cuda/product_tile.cuh"
#include "kernels/cuda/solve_piece.cuh"

#define RP_MAX_SUB 32      /* columns of a sub-group */
#define RP_DESCENT_WARPS 8 /* each has a unit of a block of columns */
#define RP_DESCENT_THREADS (RP_DESCENT_WARPS * RP_UNIT_THREADS)
#define RP_DESCENT_COLS (RP_DESCENT_WARPS * RP_UNIT_COLS)

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

/* ---- Pushing ---- */

/* Columns of the rows of a block of threads, or H of columns that changed and of a warp's. */
typedef struct rp_unit {
    float at[RP_UNIT_COLS][RP_UNIT_THREADS];
} rp_unit;
static_assert(RP_UNIT_COLS == RP_UNIT_THREADS, "a thread a column");

/* A thread's part of 32 columns of 32 rows. */
typedef struct rp_cells {
    float at[RP_TILE_OWN_M][RP_TILE_OWN_N];
} rp_cells;

/* Its first column and row. */
static inline __device__ int rp_cells_column(void)
{
    return (int)threadIdx.x / 8 * RP_TILE_OWN_M;
}

static inline __device__ int rp_cells_row(void)
{
    return (int)threadIdx.x % 8 * RP_TILE_OWN_N;
}

/* First column of the warp's unit. */
static inline __device__ int rp_own_unit(void)
{
    return (int)threadIdx.y * RP_UNIT_COLS;
}

/* Does the warp push into columns before `until`. */
static inline __device__ bool rp_pushes(int64_t until)
{
    return rp_own_unit() < until;
}

/* tile := H of columns lo .. lo + n - 1 and 32 columns from `to` on, 0 beyond the block. Whole
 * warps. */
static inline __device__ void rp_load_h(const rp_descent_view &v, int64_t lo, int n, int64_t to,
                                        rp_unit *tile)
{
    const int64_t column = to + threadIdx.x;

    __syncwarp(); /* nobody needs what is there */
    RP_UNROLL(8)
    for (int k = 0; k < n; k++) {
        tile->at[k][threadIdx.x] = column < v.n ? rp_view_h(v, lo + k, column) : 0.0f;
    }
    __syncwarp();
}

/* sums += H of the unit times n columns u, by the tile. */
static inline __device__ void rp_multiply_tile(const rp_unit *tile, int n,
                                               const float (*u)[RP_UNIT_THREADS], rp_cells *sums)
{
    rp_tile_multiply(n, &tile->at[0][rp_cells_column()], RP_UNIT_COLS, &u[0][rp_cells_row()],
                     RP_UNIT_THREADS, sums->at);
}

/* The thread's first n columns in `to` [column][ld] := sums added to what is there, or to 0. */
static inline __device__ void rp_add_cells(const rp_cells *sums, bool accumulate, int64_t n,
                                           int64_t ld, float *to)
{
    enum { AT_ONCE = 4 }; /* on their way from memory: more take registers */

    RP_UNROLL(2)
    for (int first = 0; first < RP_TILE_OWN_M; first += AT_ONCE) {
        float4 old[AT_ONCE] = {};
        RP_UNROLL(4)
        for (int i = 0; i < AT_ONCE; i++) {
            if (accumulate && first + i < n) {
                old[i] = *reinterpret_cast<const float4 *>(to + (first + i) * ld);
            }
        }
        RP_UNROLL(4)
        for (int i = 0; i < AT_ONCE; i++) {
            const float *sum = sums->at[first + i];
            if (first + i < n) {
                *reinterpret_cast<float4 *>(to + (first + i) * ld) = make_float4(
                    old[i].x + sum[0], old[i].y + sum[1], old[i].z + sum[2], old[i].w + sum[3]);
            }
        }
    }
}

/* G of the unit's columns before `until` += sums. */
static inline __device__ void rp_add_to_gradient(const rp_descent_view &v, int64_t until,
                                                 const rp_cells *sums)
{
    const int first = rp_own_unit() + rp_cells_column();
    const int64_t row = (int64_t)blockIdx.x * RP_UNIT_THREADS + rp_cells_row();

    rp_add_cells(sums, true, until - first, v.t.ld, v.s.g + first * v.t.ld + row);
}

/* G of the columns before `until` += what n <= 32 columns do that changed by u; every warp that
 * pushes has loaded its tile. */
static inline __device__ void rp_push_unit(const rp_descent_view &v, int n,
                                           const float (*u)[RP_UNIT_THREADS], int64_t until,
                                           const rp_unit *tiles)
{
    rp_cells sums = {};

    if (rp_pushes(until)) {
        rp_multiply_tile(&tiles[threadIdx.y], n, u, &sums);
        rp_add_to_gradient(v, until, &sums);
    }
}

/* ---- Launches ---- */

/* A kernel for all rows of the piece; `memory`: what a block of threads shares. */
#define RP_LAUNCH_DESCENT(gpu, kernel, memory, piece, ...)                                         \
    RP_LAUNCH(gpu, kernel, rp_piece_blocks(&(piece), RP_UNIT_THREADS),                             \
              dim3(RP_UNIT_THREADS, RP_DESCENT_WARPS), sizeof(memory), __VA_ARGS__)

/* All local. Factors of all sub-groups' parts of H, for the searches of a run. */
int64_t rp_descent_factor_floats(const rp_piece *t);
void rp_descent_factor_subs(rp_gpu *gpu, const rp_descent_view *v);
/* The integers of each sub-group of the group at columns lo .. of the block, together with its
 * codes. */
void rp_descent_search_subs(rp_gpu *gpu, const rp_descent_view *v, int64_t lo);
/* d, and the minimum, of each of the groups at columns lo .. lo + n - 1 of the block. */
void rp_descent_search_lines(rp_gpu *gpu, const rp_descent_view *v, int64_t lo, int64_t n);

#endif

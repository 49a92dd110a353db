/* From exact integer sums to the LDL factor and solves with it; kernels/cpu/symmetric_cpu.c defines
 * what they mean.
 *
 * A row-major matrix is a column-major one transposed: the lower triangle here is cuBLAS' and
 * cuSOLVER's upper one. */
#include "kernels/cuda/ops_cuda.h"

#include "base/mem.h"
#include "kernels/cuda/gpu_private.h"
#include "kernels/cuda/launch.h"
#include "kernels/place.h"

enum { THREADS = 256, TILE = 32, TILE_ROWS = 8 };
#define MAX_GRID_Y 65535
#define FACTOR_COLS 512 /* of the Cholesky factorisation at once */

/* Threads along the columns, blocks down the rows (kernels stride over what is beyond the grid). */
static dim3 cell_grid(int64_t rows, int64_t cols)
{
    return dim3(rp_gpu_blocks(cols, THREADS), (unsigned)RP_MIN(rows, MAX_GRID_Y));
}

static __device__ int64_t column_of_thread(void)
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

/* ---- Sums ---- */

static __global__ void triangle_kernel(int64_t *square, int64_t n, int64_t first, int64_t end,
                                       int64_t *packed, bool is_packing)
{
    const int64_t j = column_of_thread();

    for (int64_t i = first + blockIdx.y; i < end; i += gridDim.y) {
        const int64_t at = i * (i + 1) / 2 - first * (first + 1) / 2 + j;
        if (j <= i && is_packing) {
            packed[at] = square[i * n + j];
        } else if (j <= i) {
            square[i * n + j] = packed[at];
        }
    }
}

extern "C" void rp_triangle_cuda(const rp_exec *exec, int64_t *square, int64_t n, int64_t first,
                                 int64_t end, int64_t *packed, bool is_packing)
{
    if (first < end) {
        RP_LAUNCH(exec->gpu, triangle_kernel, cell_grid(end - first, end), THREADS, 0, square, n,
                  first, end, packed, is_packing);
    }
}

static __global__ void gram_mean_kernel(int64_t n, int64_t *sum, const int *exponent, int shift,
                                        double n_tokens, const uint8_t *is_dead, double *diagonal)
{
    const int64_t j = column_of_thread();

    for (int64_t i = blockIdx.y; i < n; i += gridDim.y) {
        if (j <= i) {
            double value =
                ldexp((double)sum[i * n + j], exponent[i] + exponent[j] - shift) / n_tokens;
            if (i == j) {
                value = is_dead[i] != 0 ? 1 : value;
                diagonal[i] = value;
            }
            ((double *)sum)[i * n + j] = value;
        }
    }
}

extern "C" void rp_gram_mean_cuda(const rp_exec *exec, int64_t n, int64_t *sum, const int *exponent,
                                  int shift, int64_t n_tokens, const uint8_t *is_dead,
                                  double *diagonal)
{
    rp_gpu_pieces scratch = {exec->gpu, 0};
    const int *exponent_d = rp_gpu_take_put(&scratch, exponent, n);
    const uint8_t *is_dead_d = rp_gpu_take_put(&scratch, is_dead, n);
    double *diagonal_d = rp_gpu_take<double>(&scratch, n);

    RP_LAUNCH(exec->gpu, gram_mean_kernel, cell_grid(n, n), THREADS, 0, n, sum, exponent_d, shift,
              (double)n_tokens, is_dead_d, diagonal_d);
    rp_place_get(exec, diagonal, diagonal_d, (size_t)n * sizeof(double));
}

/* ---- Order ---- */

static __global__ void permute_upper_kernel(int64_t n, double *h, const int32_t *order)
{
    const int64_t t = column_of_thread();

    for (int64_t s = blockIdx.y; s < n; s += gridDim.y) {
        if (s < t && t < n) {
            const int64_t i = RP_MAX(order[s], order[t]);
            const int64_t j = RP_MIN(order[s], order[t]);
            h[s * n + t] = h[i * n + j];
        }
    }
}

extern "C" void rp_permute_upper_cuda(const rp_exec *exec, int64_t n, double *h,
                                      const int32_t *order)
{
    rp_gpu_pieces scratch = {exec->gpu, 0};
    const int32_t *order_d = rp_gpu_take_put(&scratch, order, n);

    RP_LAUNCH(exec->gpu, permute_upper_kernel, cell_grid(n, n), THREADS, 0, n, h, order_d);
}

/* One tile of the upper triangle, through shared memory, to its place below. */
static __global__ void mirror_lower_kernel(int64_t n, double *h, const double *diagonal)
{
    __shared__ double tile[TILE][TILE + 1];
    const int64_t i0 = (int64_t)blockIdx.y * TILE;
    const int64_t j0 = (int64_t)blockIdx.x * TILE;

    if (j0 < i0) {
        return;
    }
    for (int64_t k = threadIdx.y; k < TILE; k += TILE_ROWS) {
        if (i0 + k < n && j0 + threadIdx.x < n) {
            tile[k][threadIdx.x] = h[(i0 + k) * n + j0 + threadIdx.x];
        }
    }
    __syncthreads();
    for (int64_t k = threadIdx.y; k < TILE; k += TILE_ROWS) {
        const int64_t row = j0 + k;
        const int64_t column = i0 + threadIdx.x;
        if (row < n && column < row) {
            h[row * n + column] = tile[threadIdx.x][k];
        } else if (row < n && column == row) {
            h[row * n + column] = diagonal[row];
        }
    }
}

extern "C" void rp_mirror_lower_cuda(const rp_exec *exec, int64_t n, double *h,
                                     const double *diagonal)
{
    rp_gpu_pieces scratch = {exec->gpu, 0};
    const double *diagonal_d = rp_gpu_take_put(&scratch, diagonal, n);
    const unsigned tiles = rp_gpu_blocks(n, TILE);

    RP_LAUNCH(exec->gpu, mirror_lower_kernel, dim3(tiles, tiles), dim3(TILE, TILE_ROWS), 0, n, h,
              diagonal_d);
}

/* ---- Factor ---- */

/* Columns k .. k + n - 1 in hand, and their part of the diagonal in the scratch: that cuSOLVER
 * leaves the other triangle of a matrix alone is not written anywhere, and h's is needed. */
typedef struct diagonal_block {
    double *part; /* [FACTOR_COLS][FACTOR_COLS], n apart */
    int64_t k;
    int n;
    int *found; /* cuSOLVER's info, and the first pivot that is not positive and finite, or h's n */
} diagonal_block;

static __global__ void take_diagonal_kernel(int64_t n, const double *h, diagonal_block b)
{
    const int64_t i = blockIdx.y;
    const int64_t j = column_of_thread();

    if (j <= i) {
        b.part[i * b.n + j] = h[(b.k + i) * n + b.k + j];
    }
}

/* The factor back to its place; its pivots are looked at. info is i > 0 when the leading part of i
 * is not positive; what lies beyond was then never computed. */
static __global__ void put_diagonal_kernel(int64_t n, double *h, diagonal_block b)
{
    const int64_t i = blockIdx.y;
    const int64_t j = column_of_thread();

    if (j <= i) {
        const double value = b.part[i * b.n + j];
        const int info = b.found[0];
        const bool is_known = info == 0 || i < info;
        const bool is_bad = is_known && (i + 1 == info || !(value > 0 && value < INFINITY));
        h[(b.k + i) * n + b.k + j] = value;
        if (i == j && is_bad) {
            atomicMin(&b.found[1], (int)(b.k + i));
        }
    }
}

static void factor_diagonal(rp_gpu *gpu, int64_t n, double *h, diagonal_block b,
                            rp_gpu_pieces scratch)
{
    const dim3 blocks(rp_gpu_blocks(b.n, THREADS), (unsigned)b.n);
    double *work = NULL;
    int count = 0;

    RP_LAUNCH(gpu, take_diagonal_kernel, blocks, THREADS, 0, n, h, b);
    RP_GPU_TRY(gpu, cusolverDnDpotrf_bufferSize(gpu->solver, CUBLAS_FILL_MODE_UPPER, b.n, b.part,
                                                b.n, &count));
    work = rp_gpu_take<double>(&scratch, count);
    RP_GPU_TRY(gpu, cusolverDnDpotrf(gpu->solver, CUBLAS_FILL_MODE_UPPER, b.n, b.part, b.n, work,
                                     count, b.found));
    RP_LAUNCH(gpu, put_diagonal_kernel, blocks, THREADS, 0, n, h, b);
}

/* The rows below the block: divided by its factor, and what they take from the rest. */
static void factor_below(rp_gpu *gpu, int64_t n, double *h, diagonal_block b)
{
    const int64_t end = b.k + b.n;
    const int rows = (int)(n - end);
    const double one = 1;
    const double minus_one = -1;
    double *below = h + end * n + b.k;

    if (rows > 0) {
        RP_GPU_TRY(gpu, cublasDtrsm(gpu->blas, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_UPPER,
                                    CUBLAS_OP_T, CUBLAS_DIAG_NON_UNIT, b.n, rows, &one,
                                    h + b.k * n + b.k, (int)n, below, (int)n));
        RP_GPU_TRY(gpu, cublasDsyrk(gpu->blas, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_T, rows, b.n,
                                    &minus_one, below, (int)n, &one, h + end * n + end, (int)n));
    }
}

/* Right-looking. After a failure the rest is computed of what there is. */
extern "C" void rp_cholesky_cuda(const rp_exec *exec, int64_t n, double *h, int64_t *failed_at)
{
    rp_gpu_pieces scratch = {exec->gpu, 0};
    int found[2] = {0, (int)n};
    diagonal_block b = {rp_gpu_take<double>(&scratch, FACTOR_COLS * FACTOR_COLS), 0, 0,
                        rp_gpu_take_put(&scratch, found, 2)};

    for (b.k = 0; b.k < n && !rp_gpu_has_failed(exec->gpu); b.k += FACTOR_COLS) {
        b.n = (int)RP_MIN(FACTOR_COLS, n - b.k);
        factor_diagonal(exec->gpu, n, h, b, scratch);
        factor_below(exec->gpu, n, h, b);
    }
    rp_place_get(exec, found, b.found, sizeof(found));
    *failed_at = found[1] < n ? found[1] : -1;
}

static __global__ void ldl_kernel(int64_t n, const double *h, float *l, float *d)
{
    const int64_t j = column_of_thread();

    for (int64_t i = blockIdx.y; i < n && j < n; i += gridDim.y) {
        const double pivot = h[j * n + j];
        const double value = h[i * n + j];
        l[i * n + j] = (float)(j <= i ? value / pivot : value);
        if (i == j) {
            d[j] = (float)(pivot * pivot);
        }
    }
}

extern "C" void rp_ldl_cuda(const rp_exec *exec, int64_t n, const double *h, float *l, float *d)
{
    rp_gpu_pieces scratch = {exec->gpu, 0};
    float *d_d = rp_gpu_take<float>(&scratch, n);

    RP_LAUNCH(exec->gpu, ldl_kernel, cell_grid(n, n), THREADS, 0, n, h, l, d_d);
    rp_place_get(exec, d, d_d, (size_t)n * sizeof(float));
}

/* ---- Solve ---- */

/* packed [rows][n]: columns of t in the factor's order; or back, dead columns being 0. */
static __global__ void order_columns_kernel(rp_mat t, float *packed, const int32_t *order,
                                            bool is_packing)
{
    const int64_t k = column_of_thread();

    for (int64_t r = blockIdx.y; r < t.rows && k < t.cols; r += gridDim.y) {
        float *value = &t.data[r * t.ld + order[k]];
        if (is_packing) {
            packed[r * t.cols + k] = *value;
        } else {
            *value = packed[r * t.cols + k];
        }
    }
}

static __global__ void divide_columns_kernel(int64_t rows, int64_t n, float *packed, const float *d,
                                             const int32_t *order, const uint8_t *is_dead)
{
    const int64_t k = column_of_thread();

    for (int64_t r = blockIdx.y; r < rows && k < n; r += gridDim.y) {
        float *value = &packed[r * n + k];
        *value = is_dead[order[k]] != 0 ? 0 : *value / d[k];
    }
}

/* packed := packed inv(L^T), then divided, then packed inv(L). */
static void solve_packed(rp_gpu *gpu, const rp_ldl *ldl, int64_t rows, float *packed,
                         const float *d, const int32_t *order, const uint8_t *is_dead)
{
    const int n = (int)ldl->n;
    const float one = 1;

    RP_GPU_TRY(gpu, cublasStrsm(gpu->blas, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_T,
                                CUBLAS_DIAG_UNIT, n, (int)rows, &one, ldl->l, n, packed, n));
    RP_LAUNCH(gpu, divide_columns_kernel, cell_grid(rows, n), THREADS, 0, rows, ldl->n, packed, d,
              order, is_dead);
    RP_GPU_TRY(gpu, cublasStrsm(gpu->blas, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N,
                                CUBLAS_DIAG_UNIT, n, (int)rows, &one, ldl->l, n, packed, n));
}

extern "C" void rp_solve_right_cuda(const rp_exec *exec, const rp_ldl *ldl, rp_mat t)
{
    const int64_t n = ldl->n;
    rp_gpu_pieces scratch = {exec->gpu, 0};
    const float *d = rp_gpu_take_put(&scratch, ldl->d, n);
    const int32_t *order = rp_gpu_take_put(&scratch, ldl->order, n);
    const uint8_t *is_dead = rp_gpu_take_put(&scratch, ldl->is_dead, n);
    const size_t left_bytes = rp_gpu_scratch_bytes(exec->gpu) - scratch.taken_bytes;
    const int64_t piece = RP_MIN(t.rows, (int64_t)(left_bytes / ((size_t)n * sizeof(float))));
    float *packed = rp_gpu_take<float>(&scratch, piece * n);

    for (int64_t r = 0; r < t.rows && piece > 0; r += piece) {
        const int64_t rows = RP_MIN(piece, t.rows - r);
        const rp_mat part = rp_mat_of(t.data + r * t.ld, rows, n, t.ld);
        RP_LAUNCH(exec->gpu, order_columns_kernel, cell_grid(rows, n), THREADS, 0, part, packed,
                  order, true);
        solve_packed(exec->gpu, ldl, rows, packed, d, order, is_dead);
        RP_LAUNCH(exec->gpu, order_columns_kernel, cell_grid(rows, n), THREADS, 0, part, packed,
                  order, false);
    }
}

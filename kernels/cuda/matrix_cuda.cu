/* Differences, sums, f32 products and conversions of whole matrices.
 *
 * All are bound by memory, widen by the way from the host. Bytes for n values: widen as many as are
 * stored over the bus, and 4 n (f32) or 6 n here; subtract and add 12 n; sum_squares and bound_rows
 * 4 n; cross_mean 12 n.
 *
 * widen, subtract, add and cross_mean give the CPU's bits. sum_squares and bound_rows add a row's
 * f64 values in another order, fixed here. */
#include "kernels/cuda/elements.h"
#include "kernels/cuda/gemm_cuda.h"
#include "kernels/cuda/ops_cuda.h"

#include "base/mem.h"

#include <cuda_fp16.h>

#define WIDEN_PIECE_BYTES ((size_t)64 << 20)

/* ---- Stored values ---- */

static __device__ float from_stored(uint16_t bits, rp_dtype dtype)
{
    return dtype == RP_BF16 ? rp_float_of((uint32_t)bits << 16)
                            : __half2float(__ushort_as_half(bits));
}

static __device__ void note_bad(unsigned long long *bad, float x, int64_t index)
{
    if (!rp_is_finite(x)) {
        atomicMin(bad, (unsigned long long)index);
    }
}

/* first: index of stored[0] and out[0] among all values. */
template <int W>
static __global__ void widen_kernel(float *out, const uint16_t *stored, rp_dtype dtype, int64_t n,
                                    int64_t first, unsigned long long *bad)
{
    const int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * W;

    if (at < n) {
        const rp_pack<uint16_t, W> bits = rp_load<W>(stored + at);
        rp_pack<float, W> wide;

        for (int i = 0; i < W; i++) {
            wide.v[i] = from_stored(bits.v[i], dtype);
            note_bad(bad, wide.v[i], first + at + i);
        }
        rp_store(out + at, wide);
    }
}

template <int W>
static __global__ void find_bad_kernel(const float *x, int64_t n, int64_t first,
                                       unsigned long long *bad)
{
    const int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * W;

    if (at < n) {
        const rp_pack<float, W> v = rp_load<W>(x + at);

        for (int i = 0; i < W; i++) {
            note_bad(bad, v.v[i], first + at + i);
        }
    }
}

/* Values first .. first + n - 1, whose bytes start at `stored`. */
static void widen_piece(const rp_exec *exec, float *out, const char *stored, rp_dtype dtype,
                        int64_t n, int64_t first, uint16_t *piece, unsigned long long *bad)
{
    rp_gpu *const gpu = exec->gpu;
    const size_t nbytes = (size_t)n * rp_dtype_bytes(dtype);
    const bool is_wide = rp_is_wide(out, n, 0);
    const unsigned blocks = rp_gpu_blocks(is_wide ? n / 4 : n, RP_COVER_THREADS);
    void *const to = dtype == RP_F32 ? (void *)out : (void *)piece;

    rp_gpu_put_by(gpu, exec->pool, to, nbytes, stored, nbytes, nbytes, 1);
    if (dtype == RP_F32 && is_wide) {
        RP_LAUNCH(gpu, find_bad_kernel<4>, blocks, RP_COVER_THREADS, 0, out, n, first, bad);
    } else if (dtype == RP_F32) {
        RP_LAUNCH(gpu, find_bad_kernel<1>, blocks, RP_COVER_THREADS, 0, out, n, first, bad);
    } else if (is_wide) {
        RP_LAUNCH(gpu, widen_kernel<4>, blocks, RP_COVER_THREADS, 0, out, piece, dtype, n, first,
                  bad);
    } else {
        RP_LAUNCH(gpu, widen_kernel<1>, blocks, RP_COVER_THREADS, 0, out, piece, dtype, n, first,
                  bad);
    }
}

int64_t rp_widen_cuda(const rp_exec *exec, float *out, const void *stored, rp_dtype dtype,
                      int64_t n)
{
    rp_gpu *const gpu = exec->gpu;
    const size_t elem_bytes = rp_dtype_bytes(dtype);
    const size_t piece_bytes = RP_MIN(WIDEN_PIECE_BYTES, rp_gpu_scratch_bytes(gpu) / 2);
    const int64_t piece_elems = (int64_t)(piece_bytes / elem_bytes);
    const unsigned long long none = UINT64_MAX;
    rp_gpu_pieces scratch = {gpu, 0};
    unsigned long long *const bad = rp_gpu_take_put(&scratch, &none, 1);
    uint16_t *const piece =
        rp_gpu_take<uint16_t>(&scratch, dtype == RP_F32 ? 1 : RP_MIN(n, piece_elems));
    unsigned long long found = none;

    RP_ASSERT(rp_dtype_is_float(dtype));
    for (int64_t first = 0; first < n; first += piece_elems) {
        widen_piece(exec, out + first, (const char *)stored + (size_t)first * elem_bytes, dtype,
                    RP_MIN(piece_elems, n - first), first, piece, bad);
    }
    rp_gpu_get(gpu, &found, sizeof(found), bad, sizeof(found), sizeof(found), 1);
    return found == none || rp_gpu_has_failed(gpu) ? -1 : (int64_t)found;
}

/* ---- Elements ---- */

template <int W> static __global__ void subtract_kernel(rp_mat out, rp_cmat a, rp_cmat b)
{
    const int64_t row = rp_cover_row(), col = rp_cover_col<W>();

    if (row < out.rows && col < out.cols) {
        rp_pack<float, W> v = rp_load<W>(a.data + row * a.ld + col);
        const rp_pack<float, W> other = rp_load<W>(b.data + row * b.ld + col);

        for (int i = 0; i < W; i++) {
            v.v[i] -= other.v[i];
        }
        rp_store(out.data + row * out.ld + col, v);
    }
}

void rp_subtract_cuda(const rp_exec *exec, rp_mat out, rp_cmat a, rp_cmat b)
{
    const bool is_wide = rp_is_wide(out) && rp_is_wide(a) && rp_is_wide(b);

    RP_LAUNCH_COVER(exec->gpu, subtract_kernel, is_wide, out.rows, out.cols, out, a, b);
}

template <int W> static __global__ void add_kernel(rp_mat y, rp_cmat x)
{
    const int64_t row = rp_cover_row(), col = rp_cover_col<W>();

    if (row < y.rows && col < y.cols) {
        rp_pack<float, W> v = rp_load<W>(y.data + row * y.ld + col);
        const rp_pack<float, W> other = rp_load<W>(x.data + row * x.ld + col);

        for (int i = 0; i < W; i++) {
            v.v[i] += other.v[i];
        }
        rp_store(y.data + row * y.ld + col, v);
    }
}

void rp_add_cuda(const rp_exec *exec, rp_mat y, rp_cmat x)
{
    RP_LAUNCH_COVER(exec->gpu, add_kernel, rp_is_wide(x) && rp_is_wide(y), y.rows, y.cols, y, x);
}

/* out [rows, cols] f32, sum [rows, cols] contiguous. */
static __global__ void cross_mean_kernel(rp_mat out, const int64_t *sum, const int *row_exponent,
                                         const int *col_exponent, int shift, double divisor)
{
    const int64_t row = rp_cover_row(), col = rp_cover_col<1>();

    if (row < out.rows && col < out.cols) {
        const double scale = rp_power_of_two(row_exponent[row] + col_exponent[col] - shift);

        out.data[row * out.ld + col] = (float)((double)sum[row * out.cols + col] * scale / divisor);
    }
}

void rp_cross_mean_cuda(const rp_exec *exec, rp_mat out, const int64_t *sum,
                        const int *row_exponent, const int *col_exponent, int shift, double divisor)
{
    rp_gpu *const gpu = exec->gpu;
    const rp_cover cover = rp_cover_of(out.rows, out.cols);
    rp_gpu_pieces scratch = {gpu, 0};
    int *const rows = rp_gpu_take_put(&scratch, row_exponent, out.rows);
    int *const cols = rp_gpu_take_put(&scratch, col_exponent, out.cols);

    RP_LAUNCH(gpu, cross_mean_kernel, cover.grid, cover.block, 0, out, sum, rows, cols, shift,
              divisor);
}

void rp_multiply_cuda(const rp_exec *exec, rp_mat out, rp_cmat a, rp_cmat b)
{
    rp_gemm gemm = rp_gemm_of(RP_GEMM_F32, out.rows, out.cols, a.cols);

    gemm.c = out.data, gemm.c_ld = out.ld;
    gemm.a = a.data, gemm.a_ld = a.ld;
    gemm.b = b.data, gemm.b_ld = b.ld;
    rp_gemm_run(exec->gpu, &gemm);
}

/* ---- Rows ---- */

/* out [x.rows] = sums of squares. */
static __global__ void row_squares_kernel(double *out, rp_cmat x, bool is_wide)
{
    const int64_t row = rp_warp_row();
    double sum = 0;

    if (row >= x.rows) {
        return;
    }
    for (int64_t c = (int64_t)threadIdx.x * 4; c < x.cols; c += RP_WARP * 4) {
        const rp_pack<float, 4> v = rp_load_four(x.data + row * x.ld, c, x.cols, is_wide);
        for (int i = 0; i < 4; i++) {
            sum += (double)v.v[i] * (double)v.v[i];
        }
    }
    sum = rp_warp_sum(sum);
    if (threadIdx.x == 0) {
        out[row] = sum;
    }
}

/* out [w.rows] = sums of |w_ij| bound_j. */
static __global__ void bound_rows_kernel(double *out, rp_cmat w, const float *bound, bool is_wide)
{
    const int64_t row = rp_warp_row();
    double sum = 0;

    if (row >= w.rows) {
        return;
    }
    for (int64_t c = (int64_t)threadIdx.x * 4; c < w.cols; c += RP_WARP * 4) {
        const rp_pack<float, 4> v = rp_load_four(w.data + row * w.ld, c, w.cols, is_wide);
        const rp_pack<float, 4> b = rp_load_four(bound, c, w.cols, is_wide);
        for (int i = 0; i < 4; i++) {
            sum += fabs((double)v.v[i]) * (double)b.v[i];
        }
    }
    sum = rp_warp_sum(sum);
    if (threadIdx.x == 0) {
        out[row] = sum;
    }
}

/* Rows whose sums come to the host at once. */
static int64_t rows_at_once(const rp_gpu *gpu, int64_t rows)
{
    const size_t room_bytes = RP_MIN(RP_GPU_PINNED_BYTES, rp_gpu_scratch_bytes(gpu) / 2);

    return RP_MIN(rows, (int64_t)(room_bytes / sizeof(double)));
}

/* The GPU's sums [rows], in the host's memory for results. */
static const double *fetch_rows(rp_gpu *gpu, const double *sums, int64_t rows)
{
    const size_t nbytes = (size_t)rows * sizeof(*sums);
    double *const fetched = (double *)rp_gpu_pinned(gpu, nbytes);

    rp_gpu_get(gpu, fetched, nbytes, sums, nbytes, nbytes, 1);
    return fetched;
}

double rp_sum_squares_cuda(const rp_exec *exec, rp_cmat x)
{
    rp_gpu *const gpu = exec->gpu;
    const int64_t step = rows_at_once(gpu, x.rows);
    rp_gpu_pieces scratch = {gpu, 0};
    double *const sums = rp_gpu_take<double>(&scratch, step);
    double total = 0;

    for (int64_t r = 0; r < x.rows; r += step) {
        const rp_cmat part = rp_cmat_of(x.data + r * x.ld, RP_MIN(step, x.rows - r), x.cols, x.ld);
        const double *fetched;

        RP_LAUNCH_WARPS(gpu, row_squares_kernel, part.rows, sums, part, rp_is_wide(part));
        fetched = fetch_rows(gpu, sums, part.rows);
        for (int64_t i = 0; i < part.rows && !rp_gpu_has_failed(gpu); i++) {
            total += fetched[i];
        }
    }
    return total;
}

void rp_bound_rows_cuda(const rp_exec *exec, rp_cmat w, const float *x, double *out)
{
    rp_gpu *const gpu = exec->gpu;
    const int64_t step = rows_at_once(gpu, w.rows);
    rp_gpu_pieces scratch = {gpu, 0};
    float *const bound = rp_gpu_take_put(&scratch, x, w.cols);
    double *const sums = rp_gpu_take<double>(&scratch, step);

    for (int64_t r = 0; r < w.rows; r += step) {
        const rp_cmat part = rp_cmat_of(w.data + r * w.ld, RP_MIN(step, w.rows - r), w.cols, w.ld);
        const double *fetched;

        RP_LAUNCH_WARPS(gpu, bound_rows_kernel, part.rows, sums, part, bound, rp_is_wide(part));
        fetched = fetch_rows(gpu, sums, part.rows);
        for (int64_t i = 0; i < part.rows && !rp_gpu_has_failed(gpu); i++) {
            out[r + i] += fetched[i];
        }
    }
}

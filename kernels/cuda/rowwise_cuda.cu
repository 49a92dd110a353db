/* Operations that treat each row (or column) alone: norm, rotation, gate, maxima, squares.
 *
 * All are bound by memory. Bytes for a matrix of n values: rms_norm 8 n (the second reading of a
 * row finds it in the first cache), rope 8 n, silu_mul 12 n, max_abs 4 n, square_sums 4 n.
 *
 * rope, silu_mul and max_abs give the CPU's bits. rms_norm and square_sums add the same exact
 * squares in another order, fixed here: they differ from the CPU by f64 rounding. */
#include "kernels/cuda/elements.h"
#include "kernels/cuda/ops_cuda.h"

#include "base/mem.h"
#include "kernels/exp_lane.h"

static __global__ void rms_norm_kernel(rp_mat y, rp_cmat x, const float *w, float eps, bool is_wide)
{
    const int64_t row = rp_warp_row(), first = (int64_t)threadIdx.x * 4;
    const float *const from = x.data + row * x.ld;
    float *const to = y.data + row * y.ld;
    double sum = 0;
    float scale;

    if (row >= x.rows) {
        return;
    }
    for (int64_t c = first; c < x.cols; c += RP_WARP * 4) {
        const rp_pack<float, 4> v = rp_load_four(from, c, x.cols, is_wide);
        for (int i = 0; i < 4; i++) {
            sum += (double)v.v[i] * (double)v.v[i];
        }
    }
    sum = rp_warp_sum(sum);
    scale = (float)(1.0 / sqrt(sum / (double)x.cols + (double)eps));
    for (int64_t c = first; c < x.cols; c += RP_WARP * 4) {
        const rp_pack<float, 4> weight = rp_load_four(w, c, x.cols, is_wide);
        rp_pack<float, 4> v = rp_load_four(from, c, x.cols, is_wide);
        for (int i = 0; i < 4; i++) {
            v.v[i] = weight.v[i] * (v.v[i] * scale);
        }
        rp_store_four(to, c, x.cols, is_wide, v);
    }
}

void rp_rms_norm_cuda(const rp_exec *exec, rp_mat y, rp_cmat x, const float *w, float eps)
{
    const bool is_wide = rp_is_wide(x) && rp_is_wide(y) && rp_is_wide(w, x.cols, x.cols);

    RP_LAUNCH_WARPS(exec->gpu, rms_norm_kernel, x.rows, y, x, w, eps, is_wide);
}

/* Columns of the grid are pairs: W of them in one head, the second half of the rotated dims after
 * the first. */
template <int W>
static __global__ void rope_kernel(rp_mat x, int n_heads, int head_dim, int64_t seq_len,
                                   int n_pairs, const float *cos, const float *sin)
{
    const int64_t row = rp_cover_row(), pair = rp_cover_col<W>();

    if (row < x.rows && pair < (int64_t)n_heads * n_pairs) {
        const int head = (int)pair / n_pairs, i = (int)pair % n_pairs;
        float *const a = x.data + row * x.ld + (int64_t)head * head_dim + i;
        const int64_t at = (int64_t)((unsigned)row % (unsigned)seq_len) * n_pairs + i;
        const rp_pack<float, W> c = rp_load<W>(cos + at), s = rp_load<W>(sin + at);
        rp_pack<float, W> u = rp_load<W>(a), v = rp_load<W>(a + n_pairs);

        for (int k = 0; k < W; k++) {
            const float turned = u.v[k] * c.v[k] - v.v[k] * s.v[k];
            v.v[k] = v.v[k] * c.v[k] + u.v[k] * s.v[k];
            u.v[k] = turned;
        }
        rp_store(a, u);
        rp_store(a + n_pairs, v);
    }
}

void rp_rope_cuda(const rp_exec *exec, rp_mat x, int n_heads, int head_dim, int64_t seq_len,
                  const rp_rope_table *table)
{
    const int n_pairs = table->rot_dim / 2;
    const bool is_wide = rp_is_wide(x.data, n_pairs, x.ld) && head_dim % 4 == 0 &&
                         rp_is_wide(table->cos, n_pairs, n_pairs) &&
                         rp_is_wide(table->sin, n_pairs, n_pairs);

    RP_LAUNCH_COVER(exec->gpu, rope_kernel, is_wide, x.rows, (int64_t)n_heads * n_pairs, x, n_heads,
                    head_dim, seq_len, n_pairs, table->cos, table->sin);
}

template <int W> static __global__ void silu_mul_kernel(rp_mat out, rp_cmat gate, rp_cmat up)
{
    const int64_t row = rp_cover_row(), col = rp_cover_col<W>();

    if (row < out.rows && col < out.cols) {
        const rp_pack<float, W> u = rp_load<W>(up.data + row * up.ld + col);
        rp_pack<float, W> v = rp_load<W>(gate.data + row * gate.ld + col);

        for (int i = 0; i < W; i++) {
            v.v[i] = v.v[i] / (1.0F + rp_exp_lane(-v.v[i])) * u.v[i];
        }
        rp_store(out.data + row * out.ld + col, v);
    }
}

void rp_silu_mul_cuda(const rp_exec *exec, rp_mat out, rp_cmat gate, rp_cmat up)
{
    const bool is_wide = rp_is_wide(out) && rp_is_wide(gate) && rp_is_wide(up);

    RP_LAUNCH_COVER(exec->gpu, silu_mul_kernel, is_wide, out.rows, out.cols, out, gate, up);
}

/* ---- Columns: a block takes COLUMN_ROWS rows of RP_WARP packs; its warps take every
 * RP_BLOCK_WARPS-th row. ---- */

enum { COLUMN_ROWS = 256, SQUARES_ROWS = 64 };
static const uint32_t infinity_bits = 0x7f800000U;

static __device__ void note_bad_row(unsigned long long *bad_row, int64_t row)
{
    atomicMin(bad_row, (unsigned long long)row);
}

/* bits [cols]: of the largest |x|, which order as the values do, infinity and NaN on top. */
template <int W>
static __global__ void max_abs_kernel(rp_cmat x, uint32_t *bits, unsigned long long *bad_row)
{
    __shared__ uint32_t top[RP_BLOCK_WARPS][RP_WARP * W];
    const int64_t col = ((int64_t)blockIdx.y * RP_WARP + threadIdx.x) * W;
    const int64_t first = (int64_t)blockIdx.x * COLUMN_ROWS + threadIdx.y;
    const int64_t end = RP_MIN(((int64_t)blockIdx.x + 1) * COLUMN_ROWS, x.rows);
    uint32_t *const own = &top[threadIdx.y][threadIdx.x * W];
    uint32_t max[W] = {};

    for (int64_t r = first; r < end && col < x.cols; r += RP_BLOCK_WARPS) {
        const rp_pack<float, W> v = rp_load<W>(x.data + r * x.ld + col);
        for (int i = 0; i < W; i++) {
            const uint32_t magnitude = rp_bits_of(v.v[i]) & 0x7fffffffU;
            if (magnitude >= infinity_bits && max[i] < infinity_bits) {
                note_bad_row(bad_row, r);
            }
            max[i] = RP_MAX(max[i], magnitude);
        }
    }
    for (int i = 0; i < W; i++) {
        own[i] = max[i];
    }
    __syncthreads();
    if (threadIdx.y == 0 && col < x.cols) {
        for (int i = 0; i < W; i++) {
            for (int warp = 1; warp < RP_BLOCK_WARPS; warp++) {
                max[i] = RP_MAX(max[i], top[warp][threadIdx.x * W + i]);
            }
            atomicMax(&bits[col + i], max[i]);
        }
    }
}

/* The first bad row and behind it the maxima, so that the host waits for both at once. */
int64_t rp_max_abs_cuda(const rp_exec *exec, rp_cmat x, float *max_abs)
{
    rp_gpu *const gpu = exec->gpu;
    const size_t nbytes = (size_t)x.cols * sizeof(*max_abs);
    unsigned long long found = UINT64_MAX;
    rp_gpu_pieces scratch = {gpu, 0};
    unsigned long long *const bad_row =
        rp_gpu_take<unsigned long long>(&scratch, 1 + RP_DIV_UP(x.cols, 2));
    unsigned char *const fetched = (unsigned char *)rp_gpu_pinned(gpu, sizeof(found) + nbytes);
    const bool is_wide = rp_is_wide(x);
    const dim3 block(RP_WARP, RP_BLOCK_WARPS);
    const dim3 grid(rp_gpu_blocks(x.rows, COLUMN_ROWS),
                    rp_gpu_blocks(x.cols, is_wide ? 4 * RP_WARP : RP_WARP));

    if (rp_gpu_has_failed(gpu)) {
        return -1;
    }
    uint32_t *const bits = reinterpret_cast<uint32_t *>(bad_row + 1);
    rp_gpu_put(gpu, bad_row, sizeof(found), &found, sizeof(found), sizeof(found), 1);
    rp_gpu_put(gpu, bits, nbytes, max_abs, nbytes, nbytes, 1);
    if (is_wide) {
        RP_LAUNCH(gpu, max_abs_kernel<4>, grid, block, 0, x, bits, bad_row);
    } else {
        RP_LAUNCH(gpu, max_abs_kernel<1>, grid, block, 0, x, bits, bad_row);
    }
    rp_gpu_get(gpu, fetched, sizeof(found) + nbytes, bad_row, sizeof(found) + nbytes,
               sizeof(found) + nbytes, 1);
    if (rp_gpu_has_failed(gpu)) {
        return -1;
    }
    memcpy(&found, fetched, sizeof(found));
    memcpy(max_abs, fetched + sizeof(found), nbytes);
    return found == UINT64_MAX ? -1 : (int64_t)found;
}

/* part [parts, cols]: sums over chunk_rows rows each, from the first to the last. Rows of the grid
 * are parts. */
template <int W>
static __global__ void square_sums_kernel(rp_cmat x, int64_t chunk_rows, double *part)
{
    const int64_t chunk = rp_cover_row(), col = rp_cover_col<W>();
    const int64_t end = RP_MIN((chunk + 1) * chunk_rows, x.rows);
    double sum[W] = {};

    if (col >= x.cols) {
        return;
    }
    for (int64_t r = chunk * chunk_rows; r < end; r++) {
        const rp_pack<float, W> v = rp_load<W>(x.data + r * x.ld + col);
        for (int i = 0; i < W; i++) {
            sum[i] += (double)v.v[i] * (double)v.v[i];
        }
    }
    for (int i = 0; i < W && chunk * chunk_rows < x.rows; i++) {
        part[chunk * x.cols + col + i] = sum[i];
    }
}

static __global__ void add_parts_kernel(double *sum, const double *part, int64_t parts,
                                        int64_t cols)
{
    const int64_t col = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    double total = 0;

    for (int64_t i = 0; i < parts && col < cols; i++) {
        total += part[i * cols + col];
    }
    if (col < cols) {
        sum[col] = total;
    }
}

void rp_square_sums_cuda(const rp_exec *exec, rp_cmat x, double *sum)
{
    rp_gpu *const gpu = exec->gpu;
    rp_gpu_pieces scratch = {gpu, 0};
    const size_t nbytes = (size_t)x.cols * sizeof(*sum);
    double *const total = rp_gpu_take<double>(&scratch, x.cols);
    int64_t chunk_rows = SQUARES_ROWS, parts;
    double *part;

    while ((size_t)RP_DIV_UP(x.rows, chunk_rows) * nbytes > rp_gpu_scratch_bytes(gpu) / 2) {
        chunk_rows *= 2;
    }
    parts = RP_DIV_UP(x.rows, chunk_rows);
    part = rp_gpu_take<double>(&scratch, parts * x.cols);
    RP_LAUNCH_COVER(gpu, square_sums_kernel, rp_is_wide(x), parts, x.cols, x, chunk_rows, part);
    RP_LAUNCH(gpu, add_parts_kernel, rp_gpu_blocks(x.cols, RP_WARP), RP_WARP, 0, total, part, parts,
              x.cols);
    rp_gpu_get(gpu, sum, nbytes, total, nbytes, nbytes, 1);
}

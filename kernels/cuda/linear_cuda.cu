/* y = x w^T by tensor cores: BF16 inputs, f32 sums.
 *
 * x and w lie in f32 and are copied to BF16 in the scratch, in pieces of rows where they do not fit
 * whole. The product is bound by arithmetic, 2 m n k operations at the tensor cores' BF16 rate; the
 * copies by memory, 6 (m + n) k bytes, a twentieth of that for m = 8192 tokens of an 8B model. */
#include "kernels/cuda/elements.h"
#include "kernels/cuda/gemm_cuda.h"
#include "kernels/cuda/ops_cuda.h"

#include "base/mem.h"

static __global__ void copy_bf16_kernel(__nv_bfloat16 *out, int64_t ld, rp_cmat x, bool is_wide)
{
    const int64_t row = rp_cover_row(), col = rp_cover_col<8>();
    rp_pack<__nv_bfloat16, 8> copy;

    if (row >= x.rows || col >= ld) {
        return;
    }
    for (int at = 0; at < 8; at += 4) {
        const int64_t c = col + at;
        const rp_pack<float, 4> v =
            rp_load_four(x.data + row * x.ld, c, x.cols, is_wide && c < x.cols);
        for (int i = 0; i < 4; i++) {
            copy.v[at + i] = __float2bfloat16_rn(v.v[i]);
        }
    }
    rp_store(out + row * ld + col, copy);
}

void rp_gemm_copy_bf16(rp_gpu *gpu, __nv_bfloat16 *out, int64_t ld, rp_cmat x)
{
    const rp_cover cover = rp_cover_of(x.rows, ld / 8);

    RP_LAUNCH(gpu, copy_bf16_kernel, cover.grid, cover.block, 0, out, ld, x, rp_is_wide(x));
}

/* y = bias (+ y), where the product will be added. */
template <int W> static __global__ void bias_kernel(rp_mat y, const float *bias, bool accumulate)
{
    const int64_t row = rp_cover_row(), col = rp_cover_col<W>();

    if (row < y.rows && col < y.cols) {
        rp_pack<float, W> sum = rp_load<W>(bias + col);
        if (accumulate) {
            const rp_pack<float, W> old = rp_load<W>(y.data + row * y.ld + col);
            for (int i = 0; i < W; i++) {
                sum.v[i] = old.v[i] + sum.v[i];
            }
        }
        rp_store(y.data + row * y.ld + col, sum);
    }
}

/* y [x_rows, w_rows] = x w^T (+ y). */
static void multiply(rp_gpu *gpu, rp_mat y, const __nv_bfloat16 *x, const __nv_bfloat16 *w,
                     int64_t ld, bool accumulate)
{
    rp_gemm gemm = rp_gemm_of(RP_GEMM_BF16, y.rows, y.cols, ld);

    gemm.c = y.data, gemm.c_ld = y.ld;
    gemm.a = x, gemm.a_ld = ld;
    gemm.b = w, gemm.b_ld = ld;
    gemm.is_b_transposed = true;
    gemm.beta = accumulate ? 1.0F : 0.0F;
    rp_gemm_run(gpu, &gemm);
}

/* Rows of w and of x that lie in the scratch at once. */
typedef struct linear_pieces {
    int64_t w_rows, x_rows;
} linear_pieces;

static linear_pieces pieces_of(const rp_gpu *gpu, int64_t w_rows, int64_t x_rows, int64_t ld)
{
    const size_t row_bytes = (size_t)ld * sizeof(__nv_bfloat16);
    const int64_t room = (int64_t)((rp_gpu_scratch_bytes(gpu) - 512) / row_bytes);
    linear_pieces pieces = {w_rows, x_rows};

    if (w_rows + x_rows > room) {
        pieces.w_rows = RP_MIN(w_rows, room / 2);
        pieces.x_rows = RP_MIN(x_rows, room - pieces.w_rows);
    }
    RP_ASSERT(room >= 2);
    return pieces;
}

void rp_linear_cuda(const rp_exec *exec, rp_mat y, rp_cmat x, rp_cmat w, const float *bias,
                    bool accumulate)
{
    rp_gpu *const gpu = exec->gpu;
    const int64_t ld = rp_gemm_padded(x.cols);
    const linear_pieces pieces = pieces_of(gpu, w.rows, x.rows, ld);
    rp_gpu_pieces scratch = {gpu, 0};
    __nv_bfloat16 *const w_copy = rp_gpu_take<__nv_bfloat16>(&scratch, pieces.w_rows * ld);
    __nv_bfloat16 *const x_copy = rp_gpu_take<__nv_bfloat16>(&scratch, pieces.x_rows * ld);

    if (bias != NULL) {
        const bool is_wide = rp_is_wide(y) && rp_is_wide(bias, y.cols, y.cols);
        RP_LAUNCH_COVER(gpu, bias_kernel, is_wide, y.rows, y.cols, y, bias, accumulate);
    }
    for (int64_t j = 0; j < w.rows && x.rows > 0; j += pieces.w_rows) {
        const int64_t cols = RP_MIN(pieces.w_rows, w.rows - j);

        rp_gemm_copy_bf16(gpu, w_copy, ld, rp_cmat_of(w.data + j * w.ld, cols, w.cols, w.ld));
        for (int64_t i = 0; i < x.rows; i += pieces.x_rows) {
            const int64_t rows = RP_MIN(pieces.x_rows, x.rows - i);

            if (j == 0 || pieces.x_rows < x.rows) {
                rp_gemm_copy_bf16(gpu, x_copy, ld,
                                  rp_cmat_of(x.data + i * x.ld, rows, x.cols, x.ld));
            }
            multiply(gpu, rp_mat_of(y.data + i * y.ld + j, rows, cols, y.ld), x_copy, w_copy, ld,
                     accumulate || bias != NULL);
        }
    }
}

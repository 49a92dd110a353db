/* The table of operations of the CUDA back end. */
#include "kernels/cuda/ops_cuda.h"

const rp_kernel_ops *rp_kernels_cuda(void)
{
    static const rp_kernel_ops ops = {
        .name = "cuda",
        .widen = rp_widen_cuda,
        .linear = rp_linear_cuda,
        .rms_norm = rp_rms_norm_cuda,
        .rope = rp_rope_cuda,
        .attention = rp_attention_cuda,
        .silu_mul = rp_silu_mul_cuda,
        .loss_add = rp_loss_add_cuda,
        .max_abs = rp_max_abs_cuda,
        .square_sums = rp_square_sums_cuda,
        .gram_add = rp_gram_add_cuda,
        .cross_add = rp_cross_add_cuda,
        .triangle = nullptr,
        .subtract = rp_subtract_cuda,
        .add = rp_add_cuda,
        .sum_squares = rp_sum_squares_cuda,
        .bound_rows = rp_bound_rows_cuda,
        .cross_mean = rp_cross_mean_cuda,
        .solve_right = nullptr,
        .gram_mean = nullptr,
        .permute_upper = nullptr,
        .mirror_lower = nullptr,
        .cholesky = nullptr,
        .ldl = nullptr,
        .decode_rows = nullptr,
        .solve_tile = nullptr,
    };

    return &ops;
}

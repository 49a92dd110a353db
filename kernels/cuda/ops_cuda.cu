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
        .triangle = rp_triangle_cuda,
        .subtract = rp_subtract_cuda,
        .add = rp_add_cuda,
        .sum_squares = rp_sum_squares_cuda,
        .bound_rows = rp_bound_rows_cuda,
        .cross_mean = rp_cross_mean_cuda,
        .multiply = rp_multiply_cuda,
        .solve_right = rp_solve_right_cuda,
        .gram_mean = rp_gram_mean_cuda,
        .permute_upper = rp_permute_upper_cuda,
        .mirror_lower = rp_mirror_lower_cuda,
        .cholesky = rp_cholesky_cuda,
        .ldl = rp_ldl_cuda,
        .decode_rows = rp_decode_rows_cuda,
        .solve_tiles = rp_solve_tiles_cuda,
    };

    return &ops;
}

/* The table of operations of the CPU. */
#include "kernels/cpu/ops_cpu.h"

#include "kernels/factor.h"

const rp_kernel_ops *rp_kernels_cpu(void)
{
    static const rp_kernel_ops ops = {
        .name = "cpu",
        .widen = rp_widen_cpu,
        .linear = rp_linear_cpu,
        .rms_norm = rp_rms_norm_cpu,
        .rope = rp_rope_cpu,
        .attention = rp_attention_cpu,
        .silu_mul = rp_silu_mul_cpu,
        .loss_add = rp_loss_add_cpu,
        .max_abs = rp_max_abs_cpu,
        .square_sums = rp_square_sums_cpu,
        .gram_add = rp_gram_add_cpu,
        .cross_add = rp_cross_add_cpu,
        .triangle = rp_triangle_cpu,
        .subtract = rp_subtract_cpu,
        .add = rp_add_cpu,
        .sum_squares = rp_sum_squares_cpu,
        .bound_rows = rp_bound_rows_cpu,
        .cross_mean = rp_cross_mean_cpu,
        .multiply = rp_multiply_cpu,
        .solve_right = rp_solve_right_cpu,
        .gram_mean = rp_gram_mean_cpu,
        .permute_upper = rp_permute_upper_cpu,
        .mirror_lower = rp_mirror_lower_cpu,
        .cholesky = rp_factor_cholesky,
        .ldl = rp_ldl_cpu,
        .decode_rows = rp_decode_rows_cpu,
    };
    return &ops;
}

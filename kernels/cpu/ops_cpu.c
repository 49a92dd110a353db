/* The table of operations of the CPU. */
#include "kernels/cpu/ops_cpu.h"

const rp_kernel_ops *rp_kernels_cpu(void)
{
    static const rp_kernel_ops ops = {
        .name = "cpu",
        .linear = rp_linear_cpu,
        .rms_norm = rp_rms_norm_cpu,
        .rope = rp_rope_cpu,
        .attention = rp_attention_cpu,
        .silu_mul = rp_silu_mul_cpu,
        .max_abs = rp_max_abs_cpu,
        .square_sums = rp_square_sums_cpu,
        .gram_add = rp_gram_add_cpu,
        .cross_add = rp_cross_add_cpu,
        .token_nll = rp_token_nll_cpu,
    };
    return &ops;
}

/* The table of operations of the CUDA back end. */
#include "kernels/cuda/ops_cuda.h"

const rp_kernel_ops *rp_kernels_cuda(void)
{
    static const rp_kernel_ops ops = [] {
        rp_kernel_ops table = {};
        table.name = "cuda";
        table.triangle = rp_triangle_cuda;
        table.solve_right = rp_solve_right_cuda;
        table.gram_mean = rp_gram_mean_cuda;
        table.permute_upper = rp_permute_upper_cuda;
        table.mirror_lower = rp_mirror_lower_cuda;
        table.cholesky = rp_cholesky_cuda;
        table.ldl = rp_ldl_cuda;
        table.decode_rows = rp_decode_rows_cuda;
        table.solve_tile = rp_solve_tile_cuda;
        return table;
    }();

    return &ops;
}

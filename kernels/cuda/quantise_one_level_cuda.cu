/* Kernels of grids with one level of scales: blocks of 32, MXFP4, ternary. */
#include "kernels/cuda/quantise_units.cuh"

rp_unit_kernels rp_block_kernels(void)
{
    return {quantise_units_kernel<RP_GRID_SYMMETRIC, 1>, fit_units_kernel<RP_GRID_SYMMETRIC, 1>};
}

rp_unit_kernels rp_mxfp4_kernels(void)
{
    return {quantise_units_kernel<RP_GRID_MXFP4, 1>, fit_units_kernel<RP_GRID_MXFP4, 1>};
}

rp_unit_kernels rp_ternary_kernels(void)
{
    return {quantise_units_kernel<RP_GRID_TERNARY, RP_TERNARY_TEAM>,
            fit_units_kernel<RP_GRID_TERNARY, RP_TERNARY_TEAM>};
}

/* The kernel that fits groups of grids with two levels of scales. */
#include "kernels/cuda/quantise_units.cuh"

rp_fit_units *rp_super_fit_kernel(void)
{
    return fit_units_kernel<RP_GRID_TWO_LEVELS, RP_TEAM_OF_SUBS>;
}

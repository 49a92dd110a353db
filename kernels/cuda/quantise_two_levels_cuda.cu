/* Kernels of grids with two levels of scales, of which fits are compiled beside this file: each
 * holds every search. */
#include "kernels/cuda/quantise_units.cuh"

rp_unit_kernels rp_super_kernels(void)
{
    return {quantise_units_kernel<RP_GRID_TWO_LEVELS, RP_TEAM_OF_SUBS>, rp_super_fit_kernel()};
}

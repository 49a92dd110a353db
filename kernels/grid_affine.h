/* The uniform integer grid; see grid_affine.c. */
#ifndef RP_KERNELS_GRID_AFFINE_H
#define RP_KERNELS_GRID_AFFINE_H

#include "kernels/grid.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const rp_grid_ops rp_grid_affine;

#ifdef __cplusplus
}
#endif
#endif

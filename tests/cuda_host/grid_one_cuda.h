/* Kernels that run the functions of kernels/cuda/grid_cuda.cuh, one thread a row. */
#ifndef RP_TESTS_GRID_ONE_CUDA_H
#define RP_TESTS_GRID_ONE_CUDA_H

#include "kernels/cuda/grid_cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. As rp_fit_groups_cuda and rp_refit_groups_cuda. */
void grid_one_fit(rp_gpu *gpu, const rp_device_grid *grid, int64_t rows, int64_t n, rp_strided x,
                  rp_strided weight, float *params, int64_t ld);
void grid_one_refit(rp_gpu *gpu, const rp_device_grid *grid, int sub, int64_t rows, int64_t n,
                    rp_strided x, rp_strided weight, float *params, int64_t ld);
/* Local. code, decoded, and decoded again from the codes: [n][rows]. */
void grid_one_round(rp_gpu *gpu, const rp_device_grid *grid, int64_t rows, int64_t n, rp_strided x,
                    const float *params, int64_t ld, uint8_t *code, float *decoded, float *again);

#ifdef __cplusplus
}
#endif
#endif

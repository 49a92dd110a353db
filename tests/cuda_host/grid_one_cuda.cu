/* Kernels for tests: the grids' functions of one thread. */
#include "tests/cuda_host/grid_one_cuda.h"

#include "kernels/cuda/grid_cuda.cuh"
#include "kernels/cuda/launch.h"

enum { THREADS = 32 };

static __global__ void fit_kernel(rp_device_grid g, int64_t rows, int64_t n, rp_strided x,
                                  rp_strided weight, float *params, int64_t ld)
{
    const int64_t row = (int64_t)blockIdx.x * THREADS + threadIdx.x;

    if (row < rows) {
        const rp_strided own = {x.data + row, x.stride};
        const rp_strided_mut own_params = {params + row, ld};
        rp_grid_fit_cuda(g, n, own, weight, own_params);
    }
}

static __global__ void refit_kernel(rp_device_grid g, int sub, int64_t rows, int64_t n,
                                    rp_strided x, rp_strided weight, float *params, int64_t ld)
{
    const int64_t row = (int64_t)blockIdx.x * THREADS + threadIdx.x;

    if (row < rows) {
        const rp_strided own = {x.data + row, x.stride};
        const rp_strided_mut own_params = {params + row, ld};
        rp_grid_refit_cuda(g, sub, n, own, weight, own_params);
    }
}

static __global__ void round_kernel(rp_device_grid g, int64_t rows, int64_t n, rp_strided x,
                                    const float *params, int64_t ld, uint8_t *code, float *decoded,
                                    float *again)
{
    const int64_t row = (int64_t)blockIdx.x * THREADS + threadIdx.x;

    for (int64_t i = 0; i < n && row < rows; i++) {
        const rp_strided own = {params + row, ld};
        const int sub = (int)(i / g.sub_cols);
        const int64_t at = i * rows + row;
        code[at] = rp_grid_round_cuda(g, own, sub, x.data[i * x.stride + row], &decoded[at]);
        again[at] = rp_grid_decode_cuda(g, own, sub, code[at]);
    }
}

void grid_one_fit(rp_gpu *gpu, const rp_device_grid *grid, int64_t rows, int64_t n, rp_strided x,
                  rp_strided weight, float *params, int64_t ld)
{
    RP_LAUNCH(gpu, fit_kernel, rp_gpu_blocks(rows, THREADS), THREADS, 0, *grid, rows, n, x, weight,
              params, ld);
}

void grid_one_refit(rp_gpu *gpu, const rp_device_grid *grid, int sub, int64_t rows, int64_t n,
                    rp_strided x, rp_strided weight, float *params, int64_t ld)
{
    RP_LAUNCH(gpu, refit_kernel, rp_gpu_blocks(rows, THREADS), THREADS, 0, *grid, sub, rows, n, x,
              weight, params, ld);
}

void grid_one_round(rp_gpu *gpu, const rp_device_grid *grid, int64_t rows, int64_t n, rp_strided x,
                    const float *params, int64_t ld, uint8_t *code, float *decoded, float *again)
{
    RP_LAUNCH(gpu, round_kernel, rp_gpu_blocks(rows, THREADS), THREADS, 0, *grid, rows, n, x,
              params, ld, code, decoded, again);
}

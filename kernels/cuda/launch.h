/* Launches of kernels. Kernels are `static __global__ void <op>_kernel` in plain CUDA C++, so that
 * they also compile for the host, where tests run them with their real grid, block, shared memory,
 * barriers and shuffles (tests/cuda_host): no inline PTX, textures, asynchronous copies, matrix
 * intrinsics or cooperative groups; no `<<<>>>`, no `extern __shared__`, no atomics on floats. */
#ifndef RP_KERNELS_CUDA_LAUNCH_H
#define RP_KERNELS_CUDA_LAUNCH_H

#include "kernels/cuda/gpu_private.h"

#include <utility>

/* On the compute stream, or another one; nothing once something failed or when the grid has no
 * blocks. grid and block: dim3 or int. A block has at most 256 threads: so many have room for 255
 * registers each, the most that a kernel can have. More than 48 KiB of dynamic shared memory is
 * asked for by itself. */
#define RP_LAUNCH(gpu, kernel, grid, block, shared_bytes, ...)                                     \
    RP_LAUNCH_ON((gpu), (gpu)->stream, kernel, grid, block, shared_bytes, __VA_ARGS__)
#define RP_LAUNCH_ON(gpu, stream, kernel, grid, block, shared_bytes, ...)                          \
    rp_gpu_launch((gpu), (stream), #kernel, (kernel), (grid), (block), (shared_bytes), __VA_ARGS__)

/* Inside a kernel: type *name, the launch's dynamic shared memory, aligned to 16 bytes. */
#ifndef RP_DYNAMIC_SHARED
#define RP_DYNAMIC_SHARED(type, name)                                                              \
    extern __shared__ __align__(16) unsigned char rp_dynamic_shared[];                             \
    type *const name = reinterpret_cast<type *>(rp_dynamic_shared)
#endif

/* A loop that takes most of a kernel's time, as a function of its own: part of its caller on a GPU;
 * the stand-in compiles it for several processors. It does not wait for other threads. */
#ifndef RP_INNER_LOOP
#define RP_INNER_LOOP static __device__ __forceinline__
#endif

template <typename... Params, typename... Args>
void rp_gpu_launch(rp_gpu *gpu, cudaStream_t stream, const char *name, void (*kernel)(Params...),
                   dim3 grid, dim3 block, size_t shared_bytes, Args &&...args)
{
    cudaLaunchConfig_t config = {};
    cudaError_t status = cudaSuccess;

    if (rp_gpu_has_failed(gpu) || grid.x == 0 || grid.y == 0 || grid.z == 0) {
        return;
    }
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    if (shared_bytes > 48 << 10) {
        status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      (int)shared_bytes);
    }
    if (status == cudaSuccess) {
        status = cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
    }
    rp_gpu_keep(gpu, name, status);
}

/* Local. Blocks of `threads` that cover n elements, one each; n may be 0. */
static inline unsigned rp_gpu_blocks(int64_t n, int64_t threads)
{
    return (unsigned)((n + threads - 1) / threads);
}

#endif

/* What kernels on matrices share: packs of values that one load moves, grids that cover a matrix,
 * sums in a fixed order. CUDA C++; .cu files only. */
#ifndef RP_KERNELS_CUDA_ELEMENTS_H
#define RP_KERNELS_CUDA_ELEMENTS_H

#include "kernels/cuda/launch.h"
#include "kernels/ops.h"

#include <cstring>

enum { RP_WARP = 32, RP_COVER_THREADS = 256, RP_BLOCK_WARPS = 8 };

/* W neighbours; 16 bytes is one memory instruction. */
template <typename T, int W> struct alignas(sizeof(T) * W) rp_pack {
    T v[W];
};

template <int W, typename T> __device__ static inline rp_pack<T, W> rp_load(const T *from)
{
    return *reinterpret_cast<const rp_pack<T, W> *>(from);
}

template <typename T, int W>
__device__ static inline void rp_store(T *to, const rp_pack<T, W> &pack)
{
    *reinterpret_cast<rp_pack<T, W> *>(to) = pack;
}

/* Local. Can rows of it be moved in packs of four. */
static inline bool rp_is_wide(const float *data, int64_t cols, int64_t ld)
{
    return reinterpret_cast<uintptr_t>(data) % 16 == 0 && cols % 4 == 0 && ld % 4 == 0;
}
static inline bool rp_is_wide(rp_cmat x)
{
    return rp_is_wide(x.data, x.cols, x.ld);
}
static inline bool rp_is_wide(rp_mat x)
{
    return rp_is_wide(x.data, x.cols, x.ld);
}

static inline rp_cmat rp_cmat_from(rp_mat x)
{
    return rp_cmat_of(x.data, x.rows, x.cols, x.ld);
}

/* A thread a pack: x along a row, y down the rows, so that narrow matrices fill their blocks, too.
 */
typedef struct rp_cover {
    dim3 grid, block;
} rp_cover;

static inline rp_cover rp_cover_of(int64_t rows, int64_t packs)
{
    rp_cover cover;
    int across = 8;

    while (across < packs && across < RP_COVER_THREADS) {
        across *= 2;
    }
    cover.block = dim3((unsigned)across, (unsigned)(RP_COVER_THREADS / across));
    cover.grid = dim3(rp_gpu_blocks(rows, cover.block.y), rp_gpu_blocks(packs, across));
    return cover;
}

__device__ static inline int64_t rp_cover_row()
{
    return (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
}

template <int W> __device__ static inline int64_t rp_cover_col()
{
    return ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * W;
}

/* Launches kernel<4> or kernel<1> over rows x cols. */
#define RP_LAUNCH_COVER(gpu, kernel, is_wide, rows, cols, ...)                                     \
    do {                                                                                           \
        if (is_wide) {                                                                             \
            const rp_cover rp_launched = rp_cover_of((rows), (cols) / 4);                          \
            RP_LAUNCH((gpu), kernel<4>, rp_launched.grid, rp_launched.block, 0, __VA_ARGS__);      \
        } else {                                                                                   \
            const rp_cover rp_launched = rp_cover_of((rows), (cols));                              \
            RP_LAUNCH((gpu), kernel<1>, rp_launched.grid, rp_launched.block, 0, __VA_ARGS__);      \
        }                                                                                          \
    } while (0)

/* Columns col .. col + 3 of a row, 0 from cols on, by one load where rows are wide: sums over packs
 * have one order, wherever the row starts. */
__device__ static inline rp_pack<float, 4> rp_load_four(const float *row, int64_t col, int64_t cols,
                                                        bool is_wide)
{
    rp_pack<float, 4> v = {};

    if (is_wide) {
        return rp_load<4>(row + col);
    }
    for (int i = 0; i < 4 && col + i < cols; i++) {
        v.v[i] = row[col + i];
    }
    return v;
}

__device__ static inline void rp_store_four(float *row, int64_t col, int64_t cols, bool is_wide,
                                            const rp_pack<float, 4> &v)
{
    if (is_wide) {
        rp_store(row + col, v);
        return;
    }
    for (int i = 0; i < 4 && col + i < cols; i++) {
        row[col + i] = v.v[i];
    }
}

/* A warp a row, RP_BLOCK_WARPS of them a block; a lane takes every RP_WARP-th pack of four. */
__device__ static inline int64_t rp_warp_row()
{
    return (int64_t)blockIdx.x * RP_BLOCK_WARPS + threadIdx.y;
}

#define RP_LAUNCH_WARPS(gpu, kernel, rows, ...)                                                    \
    RP_LAUNCH((gpu), kernel, rp_gpu_blocks((rows), RP_BLOCK_WARPS), dim3(RP_WARP, RP_BLOCK_WARPS), \
              0, __VA_ARGS__)

/* All lanes get the same sum: each step adds the same two values in both. */
template <typename T> __device__ static inline T rp_warp_sum(T v)
{
    for (int step = RP_WARP / 2; step > 0; step /= 2) {
        v += __shfl_xor_sync(0xffffffffU, v, step);
    }
    return v;
}

/* All threads of a block of whole warps get the sum. part [RP_WARP], shared. */
template <typename T> __device__ static inline T rp_block_sum(T v, T *part)
{
    const int lane = (int)threadIdx.x % RP_WARP, warp = (int)threadIdx.x / RP_WARP;

    v = rp_warp_sum(v);
    __syncthreads(); /* part may still be read by an earlier call */
    if (lane == 0) {
        part[warp] = v;
    }
    __syncthreads();
    return rp_warp_sum(lane < (int)blockDim.x / RP_WARP ? part[lane] : T(0));
}

__device__ static inline uint32_t rp_bits_of(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

__device__ static inline float rp_float_of(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

__device__ static inline bool rp_is_finite(float x)
{
    return (rp_bits_of(x) & 0x7f800000U) != 0x7f800000U;
}

/* 2^exponent for exponents of normal doubles. */
__device__ static inline double rp_power_of_two(int exponent)
{
    const int64_t bits = (int64_t)(exponent + 1023) << 52;
    double power;

    memcpy(&power, &bits, sizeof(power));
    return power;
}

#endif

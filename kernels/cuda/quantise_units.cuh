/* Whole matrices of grids whose groups are cut into units: sub-groups, or blocks of 16 or 32
 * values. Kernels that take long to compile have files of their own.
 *
 * A block of RP_UNIT_THREADS takes as many units through shared memory, where every unit is
 * followed by a gap, so that threads read from different banks. The threads of a super-block are a
 * team. */
#ifndef RP_KERNELS_CUDA_QUANTISE_UNITS_CUH
#define RP_KERNELS_CUDA_QUANTISE_UNITS_CUH

#include "base/mem.h"
#include "kernels/cuda/grid_cuda.cuh"
#include "kernels/cuda/launch.h"

#define RP_UNIT_THREADS 128
#define RP_CODE_GAP 4 /* bytes after a unit's codes */
#define RP_TERNARY_TEAM 8

/* Values of a unit; ternary groups are cut into units, too. */
static __host__ __device__ inline int rp_unit_cols(const rp_device_grid &g)
{
    return g.kind == RP_GRID_TERNARY ? (int)g.group / RP_TERNARY_TEAM : (int)g.sub_cols;
}

static inline size_t rp_unit_bytes(const rp_device_grid *g)
{
    const size_t n = (size_t)rp_unit_cols(*g);

    return RP_UNIT_THREADS * ((n + 1) * sizeof(float) + n + RP_CODE_GAP);
}

/* Threads of a group. */
template <int SIZE> static __host__ __device__ inline int rp_team_size(const rp_device_grid &g)
{
    return SIZE == RP_TEAM_OF_SUBS ? g.n_sub : SIZE;
}

/* ---- Kernels ---- */

/* One group of a block's by its team. x and code: of the team's first unit. */
template <int KIND, int SIZE>
static __device__ void quantise_group(const rp_device_grid &g, const rp_team<SIZE> &team,
                                      rp_values x, rp_values importance, rp_strided_mut params,
                                      uint8_t *code, int code_pitch)
{
    if constexpr (KIND == RP_GRID_TWO_LEVELS) {
        rp_super_quantise(g, team, x, importance, params, code, code_pitch);
    } else if constexpr (KIND == RP_GRID_TERNARY) {
        rp_ternary_quantise(g, team, x, params, code, code_pitch);
    } else if constexpr (KIND == RP_GRID_MXFP4) {
        rp_mxfp4_quantise(rp_values_sub(x, 0), params, code);
    } else {
        rp_block_quantise(g, rp_values_sub(x, 0), rp_values_sub(importance, 0),
                          importance.data == NULL ? 0.0f : params.data[0], params, code);
    }
}

/* A team a group. The kernel's grids have the kind KIND, blocks of 32 any of theirs. */
template <int KIND, int SIZE>
static __global__ void __launch_bounds__(RP_UNIT_THREADS)
    quantise_units_kernel(rp_device_grid g, int64_t rows, int64_t cols, const float *x,
                          const float *importance, float *params, uint8_t *codes)
{
    RP_DYNAMIC_SHARED(float, values);
    const rp_team<SIZE> team(rp_team_size<SIZE>(g));
    const int n = rp_unit_cols(g);
    const int code_pitch = n + RP_CODE_GAP;
    uint8_t *const own_codes =
        reinterpret_cast<uint8_t *>(values + (int64_t)RP_UNIT_THREADS * (n + 1));
    const int64_t first = (int64_t)blockIdx.x * RP_UNIT_THREADS * n;
    const int count = (int)RP_MIN((int64_t)RP_UNIT_THREADS * n, rows * cols - first);
    const int unit = (int)threadIdx.x - team.lane;
    const int64_t column = first + (int64_t)unit * n;

    for (int i = (int)threadIdx.x; i < count; i += RP_UNIT_THREADS) {
        values[i / n * (n + 1) + i % n] = x[first + i];
    }
    __syncthreads();
    if (unit * n < count) {
        const rp_values own = {values + (int64_t)unit * (n + 1), 1, n + 1};
        const rp_values weight = {importance == NULL ? NULL : importance + column % cols, 1, n};
        const rp_strided_mut own_params = {params + column / g.group * g.n_params, 1};
        quantise_group<KIND>(g, team, own, weight, own_params, own_codes + unit * code_pitch,
                             code_pitch);
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < count; i += RP_UNIT_THREADS) {
        codes[first + i] = own_codes[i / n * code_pitch + i % n];
    }
}

template <int KIND, int SIZE>
static __device__ void fit_group(const rp_device_grid &g, const rp_team<SIZE> &team, rp_values x,
                                 rp_values weight, rp_strided_mut params)
{
    if constexpr (KIND == RP_GRID_TWO_LEVELS) {
        rp_super_fit(g, team, x, weight, params);
    } else if constexpr (KIND == RP_GRID_TERNARY) {
        rp_ternary_fit(g, team, x, weight, params);
    } else if constexpr (KIND == RP_GRID_MXFP4) {
        rp_mxfp4_fit(RP_MXFP4_BLOCK, rp_values_sub(x, 0), rp_values_sub(weight, 0), params);
    } else {
        rp_block_fit(g, rp_values_sub(x, 0), rp_values_sub(weight, 0), params);
    }
}

/* As many rows a block as it has teams. */
template <int KIND, int SIZE>
static __global__ void __launch_bounds__(RP_UNIT_THREADS)
    fit_units_kernel(rp_device_grid g, int64_t rows, int64_t n, rp_strided x, rp_strided weight,
                     float *params, int64_t ld)
{
    RP_DYNAMIC_SHARED(float, values);
    const rp_team<SIZE> team(rp_team_size<SIZE>(g));
    const int width = rp_unit_cols(g);
    const int block_rows = RP_UNIT_THREADS / team.size();
    const int64_t first = (int64_t)blockIdx.x * block_rows;
    const int count = (int)RP_MIN(block_rows, rows - first);
    const int unit = (int)threadIdx.x - team.lane;

    for (int i = (int)threadIdx.x; i < (int)n * block_rows; i += RP_UNIT_THREADS) {
        const int row = i % block_rows;
        const int column = i / block_rows;
        if (row < count) {
            values[(row * team.size() + column / width) * (width + 1) + column % width] =
                x.data[column * x.stride + first + row];
        }
    }
    __syncthreads();
    if (unit / team.size() < count) {
        const rp_values own = {values + (int64_t)unit * (width + 1), 1, width + 1};
        const rp_strided_mut own_params = {params + first + unit / team.size(), ld};
        fit_group<KIND>(g, team, own, rp_values_of(weight, width), own_params);
    }
}

/* ---- What a file of kernels gives ---- */

typedef void rp_quantise_units(rp_device_grid, int64_t, int64_t, const float *, const float *,
                               float *, uint8_t *);
typedef void rp_fit_units(rp_device_grid, int64_t, int64_t, rp_strided, rp_strided, float *,
                          int64_t);

/* The kernels of a kind. */
typedef struct rp_unit_kernels {
    rp_quantise_units *quantise;
    rp_fit_units *fit;
} rp_unit_kernels;

rp_unit_kernels rp_block_kernels(void); /* of 32 values; all kinds without a team but MXFP4 */
rp_unit_kernels rp_mxfp4_kernels(void);
rp_unit_kernels rp_ternary_kernels(void);
rp_unit_kernels rp_super_kernels(void);
rp_fit_units *rp_super_fit_kernel(void);

#endif

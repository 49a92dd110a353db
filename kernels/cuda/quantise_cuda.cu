/* Rounding of whole matrices to a grid, and fits of one group of all rows.
 *
 * A block of THREADS takes as many units, sub-groups or blocks of 16 or 32 values, through shared
 * memory, where every unit is followed by a gap, so that threads read from different banks. The
 * threads of a super-block are a team. Affine groups are of any length: a warp has one. */
#include "kernels/cuda/grid_cuda.h"

#include "base/mem.h"
#include "kernels/cuda/grid_cuda.cuh"
#include "kernels/cuda/launch.h"

#define THREADS 128
#define CODE_GAP 4 /* bytes after a unit's codes */
#define TERNARY_TEAM 8
#define FIT_ROWS 32    /* affine */
#define SEARCH_SPLIT 8 /* threads a row in the clipping search */
#define REFIT_TEAM 16

/* ---- The grid by value ---- */

static rp_grid_kind kind_of(const rp_grid *grid)
{
    const rp_grid_ops *ops = grid->ops;

    if (ops->levels == NULL) {
        return RP_GRID_AFFINE;
    }
    if (ops->n_sub > 0) {
        return RP_GRID_TWO_LEVELS;
    }
    if (ops->is_power_scale) {
        return RP_GRID_MXFP4;
    }
    if (ops->top_code != 0) {
        return RP_GRID_TERNARY;
    }
    if (ops->levels == rp_iq4_levels) {
        return RP_GRID_IQ4_NL;
    }
    if (ops->fixed_bits == 8) {
        return RP_GRID_Q8;
    }
    return ops->has_min ? RP_GRID_MIN : RP_GRID_SYMMETRIC;
}

rp_device_grid rp_device_grid_of(const rp_grid *grid, int64_t cols)
{
    const rp_grid_ops *ops = grid->ops;
    rp_device_grid g = {};

    g.kind = kind_of(grid);
    g.bits = grid->bits;
    g.top = ops->top_code != 0 ? ops->top_code : (1 << grid->bits) - 1;
    g.is_symmetric = grid->is_symmetric;
    g.mse = grid->mse;
    g.has_min = ops->has_min;
    g.is_iq4 = ops->levels == rp_iq4_levels;
    g.zero_min = grid->zero_min;
    g.scale_type = grid->scale_type;
    g.group = rp_grid_group_cols(grid, cols);
    g.sub_cols = rp_grid_sub_cols(grid, cols);
    g.n_params = ops->n_params;
    g.n_sub = ops->n_sub;
    g.n_steps = ops->has_min ? 2 : 1;
    g.scale_lo = ops->scale_lo;
    g.scale_hi = ops->scale_hi;
    g.min_hi = ops->min_hi;
    g.lowest = ops->levels == NULL ? 0.0f : ops->levels[0];
    if (ops->search != NULL) {
        g.search = *ops->search;
    }
    g.weighted_steps = rp_search_weighted_steps;
    return g;
}

/* ---- Affine ---- */

/* Sum over a half of the warp in the processor's order; all its threads get it. */
static __device__ float sum_in_order(const rp_team<16> &team, float own)
{
    float sum = 0.0f;

    for (int k = 0; k < 16; k++) {
        sum += team.from(own, k);
    }
    return sum;
}

/* The clipping search by a warp: its halves take steps in turn, their threads the sums. Returns the
 * best step. */
static __device__ int search_by_warp(const rp_affine &a, float low, float high, int64_t n,
                                     rp_strided x, rp_strided weight)
{
    const rp_team<32> warp;
    const rp_team<16> lanes;
    rp_trial best = {INFINITY, RP_AFFINE_STEPS};

    for (int step = warp.lane / 16; step < RP_AFFINE_STEPS; step += 2) {
        float tried[2];
        float sum = 0.0f;
        rp_affine_step(a, low, high, step, tried);
        const float inverse = 1.0f / tried[0];
        for (int64_t i = lanes.lane; i < n; i += RP_ERROR_LANES) {
            sum += rp_affine_error(a.top, tried[0], inverse, tried[1], rp_at(x, i),
                                   rp_weight_at(weight, i));
        }
        const float error = sum_in_order(lanes, sum);
        if (error < best.error) {
            best.error = error;
            best.number = step;
        }
    }
    return rp_first_best(warp, best).number;
}

/* A warp a group. */
static __global__ void quantise_affine_kernel(rp_device_grid g, int64_t rows, int64_t cols,
                                              const float *x, const float *importance,
                                              float *params, uint8_t *codes)
{
    const rp_team<32> warp;
    const rp_affine a = rp_affine_of(g);
    const int64_t ngroups = (cols + g.group - 1) / g.group;
    const int64_t at = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / 32;

    if (at >= rows * ngroups) {
        return;
    }
    const int64_t column = at % ngroups * g.group;
    const int64_t n = RP_MIN(g.group, cols - column);
    const int64_t first = at / ngroups * cols + column;
    const rp_strided own = {x + first, 1};
    const rp_strided weight = {importance == NULL ? NULL : importance + column, 1};
    int step = RP_AFFINE_STEPS;
    float low = 0.0f, high = 0.0f, found[2];
    for (int64_t i = warp.lane; i < n; i += 32) {
        low = own.data[i] < low ? own.data[i] : low;
        high = own.data[i] > high ? own.data[i] : high;
    }
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        const float other_low = warp.across(low, lanes);
        const float other_high = warp.across(high, lanes);
        low = other_low < low ? other_low : low;
        high = other_high > high ? other_high : high;
    }
    rp_affine_full_range(g.is_symmetric, &low, &high);
    if (g.mse && low != high) {
        step = search_by_warp(a, low, high, n, own, weight);
    }
    rp_affine_step(a, low, high, step, found);
    const float inverse = 1.0f / found[0];
    for (int64_t i = warp.lane; i < n; i += 32) {
        codes[first + i] = (uint8_t)rp_affine_code(a.top, inverse, found[1], own.data[i]);
    }
    if (warp.lane < 2) {
        params[2 * at + warp.lane] = warp.lane == 0 ? found[0] : found[1];
    }
}

/* FIT_ROWS rows side by side; with a search SEARCH_SPLIT threads a row, which take steps in turn.
 */
static __global__ void fit_affine_kernel(rp_device_grid g, int64_t rows, int64_t n, rp_strided x,
                                         rp_strided weight, float *params, int64_t ld)
{
    RP_DYNAMIC_SHARED(rp_trial, trials); /* [SEARCH_SPLIT][FIT_ROWS] */
    const int in_block = (int)threadIdx.x % FIT_ROWS;
    const int part = (int)threadIdx.x / FIT_ROWS;
    const int parts = (int)blockDim.x / FIT_ROWS;
    const int64_t row = (int64_t)blockIdx.x * FIT_ROWS + in_block;
    const rp_affine a = rp_affine_of(g);
    const rp_strided own = {x.data + RP_MIN(row, rows - 1), x.stride};
    float low, high, found[2];

    rp_affine_bounds(g.is_symmetric, n, own, &low, &high);
    trials[threadIdx.x].error = INFINITY;
    trials[threadIdx.x].number = RP_AFFINE_STEPS;
    if (g.mse && low != high) {
        trials[threadIdx.x] = rp_affine_search(a, low, high, n, own, weight, part, parts);
    }
    __syncthreads();
    if (part > 0 || row >= rows) {
        return;
    }
    rp_trial best = trials[in_block];
    for (int k = 1; k < parts; k++) {
        const rp_trial other = trials[k * FIT_ROWS + in_block];
        if (other.error < best.error || (other.error == best.error && other.number < best.number)) {
            best = other;
        }
    }
    rp_affine_step(a, low, high, best.number, found);
    params[row] = found[0];
    params[ld + row] = found[1];
}

/* ---- Units in shared memory ---- */

/* Values of a unit; ternary groups are cut into units, too. */
static __host__ __device__ inline int unit_cols(const rp_device_grid &g)
{
    return g.kind == RP_GRID_TERNARY ? (int)g.group / TERNARY_TEAM : (int)g.sub_cols;
}

static size_t unit_bytes(const rp_device_grid *g)
{
    const size_t n = (size_t)unit_cols(*g);

    return THREADS * ((n + 1) * sizeof(float) + n + CODE_GAP);
}

/* The mean square of every row, in the order of its values, in the first parameter of each of its
 * groups, from where the threads that quantise them take it. A warp a row. */
static __global__ void mean_squares_kernel(rp_device_grid g, int64_t rows, int64_t cols,
                                           const float *x, float *params)
{
    const rp_team<32> warp;
    const int64_t row = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / 32;
    float sum = 0.0f;

    if (row >= rows) {
        return;
    }
    for (int64_t first = 0; first < cols; first += 32) {
        const float v = first + warp.lane < cols ? x[row * cols + first + warp.lane] : 0.0f;
        const float square = v * v;
        for (int k = 0; k < 32; k++) {
            sum += warp.from(square, k);
        }
    }
    for (int64_t group = warp.lane; group < cols / g.group; group += 32) {
        params[(row * (cols / g.group) + group) * g.n_params] = sum / (float)cols;
    }
}

/* One group of a block's by its team. x and code: of the team's first unit. */
template <int KIND, int SIZE>
static __device__ void quantise_group(const rp_device_grid &g, rp_values x, rp_values importance,
                                      rp_strided_mut params, uint8_t *code, int code_pitch)
{
    const rp_team<SIZE> team;

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

/* SIZE threads a group. The kernel's grids have the kind KIND, blocks of 32 any of theirs. */
template <int KIND, int SIZE>
static __global__ void __launch_bounds__(THREADS)
    quantise_units_kernel(rp_device_grid g, int64_t rows, int64_t cols, const float *x,
                          const float *importance, float *params, uint8_t *codes)
{
    RP_DYNAMIC_SHARED(float, values);
    const int n = unit_cols(g);
    const int code_pitch = n + CODE_GAP;
    uint8_t *const own_codes = reinterpret_cast<uint8_t *>(values + (int64_t)THREADS * (n + 1));
    const int64_t first = (int64_t)blockIdx.x * THREADS * n;
    const int count = (int)RP_MIN((int64_t)THREADS * n, rows * cols - first);
    const int unit = (int)threadIdx.x / SIZE * SIZE;
    const int64_t column = first + (int64_t)unit * n;

    for (int i = (int)threadIdx.x; i < count; i += THREADS) {
        values[i / n * (n + 1) + i % n] = x[first + i];
    }
    __syncthreads();
    if (unit * n < count) {
        const rp_values own = {values + (int64_t)unit * (n + 1), 1, n + 1};
        const rp_values weight = {importance == NULL ? NULL : importance + column % cols, 1, n};
        const rp_strided_mut own_params = {params + column / g.group * g.n_params, 1};
        quantise_group<KIND, SIZE>(g, own, weight, own_params, own_codes + unit * code_pitch,
                                   code_pitch);
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < count; i += THREADS) {
        codes[first + i] = own_codes[i / n * code_pitch + i % n];
    }
}

template <int KIND, int SIZE>
static __device__ void fit_group(const rp_device_grid &g, rp_values x, rp_values weight,
                                 rp_strided_mut params)
{
    const rp_team<SIZE> team;

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

/* THREADS / SIZE rows a block. */
template <int KIND, int SIZE>
static __global__ void __launch_bounds__(THREADS)
    fit_units_kernel(rp_device_grid g, int64_t rows, int64_t n, rp_strided x, rp_strided weight,
                     float *params, int64_t ld)
{
    RP_DYNAMIC_SHARED(float, values);
    const int width = unit_cols(g);
    const int block_rows = THREADS / SIZE;
    const int64_t first = (int64_t)blockIdx.x * block_rows;
    const int count = (int)RP_MIN(block_rows, rows - first);
    const int unit = (int)threadIdx.x / SIZE * SIZE;

    for (int i = (int)threadIdx.x; i < (int)n * block_rows; i += THREADS) {
        const int row = i % block_rows;
        const int column = i / block_rows;
        if (row < count) {
            values[(row * SIZE + column / width) * (width + 1) + column % width] =
                x.data[column * x.stride + first + row];
        }
    }
    __syncthreads();
    if (unit / SIZE < count) {
        const rp_values own = {values + (int64_t)unit * (width + 1), 1, width + 1};
        const rp_strided_mut own_params = {params + first + unit / SIZE, ld};
        fit_group<KIND, SIZE>(g, own, rp_values_of(weight, width), own_params);
    }
}

/* ---- Refits ---- */

/* REFIT_TEAM threads a row, one for each candidate. */
static __global__ void __launch_bounds__(THREADS)
    refit_kernel(rp_device_grid g, int sub, int64_t rows, int64_t n, rp_strided x,
                 rp_strided weight, float *params, int64_t ld)
{
    __shared__ float values[THREADS / REFIT_TEAM][RP_SEARCH_MAX + 1];
    __shared__ float weights[RP_SEARCH_MAX];
    const rp_team<REFIT_TEAM> team;
    const int block_rows = THREADS / REFIT_TEAM;
    const int64_t first = (int64_t)blockIdx.x * block_rows;
    const int row = (int)threadIdx.x / REFIT_TEAM;

    for (int i = (int)threadIdx.x; i < (int)n * block_rows; i += THREADS) {
        const int64_t from = RP_MIN(first + i % block_rows, rows - 1);
        values[i % block_rows][i / block_rows] = x.data[i / block_rows * x.stride + from];
    }
    if (threadIdx.x < n) {
        weights[threadIdx.x] = rp_weight_at(weight, threadIdx.x);
    }
    __syncthreads();
    if (first + row >= rows) {
        return;
    }
    const rp_strided_mut own = {params + first + row, ld};
    const float dmin = g.has_min ? own.data[ld] : 0.0f;
    const rp_pair p = rp_super_refit(g, team, own.data[0], dmin, n, values[row], weights);
    if (team.lane == 0) {
        rp_put_super(g, sub, p.s, p.m, own);
    }
}

/* ---- Launches ---- */

typedef void quantise_units(rp_device_grid, int64_t, int64_t, const float *, const float *, float *,
                            uint8_t *);
typedef void fit_units(rp_device_grid, int64_t, int64_t, rp_strided, rp_strided, float *, int64_t);

/* The kernels of a kind, and the threads of a team. */
typedef struct unit_kernels {
    quantise_units *quantise;
    fit_units *fit;
    int size;
} unit_kernels;

#define UNIT_KERNELS(kind, size)                                                                   \
    {                                                                                              \
        quantise_units_kernel<kind, size>, fit_units_kernel<kind, size>, size                      \
    }

static unit_kernels kernels_of(const rp_device_grid *g)
{
    static const unit_kernels blocks = UNIT_KERNELS(RP_GRID_SYMMETRIC, 1);
    static const unit_kernels mxfp4 = UNIT_KERNELS(RP_GRID_MXFP4, 1);
    static const unit_kernels ternary = UNIT_KERNELS(RP_GRID_TERNARY, TERNARY_TEAM);
    static const unit_kernels eight = UNIT_KERNELS(RP_GRID_TWO_LEVELS, 8);
    static const unit_kernels sixteen = UNIT_KERNELS(RP_GRID_TWO_LEVELS, 16);

    switch (g->kind) {
    case RP_GRID_MXFP4:
        return mxfp4;
    case RP_GRID_TERNARY:
        return ternary;
    case RP_GRID_TWO_LEVELS:
        return g->n_sub == 8 ? eight : sixteen;
    default:
        return blocks;
    }
}

void rp_quantise_rows_cuda(rp_gpu *gpu, const rp_device_grid *grid, int64_t rows, int64_t cols,
                           const float *x, const float *importance, float *params, uint8_t *codes)
{
    if (grid->kind == RP_GRID_AFFINE) {
        const int64_t ngroups = grid->group == 0 ? 0 : RP_DIV_UP(cols, grid->group);
        RP_LAUNCH(gpu, quantise_affine_kernel, rp_gpu_blocks(rows * ngroups, THREADS / 32), THREADS,
                  0, *grid, rows, cols, x, importance, params, codes);
        return;
    }
    if (importance != NULL && (grid->kind == RP_GRID_SYMMETRIC || grid->kind == RP_GRID_MIN)) {
        RP_LAUNCH(gpu, mean_squares_kernel, rp_gpu_blocks(rows, THREADS / 32), THREADS, 0, *grid,
                  rows, cols, x, params);
    }
    const unit_kernels kernels = kernels_of(grid);
    RP_LAUNCH(gpu, kernels.quantise,
              rp_gpu_blocks(rows * cols, (int64_t)THREADS * unit_cols(*grid)), THREADS,
              unit_bytes(grid), *grid, rows, cols, x, importance, params, codes);
}

void rp_fit_groups_cuda(rp_gpu *gpu, const rp_device_grid *grid, int64_t rows, int64_t n,
                        rp_strided x, rp_strided weight, float *params, int64_t ld)
{
    if (grid->kind == RP_GRID_AFFINE) {
        const int threads = FIT_ROWS * (grid->mse ? SEARCH_SPLIT : 1);
        RP_LAUNCH(gpu, fit_affine_kernel, rp_gpu_blocks(rows, FIT_ROWS), threads,
                  (size_t)threads * sizeof(rp_trial), *grid, rows, n, x, weight, params, ld);
        return;
    }
    const unit_kernels kernels = kernels_of(grid);
    RP_LAUNCH(gpu, kernels.fit, rp_gpu_blocks(rows, THREADS / kernels.size), THREADS,
              unit_bytes(grid), *grid, rows, n, x, weight, params, ld);
}

void rp_refit_groups_cuda(rp_gpu *gpu, const rp_device_grid *grid, int sub, int64_t rows, int64_t n,
                          rp_strided x, rp_strided weight, float *params, int64_t ld)
{
    RP_LAUNCH(gpu, refit_kernel, rp_gpu_blocks(rows, THREADS / REFIT_TEAM), THREADS, 0, *grid, sub,
              rows, n, x, weight, params, ld);
}

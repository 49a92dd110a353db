/* Rounding of whole matrices to a grid, and fits of one group of all rows.
 *
 * Affine groups are of any length: a warp has one. For the others see quantise_units.cuh. */
#include "kernels/cuda/grid_cuda.h"

#include "kernels/cuda/quantise_units.cuh"

#define THREADS RP_UNIT_THREADS
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

/* ---- Units ---- */

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

static rp_unit_kernels kernels_of(const rp_device_grid *g)
{
    switch (g->kind) {
    case RP_GRID_MXFP4:
        return rp_mxfp4_kernels();
    case RP_GRID_TERNARY:
        return rp_ternary_kernels();
    case RP_GRID_TWO_LEVELS:
        return rp_super_kernels();
    default:
        return rp_block_kernels();
    }
}

/* Threads of a group. */
static int team_of(const rp_device_grid *g)
{
    return g->kind == RP_GRID_TERNARY      ? RP_TERNARY_TEAM
           : g->kind == RP_GRID_TWO_LEVELS ? g->n_sub
                                           : 1;
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
    const rp_unit_kernels kernels = kernels_of(grid);
    RP_LAUNCH(gpu, kernels.quantise,
              rp_gpu_blocks(rows * cols, (int64_t)THREADS * rp_unit_cols(*grid)), THREADS,
              rp_unit_bytes(grid), *grid, rows, cols, x, importance, params, codes);
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
    const rp_unit_kernels kernels = kernels_of(grid);
    RP_LAUNCH(gpu, kernels.fit, rp_gpu_blocks(rows, THREADS / team_of(grid)), THREADS,
              rp_unit_bytes(grid), *grid, rows, n, x, weight, params, ld);
}

void rp_refit_groups_cuda(rp_gpu *gpu, const rp_device_grid *grid, int sub, int64_t rows, int64_t n,
                          rp_strided x, rp_strided weight, float *params, int64_t ld)
{
    RP_LAUNCH(gpu, refit_kernel, rp_gpu_blocks(rows, THREADS / REFIT_TEAM), THREADS, 0, *grid, sub,
              rows, n, x, weight, params, ld);
}

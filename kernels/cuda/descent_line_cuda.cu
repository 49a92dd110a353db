/* The search for d, and for the minimum, of groups along the line on which it moves the decoded
 * values; methods/descent.c defines it. */
#include "kernels/cuda/descent_cuda.cuh"

/* Of one block of rows: a line's direction. */
typedef struct line_memory {
    float u[RP_DESCENT_COLS][RP_UNIT_THREADS];     /* then what it does to delta */
    float other[RP_DESCENT_COLS][RP_UNIT_THREADS]; /* G, then H u */
    rp_unit tile[RP_DESCENT_WARPS];
    float step[RP_UNIT_THREADS];
} line_memory;

/* A line: the group at columns lo .. of the block, and which of its parameters. */
typedef struct line {
    int lo;
    bool is_min;
} line;

/* ---- Direction ---- */

static __device__ float level_of(const rp_device_grid &grid, int code)
{
    return grid.is_iq4 ? rp_iq4_level(code) : grid.lowest + (float)code;
}

/* Derivative of the decoded column i of the group by the parameter. */
static __device__ float derivative(const rp_descent_view &v, line at, int i, int64_t r)
{
    const rp_piece &t = v.t;
    const rp_device_grid &grid = t.grid;
    const int column = rp_view_column(v, at.lo + i);
    const bool two_levels = grid.n_sub > 0;
    float value = at.is_min && two_levels ? -1.0f : 1.0f;

    if (two_levels) {
        const int first = grid.n_steps + (at.is_min ? grid.n_sub : 0);
        const rp_strided_mut params = rp_piece_params(t, column, r);
        value *= params.data[(first + rp_piece_sub(t, column)) * params.stride];
    }
    return at.is_min ? value : value * level_of(grid, t.codes[column * t.ld + r]);
}

/* u := the direction, other := G. */
static __device__ void open_line(const rp_descent_view &v, line at, line_memory *m)
{
    const int64_t r = rp_piece_row();

    RP_UNROLL(2)
    for (int i = (int)threadIdx.y; i < v.t.group; i += RP_DESCENT_WARPS) {
        m->u[i][threadIdx.x] = r < v.t.rows ? derivative(v, at, i, r) : 0.0f;
        m->other[i][threadIdx.x] = v.s.g[(at.lo + i) * v.t.ld + r];
    }
}

/* ---- Products ---- */

/* sums := H of 32 columns from `to` on and columns lo + first .. of the block times n columns of
 * the group from first on: one chain. */
static __device__ void chain(const rp_descent_view &v, int lo, int first, int n, int to,
                             line_memory *m, rp_cells *sums)
{
    rp_unit *const tile = &m->tile[threadIdx.y];

    *sums = {};
    for (int k = first; k < first + n; k += RP_UNIT_COLS) {
        const int count = RP_MIN(RP_UNIT_COLS, first + n - k);
        rp_load_h(v, lo + k, count, to, tile);
        rp_multiply_tile(tile, count, &m->u[k], sums);
    }
}

/* other := H u of the warp's unit of the group. */
static __device__ void multiply_unit(const rp_descent_view &v, int lo, line_memory *m)
{
    const int first = rp_own_unit() + rp_cells_column();
    rp_cells sums;

    for (int k = 0; k < v.t.group; k += RP_PRODUCT_CHAIN) {
        chain(v, lo, k, RP_MIN(RP_PRODUCT_CHAIN, v.t.group - k), lo + rp_own_unit(), m, &sums);
        rp_add_cells(&sums, k > 0, v.t.group - first, RP_UNIT_THREADS,
                     &m->other[first][rp_cells_row()]);
    }
}

/* G of the block's columns += what the group's columns do, which changed by u. */
static __device__ void push_group(const rp_descent_view &v, int lo, line_memory *m)
{
    rp_cells sums;

    for (int k = 0; k < v.t.group && rp_pushes(v.n); k += RP_PRODUCT_CHAIN) {
        chain(v, lo, k, RP_MIN(RP_PRODUCT_CHAIN, v.t.group - k), rp_own_unit(), m, &sums);
        rp_add_to_gradient(v, v.n, &sums);
    }
}

/* ---- Steps ---- */

/* The row's u times other. */
static __device__ float dot_of(const rp_descent_view &v, const line_memory *m)
{
    float dot = 0;

    RP_UNROLL(8)
    for (int i = 0; i < v.t.group; i++) {
        dot += m->u[i][threadIdx.x] * m->other[i][threadIdx.x];
    }
    return dot;
}

/* param + the step that lowers the loss most, as it is stored, or param. */
static __device__ float search_step(float param, float dot, float curvature, float least,
                                    double *gain)
{
    const float value = fmaxf(rp_nearest_f16(param + dot / curvature), least);
    const float step = value - param;
    const float lowered = step * (2 * dot - step * curvature);

    if (!(curvature > 0) || !(lowered > 0) || !isfinite(value)) {
        return param;
    }
    *gain = (double)lowered;
    return value;
}

/* The row's parameter moves. Returns by how much. */
static __device__ float take_step(const rp_descent_view &v, line at, float dot, float curvature)
{
    const int64_t r = rp_piece_row();
    const bool is_bounded = at.is_min && v.t.grid.n_sub > 0; /* dmin is not negative */
    const rp_strided_mut params = rp_piece_params(v.t, rp_view_column(v, at.lo), r);
    float *param = params.data + (at.is_min ? params.stride : 0);
    const float before = *param;
    double gain = 0;

    *param = search_step(before, dot, curvature, is_bounded ? 0.0f : -INFINITY, &gain);
    v.s.gain[r] += gain;
    return *param - before;
}

/* u := what the steps do to delta, and delta with it. */
static __device__ void move(const rp_descent_view &v, int lo, line_memory *m)
{
    const float step = m->step[threadIdx.x];

    RP_UNROLL(2)
    for (int i = (int)threadIdx.y; i < v.t.group; i += RP_DESCENT_WARPS) {
        float *u = &m->u[i][threadIdx.x];
        *u *= -step;
        v.t.delta[rp_view_at(v, lo + i, rp_piece_row())] += *u;
    }
}

static __device__ void search_line(const rp_descent_view &v, line at, line_memory *m)
{
    const bool decides = threadIdx.y == 0 && rp_piece_row() < v.t.rows;
    float dot = 0;
    float step = 0;

    open_line(v, at, m);
    __syncthreads();
    if (decides) {
        dot = dot_of(v, m);
    }
    __syncthreads();
    if (rp_own_unit() < v.t.group) {
        multiply_unit(v, at.lo, m);
    }
    __syncthreads();
    if (decides) {
        step = take_step(v, at, dot, dot_of(v, m));
    }
    if (threadIdx.y == 0) {
        m->step[threadIdx.x] = step;
    }
    if (__syncthreads_or(step != 0)) {
        move(v, at.lo, m);
        __syncthreads();
        push_group(v, at.lo, m);
        __syncthreads();
    }
}

static __global__ void __launch_bounds__(RP_DESCENT_THREADS, 2)
    search_lines_kernel(rp_descent_view v, int lo, int n)
{
    RP_DYNAMIC_SHARED(line_memory, m);
    const int n_params = v.t.grid.has_min ? 2 : 1;

    for (int hi = lo + n; hi > lo; hi -= v.t.group) {
        RP_UNROLL(1)
        for (int i = 0; i < n_params; i++) {
            search_line(v, line{hi - v.t.group, i > 0}, m);
        }
    }
}

void rp_descent_search_lines(rp_gpu *gpu, const rp_descent_view *v, int64_t lo, int64_t n)
{
    RP_LAUNCH_DESCENT(gpu, search_lines_kernel, line_memory, v->t, *v, (int)lo, (int)n);
}

/* Block coordinate descent on a piece; methods/descent.c defines it and says why. */
#include "kernels/cuda/descent_cuda.cuh"

#define MIN_BLOCK 256 /* columns */

void rp_descent_carve(rp_carver *c, const rp_piece *t, const rp_grid *grid, rp_descent_scratch *out)
{
    const bool is_moving = grid->ops->levels != NULL; /* parameters, so blocks are whole groups */

    out->block = is_moving ? RP_DIV_UP(MIN_BLOCK, t->group) * t->group : MIN_BLOCK;
    out->block = RP_MIN(out->block, t->cols);
    RP_ASSERT(out->block <= RP_DESCENT_COLS);
    rp_carve(c, &out->h, out->block * out->block);
    rp_carve(c, &out->g, out->block * t->ld);
    rp_carve(c, &out->factor, rp_descent_factor_floats(t));
    rp_carve(c, &out->gain, t->ld);
    rp_carve(c, &out->has_moved, 1);
}

/* ---- Gradient ---- */

/* Both triangles of the block's part of H. */
static __global__ void open_h_kernel(rp_descent_view v)
{
    const int64_t i = blockIdx.y;
    const int64_t j = rp_piece_row();

    if (j < v.n) {
        v.s.h[i * v.s.block + j] =
            i == j ? v.t.diagonal[v.a + i]
                   : v.t.l[(v.a + RP_MIN(i, j)) * v.t.cols + v.a + RP_MAX(i, j)];
    }
}

static rp_left block_of_h(const rp_descent_view *v, int64_t i, int64_t j)
{
    const rp_left left = {v->s.h + i * v->s.block + j, v->s.block, false};
    return left;
}

/* The block's part of H and of the gradient G = delta H. */
static void open_block(rp_gpu *gpu, const rp_descent_view *v)
{
    const rp_piece *t = &v->t;
    const int64_t end = v->a + v->n;

    RP_LAUNCH(gpu, open_h_kernel, dim3(rp_gpu_blocks(v->n, RP_CELL_THREADS), (unsigned)v->n),
              RP_CELL_THREADS, 0, *v);
    rp_product_cuda(gpu, v->n, v->n, t->ld, block_of_h(v, 0, 0), t->delta + v->a * t->ld, false,
                    v->s.g);
    if (v->a > 0) {
        const rp_left before = {t->l + v->a, t->cols, true};
        rp_product_cuda(gpu, v->n, v->a, t->ld, before, t->delta, true, v->s.g);
    }
    if (end < t->cols) {
        const rp_left after = {t->l + v->a * t->cols + end, t->cols, false};
        rp_product_cuda(gpu, v->n, t->cols - end, t->ld, after, t->delta + end * t->ld, true,
                        v->s.g);
    }
}

/* ---- Parameters ---- */

static void search_params(rp_gpu *gpu, const rp_descent_view *v)
{
    const rp_piece *t = &v->t;

    if (t->grid.n_sub == 0) {
        rp_descent_search_lines(gpu, v, 0, v->n);
        return;
    }
    for (int64_t hi = v->n; hi > 0; hi -= t->group) {
        rp_descent_search_subs(gpu, v, hi - t->group);
        rp_descent_search_lines(gpu, v, hi - t->group, t->group);
    }
}

/* ---- Codes ---- */

/* Of one block of rows: the unit's part of H, and columns of threads. */
typedef struct unit_memory {
    float h[RP_UNIT_COLS][RP_UNIT_COLS];
    rp_unit w, delta, g, change;
    rp_level_step step[RP_UNIT_COLS][RP_UNIT_THREADS];
    rp_unit tile[RP_DESCENT_WARPS];
} unit_memory;

/* Original number of column i of the block. */
static __device__ int column_of(const rp_descent_view &v, int64_t i)
{
    return v.t.order[v.a + i];
}

static __device__ void load_unit(const rp_descent_view &v, int64_t lo, int n, unit_memory *m)
{
    const int x = (int)threadIdx.x;
    const int64_t r = rp_piece_row();

    for (int i = (int)threadIdx.y; i < n; i += RP_DESCENT_WARPS) {
        const int column = column_of(v, lo + i);
        const int64_t at = rp_view_at(v, lo + i, r);
        if (x < n) {
            m->h[i][x] = rp_view_h(v, lo + i, lo + x);
        }
        m->w.at[i][x] = v.t.w[at];
        m->delta.at[i][x] = v.t.delta[at];
        m->g.at[i][x] = v.s.g[(lo + i) * v.t.ld + r];
        if (r < v.t.rows) {
            m->step[i][x] = rp_grid_step(v.t.grid, rp_read_only(rp_piece_params(v.t, column, r)),
                                         rp_piece_sub(v.t, column));
        }
    }
    if (rp_pushes(lo)) {
        rp_load_h(v, lo, n, rp_own_unit(), &m->tile[threadIdx.y]);
    }
}

/* The code that is nearest to the least loss along column lo + i of the block, where it lowers the
 * loss. Returns what it changes. */
static __device__ float search_code(const rp_descent_view &v, int64_t lo, int i,
                                    const unit_memory *m, float g, double *gain)
{
    const int x = (int)threadIdx.x;
    const int64_t r = rp_piece_row();
    const float curvature = m->h[i][i];
    const float w = m->w.at[i][x];
    const float delta = m->delta.at[i][x];
    float decoded = 0;

    if (!(curvature > 0)) {
        return 0;
    }
    const uint8_t code =
        rp_grid_round_step(v.t.grid, m->step[i][x], (w - delta) + g / curvature, &decoded);
    const float left = w - decoded;
    const float step = left - delta;
    const float lowered = -step * (2 * g + step * curvature);
    if (!(lowered > 0)) {
        return 0;
    }
    v.t.delta[rp_view_at(v, lo + i, r)] = left;
    v.t.codes[column_of(v, lo + i) * v.t.ld + r] = code;
    *gain += (double)lowered;
    return step;
}

/* The row's columns of the unit, the last first. Returns whether any moved. */
static __device__ bool decide_unit(const rp_descent_view &v, int64_t lo, int n, unit_memory *m)
{
    const int x = (int)threadIdx.x;
    double gain = 0;

    for (int i = n - 1; i >= 0; i--) {
        float g = m->g.at[i][x];
        RP_UNROLL(8)
        for (int k = i + 1; k < n; k++) {
            g = fmaf(m->h[i][k], m->change.at[k][x], g);
        }
        m->change.at[i][x] = search_code(v, lo, i, m, g, &gain);
    }
    v.s.gain[rp_piece_row()] += gain;
    return gain > 0;
}

/* Columns lo .. lo + n - 1 of the block, which are loaded. */
static __device__ void search_unit(const rp_descent_view &v, int64_t lo, int n, unit_memory *m)
{
    bool has_moved = false;

    if (threadIdx.y == 0 && rp_piece_row() < v.t.rows) {
        has_moved = decide_unit(v, lo, n, m);
    } else if (threadIdx.y == 0) {
        for (int i = 0; i < n; i++) {
            m->change.at[i][threadIdx.x] = 0;
        }
    }
    if (__syncthreads_or(has_moved)) {
        rp_push_unit(v, n, m->change.at, lo, m->tile);
    }
}

static __global__ void __launch_bounds__(RP_DESCENT_THREADS, 2)
    search_codes_kernel(rp_descent_view v)
{
    RP_DYNAMIC_SHARED(unit_memory, m);

    for (int64_t hi = v.n; hi > 0; hi -= RP_UNIT_COLS) {
        const int64_t lo = RP_MAX(hi - RP_UNIT_COLS, (int64_t)0);
        load_unit(v, lo, (int)(hi - lo), m);
        __syncthreads();
        search_unit(v, lo, (int)(hi - lo), m);
        __syncthreads();
    }
}

/* ---- Sweeps ---- */

/* Gains are positive: their sum is 0 where nothing moved, and then nothing would in another sweep.
 */
static __global__ void end_sweep_kernel(rp_descent_view v)
{
    const int64_t r = rp_piece_row();

    if (r < v.t.rows && v.s.gain[r] > 0) {
        v.t.loss[r] -= v.s.gain[r];
        *v.s.has_moved = 1;
    }
}

static void begin_sweep(rp_gpu *gpu, const rp_descent_view *v)
{
    rp_gpu_zero(gpu, v->s.gain, (size_t)v->t.ld * sizeof(double));
    rp_gpu_zero(gpu, v->s.has_moved, sizeof(int));
}

/* Whether any row moved. */
static bool end_sweep(rp_gpu *gpu, const rp_descent_view *v)
{
    const size_t nbytes = sizeof(int);
    int has_moved = 0;

    RP_LAUNCH(gpu, end_sweep_kernel, rp_piece_blocks(&v->t, RP_UNIT_THREADS), RP_UNIT_THREADS, 0,
              *v);
    rp_gpu_get(gpu, &has_moved, nbytes, v->s.has_moved, nbytes, nbytes, 1);
    return !rp_gpu_has_failed(gpu) && has_moved != 0;
}

void rp_descent_run_cuda(rp_gpu *gpu, const rp_piece *t, const rp_tile_solve *task,
                         const rp_descent_scratch *s)
{
    const rp_grid_ops *ops = task->grid->ops;
    const bool has_lines = ops->levels != NULL && !ops->is_power_scale && !task->ldl->is_actorder;
    rp_descent_view v = {*t, *s, 0, 0};
    bool has_moved = task->sweeps > 0;

    if (!has_moved) {
        return;
    }
    if (has_lines && ops->n_sub > 0) {
        rp_descent_factor_subs(gpu, &v);
    }
    for (int64_t sweep = 0; sweep < task->sweeps && has_moved; sweep++) {
        begin_sweep(gpu, &v);
        for (int64_t b = t->cols; b > 0; b -= s->block) {
            v.a = RP_MAX(b - s->block, 0);
            v.n = b - v.a;
            open_block(gpu, &v);
            if (has_lines) {
                search_params(gpu, &v);
            }
            RP_LAUNCH_DESCENT(gpu, search_codes_kernel, unit_memory, *t, v);
        }
        has_moved = end_sweep(gpu, &v);
    }
}

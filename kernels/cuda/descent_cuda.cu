/* Block coordinate descent on a piece; methods/descent.c defines it and says why. Every move is one
 * kernel that decides for all rows, and one product that pushes what changed into the gradient. */
#include "kernels/cuda/descent_cuda.cuh"

#define MIN_BLOCK 256 /* columns */

void rp_descent_carve(rp_carver *c, const rp_piece *t, const rp_grid *grid, rp_descent_scratch *out)
{
    const bool is_moving = grid->ops->levels != NULL; /* parameters, so blocks are whole groups */

    out->block = is_moving ? RP_DIV_UP(MIN_BLOCK, t->group) * t->group : MIN_BLOCK;
    out->block = RP_MIN(out->block, t->cols);
    rp_carve(c, &out->h, out->block * out->block);
    rp_carve(c, &out->g, out->block * t->ld);
    rp_carve(c, &out->u, out->block * t->ld);
    rp_carve(c, &out->hu, out->block * t->ld);
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

void rp_descent_push_cuda(rp_gpu *gpu, const rp_descent_view *v, int64_t lo, int64_t n,
                          int64_t until)
{
    if (until > 0) {
        rp_product_cuda(gpu, until, n, v->t.ld, block_of_h(v, 0, lo), v->s.u, true, v->s.g);
    }
}

/* ---- Parameters ---- */

/* u := derivative of the decoded columns lo .. lo + group - 1 of the block by d, or by the
 * minimum. */
static __global__ void fill_direction_kernel(rp_descent_view v, int64_t lo, bool is_min)
{
    const rp_piece &t = v.t;
    const rp_device_grid &grid = t.grid;
    const int64_t r = rp_piece_row();
    const int column = rp_view_column(v, lo + blockIdx.y);
    const bool two_levels = grid.n_sub > 0;
    float value = is_min && two_levels ? -1.0f : 1.0f;

    if (r >= t.rows) {
        return;
    }
    if (two_levels) {
        const int first = grid.n_steps + (is_min ? grid.n_sub : 0);
        const rp_strided_mut params = rp_piece_params(t, column, r);
        value *= params.data[(first + rp_piece_sub(t, column)) * params.stride];
    }
    if (!is_min) {
        value *= rp_view_level(v, t.codes[column * t.ld + r]);
    }
    v.s.u[(int64_t)blockIdx.y * t.ld + r] = value;
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

/* d, or the minimum, moves along u; u := what that does to delta. */
static __global__ void step_kernel(rp_descent_view v, int64_t lo, bool is_min)
{
    const rp_piece &t = v.t;
    const int64_t r = rp_piece_row();
    const float least = is_min && t.grid.n_sub > 0 ? 0.0f : -INFINITY; /* dmin is not negative */
    float dot = 0;
    float curvature = 0;
    double gain = 0;

    if (r >= t.rows) {
        return;
    }
    for (int64_t i = 0; i < t.group; i++) {
        const float u = v.s.u[i * t.ld + r];
        dot += u * v.s.g[(lo + i) * t.ld + r];
        curvature += u * v.s.hu[i * t.ld + r];
    }
    const rp_strided_mut params = rp_piece_params(t, rp_view_column(v, lo), r);
    float *param = params.data + (is_min ? params.stride : 0);
    const float value = search_step(*param, dot, curvature, least, &gain);
    const float step = value - *param;
    *param = value;
    v.s.gain[r] += gain;
    for (int64_t i = 0; i < t.group; i++) {
        float *u = &v.s.u[i * t.ld + r];
        *u *= -step;
        t.delta[rp_view_at(v, lo + i, r)] += *u;
    }
}

static void search_line(rp_gpu *gpu, const rp_descent_view *v, int64_t lo, bool is_min)
{
    const rp_piece *t = &v->t;

    RP_LAUNCH(gpu, fill_direction_kernel,
              dim3(rp_piece_blocks(t, RP_CELL_THREADS), (unsigned)t->group), RP_CELL_THREADS, 0, *v,
              lo, is_min);
    rp_product_cuda(gpu, t->group, t->group, t->ld, block_of_h(v, lo, lo), v->s.u, false, v->s.hu);
    RP_LAUNCH(gpu, step_kernel, rp_piece_blocks(t, RP_UNIT_THREADS), RP_UNIT_THREADS, 0, *v, lo,
              is_min);
    rp_descent_push_cuda(gpu, v, lo, t->group, v->n);
}

static void search_params(rp_gpu *gpu, const rp_descent_view *v)
{
    const rp_piece *t = &v->t;

    for (int64_t hi = v->n; hi > 0; hi -= t->group) {
        for (int64_t k = hi; t->grid.n_sub > 0 && k > hi - t->group; k -= t->sub) {
            rp_descent_search_sub_cuda(gpu, v, k - t->sub);
        }
        search_line(gpu, v, hi - t->group, false);
        if (t->grid.has_min) {
            search_line(gpu, v, hi - t->group, true);
        }
    }
}

/* ---- Codes ---- */

/* Of one block of rows: the unit's part of H, and columns of threads. */
typedef struct unit_memory {
    float h[RP_UNIT_COLS][RP_UNIT_COLS];
    float w[RP_UNIT_COLS][RP_UNIT_THREADS];
    float error[RP_UNIT_COLS][RP_UNIT_THREADS];
    float g[RP_UNIT_COLS][RP_UNIT_THREADS]; /* changes of delta once a column is decided */
} unit_memory;

static __device__ void load_unit(const rp_descent_view &v, int64_t lo, int n, unit_memory *m)
{
    const int x = (int)threadIdx.x;
    const int64_t r = rp_piece_row();

    for (int i = 0; i < n && x < n; i++) {
        m->h[i][x] = rp_view_h(v, lo + i, lo + x);
    }
    for (int i = 0; i < n && r < v.t.rows; i++) {
        m->w[i][x] = v.t.w[rp_view_at(v, lo + i, r)];
        m->error[i][x] = v.t.delta[rp_view_at(v, lo + i, r)];
        m->g[i][x] = v.s.g[(lo + i) * v.t.ld + r];
    }
}

/* The code that is nearest to the least loss along column lo + i of the block, where it lowers the
 * loss. Returns what it changes. */
static __device__ float search_code(const rp_descent_view &v, int64_t lo, int i,
                                    const unit_memory &m, float g, double *gain)
{
    const rp_piece &t = v.t;
    const int x = (int)threadIdx.x;
    const int64_t r = rp_piece_row();
    const int column = t.order[v.a + lo + i];
    const float curvature = m.h[i][i];
    const float w = m.w[i][x];
    float decoded = 0;

    if (!(curvature > 0)) {
        return 0;
    }
    const uint8_t code =
        rp_grid_round_cuda(t.grid, rp_read_only(rp_piece_params(t, column, r)),
                           rp_piece_sub(t, column), (w - m.error[i][x]) + g / curvature, &decoded);
    const float left = w - decoded;
    const float step = left - m.error[i][x];
    const float lowered = -step * (2 * g + step * curvature);
    if (!(lowered > 0)) {
        return 0;
    }
    t.delta[rp_view_at(v, lo + i, r)] = left;
    t.codes[column * t.ld + r] = code;
    *gain += (double)lowered;
    return step;
}

/* Columns lo .. lo + n - 1 of the block, the last first; u [n] := what changed. */
static __global__ void search_unit_kernel(rp_descent_view v, int64_t lo, int n)
{
    __shared__ unit_memory m;
    const int x = (int)threadIdx.x;
    const int64_t r = rp_piece_row();
    double gain = 0;

    load_unit(v, lo, n, &m);
    __syncthreads();
    if (r >= v.t.rows) {
        return;
    }
    for (int i = n - 1; i >= 0; i--) {
        float g = m.g[i][x];
        for (int k = i + 1; k < n; k++) {
            g = fmaf(m.h[i][k], m.g[k][x], g);
        }
        m.g[i][x] = search_code(v, lo, i, m, g, &gain);
        v.s.u[i * v.t.ld + r] = m.g[i][x];
    }
    v.s.gain[r] += gain;
}

static void search_codes(rp_gpu *gpu, const rp_descent_view *v)
{
    for (int64_t hi = v->n; hi > 0; hi -= RP_UNIT_COLS) {
        const int64_t lo = RP_MAX(hi - RP_UNIT_COLS, 0);
        RP_LAUNCH(gpu, search_unit_kernel, rp_piece_blocks(&v->t, RP_UNIT_THREADS), RP_UNIT_THREADS,
                  0, *v, lo, (int)(hi - lo));
        rp_descent_push_cuda(gpu, v, lo, hi - lo, lo);
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
    rp_gpu_zero(gpu, s->u, (size_t)(s->block * t->ld) * sizeof(float));
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
            search_codes(gpu, &v);
        }
        has_moved = end_sweep(gpu, &v);
    }
}

/* GPTQ on a piece, LDL form, lazy blocks; methods/gptq.c defines it and says why. A lazy block is
 * solved in units, and units end where a group or sub-group does, whose parameters are fitted
 * before the next. */
#include "kernels/cuda/solve_piece.cuh"

/* A run: the piece and where the solver is in it. p [block][ld] is what columns a .. b - 1 are owed
 * by those from b on. */
typedef struct gptq_run {
    rp_gpu *gpu;
    const rp_piece *t;
    float *p, *x;
    int64_t a, b;
} gptq_run;

void rp_gptq_carve(rp_carver *c, const rp_piece *t, int64_t block, rp_gptq_scratch *out)
{
    rp_carve(c, &out->p, RP_MIN(block, t->cols) * t->ld);
    rp_carve(c, &out->x, t->group * t->ld);
}

static rp_left factor_from(const rp_piece *t, int64_t row, int64_t column)
{
    const rp_left left = {t->l + row * t->cols + column, t->cols, true};
    return left;
}

/* ---- Parameters ---- */

/* x [k] := w by original column */
static __global__ void original_order_kernel(rp_piece t, float *x)
{
    const int64_t r = rp_piece_row();

    if (r < t.rows) {
        x[(int64_t)t.order[blockIdx.y] * t.ld + r] = t.w[(int64_t)blockIdx.y * t.ld + r];
    }
}

/* [n_params][ld] of the group that an original column belongs to. */
static float *group_params(const rp_piece *t, int64_t column)
{
    return t->params + column / t->group * t->grid.n_params * t->ld;
}

/* Parameters of the group that starts at an original column, from its columns x. */
static void fit_group(gptq_run *s, int64_t column, int64_t n, rp_strided x)
{
    const rp_piece *t = s->t;
    const rp_strided weight = {t->weight + column, 1};

    rp_fit_groups_cuda(s->gpu, &t->grid, t->rows, n, x, weight, group_params(t, column), t->ld);
}

/* Static groups: all of them, from the target. delta holds nothing yet. */
static void fit_all_groups(gptq_run *s)
{
    const rp_piece *t = s->t;

    RP_LAUNCH(s->gpu, original_order_kernel,
              dim3(rp_piece_blocks(t, RP_CELL_THREADS), (unsigned)t->cols), RP_CELL_THREADS, 0, *t,
              t->delta);
    for (int64_t column = 0; column < t->cols; column += t->group) {
        const rp_strided x = {t->delta + column * t->ld, t->ld};
        fit_group(s, column, RP_MIN(t->group, t->cols - column), x);
    }
}

static __global__ void add_kernel(int64_t rows, int64_t ld, const float *from, float *to)
{
    const int64_t r = rp_piece_row();

    if (r < rows) {
        to[(int64_t)blockIdx.y * ld + r] += from[(int64_t)blockIdx.y * ld + r];
    }
}

/* The n columns below `top`, of which none is solved yet: x := their corrected weights. Returns
 * them in the original order. */
static rp_strided correct_columns(gptq_run *s, int64_t top, int64_t n)
{
    const rp_piece *t = s->t;
    const int64_t e = top - n;
    const bool is_pulled = e >= s->a; /* p has what they are owed from b on */
    const int64_t end = is_pulled ? s->b : t->cols;
    const size_t nbytes = (size_t)(n * t->ld) * sizeof(float);
    const float one = 1;
    const rp_strided x = {s->x + (n - 1) * t->ld, -t->ld};

    if (is_pulled) {
        rp_gpu_copy(s->gpu, s->x, s->p + (e - s->a) * t->ld, nbytes);
    } else {
        rp_gpu_zero(s->gpu, s->x, nbytes);
    }
    if (end > top) {
        rp_piece_multiply(s->gpu, t, n, end - top, factor_from(t, top, e), t->delta + top * t->ld,
                          1.0f, s->x);
    }
    if (top < t->cols) {
        RP_GPU_TRY(s->gpu, cublasStrsm(s->gpu->blas, CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_UPPER,
                                       CUBLAS_OP_T, CUBLAS_DIAG_UNIT, (int)t->ld, (int)n, &one,
                                       t->l + e * t->cols + e, (int)t->cols, s->x, (int)t->ld));
    }
    RP_LAUNCH(s->gpu, add_kernel, dim3(rp_piece_blocks(t, RP_CELL_THREADS), (unsigned)n),
              RP_CELL_THREADS, 0, t->rows, t->ld, t->w + e * t->ld, s->x);
    return x;
}

/* Whatever starts with the column below `top`. */
static void fit_at(gptq_run *s, int64_t top)
{
    const rp_piece *t = s->t;
    const int64_t column = t->cols - top; /* original */

    if (column % t->group == 0) {
        const int64_t n = RP_MIN(t->group, top);
        fit_group(s, column, n, correct_columns(s, top, n));
    }
    if (t->grid.n_sub > 0 && column % t->sub == 0) {
        const rp_strided weight = {t->weight + column, 1};
        rp_refit_groups_cuda(s->gpu, &t->grid, (int)(column % t->group / t->sub), t->rows, t->sub,
                             correct_columns(s, top, t->sub), weight, group_params(t, column),
                             t->ld);
    }
}

/* ---- Columns ---- */

/* Columns lo .. lo + n - 1, the last first; p [n][ld] is what they are owed from beyond the unit.
 */
static __global__ void solve_unit_kernel(rp_piece t, int64_t lo, int n, const float *p)
{
    __shared__ float factor[RP_UNIT_COLS][RP_UNIT_COLS];
    __shared__ float corrected[RP_UNIT_COLS][RP_UNIT_THREADS];
    __shared__ float delta[RP_UNIT_COLS][RP_UNIT_THREADS]; /* w before it is solved */
    const int x = (int)threadIdx.x;
    const int64_t r = rp_piece_row();
    double loss = 0;

    for (int i = 0; i < n && x < n; i++) {
        factor[i][x] = t.l[(lo + i) * t.cols + lo + x];
    }
    for (int i = 0; i < n && r < t.rows; i++) {
        delta[i][x] = t.w[(lo + i) * t.ld + r];
        corrected[i][x] = delta[i][x] + p[i * t.ld + r];
    }
    __syncthreads();
    if (r >= t.rows) {
        return;
    }
    for (int i = n - 1; i >= 0; i--) {
        const int column = t.order[lo + i];
        float value = corrected[i][x];
        float decoded = 0;
        for (int j = i + 1; j < n; j++) {
            value += factor[j][i] * delta[j][x];
        }
        t.codes[column * t.ld + r] =
            rp_grid_round_cuda(t.grid, rp_read_only(rp_piece_params(t, column, r)),
                               rp_piece_sub(t, column), value, &decoded);
        delta[i][x] -= decoded;
        t.delta[(lo + i) * t.ld + r] = delta[i][x];
        const double e = (double)value - (double)decoded;
        loss += (double)t.d[lo + i] * (e * e);
    }
    t.loss[r] += loss;
}

/* Columns lo .. top - 1 of the block. */
static void solve_unit(gptq_run *s, int64_t lo, int64_t top)
{
    const rp_piece *t = s->t;
    float *p = s->p + (lo - s->a) * t->ld;

    if (top < s->b) {
        rp_piece_multiply(s->gpu, t, top - lo, s->b - top, factor_from(t, top, lo),
                          t->delta + top * t->ld, 1.0f, p);
    }
    RP_LAUNCH(s->gpu, solve_unit_kernel, rp_piece_blocks(t, RP_UNIT_THREADS), RP_UNIT_THREADS, 0,
              *t, lo, (int)(top - lo), p);
}

/* Columns a .. b - 1, which are the next. */
static void solve_block(gptq_run *s, bool is_static)
{
    const rp_piece *t = s->t;

    if (s->b < t->cols) {
        rp_piece_multiply(s->gpu, t, s->b - s->a, t->cols - s->b, factor_from(t, s->b, s->a),
                          t->delta + s->b * t->ld, 0.0f, s->p);
    } else {
        rp_gpu_zero(s->gpu, s->p, (size_t)((s->b - s->a) * t->ld) * sizeof(float));
    }
    for (int64_t top = s->b; top > s->a;) {
        int64_t lo = RP_MAX(s->a, top - RP_UNIT_COLS);
        if (!is_static) {
            lo = RP_MAX(lo, top - (t->sub - (t->cols - top) % t->group % t->sub));
            fit_at(s, top);
        }
        solve_unit(s, lo, top);
        top = lo;
    }
}

/* What the damping, and the unit diagonal of dead columns, add to the loss. */
static __global__ void subtract_damping_kernel(rp_piece t, double damping)
{
    const int64_t r = rp_piece_row();
    double loss = 0;

    for (int64_t k = 0; k < t.cols && r < t.rows; k++) {
        const double delta = (double)t.delta[k * t.ld + r];
        loss += (damping + (t.is_dead[t.order[k]] != 0 ? 1 : 0)) * (delta * delta);
    }
    if (r < t.rows) {
        t.loss[r] -= loss;
    }
}

void rp_gptq_run(rp_gpu *gpu, const rp_piece *t, const rp_tile_solve *task,
                 const rp_gptq_scratch *scratch)
{
    const int64_t block = RP_MIN(task->block_cols, t->cols);
    gptq_run s = {gpu, t, scratch->p, scratch->x, 0, 0};

    if (task->ldl->is_actorder) {
        fit_all_groups(&s);
    }
    rp_gpu_zero(gpu, t->delta, (size_t)(t->cols * t->ld) * sizeof(float));
    for (int64_t b = t->cols; b > 0; b -= block) {
        s.a = RP_MAX(b - block, 0);
        s.b = b;
        solve_block(&s, task->ldl->is_actorder);
    }
    RP_LAUNCH(gpu, subtract_damping_kernel, rp_piece_blocks(t, RP_UNIT_THREADS), RP_UNIT_THREADS, 0,
              *t, task->ldl->damping);
}

/* GPTQ on a piece, LDL form, lazy blocks; methods/gptq.c defines it and says why. One kernel solves
 * the columns of a lazy block up to where a group or sub-group starts, whose parameters are fitted
 * before it goes on. */
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

/* ---- Units ---- */

/* A unit's part of the factor, [columns that are solved][columns of the unit], of a block of rows.
 */
typedef struct unit_tile {
    float at[RP_UNIT_COLS][RP_UNIT_COLS];
} unit_tile;

/* Columns of a block of threads, one a row. */
typedef struct unit_columns {
    float at[RP_UNIT_COLS][RP_UNIT_THREADS];
} unit_columns;

/* tile := factor of columns s .. s + count - 1 and lo .. lo + n - 1, 0 beyond. All threads. */
static __device__ void load_tile(const rp_piece &t, int64_t s, int count, int64_t lo, int n,
                                 unit_tile *tile)
{
    const int x = (int)threadIdx.x;

    __syncthreads(); /* nobody needs what is there */
    for (int i = 0; i < count; i++) {
        tile->at[i][x] = x < n ? t.l[(s + i) * t.cols + lo + x] : 0.0f;
    }
    __syncthreads();
}

/* sums [i] += the sum of sign * columns [s] * tile [s][i], s ascending, by itself: long chains
 * round more. */
RP_INNER_LOOP void pull(int count, const unit_tile *tile, float sign, const float *columns,
                        int64_t ld, float *sums)
{
    float own[RP_UNIT_COLS];

    RP_UNROLL(32)
    for (int i = 0; i < RP_UNIT_COLS; i++) {
        own[i] = 0.0f;
    }
    RP_UNROLL(8)
    for (int s = 0; s < count; s++) {
        const float column = sign * columns[s * ld];
        RP_UNROLL(32)
        for (int i = 0; i < RP_UNIT_COLS; i++) {
            own[i] = fmaf(tile->at[s][i], column, own[i]);
        }
    }
    RP_UNROLL(32)
    for (int i = 0; i < RP_UNIT_COLS; i++) {
        sums[i] += own[i];
    }
}

/* The same from columns s .. end - 1, of which `columns` is the first. All threads. */
static __device__ void pull_columns(const rp_piece &t, int64_t s, int64_t end, float sign,
                                    const float *columns, int64_t lo, int n, unit_tile *tile,
                                    float *sums)
{
    for (int64_t at = s; at < end; at += RP_UNIT_COLS) {
        const int count = (int)RP_MIN(RP_UNIT_COLS, end - at);
        load_tile(t, at, count, lo, n, tile);
        pull(count, tile, sign, columns + (at - s) * t.ld + rp_piece_row(), t.ld, sums);
    }
}

/* value + sign * what column i of the unit is owed by those after it, s ascending */
RP_INNER_LOOP float pull_within(int i, int n, const unit_tile *tile, float sign,
                                const float *columns, float value)
{
    for (int s = i + 1; s < n; s++) {
        value = fmaf(tile->at[s][i], sign * columns[s * RP_UNIT_THREADS], value);
    }
    return value;
}

/* sums := n columns of row r, 0 beyond; from NULL: 0. */
static __device__ void load_sums(const rp_piece &t, const float *from, int n, float *sums)
{
    RP_UNROLL(32)
    for (int i = 0; i < RP_UNIT_COLS; i++) {
        sums[i] = from != NULL && i < n ? from[i * t.ld + rp_piece_row()] : 0.0f;
    }
}

/* ---- Parameters ---- */

/* x [k] := w by original column. Columns are along x: there may be more than y has room for. */
static __global__ void original_order_kernel(rp_piece t, float *x)
{
    const int64_t r = (int64_t)blockIdx.y * blockDim.x + threadIdx.x;

    if (r < t.rows) {
        x[(int64_t)t.order[blockIdx.x] * t.ld + r] = t.w[(int64_t)blockIdx.x * t.ld + r];
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
              dim3((unsigned)t->cols, rp_piece_blocks(t, RP_CELL_THREADS)), RP_CELL_THREADS, 0, *t,
              t->delta);
    for (int64_t column = 0; column < t->cols; column += t->group) {
        const rp_strided x = {t->delta + column * t->ld, t->ld};
        fit_group(s, column, RP_MIN(t->group, t->cols - column), x);
    }
}

/* x [n] := corrected weights of columns e .. e + n - 1, of which none is solved: w, what `from`
 * holds (NULL: nothing), what columns e + n .. end - 1 are owed, and all that under the inverse of
 * the group's own part of the factor. */
static __global__ void correct_columns_kernel(rp_piece t, int64_t e, int64_t n, int64_t end,
                                              const float *from, float *x)
{
    __shared__ __align__(16) unit_tile tile;
    __shared__ unit_columns own;
    const int64_t r = rp_piece_row();
    const int64_t top = e + n;

    for (int64_t hi = top; hi > e; hi -= RP_UNIT_COLS) {
        const int64_t lo = RP_MAX(hi - RP_UNIT_COLS, e);
        const int n_unit = (int)(hi - lo);
        float *const column = &own.at[0][threadIdx.x];
        float sums[RP_UNIT_COLS];
        load_sums(t, from == NULL ? NULL : from + (lo - e) * t.ld, n_unit, sums);
        pull_columns(t, top, end, 1.0f, t.delta + top * t.ld, lo, n_unit, &tile, sums);
        pull_columns(t, hi, top, -1.0f, x + (hi - e) * t.ld, lo, n_unit, &tile, sums);
        load_tile(t, lo, n_unit, lo, n_unit, &tile);
        RP_UNROLL(32)
        for (int i = 0; i < RP_UNIT_COLS; i++) {
            column[i * RP_UNIT_THREADS] = sums[i];
        }
        for (int i = n_unit - 1; i >= 0; i--) {
            const float value =
                pull_within(i, n_unit, &tile, -1.0f, column, column[i * RP_UNIT_THREADS]);
            column[i * RP_UNIT_THREADS] = value;
            x[(lo - e + i) * t.ld + r] = value;
        }
    }
    for (int64_t i = 0; i < n; i++) {
        x[i * t.ld + r] += t.w[(e + i) * t.ld + r];
    }
}

/* The n columns below `top`, of which none is solved yet: their corrected weights in the original
 * order. */
static rp_strided correct_columns(gptq_run *s, int64_t top, int64_t n)
{
    const rp_piece *t = s->t;
    const int64_t e = top - n;
    const bool is_pulled = e >= s->a; /* p has what they are owed from b on */
    const rp_strided plain = {t->w + (top - 1) * t->ld, -t->ld};
    const rp_strided corrected = {s->x + (n - 1) * t->ld, -t->ld};
    const float *from = is_pulled ? s->p : s->x;

    if (top == t->cols) {
        return plain;
    }
    if (is_pulled) {
        from = s->b < t->cols ? s->p + (e - s->a) * t->ld : NULL;
    } else {
        rp_product_cuda(s->gpu, n, t->cols - top, t->ld, factor_from(t, top, e),
                        t->delta + top * t->ld, false, s->x);
    }
    RP_LAUNCH(s->gpu, correct_columns_kernel, rp_piece_blocks(t, RP_UNIT_THREADS), RP_UNIT_THREADS,
              0, *t, e, n, is_pulled ? s->b : top, from, s->x);
    return corrected;
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

/* Columns lo .. lo + n - 1, the last first, whose corrected weights lack only what they owe one
 * another. Returns the row's loss. */
static __device__ double solve_unit(const rp_piece &t, int64_t lo, int n, const unit_tile *tile,
                                    const float *corrected, float *delta)
{
    const int64_t r = rp_piece_row();
    double loss = 0;

    for (int i = n - 1; i >= 0; i--) {
        const int at = i * RP_UNIT_THREADS;
        const int column = t.order[lo + i];
        const float value = pull_within(i, n, tile, 1.0f, delta, corrected[at]);
        float decoded = 0;
        t.codes[column * t.ld + r] =
            rp_grid_round_cuda(t.grid, rp_read_only(rp_piece_params(t, column, r)),
                               rp_piece_sub(t, column), value, &decoded);
        delta[at] = t.w[(lo + i) * t.ld + r] - decoded;
        t.delta[(lo + i) * t.ld + r] = delta[at];
        const double e = (double)value - (double)decoded;
        loss += (double)t.d[lo + i] * (e * e);
    }
    return loss;
}

/* Columns lo .. top - 1, the last first; those up to `end` are solved, and p [top - lo][ld] is what
 * they are owed from beyond (NULL: nothing). */
static __global__ void solve_columns_kernel(rp_piece t, int64_t lo, int64_t top, int64_t end,
                                            const float *p)
{
    __shared__ __align__(16) unit_tile tile;
    __shared__ unit_columns corrected, delta;
    const int x = (int)threadIdx.x;
    const int64_t r = rp_piece_row();
    double loss = 0;

    for (int64_t hi = top; hi > lo; hi -= RP_UNIT_COLS) {
        const int64_t first = RP_MAX(hi - RP_UNIT_COLS, lo);
        const int n = (int)(hi - first);
        float sums[RP_UNIT_COLS];
        load_sums(t, p == NULL ? NULL : p + (first - lo) * t.ld, n, sums);
        pull_columns(t, hi, end, 1.0f, t.delta + hi * t.ld, first, n, &tile, sums);
        load_tile(t, first, n, first, n, &tile);
        RP_UNROLL(32)
        for (int i = 0; i < RP_UNIT_COLS; i++) {
            corrected.at[i][x] = i < n ? t.w[(first + i) * t.ld + r] + sums[i] : 0.0f;
        }
        if (r < t.rows) {
            loss += solve_unit(t, first, n, &tile, &corrected.at[0][x], &delta.at[0][x]);
        }
    }
    if (r < t.rows) {
        t.loss[r] += loss;
    }
}

/* Columns a .. b - 1, which are the next. */
static void solve_block(gptq_run *s, bool is_static)
{
    const rp_piece *t = s->t;
    const bool is_first = s->b == t->cols;

    if (!is_first) {
        rp_product_cuda(s->gpu, s->b - s->a, t->cols - s->b, t->ld, factor_from(t, s->b, s->a),
                        t->delta + s->b * t->ld, false, s->p);
    }
    for (int64_t top = s->b; top > s->a;) {
        int64_t lo = s->a;
        if (!is_static) {
            lo = RP_MAX(lo, top - (t->sub - (t->cols - top) % t->group % t->sub));
            fit_at(s, top);
        }
        RP_LAUNCH(s->gpu, solve_columns_kernel, rp_piece_blocks(t, RP_UNIT_THREADS),
                  RP_UNIT_THREADS, 0, *t, lo, top, s->b,
                  is_first ? NULL : s->p + (lo - s->a) * t->ld);
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

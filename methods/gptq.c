/* GPTQ on a tile of rows, LDL form, lazy blocks (arXiv 2210.17323 and 2307.13304).
 *
 * With delta = original - quantised, column t's corrected weight is w_t + sum over s > t of delta_s
 * L_st, columns from the last to the first in the factor's order. The tile is kept transposed: a
 * column is `ld` contiguous floats, so that all work is on vectors of rows. A block of B columns
 * gets what the finished ones owe it in one GEMM (P), and what its own columns owe one another
 * column by column.
 *
 *   w, delta [cols][ld]    p [block][ld]    params [ngroups][n_params][rows]    codes [cols][rows],
 * original columns
 *
 * Without act-order a group's parameters are fitted just before its first column, on the corrected
 * weights of the whole group: P is that only for the next column, so the group needs a triangular
 * solve (X inv(L_gg)). With act-order they are fitted before any feedback, in the original column
 * order (static groups). */
#include <string.h>

#include "base/mem.h"
#include "kernels/clones.h"
#include "kernels/product.h"
#include "methods/descent.h"
#include "methods/solver.h"

enum { FIT_ROWS = 16 };

typedef struct tile {
    const rp_grid *grid;
    const rp_ldl *f;
    int64_t rows, cols, ld, block, group, sub, ngroups;
    float *w, *delta, *p, *x;
    float *params;
    float *column, *decoded, *zero; /* [ld] */
    float *multiplier;              /* [RP_UNIT_COLS] */
    float *row, *weight;            /* [FIT_ROWS][group] values, [group] importances */
    uint8_t *codes;
} tile;

static int64_t padded(int64_t rows)
{
    return RP_DIV_UP(rows, RP_PRODUCT_LANES) * RP_PRODUCT_LANES;
}

/* Scratch is carved in the order of `tile`'s pointers; base NULL measures. */
static size_t carve(tile *t, char *base)
{
    const size_t ld = (size_t)t->ld;
    const size_t cols = (size_t)t->cols;
    const size_t counts[] = {
        cols * ld,
        cols * ld,
        (size_t)t->block * ld,
        (size_t)t->group * ld,
        (size_t)(t->ngroups * t->grid->ops->n_params) * (size_t)t->rows,
        ld,
        ld,
        ld,
        (size_t)RP_UNIT_COLS,
        (size_t)(FIT_ROWS * t->group),
        (size_t)t->group,
    };
    float **const fields[] = {&t->w,          &t->delta,  &t->p,       &t->x,
                              &t->params,     &t->column, &t->decoded, &t->zero,
                              &t->multiplier, &t->row,    &t->weight};
    size_t at = 0;

    for (size_t i = 0; i < RP_COUNT(counts); i++) {
        if (base != NULL) {
            *fields[i] = (float *)(void *)(base + at);
        }
        at += RP_DIV_UP(counts[i] * sizeof(float), 64) * 64;
    }
    t->codes = base == NULL ? NULL : (uint8_t *)base + at;
    return at + RP_DIV_UP(cols * (size_t)t->rows, 64) * 64;
}

static tile make_tile(const rp_grid *grid, int64_t rows, int64_t cols, int64_t block_cols)
{
    tile t = {.grid = grid, .rows = rows, .cols = cols, .ld = padded(rows)};

    t.block = RP_MIN(block_cols, cols);
    t.group = RP_MIN(rp_grid_group_cols(grid, cols), cols);
    t.sub = RP_MIN(rp_grid_sub_cols(grid, cols), cols);
    t.ngroups = rp_grid_ngroups(grid, cols);
    return t;
}

static size_t gptq_scratch_bytes(const rp_grid *grid, int64_t rows, int64_t cols,
                                 int64_t block_cols)
{
    tile t = make_tile(grid, rows, cols, block_cols);

    return carve(&t, NULL) + rp_descent_scratch_bytes(grid, rows, cols);
}

static void load(tile *t, const float *w)
{
    memset(t->zero, 0, (size_t)t->ld * sizeof(float));
    memset(t->w, 0, (size_t)(t->cols * t->ld) * sizeof(float));
    memset(t->delta, 0, (size_t)(t->cols * t->ld) * sizeof(float));
    for (int64_t k = 0; k < t->cols; k++) {
        const int64_t c = t->f->order[k];
        if (t->f->is_dead[c]) {
            continue;
        }
        for (int64_t r = 0; r < t->rows; r++) {
            t->w[k * t->ld + r] = w[r * t->cols + c];
        }
    }
}

static void store_params(tile *t, int64_t g, int64_t r, const float *params)
{
    const int n_params = t->grid->ops->n_params;

    for (int p = 0; p < n_params; p++) {
        t->params[(g * n_params + p) * t->rows + r] = params[p];
    }
}

static void load_params(const tile *t, int64_t g, int64_t r, float *params)
{
    const int n_params = t->grid->ops->n_params;

    for (int p = 0; p < n_params; p++) {
        params[p] = t->params[(g * n_params + p) * t->rows + r];
    }
}

/* Group g of rows r0 .. r0 + count - 1 from t->row [count, n]. */
static void fit_rows(tile *t, int64_t g, int64_t r0, int64_t count, int64_t n, const float *weight)
{
    float params[FIT_ROWS * RP_GRID_MAX_PARAMS];

    t->grid->ops->fit(t->grid, count, n, t->row, weight, params);
    for (int64_t r = 0; r < count; r++) {
        store_params(t, g, r0 + r, params + r * t->grid->ops->n_params);
    }
}

/* Static groups: from the original weights, dead columns as 0. */
static void fit_all_groups(tile *t, const float *w)
{
    for (int64_t g = 0; g < t->ngroups; g++) {
        const int64_t c0 = g * t->group;
        const int64_t n = RP_MIN(t->group, t->cols - c0);
        for (int64_t r0 = 0; r0 < t->rows; r0 += FIT_ROWS) {
            const int64_t count = RP_MIN(FIT_ROWS, t->rows - r0);
            for (int64_t r = 0; r < count; r++) {
                for (int64_t i = 0; i < n; i++) {
                    t->row[r * n + i] = t->f->is_dead[c0 + i] ? 0 : w[(r0 + r) * t->cols + c0 + i];
                }
            }
            fit_rows(t, g, r0, count, n, t->f->importance + c0);
        }
    }
}

/* How columns lo .. are owed by those from `row` on. */
static rp_left factor_from(const tile *t, int64_t row, int64_t lo)
{
    return (rp_left){t->f->l + row * t->cols + lo, t->cols, true};
}

/* sums [n] of columns lo .. += or -= what columns s .. end - 1, from[0] being column s, owe them.
 */
static void pull_columns(const tile *t, int64_t s, int64_t end, rp_product_use use,
                         const float *from, int64_t lo, int64_t n, float *sums)
{
    rp_product(n, end - s, t->ld, factor_from(t, s, lo), from, RP_UNIT_COLS, use, sums);
}

/* out := value + sign * what columns k + 1 .. k + n, which `columns` holds, owe column k. */
static void pull_within(tile *t, int64_t k, int64_t n, float sign, const float *columns,
                        const float *value, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        t->multiplier[i] = sign * t->f->l[(k + 1 + i) * t->cols + k];
    }
    rp_pull_columns(t->ld, n, value, columns, t->multiplier, out);
}

/* x := x times the inverse of the factor's part of columns e .. top - 1. */
static void solve_triangle(tile *t, int64_t e, int64_t top)
{
    for (int64_t hi = top; hi > e; hi = RP_MAX(hi - RP_UNIT_COLS, e)) {
        const int64_t lo = RP_MAX(hi - RP_UNIT_COLS, e);
        float *x = t->x + (lo - e) * t->ld;
        pull_columns(t, hi, top, RP_PRODUCT_SUBTRACT, t->x + (hi - e) * t->ld, lo, hi - lo, x);
        for (int64_t k = hi - 1; k >= lo; k--) {
            float *column = t->x + (k - e) * t->ld;
            pull_within(t, k, hi - 1 - k, -1.0f, column + t->ld, column, column);
        }
    }
}

/* x [n] := the corrected weights of the n columns below `top`, of which none is solved yet, in
 * block a..b. p has what they owe columns b and beyond, if they are all of the block. */
static void correct_columns(tile *t, int64_t top, int64_t n, int64_t a, int64_t b)
{
    const int64_t e = top - n;
    const float *solved = t->delta + top * t->ld;
    const size_t count = (size_t)(n * t->ld);

    if (e >= a) {
        memcpy(t->x, t->p + (e - a) * t->ld, count * sizeof(float));
        pull_columns(t, top, b, RP_PRODUCT_ADD, solved, e, n, t->x);
    } else {
        rp_product(n, t->cols - top, t->ld, factor_from(t, top, e), solved, RP_PRODUCT_CHAIN,
                   RP_PRODUCT_SET, t->x);
    }
    if (top < t->cols) {
        solve_triangle(t, e, top);
    }
    for (size_t i = 0; i < count; i++) {
        t->x[i] += t->w[e * t->ld + (int64_t)i];
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t k = top - 1 - i;
        t->weight[i] = t->f->is_dead[t->f->order[k]] ? 0 : t->f->d[k];
    }
}

/* row [count, n] := rows r0 .. of the corrected columns, in original order. */
static void take_rows(tile *t, int64_t r0, int64_t count, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t r = 0; r < count; r++) {
            t->row[r * n + i] = t->x[(n - 1 - i) * t->ld + r0 + r];
        }
    }
}

/* A group of n columns starts below `top`: parameters from the corrected weights of all of them. */
static void fit_group_at(tile *t, int64_t top, int64_t a, int64_t b)
{
    const int64_t c0 = t->cols - top;
    const int64_t n = RP_MIN(t->group, top);

    correct_columns(t, top, n, a, b);
    for (int64_t r0 = 0; r0 < t->rows; r0 += FIT_ROWS) {
        const int64_t count = RP_MIN(FIT_ROWS, t->rows - r0);
        take_rows(t, r0, count, n);
        fit_rows(t, c0 / t->group, r0, count, n, t->weight);
    }
}

/* The same for a sub-group, whose integers alone are fitted again. */
static void refit_sub_at(tile *t, int64_t top, int64_t a, int64_t b)
{
    const int64_t c0 = t->cols - top;
    const int64_t g = c0 / t->group;
    float params[RP_GRID_MAX_PARAMS];

    correct_columns(t, top, t->sub, a, b);
    for (int64_t r = 0; r < t->rows; r++) {
        take_rows(t, r, 1, t->sub);
        load_params(t, g, r, params);
        t->grid->ops->refit(t->grid, (int)(c0 % t->group / t->sub), t->sub, t->row, t->weight,
                            params);
        store_params(t, g, r, params);
    }
}

/* Whatever starts with the column below `top`, in block a..b. */
static void fit_at(tile *t, int64_t top, int64_t a, int64_t b)
{
    const int64_t column = t->cols - top;

    if (column % t->group == 0) {
        fit_group_at(t, top, a, b);
    }
    if (t->grid->ops->refit != NULL && column % t->sub == 0) {
        refit_sub_at(t, top, a, b);
    }
}

RP_CLONES static double column_loss(int64_t rows, const float *corrected, const float *decoded)
{
    double lane[8] = {0};
    double sum = 0;

    for (int64_t r = 0; r < rows; r++) {
        const double e = (double)corrected[r] - (double)decoded[r];
        lane[r % 8] += e * e;
    }
    for (int i = 0; i < 8; i++) {
        sum += lane[i];
    }
    return sum;
}

/* Column k, whose corrected weights are `corrected`. Returns its loss. */
static double solve_column(tile *t, int64_t k, const float *corrected)
{
    const int64_t c = t->f->order[k];
    const float *params = t->params + (c / t->group) * t->grid->ops->n_params * t->rows;
    float *delta = t->delta + k * t->ld;
    const float *w = t->w + k * t->ld;

    t->grid->ops->round_column(t->grid, t->rows, params, (int)(c % t->group / t->sub), corrected,
                               t->codes + c * t->rows, t->decoded);
    for (int64_t r = 0; r < t->rows; r++) {
        delta[r] = w[r] - t->decoded[r];
    }
    return (double)t->f->d[k] * column_loss(t->rows, corrected, t->decoded);
}

/* Columns lo .. hi - 1, the last first, of block a..b, of which all from hi on are solved. Returns
 * their loss. */
static double solve_unit(tile *t, int64_t lo, int64_t hi, int64_t a, int64_t b)
{
    float *p = t->p + (lo - a) * t->ld;
    const float *w = t->w + lo * t->ld;
    double loss = 0;

    pull_columns(t, hi, b, RP_PRODUCT_ADD, t->delta + hi * t->ld, lo, hi - lo, p);
    for (int64_t i = 0; i < (hi - lo) * t->ld; i++) {
        p[i] = w[i] + p[i];
    }
    for (int64_t k = hi - 1; k >= lo; k--) {
        pull_within(t, k, hi - 1 - k, 1.0f, t->delta + (k + 1) * t->ld, p + (k - lo) * t->ld,
                    t->column);
        loss += solve_column(t, k, t->column);
    }
    return loss;
}

static void store(const tile *t, rp_form *out)
{
    const int n_params = t->grid->ops->n_params;
    const int64_t per_row = rp_form_params_per_row(out);

    for (int64_t r = 0; r < t->rows; r++) {
        for (int64_t c = 0; c < t->cols; c++) {
            out->codes[r * t->cols + c] = t->codes[c * t->rows + r];
        }
        for (int64_t i = 0; i < t->ngroups * n_params; i++) {
            out->params[r * per_row + i] = t->params[i * t->rows + r];
        }
    }
}

/* Columns a..b, which are the next of the order. Returns their loss under the damped H. */
static double solve_block(tile *t, int64_t a, int64_t b)
{
    double loss = 0;

    rp_product(b - a, t->cols - b, t->ld, factor_from(t, b, a), t->delta + b * t->ld,
               RP_PRODUCT_CHAIN, RP_PRODUCT_SET, t->p);
    for (int64_t top = b, lo = a; top > a; top = lo) {
        lo = a;
        if (!t->f->is_actorder) {
            lo = RP_MAX(a, top - (t->sub - (t->cols - top) % t->group % t->sub));
            fit_at(t, top, a, b);
        }
        for (int64_t hi = top; hi > lo; hi = RP_MAX(hi - RP_UNIT_COLS, lo)) {
            loss += solve_unit(t, RP_MAX(hi - RP_UNIT_COLS, lo), hi, a, b);
        }
    }
    return loss;
}

/* What the damping, and the unit diagonal of dead columns, add to the loss. */
static double damping_loss(const tile *t)
{
    double loss = 0;

    for (int64_t k = 0; k < t->cols; k++) {
        const double own = t->f->is_dead[t->f->order[k]] ? 1 : 0;
        loss += (t->f->damping + own) * column_loss(t->rows, t->delta + k * t->ld, t->zero);
    }
    return loss;
}

static void gptq_solve(rp_tile_solve *task, void *scratch)
{
    tile t = make_tile(task->grid, task->out->rows, task->out->cols, task->block_cols);
    void *rest = NULL;

    t.f = task->ldl;
    rest = (char *)scratch + carve(&t, scratch);
    load(&t, task->w);
    if (t.f->is_actorder) {
        fit_all_groups(&t, task->w);
    }
    task->loss = 0;
    for (int64_t b = t.cols; b > 0; b -= t.block) {
        task->loss += solve_block(&t, RP_MAX(b - t.block, 0), b);
    }
    task->loss -= damping_loss(&t);
    const rp_descent_tile descent = {t.grid, t.f, t.rows, t.ld, t.w, t.delta, t.params, t.codes};
    task->loss -= rp_descent_run(&descent, task->sweeps, rest);
    task->loss = RP_MAX(task->loss, 0);
    store(&t, task->out);
}

const rp_solver rp_solver_gptq = {
    .name = "gptq",
    .needs_gram = true,
    .scratch_bytes = gptq_scratch_bytes,
    .solve = gptq_solve,
};

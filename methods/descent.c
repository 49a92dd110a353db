/* Block coordinate descent. The gradient G = E H of one block of columns is computed afresh when
 * its turn comes (two GEMMs with the other blocks' errors), so it never drifts; while the block is
 * worked on, every change is pushed into it.
 *
 * Each move is a line search on a quadratic with its exact optimum: the decoded values are linear
 * in every parameter and in every column's value, so that a step s along U changes the loss by
 * s^2 U H U^T - 2 s U G. A step is rounded to what can be stored, and taken only by rows whose loss
 * it lowers. In a block: each sub-group's integers (s, m), then d and dmin of its group, then the
 * codes column by column.
 *
 *   h [block][block]    g, u, hu, change [block][ld] */
#include "methods/descent.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/clones.h"
#include "methods/columns.h"

enum { MIN_BLOCK = 256, CODE_COLUMNS = 32 };

typedef enum line { SUB_SCALE, SUB_MIN, SCALE, MIN } line;

typedef struct descent {
    rp_descent_tile t;
    const rp_grid_ops *ops;
    int64_t cols, block, group, sub;
    bool has_lines; /* parameters move, too */
    int64_t a, n;   /* the block in hand: columns a .. a + n - 1 by t */
    float *h, *g, *u, *hu, *change;
    float *dot, *curvature, *step, *zero, *decoded; /* [ld] */
    float *multiplier;                              /* [block] */
    uint8_t *code;                                  /* [ld] */
    double gain;
} descent;

static size_t carve(descent *s, char *base)
{
    const size_t ld = (size_t)s->t.ld;
    const size_t block = (size_t)s->block;
    float **const fields[] = {&s->h,      &s->g,       &s->u,         &s->hu,
                              &s->change, &s->dot,     &s->curvature, &s->step,
                              &s->zero,   &s->decoded, &s->multiplier};
    const size_t counts[] = {
        block * block, block * ld, block * ld, block * ld, block * ld, ld, ld, ld, ld, ld, block};
    size_t at = 0;

    for (size_t i = 0; i < RP_COUNT(counts); i++) {
        if (base != NULL) {
            *fields[i] = (float *)(void *)(base + at);
        }
        at += RP_DIV_UP(counts[i] * sizeof(float), 64) * 64;
    }
    s->code = base == NULL ? NULL : (uint8_t *)base + at;
    return at + RP_DIV_UP(ld, 64) * 64;
}

/* Blocks are whole groups where parameters move. */
static descent make_descent(const rp_grid *grid, int64_t rows, int64_t cols)
{
    descent s = {.ops = grid->ops, .cols = cols};

    s.t.rows = rows;
    s.t.ld = RP_DIV_UP(rows, RP_COLUMN_LANES) * RP_COLUMN_LANES;
    s.group = rp_grid_group_cols(grid, cols);
    s.sub = rp_grid_sub_cols(grid, cols);
    s.block = grid->ops->levels == NULL ? MIN_BLOCK : RP_DIV_UP(MIN_BLOCK, s.group) * s.group;
    s.block = RP_MIN(s.block, cols);
    return s;
}

size_t rp_descent_scratch_bytes(const rp_grid *grid, int64_t rows, int64_t cols)
{
    descent s = make_descent(grid, rows, cols);

    return carve(&s, NULL);
}

/* ---- Gradient ---- */

/* A piece of a matrix of `ld` columns, read as it is or transposed. */
typedef struct piece {
    const float *at;
    int64_t ld;
    CBLAS_TRANSPOSE trans;
} piece;

/* to [m][ld] = left [m, k] from [k][ld] + beta to. */
static void multiply(const descent *s, int64_t m, int64_t k, piece left, const float *from,
                     float beta, float *to)
{
    cblas_sgemm(CblasRowMajor, left.trans, CblasNoTrans, (int)m, (int)s->t.ld, (int)k, 1.0f,
                left.at, (int)left.ld, from, (int)s->t.ld, beta, to, (int)s->t.ld);
}

/* The block's part of H, from row and column i and j of the block. */
static piece h_piece(const descent *s, int64_t i, int64_t j)
{
    return (piece){s->h + i * s->block + j, s->block, CblasNoTrans};
}

/* The block's part of H, both triangles, and of G. */
static void open_block(descent *s, int64_t a, int64_t b)
{
    const int64_t c = s->cols;
    const int64_t ld = s->t.ld;
    const float *l = s->t.factor->l;

    s->a = a;
    s->n = b - a;
    for (int64_t i = 0; i < s->n; i++) {
        s->h[i * s->block + i] = s->t.factor->diagonal[a + i];
        for (int64_t j = i + 1; j < s->n; j++) {
            s->h[i * s->block + j] = l[(a + i) * c + a + j];
            s->h[j * s->block + i] = l[(a + i) * c + a + j];
        }
    }
    multiply(s, s->n, s->n, h_piece(s, 0, 0), s->t.error + a * ld, 0.0f, s->g);
    if (a > 0) {
        multiply(s, s->n, a, (piece){l + a, c, CblasTrans}, s->t.error, 1.0f, s->g);
    }
    if (b < c) {
        multiply(s, s->n, c - b, (piece){l + a * c + b, c, CblasNoTrans}, s->t.error + b * ld, 1.0f,
                 s->g);
    }
}

/* Columns lo .. lo + n - 1 of the block have changed by change[n]: what that does to the gradient
 * of columns 0 .. until - 1. */
static void push(descent *s, int64_t lo, int64_t n, const float *change, int64_t until)
{
    if (until > 0) {
        multiply(s, until, n, h_piece(s, 0, lo), change, 1.0f, s->g);
    }
}

static float *error_of(const descent *s, int64_t i)
{
    return s->t.error + (s->a + i) * s->t.ld;
}

/* ---- Parameters ---- */

static int param_of(const descent *s, line kind, int64_t sub)
{
    const int first = s->ops->has_min ? 2 : 1;

    switch (kind) {
    case SUB_SCALE:
        return first + (int)sub;
    case SUB_MIN:
        return first + s->ops->n_sub + (int)sub;
    case SCALE:
        return 0;
    case MIN:
    default:
        return 1;
    }
}

/* out = sign * factor (* level of code); NULL: 1. */
RP_CLONES static void fill(int64_t rows, float sign, const float *factor, const float *levels,
                           const uint8_t *code, float *out)
{
    for (int64_t r = 0; r < rows; r++) {
        out[r] = factor == NULL ? sign : sign * factor[r];
    }
    for (int64_t r = 0; r < rows && levels != NULL; r++) {
        out[r] *= levels[code[r]];
    }
}

/* u := derivative of the decoded columns lo .. lo + n - 1 of the block by a parameter. */
static void fill_direction(descent *s, line kind, const float *params, int64_t lo, int64_t n)
{
    const int64_t rows = s->t.rows;
    const bool two_levels = s->ops->n_sub > 0;
    const bool is_min = kind == SUB_MIN || kind == MIN;

    for (int64_t i = 0; i < n; i++) {
        const int64_t column = s->cols - 1 - (s->a + lo + i);
        const int64_t sub = column % s->group / s->sub;
        const line other = kind == SUB_SCALE ? SCALE
                           : kind == SUB_MIN ? MIN
                           : kind == SCALE   ? SUB_SCALE
                                             : SUB_MIN;
        const float *factor = two_levels ? params + (int64_t)param_of(s, other, sub) * rows : NULL;
        fill(rows, is_min && two_levels ? -1.0f : 1.0f, factor, is_min ? NULL : s->ops->levels,
             s->t.codes + column * rows, s->u + i * s->t.ld);
    }
}

/* out = sum over i < n of x[i] * y[i]. */
RP_CLONES static void dot_columns(int64_t ld, int64_t n, const float *restrict x,
                                  const float *restrict y, float *restrict out)
{
    memset(out, 0, (size_t)ld * sizeof(float));
    for (int64_t i = 0; i < n; i++) {
        for (int64_t r = 0; r < ld; r++) {
            out[r] += x[i * ld + r] * y[i * ld + r];
        }
    }
}

static float stored(const descent *s, line kind, float value)
{
    switch (kind) {
    case SUB_SCALE:
        return fminf(fmaxf(nearbyintf(value), (float)s->ops->scale_lo), (float)s->ops->scale_hi);
    case SUB_MIN:
        return fminf(fmaxf(nearbyintf(value), 0.0f), (float)s->ops->min_hi);
    case MIN:
        value = s->ops->n_sub > 0 ? fmaxf(value, 0.0f) : value;
        return rp_round_to_dtype(value, RP_F16);
    case SCALE:
    default:
        return rp_round_to_dtype(value, RP_F16);
    }
}

/* param += step, where that lowers the loss; step 0 elsewhere. Returns whether any did. */
static bool take_steps(descent *s, line kind, float *param)
{
    bool is_any = false;

    for (int64_t r = 0; r < s->t.rows; r++) {
        const float curvature = s->curvature[r];
        float value = param[r];
        float gain = 0;
        s->step[r] = 0;
        if (curvature > 0) {
            value = stored(s, kind, param[r] + s->dot[r] / curvature);
            s->step[r] = value - param[r];
            gain = s->step[r] * (2 * s->dot[r] - s->step[r] * curvature);
        }
        if (!(gain > 0) || !isfinite(value)) {
            s->step[r] = 0;
            continue;
        }
        param[r] = value;
        s->gain += (double)gain;
        is_any = true;
    }
    return is_any;
}

/* u := -step * u, and error with it. */
RP_CLONES static void move(int64_t rows, int64_t ld, int64_t n, const float *restrict step,
                           float *restrict u, float *restrict error)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t r = 0; r < rows; r++) {
            u[i * ld + r] *= -step[r];
            error[i * ld + r] += u[i * ld + r];
        }
    }
}

/* One parameter of all rows: columns lo .. lo + n - 1 of the block depend on it. */
static void search_line(descent *s, line kind, int64_t lo, int64_t n)
{
    const int64_t column = s->cols - (s->a + lo + n); /* the first in the original order */
    float *params = s->t.params + column / s->group * s->ops->n_params * s->t.rows;

    fill_direction(s, kind, params, lo, n);
    multiply(s, n, n, h_piece(s, lo, lo), s->u, 0.0f, s->hu);
    dot_columns(s->t.ld, n, s->u, s->g + lo * s->t.ld, s->dot);
    dot_columns(s->t.ld, n, s->u, s->hu, s->curvature);
    if (take_steps(s, kind, params + param_of(s, kind, column % s->group / s->sub) * s->t.rows)) {
        move(s->t.rows, s->t.ld, n, s->step, s->u, error_of(s, lo));
        push(s, lo, n, s->u, s->n);
    }
}

static void search_params(descent *s)
{
    for (int64_t hi = s->n; hi > 0; hi -= s->group) {
        for (int64_t k = hi; s->ops->n_sub > 0 && k > hi - s->group; k -= s->sub) {
            search_line(s, SUB_SCALE, k - s->sub, s->sub);
            if (s->ops->has_min) {
                search_line(s, SUB_MIN, k - s->sub, s->sub);
            }
        }
        search_line(s, SCALE, hi - s->group, s->group);
        if (s->ops->has_min) {
            search_line(s, MIN, hi - s->group, s->group);
        }
    }
}

/* ---- Codes ---- */

/* out = w - out */
RP_CLONES static void subtract_from(int64_t rows, const float *restrict w, float *restrict out)
{
    for (int64_t r = 0; r < rows; r++) {
        out[r] = w[r] - out[r];
    }
}

/* Where the error `left` by the new code lowers the loss: code, error and change; elsewhere change
 * is 0. Returns the gain. */
RP_CLONES static double take_codes(int64_t rows, float curvature, const float *restrict g,
                                   const float *restrict left, const uint8_t *restrict code,
                                   uint8_t *restrict kept, float *restrict error,
                                   float *restrict change)
{
    double lane[8] = {0};
    double sum = 0;

    for (int64_t r = 0; r < rows; r++) {
        const float step = left[r] - error[r];
        const float gain = -step * (2 * g[r] + step * curvature);
        const bool is_taken = gain > 0;
        change[r] = is_taken ? step : 0;
        error[r] = is_taken ? left[r] : error[r];
        kept[r] = is_taken ? code[r] : kept[r];
        lane[r % 8] += is_taken ? (double)gain : 0;
    }
    for (int i = 0; i < 8; i++) {
        sum += lane[i];
    }
    return sum;
}

/* The value that minimises the loss along one column. */
RP_CLONES static void minimiser(int64_t rows, float curvature, const float *restrict g,
                                const float *restrict w, const float *restrict error,
                                float *restrict out)
{
    for (int64_t r = 0; r < rows; r++) {
        out[r] = (w[r] - error[r]) + g[r] / curvature;
    }
}

/* Column lo + i of the unit of n columns that starts at lo. */
static void search_column(descent *s, int64_t lo, int64_t n, int64_t i)
{
    const int64_t at = lo + i;
    const int64_t column = s->t.factor->order[s->a + at];
    const float curvature = s->h[at * s->block + at];
    const float *params = s->t.params + column / s->group * s->ops->n_params * s->t.rows;
    const float *w = s->t.w + (s->a + at) * s->t.ld;
    float *change = s->change + i * s->t.ld;

    if (!(curvature > 0)) {
        memset(change, 0, (size_t)s->t.ld * sizeof(float));
        return;
    }
    for (int64_t k = i + 1; k < n; k++) {
        s->multiplier[k - i - 1] = s->h[at * s->block + lo + k];
    }
    rp_columns_pull(s->t.ld, n - i - 1, s->g + at * s->t.ld, s->zero, change + s->t.ld,
                    s->multiplier, s->dot);
    minimiser(s->t.rows, curvature, s->dot, w, error_of(s, at), s->step);
    s->ops->round_column(s->t.grid, s->t.rows, params, (int)(column % s->group / s->sub), s->step,
                         s->code, s->decoded);
    subtract_from(s->t.rows, w, s->decoded);
    s->gain += take_codes(s->t.rows, curvature, s->dot, s->decoded, s->code,
                          s->t.codes + column * s->t.rows, error_of(s, at), change);
}

static void search_codes(descent *s)
{
    for (int64_t hi = s->n; hi > 0; hi -= CODE_COLUMNS) {
        const int64_t lo = RP_MAX(hi - CODE_COLUMNS, 0);
        for (int64_t i = hi - lo - 1; i >= 0; i--) {
            search_column(s, lo, hi - lo, i);
        }
        push(s, lo, hi - lo, s->change, lo);
    }
}

double rp_descent_run(const rp_descent_tile *tile, int64_t sweeps, void *scratch)
{
    descent s = make_descent(tile->grid, tile->rows, tile->factor->cols);
    double before = -1;

    s.t = *tile;
    s.has_lines = s.ops->levels != NULL && !s.ops->is_power_scale && !tile->factor->is_actorder;
    memset(scratch, 0, carve(&s, scratch));
    for (int64_t sweep = 0; sweep < sweeps && s.gain > before; sweep++) {
        before = s.gain;
        for (int64_t b = s.cols; b > 0; b -= s.block) {
            open_block(&s, RP_MAX(b - s.block, 0), b);
            if (s.has_lines) {
                search_params(&s);
            }
            search_codes(&s);
        }
    }
    return s.gain;
}

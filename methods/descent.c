/* Block coordinate descent. The gradient G = E H of one block of columns is computed afresh when
 * its turn comes (two GEMMs with the other blocks' errors), so it never drifts; while the block is
 * worked on, every change is pushed into it.
 *
 * Each move is a line search on a quadratic with its exact optimum: the decoded values are linear
 * in d, dmin and every column's value, so that a step s along U changes the loss by s^2 U H U^T -
 * 2 s U G. A step is rounded to what can be stored, and taken only by rows whose loss it lowers. In
 * a block: each sub-group's integers with its codes (descent_sub.c), then d and dmin of its group,
 * then the codes column by column.
 */
#include "methods/descent_private.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/clones.h"

enum { MIN_BLOCK = 256 };

static size_t carve(rp_descent *s, char *base)
{
    const size_t ld = (size_t)s->t.ld;
    const size_t block = (size_t)s->block;
    const size_t sub = (size_t)RP_MIN(s->sub, RP_DESCENT_MAX_SUB);
    const struct {
        void *field;
        size_t nbytes;
    } parts[] = {
        {&s->h, block * block * sizeof(float)},
        {&s->g, block * ld * sizeof(float)},
        {&s->u, block * ld * sizeof(float)},
        {&s->hu, block * ld * sizeof(float)},
        {&s->change, block * ld * sizeof(float)},
        {&s->target, sub * ld * sizeof(float)},
        {&s->left, sub * ld * sizeof(float)},
        {&s->multiplier, block * sizeof(float)},
        {&s->dot, ld * sizeof(float)},
        {&s->curvature, ld * sizeof(float)},
        {&s->step, ld * sizeof(float)},
        {&s->decoded, ld * sizeof(float)},
        {&s->loss, ld * sizeof(float)},
        {&s->best, ld * sizeof(float)},
        {&s->s_best, ld * sizeof(float)},
        {&s->m_best, ld * sizeof(float)},
        {&s->s_kept, ld * sizeof(float)},
        {&s->m_kept, ld * sizeof(float)},
        {&s->code, ld},
        {&s->trial_code, sub * ld},
        {&s->best_code, sub * ld},
    };
    size_t at = 0;

    for (size_t i = 0; i < RP_COUNT(parts); i++) {
        char *place = base == NULL ? NULL : base + at;
        memcpy(parts[i].field, &place, sizeof(place));
        at += RP_DIV_UP(parts[i].nbytes, 64) * 64;
    }
    return at;
}

/* Blocks are whole groups where parameters move. */
static rp_descent make_descent(const rp_grid *grid, int64_t rows, int64_t cols)
{
    rp_descent s = {.ops = grid->ops, .cols = cols};

    s.t.rows = rows;
    s.t.ld = RP_DIV_UP(rows, RP_PRODUCT_LANES) * RP_PRODUCT_LANES;
    s.group = rp_grid_group_cols(grid, cols);
    s.sub = rp_grid_sub_cols(grid, cols);
    s.block = grid->ops->levels == NULL ? MIN_BLOCK : RP_DIV_UP(MIN_BLOCK, s.group) * s.group;
    s.block = RP_MIN(s.block, cols);
    return s;
}

size_t rp_descent_scratch_bytes(const rp_grid *grid, int64_t rows, int64_t cols)
{
    rp_descent s = make_descent(grid, rows, cols);

    return carve(&s, NULL);
}

/* ---- Gradient ---- */

void rp_descent_multiply(const rp_descent *s, int64_t m, int64_t k, rp_left left, const float *from,
                         rp_product_use use, float *to)
{
    rp_product(m, k, s->t.ld, left, from, RP_PRODUCT_CHAIN, use, to);
}

rp_left rp_descent_h(const rp_descent *s, int64_t i, int64_t j)
{
    return (rp_left){s->h + i * s->block + j, s->block, false};
}

/* The block's part of H, both triangles, and of G. */
static void open_block(rp_descent *s, int64_t a, int64_t b)
{
    const int64_t c = s->cols;
    const int64_t ld = s->t.ld;
    const float *l = s->t.ldl->l;

    s->a = a;
    s->n = b - a;
    for (int64_t i = 0; i < s->n; i++) {
        s->h[i * s->block + i] = s->t.ldl->diagonal[a + i];
        for (int64_t j = i + 1; j < s->n; j++) {
            s->h[i * s->block + j] = l[(a + i) * c + a + j];
            s->h[j * s->block + i] = l[(a + i) * c + a + j];
        }
    }
    rp_descent_multiply(s, s->n, s->n, rp_descent_h(s, 0, 0), s->t.error + a * ld, RP_PRODUCT_SET,
                        s->g);
    if (a > 0) {
        rp_descent_multiply(s, s->n, a, (rp_left){l + a, c, true}, s->t.error, RP_PRODUCT_ADD,
                            s->g);
    }
    if (b < c) {
        rp_descent_multiply(s, s->n, c - b, (rp_left){l + a * c + b, c, false}, s->t.error + b * ld,
                            RP_PRODUCT_ADD, s->g);
    }
}

void rp_descent_push(const rp_descent *s, int64_t lo, int64_t n, const float *change, int64_t until)
{
    if (until > 0) {
        rp_descent_multiply(s, until, n, rp_descent_h(s, 0, lo), change, RP_PRODUCT_ADD, s->g);
    }
}

float *rp_descent_error(const rp_descent *s, int64_t i)
{
    return s->t.error + (s->a + i) * s->t.ld;
}

/* Without act-order t counts the columns down. */
float *rp_descent_params(const rp_descent *s, int64_t i)
{
    const int64_t column = s->cols - 1 - (s->a + i);

    return s->t.params + column / s->group * s->ops->n_params * s->t.rows;
}

/* ---- Parameters ---- */

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

/* u := derivative of the decoded columns lo .. lo + group - 1 of the block by d, or by the
 * minimum. */
static void fill_direction(rp_descent *s, bool is_min, int64_t lo)
{
    const int64_t rows = s->t.rows;
    const bool two_levels = s->ops->n_sub > 0;
    const float *integers = rp_descent_params(s, lo) +
                            (int64_t)(is_min ? 2 + s->ops->n_sub : 1 + (int)s->ops->has_min) * rows;

    for (int64_t i = 0; i < s->group; i++) {
        const int64_t column = s->cols - 1 - (s->a + lo + i);
        const int64_t sub = column % s->group / s->sub;
        fill(rows, is_min && two_levels ? -1.0f : 1.0f, two_levels ? integers + sub * rows : NULL,
             is_min ? NULL : s->ops->levels, s->t.codes + column * rows, s->u + i * s->t.ld);
    }
}

RP_CLONES void rp_descent_dot(int64_t ld, int64_t n, const float *restrict x,
                              const float *restrict y, float *restrict out)
{
    memset(out, 0, (size_t)ld * sizeof(float));
    for (int64_t i = 0; i < n; i++) {
        for (int64_t r = 0; r < ld; r++) {
            out[r] += x[i * ld + r] * y[i * ld + r];
        }
    }
}

/* param (>= least) += step, where that lowers the loss; step 0 elsewhere. Returns whether any did.
 */
static bool take_steps(rp_descent *s, float least, float *param)
{
    bool is_any = false;

    for (int64_t r = 0; r < s->t.rows; r++) {
        const float curvature = s->curvature[r];
        float value = param[r];
        float gain = 0;
        s->step[r] = 0;
        if (curvature > 0) {
            value = rp_round_to_dtype(param[r] + s->dot[r] / curvature, RP_F16);
            value = fmaxf(value, least);
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

/* d of all rows, or the minimum (dmin is never negative), of the group at columns lo and on. */
static void search_line(rp_descent *s, bool is_min, int64_t lo)
{
    const int64_t n = s->group;
    float *param = rp_descent_params(s, lo) + (is_min ? s->t.rows : 0);

    fill_direction(s, is_min, lo);
    rp_descent_multiply(s, n, n, rp_descent_h(s, lo, lo), s->u, RP_PRODUCT_SET, s->hu);
    rp_descent_dot(s->t.ld, n, s->u, s->g + lo * s->t.ld, s->dot);
    rp_descent_dot(s->t.ld, n, s->u, s->hu, s->curvature);
    if (take_steps(s, is_min && s->ops->n_sub > 0 ? 0.0f : -INFINITY, param)) {
        move(s->t.rows, s->t.ld, n, s->step, s->u, rp_descent_error(s, lo));
        rp_descent_push(s, lo, n, s->u, s->n);
    }
}

static void search_params(rp_descent *s)
{
    for (int64_t hi = s->n; hi > 0; hi -= s->group) {
        for (int64_t k = hi; s->ops->n_sub > 0 && k > hi - s->group; k -= s->sub) {
            rp_descent_search_sub(s, k - s->sub);
        }
        search_line(s, false, hi - s->group);
        if (s->ops->has_min) {
            search_line(s, true, hi - s->group);
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
static void search_column(rp_descent *s, int64_t lo, int64_t n, int64_t i)
{
    const int64_t at = lo + i;
    const int64_t column = s->t.ldl->order[s->a + at];
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
    rp_pull_columns(s->t.ld, n - i - 1, s->g + at * s->t.ld, change + s->t.ld, s->multiplier,
                    s->dot);
    minimiser(s->t.rows, curvature, s->dot, w, rp_descent_error(s, at), s->step);
    s->ops->round_column(s->t.grid, s->t.rows, params, (int)(column % s->group / s->sub), s->step,
                         s->code, s->decoded);
    subtract_from(s->t.rows, w, s->decoded);
    s->gain += take_codes(s->t.rows, curvature, s->dot, s->decoded, s->code,
                          s->t.codes + column * s->t.rows, rp_descent_error(s, at), change);
}

static void search_codes(rp_descent *s)
{
    for (int64_t hi = s->n; hi > 0; hi -= RP_UNIT_COLS) {
        const int64_t lo = RP_MAX(hi - RP_UNIT_COLS, 0);
        for (int64_t i = hi - lo - 1; i >= 0; i--) {
            search_column(s, lo, hi - lo, i);
        }
        rp_descent_push(s, lo, hi - lo, s->change, lo);
    }
}

double rp_descent_run(const rp_descent_tile *tile, int64_t sweeps, void *scratch)
{
    rp_descent s = make_descent(tile->grid, tile->rows, tile->ldl->n);
    double before = -1;

    s.t = *tile;
    s.has_lines = s.ops->levels != NULL && !s.ops->is_power_scale && !tile->ldl->is_actorder;
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

/* The search for a sub-group's integers together with its codes.
 *
 * With all other columns as they are, the loss is a quadratic in the sub-group's values with
 * minimum at `target` = decoded + H^-1 G (H: the sub-group's own part). For fixed integers the
 * codes are then found one column after the other, each rounded after what the earlier ones owe it
 * (Babai's nearest plane: error feedback on the small matrix), and the plane's distances add up to
 * the loss. So every pair of integers beside the present one is tried with codes of its own, which
 * single steps cannot do: with the codes held, the present integers are nearly always the best. */
#include "methods/descent_private.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/clones.h"

enum { MAX_SUB = RP_DESCENT_MAX_SUB };
#define RIDGE 1e-4 /* of the diagonal: a sub-group's part of H may be singular */

/* Unit lower factor and squared diagonal of h = U D U^T in descending columns. */
typedef struct sub_factor {
    float l[MAX_SUB * MAX_SUB], d[MAX_SUB];
} sub_factor;

/* False when all columns are dead. */
static bool factor_sub(const rp_descent *s, int64_t lo, sub_factor *f)
{
    const int64_t n = s->sub;
    const rp_left h = rp_descent_h(s, lo, lo);
    double a[MAX_SUB * MAX_SUB];
    double mean = 0;

    for (int64_t i = 0; i < n; i++) {
        mean += (double)h.at[i * h.ld + i] / (double)n;
    }
    for (int64_t j = 0; j < n && mean > 0; j++) {
        const double own = (double)h.at[j * h.ld + j];
        const double ridge = RIDGE * (own > 0 ? own : mean);
        for (int64_t i = j; i < n; i++) {
            double v = (double)h.at[i * h.ld + j] + (i == j ? ridge : 0);
            for (int64_t k = 0; k < j; k++) {
                v -= a[i * n + k] * a[j * n + k] * (double)f->d[k];
            }
            if (i == j) {
                f->d[j] = (float)fmax(v, ridge);
            }
            a[i * n + j] = v / (double)f->d[j];
            f->l[i * n + j] = (float)a[i * n + j];
        }
    }
    return mean > 0;
}

/* Row i of u := itself - what rows first .. end - 1 times column i of the factor, or row i, are. */
static void take_away(rp_descent *s, const sub_factor *f, int64_t i, int64_t first, int64_t end)
{
    const int64_t ld = s->t.ld;

    for (int64_t j = first; j < end; j++) {
        s->multiplier[j - first] = -(j < i ? f->l[i * s->sub + j] : f->l[j * s->sub + i]);
    }
    rp_pull_columns(ld, end - first, s->u + i * ld, s->u + first * ld, s->multiplier,
                    s->u + i * ld);
}

/* u := H^-1 G, target := decoded + u, best := the loss as it is. */
static void set_target(rp_descent *s, int64_t lo, const sub_factor *f)
{
    const int64_t n = s->sub;
    const int64_t ld = s->t.ld;
    const float *g = s->g + lo * ld;

    memcpy(s->u, g, (size_t)(n * ld) * sizeof(float));
    for (int64_t i = 0; i < n; i++) {
        take_away(s, f, i, 0, i);
    }
    for (int64_t i = 0; i < n * ld; i++) {
        s->u[i] /= f->d[i / ld];
    }
    for (int64_t i = n - 1; i >= 0; i--) {
        take_away(s, f, i, i + 1, n);
    }
    rp_descent_dot(ld, n, s->u, g, s->best);
    for (int64_t i = 0; i < n * ld; i++) {
        s->target[i] = s->t.w[(s->a + lo) * ld + i] - rp_descent_error(s, lo)[i] + s->u[i];
    }
}

RP_CLONES static void set_trial(int64_t rows, const float *restrict kept, float step, float lo,
                                float hi, float *restrict param)
{
    for (int64_t r = 0; r < rows; r++) {
        float v = kept[r] + step;
        v = v > lo ? v : lo;
        param[r] = v < hi ? v : hi;
    }
}

/* loss += d (corrected - decoded)^2; left = target - decoded. */
RP_CLONES static void add_column(int64_t rows, float d, const float *restrict corrected,
                                 const float *restrict decoded, const float *restrict target,
                                 float *restrict left, float *restrict loss)
{
    for (int64_t r = 0; r < rows; r++) {
        const float e = corrected[r] - decoded[r];
        loss[r] += d * (e * e);
        left[r] = target[r] - decoded[r];
    }
}

/* trial_code and loss with the group's present parameters. */
static void find_codes(rp_descent *s, int sub, const sub_factor *f, const float *params)
{
    const int64_t n = s->sub;
    const int64_t ld = s->t.ld;

    memset(s->loss, 0, (size_t)ld * sizeof(float));
    for (int64_t i = n - 1; i >= 0; i--) {
        for (int64_t k = i + 1; k < n; k++) {
            s->multiplier[k - i - 1] = f->l[k * n + i];
        }
        rp_pull_columns(ld, n - i - 1, s->target + i * ld, s->left + (i + 1) * ld, s->multiplier,
                        s->step);
        s->ops->round_column(s->t.grid, s->t.rows, params, sub, s->step, s->trial_code + i * ld,
                             s->decoded);
        add_column(s->t.rows, f->d[i], s->step, s->decoded, s->target + i * ld, s->left + i * ld,
                   s->loss);
    }
}

RP_CLONES static void keep_floats(int64_t rows, const float *restrict loss,
                                  const float *restrict best, const float *restrict from,
                                  float *restrict to)
{
    for (int64_t r = 0; r < rows; r++) {
        to[r] = loss[r] < best[r] ? from[r] : to[r];
    }
}

RP_CLONES static void keep_codes(int64_t rows, const float *restrict loss,
                                 const float *restrict best, const uint8_t *restrict from,
                                 uint8_t *restrict to)
{
    for (int64_t r = 0; r < rows; r++) {
        to[r] = loss[r] < best[r] ? from[r] : to[r];
    }
}

static void keep_better(rp_descent *s, const float *scale, const float *min)
{
    const int64_t rows = s->t.rows;

    keep_floats(rows, s->loss, s->best, scale, s->s_best);
    if (min != NULL) {
        keep_floats(rows, s->loss, s->best, min, s->m_best);
    }
    for (int64_t i = 0; i < s->sub; i++) {
        keep_codes(rows, s->loss, s->best, s->trial_code + i * s->t.ld, s->best_code + i * s->t.ld);
    }
    for (int64_t r = 0; r < rows; r++) {
        s->best[r] = fminf(s->best[r], s->loss[r]);
    }
}

/* All neighbours of the present integers: 3 x 3 pairs, or 5 scales. */
static void try_integers(rp_descent *s, int sub, const sub_factor *f, float *params)
{
    const int64_t rows = s->t.rows;
    const rp_grid_ops *ops = s->ops;
    float *scale = params + ((ops->has_min ? 2 : 1) + sub) * rows;
    float *min = ops->has_min ? params + (2 + ops->n_sub + sub) * rows : NULL;
    const int reach_s = ops->has_min ? 1 : 2;
    const int reach_m = ops->has_min ? 1 : 0;

    for (int step_s = -reach_s; step_s <= reach_s; step_s++) {
        for (int step_m = -reach_m; step_m <= reach_m; step_m++) {
            set_trial(rows, s->s_kept, (float)step_s, (float)ops->scale_lo, (float)ops->scale_hi,
                      scale);
            if (min != NULL) {
                set_trial(rows, s->m_kept, (float)step_m, 0.0f, (float)ops->min_hi, min);
            }
            find_codes(s, sub, f, params);
            keep_better(s, scale, min);
        }
    }
}

/* change := what the best codes and integers do to a column's error. */
RP_CLONES static void change_column(int64_t rows, const float *levels, const float *restrict step,
                                    const float *restrict offset, const uint8_t *restrict code,
                                    const float *restrict w, const float *restrict error,
                                    float *restrict change)
{
    for (int64_t r = 0; r < rows; r++) {
        change[r] = (w[r] - (step[r] * levels[code[r]] - offset[r])) - error[r];
    }
}

/* u := what the best codes and integers would do to the errors. */
static void set_change(rp_descent *s, int64_t lo, const float *params)
{
    const int64_t rows = s->t.rows;
    const int64_t ld = s->t.ld;

    for (int64_t r = 0; r < rows; r++) {
        s->step[r] = params[r] * s->s_best[r];
        s->curvature[r] = s->ops->has_min ? params[rows + r] * s->m_best[r] : 0;
    }
    for (int64_t i = 0; i < s->sub; i++) {
        change_column(rows, s->ops->levels, s->step, s->curvature, s->best_code + i * ld,
                      s->t.w + (s->a + lo + i) * ld, rp_descent_error(s, lo + i), s->u + i * ld);
    }
}

/* step[r] := 1 where u lowers the loss by the undamped H, else 0. */
static void judge_change(rp_descent *s, int64_t lo)
{
    const int64_t n = s->sub;

    rp_descent_multiply(s, n, n, rp_descent_h(s, lo, lo), s->u, RP_PRODUCT_SET, s->hu);
    rp_descent_dot(s->t.ld, n, s->u, s->g + lo * s->t.ld, s->dot);
    rp_descent_dot(s->t.ld, n, s->u, s->hu, s->curvature);
    for (int64_t r = 0; r < s->t.rows; r++) {
        const float gain = -(2 * s->dot[r] + s->curvature[r]);
        s->step[r] = gain > 0 ? 1 : 0;
        s->gain += gain > 0 ? (double)gain : 0;
    }
}

RP_CLONES static void take_column(int64_t rows, const float *restrict is_taken,
                                  const uint8_t *restrict best, uint8_t *restrict code,
                                  float *restrict error, float *restrict change)
{
    for (int64_t r = 0; r < rows; r++) {
        change[r] = is_taken[r] != 0 ? change[r] : 0;
        error[r] += change[r];
        code[r] = is_taken[r] != 0 ? best[r] : code[r];
    }
}

/* param := best where taken, else kept. */
static void take_param(const rp_descent *s, const float *best, const float *kept, float *param)
{
    for (int64_t r = 0; r < s->t.rows; r++) {
        param[r] = s->step[r] != 0 ? best[r] : kept[r];
    }
}

void rp_descent_search_sub(rp_descent *s, int64_t lo)
{
    const int64_t rows = s->t.rows;
    const int64_t ld = s->t.ld;
    const size_t nbytes = (size_t)rows * sizeof(float);
    const int64_t column = s->cols - (s->a + lo + s->sub); /* the first in the original order */
    const int sub = (int)(column % s->group / s->sub);
    float *params = rp_descent_params(s, lo);
    float *scale = params + ((s->ops->has_min ? 2 : 1) + sub) * rows;
    float *min = s->ops->has_min ? scale + s->ops->n_sub * rows : scale;
    uint8_t *codes = s->t.codes + column * rows; /* the sub-group's, in the original order */
    sub_factor f = {0};

    RP_ASSERT(s->sub <= MAX_SUB);
    if (!factor_sub(s, lo, &f)) {
        return;
    }
    set_target(s, lo, &f);
    memcpy(s->s_kept, scale, nbytes);
    memcpy(s->m_kept, min, nbytes);
    memcpy(s->s_best, scale, nbytes);
    memcpy(s->m_best, min, nbytes);
    for (int64_t i = 0; i < s->sub; i++) {
        memcpy(s->best_code + i * ld, codes + (s->sub - 1 - i) * rows, (size_t)rows);
    }
    try_integers(s, sub, &f, params);
    set_change(s, lo, params);
    judge_change(s, lo);
    take_param(s, s->m_best, s->m_kept, min);
    take_param(s, s->s_best, s->s_kept, scale);
    for (int64_t i = 0; i < s->sub; i++) {
        take_column(rows, s->step, s->best_code + i * ld, codes + (s->sub - 1 - i) * rows,
                    rp_descent_error(s, lo + i), s->u + i * ld);
    }
    rp_descent_push(s, lo, s->sub, s->u, s->n);
}

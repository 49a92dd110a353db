/* From exact integer sums to the LDL factor, inside one matrix of doubles.
 *
 * The integers are turned into doubles in place; the symmetric reordering is a chain of
 * row-and-column swaps; the upper triangle keeps the undamped matrix, so that a failed
 * factorisation can be repeated with more damping. */
#include "methods/site_factor.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/factor.h"

#define LADDER_STEP 10.0
#define LADDER_TOP 10.0

rp_status rp_site_factor_alloc(rp_site_factor *out, int64_t cols)
{
    rp_status st = RP_OK;
    rp_site_factor f = {.cols = cols};
    const size_t n = (size_t)cols;

    memset(out, 0, sizeof(*out));
    RP_TRY(rp_alloc_array(&f.l, n * n, sizeof(*f.l)));
    RP_TRY(rp_alloc_array(&f.d, n, sizeof(*f.d)));
    RP_TRY(rp_alloc_array(&f.diagonal, n, sizeof(*f.diagonal)));
    RP_TRY(rp_alloc_array(&f.order, n, sizeof(*f.order)));
    RP_TRY(rp_alloc_array(&f.importance, n, sizeof(*f.importance)));
    RP_TRY(rp_alloc_array(&f.is_dead, n, sizeof(*f.is_dead)));
    *out = f;
    memset(&f, 0, sizeof(f));
out:
    rp_site_factor_destroy(&f);
    return st;
}

void rp_site_factor_list_parts(rp_site_factor_part out[RP_SITE_FACTOR_PARTS],
                               rp_site_factor *factor, int64_t cols)
{
    const size_t n = (size_t)cols;
    const rp_site_factor_part parts[RP_SITE_FACTOR_PARTS] = {
        {factor->l, n * n * sizeof(*factor->l)},
        {factor->d, n * sizeof(*factor->d)},
        {factor->diagonal, n * sizeof(*factor->diagonal)},
        {&factor->damping, sizeof(factor->damping)},
        {factor->order, n * sizeof(*factor->order)},
        {factor->importance, n * sizeof(*factor->importance)},
        {factor->is_dead, n * sizeof(*factor->is_dead)},
    };

    memcpy(out, parts, sizeof(parts));
}

void rp_site_factor_destroy(rp_site_factor *factor)
{
    free(factor->l);
    free(factor->d);
    free(factor->diagonal);
    free(factor->order);
    free(factor->importance);
    free(factor->is_dead);
    memset(factor, 0, sizeof(*factor));
}

/* The same 8-byte cells as doubles: mean over tokens. Dead columns get a unit diagonal. */
static double *to_double(const rp_gram_view *gram)
{
    const int64_t n = gram->cols;
    double *h = (double *)gram->sum;

    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j <= i; j++) {
            int64_t q = 0;
            double value = 0;
            memcpy(&q, &gram->sum[i * n + j], sizeof(q));
            value = ldexp((double)q, gram->exponent[i] + gram->exponent[j] - gram->shift) /
                    (double)gram->n_tokens;
            if (i == j && !(gram->max_abs[i] > 0)) {
                value = 1;
            }
            memcpy(&h[i * n + j], &value, sizeof(value));
        }
    }
    return h;
}

/* Exchanges rows and columns a < b of a symmetric matrix of which only the lower triangle is
 * stored. */
static void swap_symmetric(double *h, int64_t n, int64_t a, int64_t b)
{
#define SWAP(i, j, k, l)                                                                           \
    do {                                                                                           \
        const double kept = h[(i)*n + (j)];                                                        \
        h[(i)*n + (j)] = h[(k)*n + (l)];                                                           \
        h[(k)*n + (l)] = kept;                                                                     \
    } while (0)
    for (int64_t j = 0; j < a; j++) {
        SWAP(a, j, b, j);
    }
    for (int64_t j = a + 1; j < b; j++) {
        SWAP(j, a, b, j);
    }
    for (int64_t j = b + 1; j < n; j++) {
        SWAP(j, a, j, b);
    }
    SWAP(a, a, b, b);
#undef SWAP
}

typedef struct ordered_column {
    double diagonal;
    int32_t column;
} ordered_column;

static int by_descending_diagonal(const void *a, const void *b)
{
    const ordered_column *x = a;
    const ordered_column *y = b;

    if (x->diagonal != y->diagonal) {
        return x->diagonal > y->diagonal ? -1 : 1;
    }
    return x->column < y->column ? -1 : 1;
}

/* order[t]: processing order (identity, or diagonal descending with ties by index), reversed. */
static rp_status choose_order(int32_t *order, const double *h, int64_t n, bool is_actorder)
{
    rp_status st = RP_OK;
    ordered_column *columns = NULL;

    RP_TRY(rp_alloc_array(&columns, (size_t)n, sizeof(*columns)));
    for (int64_t i = 0; i < n; i++) {
        columns[i].diagonal = h[i * n + i];
        columns[i].column = (int32_t)i;
    }
    if (is_actorder) {
        qsort(columns, (size_t)n, sizeof(*columns), by_descending_diagonal);
    }
    for (int64_t t = 0; t < n; t++) {
        order[t] = columns[n - 1 - t].column;
    }
out:
    free(columns);
    return st;
}

/* Brings h into `order` by swaps: at[] says which column is where. */
static rp_status permute(double *h, int64_t n, const int32_t *order)
{
    rp_status st = RP_OK;
    int32_t *at = NULL;    /* position of a column */
    int32_t *holds = NULL; /* column at a position */

    RP_TRY(rp_alloc_array(&at, (size_t)n, sizeof(*at)));
    RP_TRY(rp_alloc_array(&holds, (size_t)n, sizeof(*holds)));
    for (int64_t i = 0; i < n; i++) {
        at[i] = (int32_t)i;
        holds[i] = (int32_t)i;
    }
    for (int64_t t = 0; t < n; t++) {
        const int32_t from = at[order[t]];
        if (from == t) {
            continue;
        }
        swap_symmetric(h, n, t, from);
        holds[from] = holds[t];
        at[holds[from]] = from;
        holds[t] = order[t];
        at[order[t]] = (int32_t)t;
    }
out:
    free(holds);
    free(at);
    return st;
}

/* Upper triangle := lower triangle, or back; the diagonal is kept aside by the caller. */
static void mirror(double *h, int64_t n, bool is_to_upper)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < i; j++) {
            if (is_to_upper) {
                h[j * n + i] = h[i * n + j];
            } else {
                h[i * n + j] = h[j * n + i];
            }
        }
    }
}

/* *damping: what the factored matrix has on its diagonal beyond h. */
static rp_status factor_with_ladder(double *h, int64_t n, double frac, const rp_exec *exec,
                                    rp_damping_log *log, double *damping)
{
    rp_status st = RP_OK;
    double *diagonal = NULL;
    double mean = 0;
    int64_t failed_at = 0;

    RP_TRY(rp_alloc_array(&diagonal, (size_t)n, sizeof(*diagonal)));
    for (int64_t i = 0; i < n; i++) {
        diagonal[i] = h[i * n + i];
        mean += diagonal[i] / (double)n;
    }
    mirror(h, n, true);
    for (;;) {
        *damping = frac * mean;
        for (int64_t i = 0; i < n; i++) {
            h[i * n + i] = diagonal[i] + *damping;
        }
        log->tried[log->n_steps++] = frac;
        rp_factor_cholesky(exec, n, h, &failed_at);
        if (failed_at < 0) {
            break;
        }
        frac = frac > 0 ? frac * LADDER_STEP : 1e-4;
        if (frac > LADDER_TOP || log->n_steps == (int)RP_COUNT(log->tried)) {
            log->is_fallback = true;
            break;
        }
        mirror(h, n, false);
    }
out:
    free(diagonal);
    return st;
}

/* l := unit lower factor below, undamped matrix above; d := squared diagonal. */
static void normalise(rp_site_factor *f, const double *h)
{
    const int64_t n = f->cols;

    for (int64_t j = 0; j < n; j++) {
        f->d[j] = (float)(h[j * n + j] * h[j * n + j]);
    }
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j <= i; j++) {
            f->l[i * n + j] = (float)(h[i * n + j] / h[j * n + j]);
        }
        for (int64_t j = i + 1; j < n; j++) {
            f->l[i * n + j] = (float)h[i * n + j];
        }
    }
}

rp_status rp_site_factor_build(rp_site_factor *out, rp_damping_log *log, const rp_exec *exec,
                               const rp_gram_view *gram, double dampening_frac, bool is_actorder)
{
    rp_status st = RP_OK;
    rp_site_factor f = {0};
    const int64_t n = gram->cols;
    double *h = NULL;

    memset(out, 0, sizeof(*out));
    memset(log, 0, sizeof(*log));
    RP_TRY(rp_site_factor_alloc(&f, n));
    h = to_double(gram);
    for (int64_t i = 0; i < n; i++) {
        f.is_dead[i] = !(gram->max_abs[i] > 0);
        f.importance[i] = f.is_dead[i] ? 0 : (float)h[i * n + i];
    }
    f.is_actorder = is_actorder;
    RP_TRY(choose_order(f.order, h, n, is_actorder));
    RP_TRY(permute(h, n, f.order));
    for (int64_t t = 0; t < n; t++) {
        f.diagonal[t] = f.is_dead[f.order[t]] ? 0 : (float)h[t * n + t];
    }
    RP_TRY(factor_with_ladder(h, n, dampening_frac, exec, log, &f.damping));
    if (!log->is_fallback) {
        normalise(&f, h);
        *out = f;
        memset(&f, 0, sizeof(f));
    }
out:
    rp_site_factor_destroy(&f);
    return st;
}

/* Where the value for position t is once positions before t have been swapped into place. */
static int64_t position_of(const int32_t *order, int64_t t)
{
    int64_t from = order[t];

    while (from < t) {
        from = order[from];
    }
    return from;
}

static void swap_columns(int64_t rows, int64_t ld, float *x, int64_t a, int64_t b)
{
    for (int64_t r = 0; r < rows && a != b; r++) {
        const float kept = x[r * ld + a];
        x[r * ld + a] = x[r * ld + b];
        x[r * ld + b] = kept;
    }
}

void rp_site_factor_solve_right(const rp_site_factor *factor, int64_t rows, int64_t ld, float *t)
{
    const int64_t n = factor->cols;

    for (int64_t k = 0; k < n; k++) {
        swap_columns(rows, ld, t, k, position_of(factor->order, k));
    }
    cblas_strsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasUnit, (int)rows, (int)n,
                1.0f, factor->l, (int)n, t, (int)ld);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t k = 0; k < n; k++) {
            t[r * ld + k] = factor->is_dead[factor->order[k]] ? 0 : t[r * ld + k] / factor->d[k];
        }
    }
    cblas_strsm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasUnit, (int)rows, (int)n,
                1.0f, factor->l, (int)n, t, (int)ld);
    for (int64_t k = n - 1; k >= 0; k--) {
        swap_columns(rows, ld, t, k, position_of(factor->order, k));
    }
}

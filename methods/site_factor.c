/* From exact integer sums to the LDL factor, inside one matrix of doubles: its lower triangle is
 * factored, its upper keeps the reordered matrix, so that a failed factorisation can be repeated
 * with more damping. */
#include "methods/site_factor.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/place.h"

#define LADDER_STEP 10.0
#define LADDER_TOP 10.0

rp_status rp_site_factor_alloc(rp_site_factor *out, const rp_exec *exec, int64_t cols)
{
    rp_status st = RP_OK;
    rp_site_factor f = {.exec = exec, .cols = cols};
    const size_t n = (size_t)cols;

    memset(out, 0, sizeof(*out));
    RP_TRY(rp_place_alloc(exec, &f.l, n * n, sizeof(*f.l)));
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
        {factor->l, n * n * sizeof(*factor->l), true},
        {factor->d, n * sizeof(*factor->d), false},
        {factor->diagonal, n * sizeof(*factor->diagonal), false},
        {&factor->damping, sizeof(factor->damping), false},
        {factor->order, n * sizeof(*factor->order), false},
        {factor->importance, n * sizeof(*factor->importance), false},
        {factor->is_dead, n * sizeof(*factor->is_dead), false},
    };

    memcpy(out, parts, sizeof(parts));
}

rp_ldl rp_site_factor_ldl(const rp_site_factor *factor)
{
    return (rp_ldl){
        .n = factor->cols,
        .is_actorder = factor->is_actorder,
        .l = factor->l,
        .d = factor->d,
        .diagonal = factor->diagonal,
        .damping = factor->damping,
        .order = factor->order,
        .is_dead = factor->is_dead,
        .importance = factor->importance,
    };
}

void rp_site_factor_destroy(rp_site_factor *factor)
{
    if (factor->l != NULL) {
        rp_place_free(factor->exec, factor->l);
    }
    free(factor->d);
    free(factor->diagonal);
    free(factor->order);
    free(factor->importance);
    free(factor->is_dead);
    memset(factor, 0, sizeof(*factor));
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
static rp_status choose_order(int32_t *order, const double *diagonal, int64_t n, bool is_actorder)
{
    rp_status st = RP_OK;
    ordered_column *columns = NULL;

    RP_TRY(rp_alloc_array(&columns, (size_t)n, sizeof(*columns)));
    for (int64_t i = 0; i < n; i++) {
        columns[i].diagonal = diagonal[i];
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

/* A factor in the making. */
typedef struct building {
    const rp_kernel_ops *ops;
    const rp_exec *exec;
    rp_site_factor f;
    double *h;        /* [place] [cols, cols] */
    double *diagonal; /* [cols] h's: at first by original column, then by t */
    double *scratch;  /* [cols] */
} building;

/* The sums as mean products, and the vectors that follow from their diagonal. */
static rp_status set_up(building *b, const rp_gram_view *gram)
{
    rp_status st = RP_OK;
    rp_site_factor *f = &b->f;
    const int64_t n = f->cols;

    RP_TRY(rp_alloc_array(&b->diagonal, (size_t)n, sizeof(*b->diagonal)));
    RP_TRY(rp_alloc_array(&b->scratch, (size_t)n, sizeof(*b->scratch)));
    for (int64_t i = 0; i < n; i++) {
        f->is_dead[i] = !(gram->max_abs[i] > 0);
    }
    b->h = (double *)(void *)gram->sum;
    b->ops->gram_mean(b->exec, n, gram->sum, gram->exponent, gram->shift, gram->n_tokens,
                      f->is_dead, b->scratch);
    RP_TRY(rp_place_check(b->exec));
    RP_TRY(choose_order(f->order, b->scratch, n, f->is_actorder));
    b->ops->permute_upper(b->exec, n, b->h, f->order);
    for (int64_t i = 0; i < n; i++) {
        f->importance[i] = f->is_dead[i] ? 0 : (float)b->scratch[i];
    }
    for (int64_t t = 0; t < n; t++) {
        b->diagonal[t] = b->scratch[f->order[t]];
        f->diagonal[t] = f->is_dead[f->order[t]] ? 0 : (float)b->diagonal[t];
    }
out:
    return st;
}

static void factor_with_ladder(building *b, double frac, rp_damping_log *log)
{
    const int64_t n = b->f.cols;
    double mean = 0;

    for (int64_t i = 0; i < n; i++) {
        mean += b->diagonal[i] / (double)n;
    }
    for (;;) {
        int64_t failed_at = -1;
        b->f.damping = frac * mean;
        for (int64_t i = 0; i < n; i++) {
            b->scratch[i] = b->diagonal[i] + b->f.damping;
        }
        log->tried[log->n_steps++] = frac;
        b->ops->mirror_lower(b->exec, n, b->h, b->scratch);
        b->ops->cholesky(b->exec, n, b->h, &failed_at);
        if (failed_at < 0) {
            break;
        }
        frac = frac > 0 ? frac * LADDER_STEP : 1e-4;
        if (frac > LADDER_TOP || log->n_steps == (int)RP_COUNT(log->tried)) {
            log->is_fallback = true;
            break;
        }
    }
}

rp_status rp_site_factor_build(rp_site_factor *out, rp_damping_log *log, const rp_kernel_ops *ops,
                               const rp_exec *exec, const rp_gram_view *gram, double dampening_frac,
                               bool is_actorder)
{
    rp_status st = RP_OK;
    building b = {.ops = ops, .exec = exec};

    memset(out, 0, sizeof(*out));
    memset(log, 0, sizeof(*log));
    RP_TRY(rp_site_factor_alloc(&b.f, exec, gram->cols));
    b.f.is_actorder = is_actorder;
    RP_TRY(set_up(&b, gram));
    factor_with_ladder(&b, dampening_frac, log);
    if (!log->is_fallback) {
        ops->ldl(exec, gram->cols, b.h, b.f.l, b.f.d);
    }
    RP_TRY(rp_place_check(exec));
    if (!log->is_fallback) {
        *out = b.f;
        memset(&b.f, 0, sizeof(b.f));
    }
out:
    free(b.scratch);
    free(b.diagonal);
    rp_site_factor_destroy(&b.f);
    return st;
}

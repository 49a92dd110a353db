/* Integer sums of products with a site's input. */
#include "sharding/cross.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* What the f32 (or bf16) products of a drift may exceed its bound by. */
#define BOUND_MARGIN 1.05

rp_status rp_cross_create(rp_cross *out, const rp_exec *exec, int64_t max_rows, int64_t max_elems)
{
    rp_status st = RP_OK;
    rp_cross cross = {.exec = exec, .max_rows = max_rows, .max_elems = max_elems};

    memset(out, 0, sizeof(*out));
    RP_TRY(rp_alloc_array(&cross.row_exponent, (size_t)max_rows, sizeof(*cross.row_exponent)));
    RP_TRY(rp_place_alloc(exec, &cross.sum, (size_t)max_elems, sizeof(*cross.sum)));
    *out = cross;
    memset(&cross, 0, sizeof(cross));
out:
    rp_cross_destroy(&cross);
    return st;
}

void rp_cross_destroy(rp_cross *cross)
{
    if (cross->sum != NULL) {
        rp_place_free(cross->exec, cross->sum);
    }
    free(cross->row_exponent);
    memset(cross, 0, sizeof(*cross));
}

rp_place_bytes rp_cross_bytes(int64_t max_rows, int64_t max_elems)
{
    return (rp_place_bytes){.host = (size_t)max_rows * sizeof(int),
                            .place = (size_t)max_elems * sizeof(int64_t)};
}

void rp_cross_begin(rp_cross *cross, const rp_gram *gram, int64_t rows, const double *bound)
{
    RP_ASSERT(rows <= cross->max_rows && rows * gram->cols <= cross->max_elems);
    cross->gram = gram;
    cross->rows = rows;
    for (int64_t i = 0; i < rows; i++) {
        cross->row_exponent[i] = 0;
        if (bound[i] > 0) {
            (void)frexp(bound[i] * BOUND_MARGIN, &cross->row_exponent[i]);
        }
    }
    rp_place_zero(cross->exec, cross->sum, (size_t)(rows * gram->cols) * sizeof(*cross->sum));
}

void rp_cross_add(rp_cross *cross, rp_cmat a, rp_cmat x)
{
    const rp_gram *gram = cross->gram;

    gram->ops->cross_add(cross->exec, a, x, cross->row_exponent, gram->exponent, gram->shift,
                         cross->sum);
}

void rp_cross_scatter(rp_cross *cross, rp_comm *comm, const rp_range *rows_of)
{
    const int64_t cols = cross->gram->cols;

    for (int r = 0; r < rp_comm_nranks(comm) && rp_comm_nranks(comm) > 1; r++) {
        if (rows_of[r].count > 0) {
            rp_comm_place_reduce_sum_i64(comm, cross->exec, cross->sum + rows_of[r].first * cols,
                                         rows_of[r].count * cols, r);
        }
    }
}

void rp_cross_scatter_traffic(rp_traffic *traffic, int64_t cols, const rp_range *rows_of)
{
    for (int r = 0; r < traffic->nranks && traffic->nranks > 1; r++) {
        if (rows_of[r].count > 0) {
            rp_traffic_reduce(traffic, (size_t)(rows_of[r].count * cols) * sizeof(int64_t), r);
        }
    }
}

void rp_cross_negative_mean(const rp_cross *cross, const rp_exec *exec, int64_t row0, rp_mat out)
{
    const rp_gram *gram = cross->gram;

    gram->ops->cross_mean(exec, out, cross->sum + row0 * gram->cols, cross->row_exponent + row0,
                          gram->exponent, gram->shift, -(double)gram->n_tokens);
}

/* The sum a^T x over all calibration tokens of an output's drift `a` and a site's input x, exact
 * for any split over ranks: the same fixed point as the site's Gram matrix (sharding/gram.h), with
 * exponents of its own for the rows. */
#ifndef RP_SHARDING_CROSS_H
#define RP_SHARDING_CROSS_H

#include "kernels/place.h"
#include "sharding/gram.h"
#include "sharding/partition.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_cross {
    const rp_exec *exec; /* borrowed; equal to the Gram matrix's */
    int64_t rows;        /* columns of a */
    int *row_exponent;
    int64_t *sum; /* [place] [rows, gram->cols] */
    const rp_gram *gram;
    int64_t max_rows, max_elems;
} rp_cross;

/* Local. For up to max_rows rows and max_elems sums. */
RP_CHECKED rp_status rp_cross_create(rp_cross *out, const rp_exec *exec, int64_t max_rows,
                                     int64_t max_elems);
void rp_cross_destroy(rp_cross *cross);
rp_place_bytes rp_cross_bytes(int64_t max_rows, int64_t max_elems);
/* Local. Starts a sum beside `gram` (borrowed, exponents fixed). bound [rows]: no |a| of that row
 * exceeds it, on any rank. */
void rp_cross_begin(rp_cross *cross, const rp_gram *gram, int64_t rows, const double *bound);
/* Local. One block: a [tokens, rows], x [tokens, gram->cols]. */
void rp_cross_add(rp_cross *cross, rp_cmat a, rp_cmat x);
/* Collective on comm. Rank r gets the whole sum of rows rows_of[r]; its other rows are undefined
 * then. rows_of [nranks] is the same on all ranks. */
void rp_cross_scatter(rp_cross *cross, rp_comm *comm, const rp_range *rows_of);
/* Local. Adds what it does. */
void rp_cross_scatter_traffic(rp_traffic *traffic, int64_t cols, const rp_range *rows_of);
/* Local. Minus the sum a token of rows row0 .. row0 + out.rows - 1. exec: the sum's, or one of its
 * threads'. */
void rp_cross_negative_mean(const rp_cross *cross, const rp_exec *exec, int64_t row0, rp_mat out);

#ifdef __cplusplus
}
#endif
#endif

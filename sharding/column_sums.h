/* Sums of squares of a site's input columns over all ranks: the diagonal of its Gram matrix, from
 * f64 sums and without the matrix.
 *
 * A block's sums are f64 over its rows in order; each is added as an integer q_i = llrint(s_i
 * 2^(shift - 2 e_i)), with |x_i| < 2^e_i over all calibration tokens. As in sharding/gram.h the
 * total then has the same bits for any split of the blocks over ranks, and cannot overflow. */
#ifndef RP_SHARDING_COLUMN_SUMS_H
#define RP_SHARDING_COLUMN_SUMS_H

#include "kernels/ops.h"
#include "mpi/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_column_sums {
    int64_t cols, n_tokens;
    int shift;
    float *max_abs; /* [cols] */
    double *block;  /* [cols] of one block */
    int64_t *sum;   /* [cols] */
} rp_column_sums;

/* Local. For sites of up to max_cols columns. */
RP_CHECKED rp_status rp_column_sums_create(rp_column_sums *out, int64_t max_cols);
void rp_column_sums_destroy(rp_column_sums *sums);
/* Local. Starts a site: n_tokens over all ranks, at most block_tokens in one block. */
void rp_column_sums_begin(rp_column_sums *sums, int64_t cols, int64_t n_tokens,
                          int64_t block_tokens);
/* Local. First pass over this rank's blocks. RP_ERR_FORMAT when a value is not finite. */
RP_CHECKED rp_status rp_column_sums_observe(rp_column_sums *sums, const rp_kernel_ops *ops,
                                            const rp_exec *exec, rp_cmat block);
/* Collective on comm. Between the passes: the largest values over all ranks. */
void rp_column_sums_agree(rp_column_sums *sums, rp_comm *comm);
/* Local. Second pass. */
void rp_column_sums_add(rp_column_sums *sums, const rp_kernel_ops *ops, const rp_exec *exec,
                        rp_cmat block);
/* Collective on comm. The total on every rank, rounded to f32, into out [cols]. */
void rp_column_sums_finish(rp_column_sums *sums, rp_comm *comm, float *out);
/* Local. Adds what a site's sums do: the largest values, then the total. */
void rp_column_sums_traffic(rp_traffic *traffic, int64_t cols);

#ifdef __cplusplus
}
#endif
#endif

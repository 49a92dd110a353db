/* A site's Gram matrix as an exact sum over all ranks.
 *
 * Every block's product is f32 over exactly its rows; it is added as a 64-bit integer q_ij =
 * llrint(P_ij 2^(shift - e_i - e_j)). Integer addition is associative, so the total has the same
 * bits for any split of the blocks over ranks and time. e_i comes from the largest |x_i| over all
 * calibration tokens (|x_i| < 2^e_i), which is found first and is the same on all ranks: |P_ij| <
 * block_tokens 2^(e_i + e_j), so no sum can overflow and no site is done twice. */
#ifndef RP_SHARDING_GRAM_H
#define RP_SHARDING_GRAM_H

#include "kernels/ops.h"
#include "mpi/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_gram {
    const rp_kernel_ops *ops; /* borrowed, as is exec */
    const rp_exec *exec;
    int64_t cols, n_tokens;
    int shift;
    int *exponent;  /* [cols] */
    float *max_abs; /* [cols] */
    int64_t *sum;   /* [place] [cols * cols], lower triangle */
    int64_t capacity;
} rp_gram;

/* Local. For sites of up to max_cols columns, whose blocks lie in exec's place. */
RP_CHECKED rp_status rp_gram_create(rp_gram *out, const rp_kernel_ops *ops, const rp_exec *exec,
                                    int64_t max_cols);
void rp_gram_destroy(rp_gram *gram);
/* Local. Starts a site: n_tokens over all ranks, at most block_tokens in one block. */
void rp_gram_begin(rp_gram *gram, int64_t cols, int64_t n_tokens, int64_t block_tokens);
/* Local. First pass over this rank's blocks. RP_ERR_FORMAT when a value is not finite. */
RP_CHECKED rp_status rp_gram_observe(rp_gram *gram, rp_cmat block);
/* Collective on comm. Between the passes: exponents from the maximum over ranks. */
void rp_gram_fix_exponents(rp_gram *gram, rp_comm *comm);
/* Local. Adds what it does. */
void rp_gram_fix_exponents_traffic(rp_traffic *traffic, int64_t cols);
/* Local. Second pass. */
void rp_gram_add(rp_gram *gram, rp_cmat block);
/* Collective on comm. The sum of all ranks at owner; triangles only, in pieces of at most 64 MiB.
 * `scratch` [place] [rp_gram_scratch_bytes]. */
void rp_gram_reduce(rp_gram *gram, rp_comm *comm, int owner, int64_t *scratch);
size_t rp_gram_scratch_bytes(int64_t max_cols);
/* Local. Adds what it does. */
void rp_gram_reduce_traffic(rp_traffic *traffic, int64_t cols, int owner);

#ifdef __cplusplus
}
#endif
#endif

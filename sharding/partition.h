/* Who does what: contiguous ranges of numbered units over ranks, and calibration blocks of fixed
 * shape. */
#ifndef RP_SHARDING_PARTITION_H
#define RP_SHARDING_PARTITION_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_range {
    int64_t first, count;
} rp_range;

/* Local. Units first .. first + count - 1 of n belong to `rank`; sizes differ by at most one. */
rp_range rp_partition(int64_t n, int nranks, int rank);

/* Calibration sequences in blocks of whole sequences; shapes never depend on the number of ranks.
 */
typedef struct rp_blocks {
    int64_t seq_len, n_seqs;
    int64_t seqs_per_block; /* the last block may hold fewer */
    int64_t n_blocks;
} rp_blocks;

/* Local. At least one sequence a block. */
rp_blocks rp_blocks_make(int64_t n_seqs, int64_t seq_len, int64_t block_tokens);
/* Local. Sequences of block b, and the number of the first one. */
int64_t rp_blocks_seqs(const rp_blocks *blocks, int64_t b);
int64_t rp_blocks_first_seq(const rp_blocks *blocks, int64_t b);
/* Local. Is block b kept aside to judge what was fitted on the others: each tenth, and of two to
 * nine the last. Sequences that are not. */
bool rp_blocks_is_kept_aside(const rp_blocks *blocks, int64_t b);
int64_t rp_blocks_fitted_seqs(const rp_blocks *blocks);

#ifdef __cplusplus
}
#endif
#endif

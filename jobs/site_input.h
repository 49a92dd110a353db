/* What a site's linears see of the calibration text on this rank. */
#ifndef RP_JOBS_SITE_INPUT_H
#define RP_JOBS_SITE_INPUT_H

#include "kernels/ops.h"
#include "sharding/partition.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Block b of `mine` starts at row (b - mine.first) * seqs_per_block * seq_len of every array. The
 * full stream is that of the uncompressed model, carried along where a drift is corrected. */
typedef struct rp_site_input {
    rp_blocks blocks;
    rp_range mine;
    const float *rows, *full_rows; /* [local rows, ld] input; full: NULL without a second stream */
    int64_t ld;
    const float *h, *full_h; /* [local rows, hidden] residual stream before the site adds to it */
    int64_t hidden;
} rp_site_input;

/* Local. Rows of block b in an array of `cols` columns. */
rp_cmat rp_site_block(const rp_site_input *input, const float *array, int64_t b, int64_t cols,
                      int64_t ld);

#ifdef __cplusplus
}
#endif
#endif

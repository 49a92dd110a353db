/* What a site's linears see of the calibration text on this rank. */
#ifndef RP_JOBS_SITE_INPUT_H
#define RP_JOBS_SITE_INPUT_H

#include "kernels/ops.h"
#include "kernels/window.h"
#include "sharding/partition.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Block b of `mine` is block b - mine.first of every window. The full stream is that of the
 * uncompressed model, carried along where a drift is corrected. */
typedef struct rp_site_input {
    rp_blocks blocks;
    rp_range mine;
    rp_window *rows, *full_rows; /* borrowed; input; full: NULL without a second stream */
    rp_window *h, *full_h;       /* residual stream before the site adds to it */
    int64_t hidden;
} rp_site_input;

/* Local. The first `cols` columns of block b, for operations that are asked for before another
 * block of this window is. */
rp_cmat rp_site_block(const rp_site_input *input, rp_window *window, int64_t b, int64_t cols);
/* Local. Its rows. */
int64_t rp_site_block_rows(const rp_site_input *input, int64_t b);

#ifdef __cplusplus
}
#endif
#endif

/* Blocks of a site's input. */
#include "jobs/site_input.h"

int64_t rp_site_block_rows(const rp_site_input *in, int64_t b)
{
    return rp_blocks_seqs(&in->blocks, b) * in->blocks.seq_len;
}

rp_cmat rp_site_block(const rp_site_input *in, rp_window *window, int64_t b, int64_t cols)
{
    return rp_cmat_of(rp_window_use(window, b - in->mine.first, cols, 0), rp_site_block_rows(in, b),
                      cols, rp_window_cols(window));
}

/* Blocks of a site's input. */
#include "jobs/site_input.h"

rp_cmat rp_site_block(const rp_site_input *in, const float *array, int64_t b, int64_t cols,
                      int64_t ld)
{
    const int64_t row0 = (b - in->mine.first) * in->blocks.seqs_per_block * in->blocks.seq_len;

    return rp_cmat_of(array + row0 * ld, rp_blocks_seqs(&in->blocks, b) * in->blocks.seq_len, cols,
                      ld);
}

/* Two passes over the blocks: the largest values, then the products. */
#include "jobs/site_gram.h"

#include "base/clock.h"

rp_status rp_site_gram_sum(rp_gram *gram, rp_session *session, const rp_site_input *input,
                           int64_t cols, bool keeps_aside, int owner, int64_t *scratch)
{
    rp_status st = RP_OK;
    rp_session *s = session;
    const rp_site_input *in = input;
    const int64_t n_seqs = keeps_aside ? rp_blocks_fitted_seqs(&in->blocks) : in->blocks.n_seqs;
    const int64_t end = in->mine.first + in->mine.count;
    double start = rp_clock_seconds();

    rp_gram_begin(gram, cols, n_seqs * in->blocks.seq_len,
                  in->blocks.seqs_per_block * in->blocks.seq_len);
    for (int64_t b = in->mine.first; b < end && st == RP_OK; b++) {
        if (!keeps_aside || !rp_blocks_is_kept_aside(&in->blocks, b)) {
            st = rp_gram_observe(gram, s->ops, s->exec,
                                 rp_site_block(in, in->rows, b, cols, in->ld));
        }
    }
    RP_TRY(rp_agree(s->comm, st));
    rp_gram_fix_exponents(gram, s->comm);
    for (int64_t b = in->mine.first; b < end; b++) {
        const rp_cmat rows = rp_site_block(in, in->rows, b, cols, in->ld);
        if (!keeps_aside || !rp_blocks_is_kept_aside(&in->blocks, b)) {
            rp_gram_add(gram, s->ops, s->exec, rows);
            s->flop[RP_PHASE_GRAM] += (double)rows.rows * (double)cols * (double)cols;
        }
    }
    rp_session_lap(s, RP_PHASE_GRAM, &start);
    rp_gram_reduce(gram, s->comm, owner, scratch);
    rp_session_lap(s, RP_PHASE_REDUCE, &start);
out:
    return st;
}

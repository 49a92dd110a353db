/* The Gram matrix of a site's input over all ranks' blocks. */
#ifndef RP_JOBS_SITE_GRAM_H
#define RP_JOBS_SITE_GRAM_H

#include "jobs/session.h"
#include "jobs/site_input.h"
#include "jobs/site_part.h"
#include "sharding/gram.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_site_gram_opts {
    int64_t cols;
    bool keeps_aside; /* without the blocks kept aside */
    bool is_observed; /* begun and observed already */
    int owner;
    int64_t *scratch;         /* [place] [rp_gram_scratch_bytes]; NULL on one rank */
    const rp_site_part *part; /* where a sum that is not whole is saved; NULL: nowhere */
} rp_site_gram_opts;

/* Local. Begins a sum, and looks at a block of its input: for each block while it is made, or left
 * to rp_site_gram_sum. Of opts, cols and keeps_aside count. */
void rp_site_gram_begin(rp_gram *gram, const rp_blocks *blocks, const rp_site_gram_opts *opts);
RP_CHECKED rp_status rp_site_gram_observe(rp_gram *gram, const rp_blocks *blocks,
                                          const rp_site_gram_opts *opts, int64_t b, rp_cmat block);
/* Collective. The sum at the owner; goes on from the blocks whose sum was saved. RP_ERR_STOPPED
 * between two blocks: the sum of those that are done is saved if that is worth it. */
RP_CHECKED rp_status rp_site_gram_sum(rp_gram *gram, rp_session *session,
                                      const rp_site_input *input, const rp_site_gram_opts *opts);
/* Local. Host memory that saving a sum takes, at most. */
size_t rp_site_gram_save_bytes(int64_t cols);
/* Local. Adds what it does, undisturbed. */
void rp_site_gram_traffic(rp_traffic *traffic, int64_t cols, int owner);

#ifdef __cplusplus
}
#endif
#endif

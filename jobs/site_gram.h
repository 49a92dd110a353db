/* The Gram matrix of a site's input over all ranks' blocks. */
#ifndef RP_JOBS_SITE_GRAM_H
#define RP_JOBS_SITE_GRAM_H

#include "jobs/session.h"
#include "jobs/site_input.h"
#include "sharding/gram.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Collective. The sum at `owner`, with or without the blocks kept aside. scratch
 * [rp_gram_scratch_bytes]; NULL on one rank. */
RP_CHECKED rp_status rp_site_gram_sum(rp_gram *gram, rp_session *session,
                                      const rp_site_input *input, int64_t cols, bool keeps_aside,
                                      int owner, int64_t *scratch);

#ifdef __cplusplus
}
#endif
#endif

/* Parts of a site that is not finished, in the checkpoint: what a job that stops in the middle of a
 * layer saves, and what goes on from there.
 *
 * A part is the unit "passing/part/<layer>/<site>/<name>". It counts until its site is finished, or
 * stopped at once more: a later commit leaves it out. */
#ifndef RP_JOBS_SITE_PART_H
#define RP_JOBS_SITE_PART_H

#include "jobs/session.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_SITE_PART_BYTES 96

typedef struct rp_site_part {
    rp_session *session;
    int64_t layer;
    rp_site site;
} rp_site_part;

/* Local. The unit's name from a printf-style name: "passing/part/3/0/tile/17". */
void rp_site_part_unit(char out[RP_SITE_PART_BYTES], const rp_site_part *part, const char *name,
                       ...) RP_PRINTF(3, 4);
/* Local; the same answer on all ranks. */
bool rp_site_part_has(const rp_site_part *part, const char *name);

/* Collective. Shall `bytes` a rank be written, which take redo_seconds to have again: when there is
 * time left to save and cluster.checkpoint.partial asks for it, auto: when writing and reading back
 * are likely to take less than doing it again. Rank 0 judges by the rate it measured. */
bool rp_site_part_pays(const rp_session *session, double bytes, double redo_seconds);

/* Logically collective. Leaves the parts of all sites but `keep` (NULL: none) out of the next
 * commit. */
RP_CHECKED rp_status rp_site_parts_drop(rp_session *session, const rp_site_part *keep);

#ifdef __cplusplus
}
#endif
#endif

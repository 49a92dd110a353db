/* Outputs whose size is given in place of a type: which type each matrix gets is measured.
 *
 * The choice goes into the checkpoint as the unit "types/K" (JSON text, K: the output's number), so
 * that a resumed job writes the same file. */
#ifndef RP_JOBS_SIZE_TARGET_H
#define RP_JOBS_SIZE_TARGET_H

#include "jobs/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. Bytes that output k may have; 0 when nothing is asked. */
size_t rp_size_target_bytes(const rp_session *session, int64_t k);
/* Local. The same, but not more than the file can take: for the plan. `laid_out`: bytes of the file
 * with its present types. */
size_t rp_size_target_most(const rp_session *session, int64_t k, size_t laid_out);
/* Local. Before anything is measured: outputs with a size target get the types of the largest
 * plain mix that fits, or the smallest types where none does. RP_ERR_CONFIG naming the smallest
 * possible size when not even these fit. */
RP_CHECKED rp_status rp_size_target_prepare(rp_session *session);
/* Collective. Measures, chooses, compares with the plain mix on text kept aside, and puts the
 * choice into the checkpoint; or takes it from there. The session's types and grids are the chosen
 * ones then. */
RP_CHECKED rp_status rp_size_target_choose(rp_session *session);

#ifdef __cplusplus
}
#endif
#endif

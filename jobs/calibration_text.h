/* The calibration sequences. */
#ifndef RP_JOBS_CALIBRATION_TEXT_H
#define RP_JOBS_CALIBRATION_TEXT_H

#include "jobs/session.h"
#include "sharding/partition.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. Tokens of a calibration sequence: the job's, or the smaller of 2048 and the model's limit.
 */
int64_t rp_calibration_seq_len(const rp_job *job, const rp_model_config *config);
/* Local. Blocks of the job's calibration. */
rp_blocks rp_calibration_blocks(const rp_job *job, const rp_model_config *config);
/* Local. With the CUDA back end rank 0 reads the text for rp_calibration_ids already now, while its
 * GPU is opened. A text that cannot be used is left to rp_calibration_ids, which says why. */
void rp_calibration_read_ahead(rp_session *session);
/* Collective. Rank 0 reads the text for rp_calibration_ids already now, if the job needs one. Fails
 * as that does. */
RP_CHECKED rp_status rp_calibration_read(rp_session *session);
/* Collective. ids [n_seqs * seq_len] on all ranks; rank 0 tokenises. The text is tokenised once and
 * cut into windows of seq_len without overlap (each beginning with BOS when add_bos); seed 0 takes
 * the first ones, any other seed draws them without replacement. RP_ERR_FORMAT when the text is too
 * short, with the tokens that it has and needs. */
RP_CHECKED rp_status rp_calibration_ids(rp_session *session, const rp_blocks *blocks,
                                        int32_t **ids);

#ifdef __cplusplus
}
#endif
#endif

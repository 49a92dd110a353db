/* The output folder: whose it is, its lock, the resolved job in it, room for what will be written.
 */
#ifndef RP_JOBS_OUT_FOLDER_H
#define RP_JOBS_OUT_FOLDER_H

#include "jobs/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Collective. Makes and locks the folder, or accepts the one of this same job. A folder with
 * anything else in it is RP_ERR_CONFIG; one of another job is RP_ERR_CONFIG with the keys that
 * differ. needed_bytes: what the job will write; less free space is RP_ERR_IO. Opens the rank's log
 * and, when the recipe needs it, the checkpoint. */
RP_CHECKED rp_status rp_out_folder_open(rp_session *session, size_t needed_bytes);
/* Local. Whether the job may use its folder: RP_ERR_CONFIG as above. */
RP_CHECKED rp_status rp_out_folder_check(const rp_job *job);

#ifdef __cplusplus
}
#endif
#endif

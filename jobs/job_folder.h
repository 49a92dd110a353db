/* The folder of a started job, for commands that want one of its outputs. */
#ifndef RP_JOBS_JOB_FOLDER_H
#define RP_JOBS_JOB_FOLDER_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. *path: the output of that name below the folder, of one in parts the first; NULL while it
 * is not finished. Caller frees. */
RP_CHECKED rp_status rp_job_folder_find_output(char **path, const char *dir, const char *name);
/* Local. For a path that should be a model: RP_ERR_FORMAT with the outputs in it when it is a job's
 * folder; RP_OK for whatever else. */
RP_CHECKED rp_status rp_job_folder_refuse(const char *path);

#ifdef __cplusplus
}
#endif
#endif

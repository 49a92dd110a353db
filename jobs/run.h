/* The run of a job from start or from its checkpoints to the report. */
#ifndef RP_JOBS_RUN_H
#define RP_JOBS_RUN_H

#include "jobs/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Collective. Takes the job. The output folder is new, empty, or that of the same job (which is
 * then gone on with). */
RP_CHECKED rp_status rp_run_job(const rp_cli *cli, rp_job *job);

/* Local. The job file that a started folder holds. */
#define RP_JOB_FILE "job.yaml"
#define RP_CHECKPOINT_DIR "checkpoint"
#define RP_LOG_DIR "log"
#define RP_REPORT_FILE "report.json"
#define RP_REPORT_PAGE "report.html"

#ifdef __cplusplus
}
#endif
#endif

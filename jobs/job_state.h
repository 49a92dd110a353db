/* How far a job is, from the files of its output folder alone. */
#ifndef RP_JOBS_JOB_STATE_H
#define RP_JOBS_JOB_STATE_H

#include <jansson.h>

#include "jobs/slurm_events.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The stage that rank 0 was in when it last said so. */
typedef struct rp_job_stage {
    char *what, *unit; /* "calibrate and solve", "layers"; NULL: no stage yet */
    double done, total, per_second;
    double epoch; /* when it was said, seconds since 1970 */
} rp_job_stage;

typedef struct rp_job_state {
    const char *state; /* "done", "running", "queued" (in Slurm), "stopped" */
    int64_t layers_done;
    int64_t n_layers; /* 0: the model cannot be read from here */
    int64_t generation;
    int64_t ranks; /* of the last run */
    int64_t stops; /* runs that ended before the job was done */
    rp_job_stage stage;
    char *last_message; /* why the last run that did not end well ended; NULL: none */
    json_t *report;     /* NULL: not done */
    rp_slurm_jobs jobs;
} rp_job_state;

/* Local. RP_ERR_FORMAT when no job was started or submitted in dir. Caller clears in any case. */
RP_CHECKED rp_status rp_job_state_read(rp_job_state *out, const char *dir);
void rp_job_state_clear(rp_job_state *state);
/* Local. Seconds that the stage will yet take, negative when not known. */
double rp_job_state_seconds_left(const rp_job_state *state);

#ifdef __cplusplus
}
#endif
#endif

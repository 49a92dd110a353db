/* OUT/slurm/events.jsonl: what submit and the batch script leave for rankpress status. One line an
 * event: {"time": 1795244131, "job": "123", "event": "submitted", "code": null}; events are
 * submitted, started, requeued, stopped (by Slurm, which alone knows whether it goes on) and ended;
 * the last three with the exit code of the ranks. */
#ifndef RP_JOBS_SLURM_EVENTS_H
#define RP_JOBS_SLURM_EVENTS_H

#include "base/owner.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_SLURM_ID_CHARS 24

typedef struct rp_slurm_job {
    char id[RP_SLURM_ID_CHARS]; /* digits */
    char event[16];             /* its last */
    int code;                   /* of the ranks; -1: none */
} rp_slurm_job;

typedef struct rp_slurm_jobs {
    rp_slurm_job *items;
    int64_t n;
    size_t capacity;
} rp_slurm_jobs;

/* Local. Appends that a job was submitted for the folder. */
RP_CHECKED rp_status rp_slurm_note_submitted(const char *dir, const char *id);
/* Local. The jobs of a folder in order of their first event; none when it never saw Slurm. Lines
 * that are not understood are passed over. Caller clears in any case. */
RP_CHECKED rp_status rp_slurm_jobs_read(rp_slurm_jobs *out, const char *dir);
void rp_slurm_jobs_clear(rp_slurm_jobs *jobs);

#ifdef __cplusplus
}
#endif
#endif

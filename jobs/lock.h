/* Lock of an output folder: DIR/.lock names the job that works there.
 *
 * A thread of rank 0 touches the file every few seconds. A lock is stale when its process is gone
 * (same host), when it is of an earlier start of this same batch job, or when it was not touched
 * for a while (another host); a stale one is taken over with a warning. A job that has lost its
 * lock must not write any more: it asks rp_lock_check before it publishes anything. */
#ifndef RP_JOBS_LOCK_H
#define RP_JOBS_LOCK_H

#include "mpi/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_lock rp_lock;

typedef struct rp_lock_opts {
    double heartbeat_seconds;                  /* between touches */
    double stale_seconds;                      /* untouched for so long: stale (another host) */
    bool is_forced;                            /* whoever has it */
    const char *job_id;                        /* the batch system's, no blanks; NULL: none */
    int64_t restarts;                          /* how often the batch system started it again */
    void (*warn)(void *ctx, const char *text); /* NULL: silent; called on rank 0 */
    void *warn_ctx;
} rp_lock_opts;
rp_lock_opts rp_lock_opts_default(void);

/* Collective on comm. dir must exist. A live lock is RP_ERR_LOCKED naming process, host, job and
 * age. opts NULL: the defaults. */
RP_CHECKED rp_status rp_lock_take(rp_lock **out, rp_comm *comm, const char *dir,
                                  const rp_lock_opts *opts);
/* Local. True when the heartbeat found the file gone or another's: somebody took it over while this
 * process slept. Always false on ranks other than 0. */
bool rp_lock_is_lost(const rp_lock *lock);
/* Local, any rank. Looks at the file now: RP_ERR_LOCKED when it is another job's or gone, RP_OK
 * when it is this job's or cannot be read. Accepts NULL. */
RP_CHECKED rp_status rp_lock_check(const rp_lock *lock);
/* Local. Stops the heartbeat and removes the file if it is still ours. Accepts NULL. */
void rp_lock_release(rp_lock **lock);

#ifdef __cplusplus
}
#endif
#endif

/* Dead and hung peers. A thread of each rank leaves a sign of life in a file every few seconds and
 * looks at the file of the next rank, the last one at the first's: R ranks cost R small writes and
 * R small reads an interval. When a rank was silent for the deadline, the one that watches it says
 * so, in one line for all, and every rank ends with the exit code of a stop: what was committed is
 * good, and the job can be resumed.
 *
 * The thread tells a process that is gone or stopped, and a host that is gone, from one that is
 * slow: how far the work is does not matter. */
#ifndef RP_JOBS_WATCHDOG_H
#define RP_JOBS_WATCHDOG_H

#include "mpi/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_WATCHDOG_DIR ".heartbeat"

typedef struct rp_watchdog rp_watchdog;

typedef struct rp_watchdog_opts {
    double interval_seconds; /* between signs of life; at most a quarter of the deadline is used */
    double deadline_seconds; /* of silence; 0: nobody watches */
    double grace_seconds;    /* for the launcher to end all ranks; then each ends itself */
} rp_watchdog_opts;
rp_watchdog_opts rp_watchdog_opts_default(void);

/* Collective on comm. out_dir: the job's folder, which must be locked; what an earlier run left
 * there is removed. *out is NULL when nobody watches: one rank alone, or no deadline. Borrows comm.
 * opts NULL: the defaults. */
RP_CHECKED rp_status rp_watchdog_start(rp_watchdog **out, rp_comm *comm, const char *out_dir,
                                       const rp_watchdog_opts *opts);
/* Local. What this rank does now, for the message if it should go silent: a text that lives as long
 * as the watchdog. Accepts NULL. */
void rp_watchdog_note(rp_watchdog *watchdog, const char *phase);
/* Local. This rank leaves in order: nobody misses it. Accepts NULL. */
void rp_watchdog_stop(rp_watchdog **watchdog);

/* One rank's part, for tests: start makes the folder and calls join on every rank. */
typedef struct rp_watchdog_place {
    const rp_comm *comm; /* ends all ranks; NULL: each ends itself */
    const char *run;     /* the same on all ranks, another one in each run */
    int rank, nranks;
} rp_watchdog_place;
/* Local. Makes the folder of a run. */
RP_CHECKED rp_status rp_watchdog_make_folder(const char *out_dir, const char *run);
/* Local. */
RP_CHECKED rp_status rp_watchdog_join(rp_watchdog **out, const char *out_dir,
                                      const rp_watchdog_place *place, const rp_watchdog_opts *opts);

#ifdef __cplusplus
}
#endif
#endif

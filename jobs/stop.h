/* Stop on request: the flag that SIGTERM, SIGINT and SIGUSR1 set, and the job's own end time.
 *
 * The first signal asks for an orderly stop; a second one, at least a second later (launchers
 * deliver the first one twice), ends the process at once with 128 + its number. */
#ifndef RP_JOBS_STOP_H
#define RP_JOBS_STOP_H

#include "mpi/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. Holds these signals back, across exec too, until release: a rank that dies of one while
 * MPI starts leaves its launcher hanging. */
void rp_stop_hold(void);
void rp_stop_release(void);
/* Local. Installs the handlers. */
RP_CHECKED rp_status rp_stop_install(void);
/* Local. True after a signal or rp_stop_request. */
bool rp_stop_requested(void);
/* Local. What a signal does, for tests and for a lost lock; signal_number 0 when there was none. */
void rp_stop_request(int signal_number);
/* Local. Clears the flag, for tests. */
void rp_stop_reset(void);

/* When the job has to be over, on the monotonic clock. */
typedef struct rp_walltime {
    double end_seconds; /* rp_clock_seconds() at the end; 0: no limit */
} rp_walltime;
/* Local. limit_seconds from now; 0: none. */
rp_walltime rp_walltime_start(double limit_seconds);
/* Local. Until a time of day (seconds since 1970, as batch systems give it); 0: none. */
rp_walltime rp_walltime_until(double epoch_seconds);
/* Local. The earlier of two. */
rp_walltime rp_walltime_earlier(rp_walltime a, rp_walltime b);
/* Local. Seconds left; HUGE_VAL without a limit; negative when it is over. */
double rp_walltime_left(rp_walltime walltime);

/* When this rank stops, and how long it may then save. */
typedef struct rp_stop_plan {
    rp_comm *comm; /* borrowed */
    rp_walltime walltime;
    double lead_seconds; /* the job stops so long before the walltime ends */
    double save_seconds;
    double asked_at; /* rp_clock_seconds() when the first reason was seen; 0: none yet */
    int reason;      /* its number in a table of stop.c; 0: none yet */
} rp_stop_plan;
/* Local. Half of a short walltime is left for work, whatever save_seconds is. */
rp_stop_plan rp_stop_plan_make(rp_comm *comm, rp_walltime walltime, double save_seconds);
/* Local, in the thread of comm; cheap, for every block and tile. RP_ERR_STOPPED "stopped by ..."
 * after a signal, a request, near the end of the walltime, or when another rank has met one of
 * these: all ranks learn of it soon, and rp_stop_requested is true from then on. */
RP_CHECKED rp_status rp_stop_poll(rp_stop_plan *plan);
/* Local. The same as a question, for tiles of a pool: its thread 0 polls, the others look at the
 * flag. */
bool rp_stop_is_due(rp_stop_plan *plan, int thread);
/* Local. This rank's reason: "SIGTERM", "the time limit", "another rank's request" ... */
const char *rp_stop_reason(const rp_stop_plan *plan);
/* Collective, after all ranks stopped. The reason of the rank where it began. */
const char *rp_stop_first_reason(const rp_stop_plan *plan);
/* Local. Seconds left to save what is not needed to go on; negative when they are over. */
double rp_stop_save_left(const rp_stop_plan *plan);

#ifdef __cplusplus
}
#endif
#endif

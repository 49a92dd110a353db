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

/* Collective on comm. True on all ranks when any was asked to stop or has less than need_seconds
 * left. */
bool rp_stop_agree(rp_comm *comm, rp_walltime walltime, double need_seconds);
/* Local. "SIGTERM", "the time limit": why, on this rank; "another rank's request" else. */
const char *rp_stop_reason(rp_walltime walltime, double need_seconds);

#ifdef __cplusplus
}
#endif
#endif

/* The process's environment: the only file that reads it. */
#ifndef RP_JOBS_ENVIRON_H
#define RP_JOBS_ENVIRON_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local, before MPI starts. Libraries read some variables when they are loaded (OpenBLAS's core
 * type and thread count), so a process that lacks them sets them and executes itself once more.
 * Returns when everything is set, or when that is not possible. */
void rp_environ_prepare(char **argv);
/* Local. Whether mpirun, srun or their kin started this process as a rank. */
bool rp_environ_has_launcher(void);
/* Local. OPENBLAS_CORETYPE as it is now, for the log; NULL when not set. */
const char *rp_environ_core_type(void);
/* Local. When the batch system ends the job, seconds since 1970 (SLURM_JOB_END_TIME); 0: not known.
 */
double rp_environ_job_end_epoch(void);
/* Local. The batch system's number of this job (SLURM_JOB_ID), NULL: none; and how often it was
 * started again (SLURM_RESTART_COUNT). */
const char *rp_environ_job_id(int64_t *restarts);
/* Local, for tests. Arms the fault point that RP_FAULT names (base/fault.h), on the launcher's rank
 * RP_FAULT_RANK alone where that is set; counts fault points where RP_FAULT_TRACE names a file.
 * RP_ERR_USAGE when it is malformed. */
RP_CHECKED rp_status rp_environ_arm_faults(void);
/* Local. Writes the counts to $RP_FAULT_TRACE.<rank>. */
RP_CHECKED rp_status rp_environ_write_trace(void);

#ifdef __cplusplus
}
#endif
#endif

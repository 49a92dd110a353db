/* The batch script of a job: slurm/job.sbatch.in, which the program holds, with the job's values.
 */
#ifndef RP_JOBS_SLURM_SCRIPT_H
#define RP_JOBS_SLURM_SCRIPT_H

#include "jobs/job.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Below output.dir: the script, and what it and rankpress status tell each other. */
#define RP_SLURM_SCRIPT "job.sbatch"
#define RP_SLURM_DIR "slurm"

/* Local. The script of a job whose output.dir is absolute; caller frees. */
RP_CHECKED rp_status rp_slurm_script(char **out, const rp_job *job);
/* Local. Text as one word of the shell: as it is, or in single quotes; caller frees. */
RP_CHECKED rp_status rp_shell_quote(char **out, const char *text);

#ifdef __cplusplus
}
#endif
#endif

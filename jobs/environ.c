/* Debian's OpenBLAS takes an AVX-512 EPYC for a Haswell, at half the rate; hence the core type. One
 * thread in each BLAS call, because tiles of fixed shape are what threads take. */
#include "jobs/environ.h"

#include "base/fault.h"
#include "base/mem.h"
#include "kernels/cpu/cpu_features.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Set in the second execution, so that there is never a third. */
#define PREPARED_MARK "RANKPRESS_PREPARED"

/* Sets a variable that has no value yet; true when that changed something. */
static bool set_default(const char *name, const char *value)
{
    return value != NULL && getenv(name) == NULL && setenv(name, value, 0) == 0;
}

/* Sites set OPENBLAS_CORETYPE for other programs; here the fastest kernels count, unless
 * RANKPRESS_CORETYPE names others (nodes of several kinds in one job, say). */
static bool set_core_type(void)
{
    const char *forced = getenv("RANKPRESS_CORETYPE");
    const char *want = forced != NULL ? forced : rp_cpu_openblas_coretype();
    const char *is = getenv("OPENBLAS_CORETYPE");

    if (want == NULL || (is != NULL && strcmp(want, is) == 0)) {
        return false;
    }
    return setenv("OPENBLAS_CORETYPE", want, 1) == 0;
}

/* By its own path, which tools then show as the process's name. */
static void execute_again(char **argv)
{
    char path[4096];
    const ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    if (n > 0) {
        path[n] = '\0';
        (void)execv(path, argv);
    }
}

void rp_environ_prepare(char **argv)
{
    bool is_changed = false;

    if (getenv(PREPARED_MARK) != NULL) {
        return;
    }
    is_changed |= set_core_type();
    is_changed |= set_default("OPENBLAS_NUM_THREADS", "1");
    is_changed |= set_default("OMP_NUM_THREADS", "1");
    if (is_changed && setenv(PREPARED_MARK, "1", 1) == 0) {
        execute_again(argv);
    }
}

/* Open MPI; PMIx; PMI 1 and 2 (MPICH, Slurm). */
static const char *const rank_variables[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
                                             "PMI_FD"};

bool rp_environ_has_launcher(void)
{
    for (size_t i = 0; i < RP_COUNT(rank_variables); i++) {
        if (getenv(rank_variables[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* Before MPI knows it; 0 without a launcher. */
static long launch_rank(void)
{
    for (size_t i = 0; i < RP_COUNT(rank_variables); i++) {
        const char *text = getenv(rank_variables[i]);
        if (text != NULL) {
            return strtol(text, NULL, 10);
        }
    }
    return 0;
}

const char *rp_environ_core_type(void)
{
    return getenv("OPENBLAS_CORETYPE");
}

double rp_environ_job_end_epoch(void)
{
    const char *text = getenv("SLURM_JOB_END_TIME");
    const double seconds = text != NULL ? strtod(text, NULL) : 0;

    return seconds > 0 ? seconds : 0;
}

const char *rp_environ_job_id(int64_t *restarts)
{
    const char *count = getenv("SLURM_RESTART_COUNT");
    const char *id = getenv("SLURM_JOB_ID");

    *restarts = count != NULL ? strtoll(count, NULL, 10) : 0;
    return id != NULL && *id != '\0' && strpbrk(id, " \t\n") == NULL ? id : NULL;
}

rp_status rp_environ_arm_faults(void)
{
    const char *text = getenv("RP_FAULT");
    const char *rank = getenv("RP_FAULT_RANK");

    if (getenv("RP_FAULT_TRACE") != NULL) {
        rp_fault_trace();
    }
    if (text == NULL || (rank != NULL && strtol(rank, NULL, 10) != launch_rank())) {
        return RP_OK;
    }
    return rp_fault_arm_text(text);
}

rp_status rp_environ_write_trace(void)
{
    const char *name = getenv("RP_FAULT_TRACE");
    char path[4096];

    if (name == NULL) {
        return RP_OK;
    }
    (void)snprintf(path, sizeof(path), "%s.%ld", name, launch_rank());
    return rp_fault_write_trace(path);
}

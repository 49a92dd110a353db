/* Units with content that their names and a version decide, put by any number of ranks and compared
 * after reading. */
#ifndef RP_TESTS_JOBS_CHECKPOINT_UNITS_H
#define RP_TESTS_JOBS_CHECKPOINT_UNITS_H

#include "jobs/checkpoint.h"

/* Of checkpoints opened from now on. */
extern size_t units_queue_bytes;
/* Opens with the job text of `job`; warnings are counted in *n_warnings (may be NULL). */
rp_status units_open(rp_checkpoint **out, rp_comm *comm, const char *dir, const char *job,
                     int *n_warnings);
/* Puts all units of this rank; no begin, no commit. */
rp_status units_put(rp_checkpoint *checkpoint, rp_comm *comm, int version);
/* begin, put, commit. */
rp_status units_commit(rp_checkpoint *checkpoint, rp_comm *comm, int version);
/* Reads every unit that is there, whole and in parts, and compares it with a version 1 .. 9 (the
 * same one for all, returned; 0 when none is there). *n_units (may be NULL): how many are there. */
int units_check(rp_checkpoint *checkpoint, int *n_units);

enum { UNITS_COUNT = 7 };

#endif

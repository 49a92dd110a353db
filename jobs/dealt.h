/* Units of work that ranks take in turn: unit i is rank i mod R's. */
#ifndef RP_JOBS_DEALT_H
#define RP_JOBS_DEALT_H

#include "mpi/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Collective. all [n], item_bytes each: every rank's own results to every rank. */
RP_CHECKED rp_status rp_dealt_gather(rp_comm *comm, void *all, int64_t n, size_t item_bytes);

#ifdef __cplusplus
}
#endif
#endif

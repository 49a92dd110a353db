/* The pass of the uncompressed model that a size target's choice of types rests on. */
#ifndef RP_JOBS_TYPE_MEASURE_H
#define RP_JOBS_TYPE_MEASURE_H

#include "jobs/type_losses.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Collective. Fills losses and probes of all matrices from the calibration blocks that are not kept
 * aside. RP_ERR_STOPPED between layers when asked to stop. */
RP_CHECKED rp_status rp_type_measure(rp_type_losses *losses, rp_session *session);
/* Local. Largest memory of the pass on any rank, and its FLOP over all ranks; for the plan. */
size_t rp_type_measure_bytes(const rp_session *session, int nranks, int nthreads);
double rp_type_measure_flop(const rp_session *session);
/* Local. The same of the comparison on text kept aside. */
size_t rp_type_compare_bytes(const rp_session *session, int nranks, int nthreads);

#ifdef __cplusplus
}
#endif
#endif

/* The algorithms of a job's products on GPUs, in its checkpoint: a job that goes on computes by
 * those it began with, whatever the library would choose then. */
#ifndef RP_JOBS_ALGORITHMS_H
#define RP_JOBS_ALGORITHMS_H

#include "jobs/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Collective, with the checkpoint open, before the first product. Every rank is held to the
 * checkpoint's algorithms, if it has any of this arithmetic class. */
RP_CHECKED rp_status rp_algorithms_take(rp_session *session);
/* Collective, in a generation of the checkpoint. Puts those of all ranks when there are others than
 * it has. The ranks' libraries choose alike, since their arithmetic classes were compared:
 * RP_ERR_INTERNAL when two of them compute one shape in different ways. */
RP_CHECKED rp_status rp_algorithms_put(rp_session *session);

#ifdef __cplusplus
}
#endif
#endif

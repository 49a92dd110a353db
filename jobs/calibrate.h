/* The calibration pass: layer by layer, site by site, every linear forwarded once, compressed
 * (DESIGN section 3). */
#ifndef RP_JOBS_CALIBRATE_H
#define RP_JOBS_CALIBRATE_H

#include "jobs/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Collective. Solves every linear that the recipe names, from where the session's checkpoint
 * stands; commits every `checkpoint.every_layers` layers and when asked to stop (RP_ERR_STOPPED
 * then). On RP_OK all forms and the facts of all layers (units "layer/N/facts", JSON text) are in
 * the checkpoint. */
RP_CHECKED rp_status rp_calibrate(rp_session *session);
/* Local. Largest memory of the pass on any rank, bytes, and its parts; for the plan. */
typedef struct rp_calibrate_memory {
    size_t activations, layer, executor, solver;
} rp_calibrate_memory;
rp_calibrate_memory rp_calibrate_memory_of(const rp_session *session, int nranks, int nthreads);
/* Local. Layers whose forms are all in the checkpoint, counted from the first. */
int64_t rp_calibrate_layers_done(const rp_session *session);

#ifdef __cplusplus
}
#endif
#endif

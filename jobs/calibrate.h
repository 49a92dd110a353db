/* The calibration pass: layer by layer, site by site, every linear forwarded once, compressed
 * (DESIGN section 3). */
#ifndef RP_JOBS_CALIBRATE_H
#define RP_JOBS_CALIBRATE_H

#include "jobs/session.h"
#include "kernels/place.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Collective. Solves every linear that the recipe names, from where the session's checkpoint
 * stands; saves every `checkpoint.every_layers` layers, in the background. Asked to stop it commits
 * what is finished, in the middle of a layer too: solved sites, and of the site in hand the parts
 * that are worth it (jobs/site_part.h) and maybe the streams (RP_ERR_STOPPED then). On RP_OK all
 * forms and the facts of all sites (rp_calibrate_facts_unit, JSON text) are in the checkpoint. */
RP_CHECKED rp_status rp_calibrate(rp_session *session);
/* Local. Largest memory of the pass on any rank, bytes, and its parts; for the plan. */
typedef struct rp_calibrate_memory {
    rp_place_bytes activations, layer, executor, solver, checkpoint;
} rp_calibrate_memory;
rp_calibrate_memory rp_calibrate_memory_of(const rp_session *session, int nranks, int nthreads,
                                           bool streams_activations);
/* Local. What the checkpoint may hold of pieces that are not written yet: those of a site. */
size_t rp_calibrate_queue_bytes(const rp_session *session, int nranks);
/* Local. Adds what a layer does on each rank between the commits, undisturbed, where no factor
 * falls back and streams that may drift do. of [nranks]: every rank's. */
RP_CHECKED rp_status rp_calibrate_traffic(rp_traffic *of, const rp_session *session, int64_t layer);
/* Local. The unit that ends a site's work: "layer/3/site/0/facts", one object a linear and form. */
void rp_calibrate_facts_unit(char *out, size_t out_bytes, int64_t layer, int site);

#ifdef __cplusplus
}
#endif
#endif

/* One pass of the calibration text through the model, layer by layer and site by site: what the
 * stages that look at activations share. */
#ifndef RP_JOBS_PASS_H
#define RP_JOBS_PASS_H

#include "base/progress.h"
#include "jobs/activations.h"
#include "jobs/site_input.h"
#include "model/executor.h"
#include "sharding/layer_loader.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_pass {
    rp_session *s;
    rp_activations act;
    rp_executor *executor;
    rp_layer_loader *loader;
    rp_progress *progress;
    int32_t *ids; /* of all blocks */
} rp_pass;

/* Collective. Ids and memory for n_streams; the streams are not set. Caller destroys in any case.
 */
RP_CHECKED rp_status rp_pass_create(rp_pass *out, rp_session *session, int n_streams,
                                    const char *what);
void rp_pass_destroy(rp_pass *pass);
/* Collective. The layer's weights on all ranks, to be changed as the caller likes; reading of the
 * next layer begins. */
RP_CHECKED rp_status rp_pass_load(rp_pass *pass, int64_t layer, float *slots[RP_SLOT_COUNT]);
/* Whom a step shows the next site's input, block by block, while operations have it at hand. */
typedef struct rp_pass_watch {
    rp_status (*see)(void *ctx, int64_t block, rp_cmat input);
    void *ctx;
} rp_pass_watch;

/* Local. One step of one stream; RP_BEFORE_LAYER: what comes before the first site. watch NULL:
 * nobody; else the step is not a layer's last. RP_ERR_STOPPED between two blocks: the stream is of
 * no use then. */
RP_CHECKED rp_status rp_pass_step(rp_pass *pass, int stream, int64_t layer, int site,
                                  float *const slots[RP_SLOT_COUNT], const rp_pass_watch *watch);
/* Local. What the next site sees. */
rp_site_input rp_pass_input(const rp_pass *pass);
/* Local. Sites done so far, for whoever watches. */
void rp_pass_advance(rp_pass *pass, int64_t layer, int site);

#ifdef __cplusplus
}
#endif
#endif

/* What each rank calls, sends and receives in each layer of calibrating and solving, for any number
 * of ranks. A run logs the same of itself, layer by layer. */
#ifndef RP_JOBS_TRAFFIC_PLAN_H
#define RP_JOBS_TRAFFIC_PLAN_H

#include <jansson.h>

#include "jobs/session.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_traffic_plan {
    int nranks;
    int64_t n_layers; /* 0: the job needs no calibration */
    rp_traffic *of;   /* [n_layers, nranks] */
} rp_traffic_plan;

/* Local. For the session's job. */
RP_CHECKED rp_status rp_traffic_plan_create(rp_traffic_plan *out, const rp_session *session,
                                            int nranks);
void rp_traffic_plan_destroy(rp_traffic_plan *plan);
/* Local. The largest figures of any rank: in the layer where they are largest; in all layers. */
rp_traffic rp_traffic_plan_layer(const rp_traffic_plan *plan);
rp_traffic rp_traffic_plan_total(const rp_traffic_plan *plan);
/* Local. {"calls", "sent_bytes", "received_bytes": the largest of any rank in all layers, "layers":
 * [{"calls", "sent_bytes": [rank by rank], "received_bytes": [rank by rank]}]}. New reference; NULL
 * without memory. */
json_t *rp_traffic_plan_json(const rp_traffic_plan *plan);

#ifdef __cplusplus
}
#endif
#endif

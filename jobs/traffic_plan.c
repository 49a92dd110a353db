/* Layers times ranks. */
#include "jobs/traffic_plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "jobs/calibrate.h"

rp_status rp_traffic_plan_create(rp_traffic_plan *out, const rp_session *session, int nranks)
{
    rp_status st = RP_OK;
    rp_traffic_plan plan = {
        nranks, session->linears.needs_calibration ? session->config->n_layers : 0, NULL};

    memset(out, 0, sizeof(*out));
    RP_TRY(rp_alloc_array(&plan.of, (size_t)(plan.n_layers * nranks), sizeof(*plan.of)));
    for (int64_t layer = 0; layer < plan.n_layers; layer++) {
        rp_traffic *of = plan.of + layer * nranks;
        for (int r = 0; r < nranks; r++) {
            of[r] = rp_traffic_of(nranks, r);
        }
        RP_TRY(rp_calibrate_traffic(of, session, layer));
    }
    *out = plan;
    plan.of = NULL;
out:
    rp_traffic_plan_destroy(&plan);
    return st;
}

void rp_traffic_plan_destroy(rp_traffic_plan *plan)
{
    free(plan->of);
    memset(plan, 0, sizeof(*plan));
}

/* Figure by figure. */
static void raise(rp_traffic *most, const rp_traffic *t)
{
    most->calls = RP_MAX(most->calls, t->calls);
    most->sent_bytes = RP_MAX(most->sent_bytes, t->sent_bytes);
    most->received_bytes = RP_MAX(most->received_bytes, t->received_bytes);
}

rp_traffic rp_traffic_plan_layer(const rp_traffic_plan *plan)
{
    rp_traffic most = rp_traffic_of(plan->nranks, 0);

    for (int64_t i = 0; i < plan->n_layers * plan->nranks; i++) {
        raise(&most, &plan->of[i]);
    }
    return most;
}

rp_traffic rp_traffic_plan_total(const rp_traffic_plan *plan)
{
    rp_traffic most = rp_traffic_of(plan->nranks, 0);

    for (int r = 0; r < plan->nranks; r++) {
        rp_traffic sum = rp_traffic_of(plan->nranks, r);
        for (int64_t layer = 0; layer < plan->n_layers; layer++) {
            rp_traffic_add(&sum, plan->of[layer * plan->nranks + r]);
        }
        raise(&most, &sum);
    }
    return most;
}

static json_t *layer_json(const rp_traffic *of, int nranks)
{
    json_t *sent = json_array();
    json_t *received = json_array();

    for (int r = 0; r < nranks; r++) {
        (void)json_array_append_new(sent, json_integer(of[r].sent_bytes));
        (void)json_array_append_new(received, json_integer(of[r].received_bytes));
    }
    return json_pack("{s:I, s:o, s:o}", "calls", (json_int_t)of[0].calls, "sent_bytes", sent,
                     "received_bytes", received);
}

json_t *rp_traffic_plan_json(const rp_traffic_plan *plan)
{
    const rp_traffic most = rp_traffic_plan_total(plan);
    json_t *layers = json_array();

    for (int64_t layer = 0; layer < plan->n_layers; layer++) {
        (void)json_array_append_new(layers,
                                    layer_json(plan->of + layer * plan->nranks, plan->nranks));
    }
    return json_pack("{s:I, s:I, s:I, s:o}", "calls", (json_int_t)most.calls, "sent_bytes",
                     (json_int_t)most.sent_bytes, "received_bytes", (json_int_t)most.received_bytes,
                     "layers", layers);
}

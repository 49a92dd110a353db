/* The layer loop. A solved layer is only forwarded; an unsolved one is solved site by site on the
 * way. */
#include "jobs/calibrate.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "jobs/calibration_text.h"
#include "jobs/importance.h"
#include "jobs/pass.h"
#include "jobs/site_solve.h"

typedef struct pass {
    rp_pass run;
    rp_session *s; /* run.s */
    rp_site_solver *solver;
    int64_t first_layer; /* where h stands at the start */
    int64_t done_layers; /* layers whose forms are in the checkpoint */
} pass;

static void facts_unit(char *out, size_t out_bytes, int64_t layer)
{
    (void)snprintf(out, out_bytes, "layer/%lld/facts", (long long)layer);
}

int64_t rp_calibrate_layers_done(const rp_session *session)
{
    char unit[160];

    for (int64_t layer = 0; layer < session->config->n_layers; layer++) {
        facts_unit(unit, sizeof(unit), layer);
        if (!rp_checkpoint_has(session->checkpoint, unit) || !rp_importance_has(session, layer)) {
            return layer;
        }
        for (int s = 0; s < RP_SLOT_LINEARS; s++) {
            const rp_linear *linear = rp_linears_at(&session->linears, layer, (rp_slot)s);
            for (int f = 0; f < linear->n_forms; f++) {
                rp_linear_unit(unit, sizeof(unit), linear, f);
                if (!rp_checkpoint_has(session->checkpoint, unit)) {
                    return layer;
                }
            }
        }
    }
    return session->config->n_layers;
}

static int n_streams(const rp_session *session)
{
    return session->linears.corrects_drift ? RP_STREAM_COUNT : 1;
}

rp_calibrate_memory rp_calibrate_memory_of(const rp_session *s, int nranks, int nthreads)
{
    const rp_blocks blocks = rp_calibration_blocks(s->job, s->config);
    const rp_calibrate_memory memory = {
        .activations = rp_activations_bytes(s->config, &blocks, n_streams(s), nranks) +
                       (size_t)(blocks.n_seqs * blocks.seq_len) * sizeof(int32_t),
        .layer = rp_layer_loader_bytes(s->weights, nranks),
        .executor = rp_executor_bytes(s->config, blocks.seq_len, blocks.seqs_per_block),
        .solver = rp_site_solver_bytes(s, nranks, nthreads),
    };

    return memory;
}

/* h at the border where work goes on: saved activations, or the embedding (solved layers are then
 * forwarded again). */
static rp_status set_start(pass *p)
{
    rp_status st = RP_OK;
    rp_session *s = p->s;

    p->done_layers = rp_calibrate_layers_done(s);
    p->first_layer = rp_activations_find_saved(&p->run.act, s, p->done_layers);
    if (p->first_layer > 0) {
        RP_TRY(rp_agree(s->comm, rp_activations_load(&p->run.act, s, p->first_layer)));
        return RP_OK;
    }
    p->first_layer = 0;
    RP_TRY(rp_agree(s->comm, rp_activations_embed(&p->run.act, s->weights, p->run.ids)));
out:
    return st;
}

static rp_status create(pass *p, rp_session *session)
{
    rp_status st = RP_OK;

    p->s = session;
    RP_TRY(rp_pass_create(&p->run, session, n_streams(session), "calibrate and solve"));
    RP_TRY(rp_agree(session->comm, rp_site_solver_create(&p->solver, session)));
    RP_TRY(set_start(p));
out:
    return st;
}

static void destroy(pass *p)
{
    rp_site_solver_destroy(&p->solver);
    rp_pass_destroy(&p->run);
}

/* The slots of a solved layer hold what form 0 decodes to. */
static rp_status restore_layer(pass *p, int64_t layer, float *slots[RP_SLOT_COUNT])
{
    rp_status st = RP_OK;
    char unit[160];

    for (int s = 0; s < RP_SLOT_LINEARS; s++) {
        const rp_linear *linear = rp_linears_at(&p->s->linears, layer, (rp_slot)s);
        rp_form form = {0};
        if (linear->n_forms == 0) {
            continue;
        }
        rp_linear_unit(unit, sizeof(unit), linear, 0);
        RP_TRY(rp_checkpoint_get_form(p->s->checkpoint, unit, 0, linear->rows, &form));
        rp_form_decode_rows(&form, 0, linear->rows, slots[s]);
        rp_form_destroy(&form);
    }
out:
    return st;
}

/* The last layer's stream goes nowhere: its statistics were all that counted. */
static bool is_last(const pass *p, int64_t layer, int site)
{
    return layer + 1 == p->s->config->n_layers && site + 1 == RP_SITE_COUNT;
}

/* The uncompressed stream passes a layer first, then the other through what form 0 decodes to. */
static rp_status forward_solved_layer(pass *p, int64_t layer, float *slots[RP_SLOT_COUNT])
{
    rp_status st = RP_OK;

    for (int k = RP_STREAM_FULL; k < p->run.act.n_streams; k++) {
        rp_pass_layer(&p->run, k, layer, slots);
    }
    RP_TRY(rp_agree(p->s->comm, restore_layer(p, layer, slots)));
    rp_pass_layer(&p->run, RP_STREAM_COMPRESSED, layer, slots);
    rp_pass_advance(&p->run, layer, RP_SITE_COUNT - 1);
out:
    return st;
}

/* Each site is solved before the streams step over it: the uncompressed one with the weights as
 * they were, the other with what they have become. */
static rp_status solve_layer(pass *p, int64_t layer, float *slots[RP_SLOT_COUNT], json_t *facts)
{
    rp_status st = RP_OK;
    rp_session *s = p->s;
    const int n = p->run.act.n_streams;
    const rp_site_input input = rp_pass_input(&p->run);

    for (int k = 0; k < n; k++) {
        rp_pass_step(&p->run, k, layer, -1, slots);
    }
    for (int site = 0; site < RP_SITE_COUNT; site++) {
        const bool is_active = rp_site_is_active(s, layer, (rp_site)site);
        RP_TRY(rp_importance_collect(s->importance, s, layer, (rp_site)site, &input));
        if (is_active) {
            RP_TRY(rp_site_solve(p->solver, layer, (rp_site)site, &input, slots, facts));
        }
        for (int k = RP_STREAM_FULL; k < n && !is_last(p, layer, site); k++) {
            rp_pass_step(&p->run, k, layer, site, slots);
        }
        if (is_active) {
            rp_site_replace(p->solver);
        }
        if (!is_last(p, layer, site)) {
            rp_pass_step(&p->run, RP_STREAM_COMPRESSED, layer, site, slots);
        }
        rp_pass_advance(&p->run, layer, site);
    }
out:
    return st;
}

static rp_status run_layer(pass *p, int64_t layer, json_t *facts)
{
    rp_status st = RP_OK;
    float *slots[RP_SLOT_COUNT];

    RP_TRY(rp_pass_load(&p->run, layer, slots));
    if (layer < p->done_layers) {
        RP_TRY(forward_solved_layer(p, layer, slots));
    } else {
        RP_TRY(solve_layer(p, layer, slots, facts));
    }
out:
    return st;
}

/* Collective. Facts and maybe activations into the open generation, then the commit and a new
 * generation. */
static rp_status commit(pass *p, int64_t border, rp_status local)
{
    rp_status st = RP_OK;
    rp_session *s = p->s;
    double start = rp_clock_seconds();

    RP_TRY(rp_agree(s->comm, local));
    if (border < s->config->n_layers) {
        local = rp_activations_save_if_cheap(&p->run.act, s, border);
    }
    RP_TRY(rp_checkpoint_commit(s->checkpoint, local));
    RP_TRY(rp_agree(s->comm, rp_checkpoint_begin(s->checkpoint)));
    rp_session_lap(s, RP_PHASE_CHECKPOINT, &start);
    RP_LOG(RP_LOG_INFO, "committed", rp_log_i64("layers", border));
out:
    return st;
}

static rp_status put_facts(pass *p, int64_t layer, const json_t *facts)
{
    rp_status st = RP_OK;
    char unit[64];
    char *text = NULL;

    if (rp_comm_rank(p->s->comm) != 0) {
        return RP_OK;
    }
    facts_unit(unit, sizeof(unit), layer);
    text = json_dumps(facts, JSON_COMPACT);
    if (text == NULL) {
        return RP_FAIL(RP_ERR_MEMORY, "no memory for the facts of layer %lld", (long long)layer);
    }
    st = rp_checkpoint_put_text(p->s->checkpoint, unit, text);
    free(text);
    return st;
}

/* What a solved layer leaves beside its forms. */
static rp_status put_layer(pass *p, int64_t layer, const json_t *facts)
{
    rp_status st = RP_OK;

    RP_TRY(put_facts(p, layer, facts));
    RP_TRY(rp_importance_put(p->s->importance, p->s, layer));
out:
    return st;
}

static rp_status run_layers(pass *p)
{
    rp_status st = RP_OK;
    rp_session *s = p->s;
    const int64_t n_layers = s->config->n_layers;
    const int64_t every = s->job->cluster.checkpoint.every_layers;
    json_t *facts = NULL;

    RP_TRY(rp_agree(s->comm, rp_checkpoint_begin(s->checkpoint)));
    for (int64_t layer = p->first_layer; layer < n_layers; layer++) {
        const double start = rp_clock_seconds();
        const bool is_new = layer >= p->done_layers;
        rp_status local = RP_OK;
        bool is_stopping = false;
        facts = json_array();
        RP_TRY(run_layer(p, layer, facts));
        if (is_new) {
            local = put_layer(p, layer, facts);
        }
        json_decref(facts);
        facts = NULL;
        is_stopping = rp_stop_agree(s->comm, s->walltime, rp_clock_seconds() - start);
        if (is_new && ((layer + 1) % every == 0 || layer + 1 == n_layers || is_stopping)) {
            RP_TRY(commit(p, layer + 1, local));
        }
        RP_TRY(rp_agree(s->comm, local));
        RP_LOG(RP_LOG_INFO, "layer", rp_log_i64("layer", layer),
               rp_log_f64("seconds", rp_clock_seconds() - start), rp_log_i64("solved", is_new));
        if (is_stopping && layer + 1 < n_layers) {
            st = RP_FAIL(RP_ERR_STOPPED,
                         "stopped by %s after layer %lld of %lld; go on with: rankpress resume %s",
                         rp_stop_reason(s->walltime, rp_clock_seconds() - start),
                         (long long)layer + 1, (long long)n_layers, s->job->output.dir);
            goto out;
        }
    }
out:
    json_decref(facts);
    return st;
}

rp_status rp_calibrate(rp_session *session)
{
    rp_status st = RP_OK;
    pass p = {0};

    if (rp_calibrate_layers_done(session) == session->config->n_layers) {
        return RP_OK;
    }
    RP_TRY(create(&p, session));
    RP_TRY(run_layers(&p));
out:
    destroy(&p);
    return st;
}

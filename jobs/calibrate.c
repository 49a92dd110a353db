/* The layer loop. A site that is done is only stepped over; another is solved first. A stop comes
 * as RP_ERR_STOPPED from whatever was going on, after all ranks agreed. */
#include "jobs/calibrate.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "formats/json.h"
#include "jobs/algorithms.h"
#include "jobs/calibration_text.h"
#include "jobs/importance.h"
#include "jobs/pass.h"
#include "jobs/site_linears.h"
#include "jobs/site_part.h"
#include "jobs/site_solve.h"

/* A save of the streams at a border may take this share of the time since the last one: the rest of
 * a twentieth is for what is solved. */
#define SAVE_SHARE 0.03
#define QUEUE_MIN_BYTES ((size_t)1 << 20)
#define QUEUE_MAX_BYTES ((size_t)64 << 20)

typedef struct pass {
    rp_pass run;
    rp_session *s; /* run.s */
    rp_site_solver *solver;
    rp_cursor at;            /* where the streams stood at the start */
    rp_cursor now;           /* the site in hand */
    bool streams_stand;      /* all of this rank's blocks are at `now` */
    double saved_at;         /* clock of the last save of the streams, or of the start */
    double seconds_at_saved; /* of reading and forwarding, then */
} pass;

void rp_calibrate_facts_unit(char *out, size_t out_bytes, int64_t layer, int site)
{
    (void)snprintf(out, out_bytes, "layer/%lld/site/%d/facts", (long long)layer, site);
}

static bool is_site_done(const rp_session *s, int64_t layer, int site)
{
    char unit[160];

    rp_calibrate_facts_unit(unit, sizeof(unit), layer, site);
    if (!rp_checkpoint_has(s->checkpoint, unit) || !rp_importance_has(s, layer, (rp_site)site)) {
        return false;
    }
    for (int k = 0; k < RP_SLOT_LINEARS; k++) {
        const rp_linear *linear = rp_linears_at(&s->linears, layer, (rp_slot)k);
        for (int f = 0; f < linear->n_forms && rp_slot_info_of((rp_slot)k)->site == (rp_site)site;
             f++) {
            rp_linear_unit(unit, sizeof(unit), linear, f);
            if (!rp_checkpoint_has(s->checkpoint, unit)) {
                return false;
            }
        }
    }
    return true;
}

/* The first site that is not done; layer n_layers when all are. */
static rp_cursor first_undone(const rp_session *s)
{
    const int64_t n = s->config->n_layers * RP_SITE_COUNT;
    int64_t i = 0;

    while (i < n && is_site_done(s, i / RP_SITE_COUNT, (int)(i % RP_SITE_COUNT))) {
        i++;
    }
    return (rp_cursor){i / RP_SITE_COUNT, (int)(i % RP_SITE_COUNT)};
}

static int n_streams(const rp_session *session)
{
    return session->linears.corrects_drift ? RP_STREAM_COUNT : 1;
}

size_t rp_calibrate_queue_bytes(const rp_session *s, int nranks)
{
    size_t most = 0;

    for (int site = 0; site < RP_SITE_COUNT; site++) {
        const rp_linear *linears[RP_SITE_LINEARS];
        const int n = rp_site_linears(linears, &s->linears, 0, (rp_site)site);
        size_t nbytes = 0;
        for (int i = 0; i < n; i++) {
            nbytes += rp_linear_stored_bytes(linears[i]);
        }
        most = RP_MAX(most, RP_DIV_UP(nbytes, (size_t)nranks));
    }
    return RP_MIN(RP_MAX(most, QUEUE_MIN_BYTES), QUEUE_MAX_BYTES);
}

rp_calibrate_memory rp_calibrate_memory_of(const rp_session *s, int nranks, int nthreads,
                                           bool streams_activations)
{
    const rp_blocks blocks = rp_calibration_blocks(s->job, s->config);
    const rp_activations_opts opts = {
        .n_streams = n_streams(s), .nranks = nranks, .is_streamed = streams_activations};
    rp_calibrate_memory memory = {
        .activations = rp_activations_bytes(s->config, &blocks, &opts),
        .layer = rp_layer_loader_bytes(s->weights, nranks),
        .executor = {0, rp_executor_bytes(s->config, blocks.seq_len, blocks.seqs_per_block)},
        .solver = rp_site_solver_bytes(s, nranks, nthreads),
        .checkpoint = {rp_calibrate_queue_bytes(s, nranks), 0},
    };

    /* The ids, and rank 0's that it has read ahead. */
    memory.activations.host += (size_t)(2 * blocks.n_seqs * blocks.seq_len) * sizeof(int32_t);
    return memory;
}

/* The streams where work goes on: saved ones, or the embedding (solved sites are then forwarded
 * again). */
static rp_status set_start(pass *p)
{
    rp_session *s = p->s;

    p->saved_at = rp_clock_seconds();
    p->at = rp_activations_find_saved(&p->run.act, s, first_undone(s));
    if (p->at.layer > 0 || p->at.site != RP_BEFORE_LAYER) {
        return rp_agree(s->comm, rp_activations_load(&p->run.act, s, p->at));
    }
    return rp_agree(s->comm, rp_activations_embed(&p->run.act, s->weights, p->run.ids));
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

/* The slots of a solved site hold what form 0 decodes to. */
static rp_status restore_site(pass *p, int64_t layer, int site, float *slots[RP_SLOT_COUNT])
{
    rp_status st = RP_OK;
    char unit[160];

    for (int k = 0; k < RP_SLOT_LINEARS; k++) {
        const rp_linear *linear = rp_linears_at(&p->s->linears, layer, (rp_slot)k);
        rp_form form = {0};
        if (linear->n_forms == 0 || rp_slot_info_of((rp_slot)k)->site != (rp_site)site) {
            continue;
        }
        rp_linear_unit(unit, sizeof(unit), linear, 0);
        RP_TRY(rp_checkpoint_get_form(p->s->checkpoint, unit, 0, linear->rows, &form));
        p->s->ops->decode_rows(p->s->exec, &form, 0, linear->rows, slots[k]);
        rp_form_destroy(&form);
    }
out:
    return st;
}

static rp_status put_facts(pass *p, int64_t layer, int site, const json_t *facts)
{
    rp_status st = RP_OK;
    char unit[64];
    char *text = NULL;

    if (rp_comm_rank(p->s->comm) != 0) {
        return RP_OK;
    }
    rp_calibrate_facts_unit(unit, sizeof(unit), layer, site);
    RP_TRY(rp_json_dump(&text, facts, JSON_COMPACT));
    RP_TRY(rp_checkpoint_put_text(p->s->checkpoint, unit, text));
out:
    free(text);
    return st;
}

/* Collective. Solves a site and puts what it leaves; its weights are still the source's. */
static rp_status solve_site(pass *p, int64_t layer, int site, float *slots[RP_SLOT_COUNT])
{
    rp_status st = RP_OK;
    rp_session *s = p->s;
    const rp_site_input input = rp_pass_input(&p->run);
    json_t *facts = json_array();

    RP_TRY(rp_importance_collect(s->importance, s, layer, (rp_site)site, &input));
    if (rp_site_is_active(s, layer, (rp_site)site)) {
        RP_TRY(rp_site_solve(p->solver, layer, (rp_site)site, &input, slots, facts));
    }
    st = put_facts(p, layer, site, facts);
    if (st == RP_OK) {
        st = rp_importance_put(s->importance, s, layer, (rp_site)site);
    }
    st = rp_agree(s->comm, st);
out:
    json_decref(facts);
    return st;
}

/* The last layer's streams go nowhere: their statistics were all that counted. */
static bool is_last(const pass *p, int64_t layer, int site)
{
    return layer + 1 == p->s->config->n_layers && site + 1 == RP_SITE_COUNT;
}

static rp_status observe(void *ctx, int64_t block, rp_cmat input)
{
    const pass *p = ctx;

    return rp_site_observe(p->solver, block, input);
}

/* The next site's input is observed while it is made: streamed through a GPU it comes there once
 * less. */
static rp_status step_compressed(pass *p, int64_t layer, int site, float *slots[RP_SLOT_COUNT])
{
    const int next = site + 1; /* after RP_BEFORE_LAYER the first */
    const rp_pass_watch watch = {observe, p};
    const bool is_watched = next < RP_SITE_COUNT && !is_site_done(p->s, layer, next) &&
                            rp_site_begin(p->solver, layer, (rp_site)next);

    return rp_pass_step(&p->run, RP_STREAM_COMPRESSED, layer, site, slots,
                        is_watched ? &watch : NULL);
}

/* The uncompressed stream steps over a site with the weights as they were, the other with what they
 * have become. */
static rp_status step_over(pass *p, int64_t layer, int site, bool was_done,
                           float *slots[RP_SLOT_COUNT])
{
    rp_status st = RP_OK;
    const bool goes_on = !is_last(p, layer, site);

    for (int k = RP_STREAM_FULL; k < p->run.act.n_streams && goes_on; k++) {
        RP_TRY(rp_pass_step(&p->run, k, layer, site, slots, NULL));
    }
    if (was_done) {
        RP_TRY(restore_site(p, layer, site, slots));
    } else {
        rp_site_replace(p->solver);
    }
    if (goes_on) {
        RP_TRY(step_compressed(p, layer, site, slots));
    }
out:
    return st;
}

static rp_status run_site(pass *p, int64_t layer, int site, float *slots[RP_SLOT_COUNT])
{
    rp_status st = RP_OK;
    const bool was_done = is_site_done(p->s, layer, site);

    p->now = (rp_cursor){layer, site};
    p->streams_stand = true;
    if (!was_done) {
        RP_TRY(solve_site(p, layer, site, slots));
    }
    p->streams_stand = false;
    RP_TRY(rp_agree(p->s->comm, step_over(p, layer, site, was_done, slots)));
    rp_pass_advance(&p->run, layer, site);
out:
    return st;
}

/* Collective. Streams that stand before the layer get the input of its first site. */
static rp_status enter_layer(pass *p, int64_t layer, float *slots[RP_SLOT_COUNT])
{
    rp_status local = RP_OK;

    p->now = (rp_cursor){layer, RP_BEFORE_LAYER};
    p->streams_stand = false;
    local = step_compressed(p, layer, RP_BEFORE_LAYER, slots);
    for (int k = RP_STREAM_FULL; k < p->run.act.n_streams && local == RP_OK; k++) {
        local = rp_pass_step(&p->run, k, layer, RP_BEFORE_LAYER, slots, NULL);
    }
    return rp_agree(p->s->comm, local);
}

static void step_traffic(rp_traffic *t, const rp_session *s, int64_t layer, rp_site site)
{
    rp_importance_collect_traffic(t, s, layer, site);
    rp_traffic_agree(t); /* on what the site left, */
    rp_traffic_agree(t); /* on having stepped over it */
}

rp_status rp_calibrate_traffic(rp_traffic *of, const rp_session *session, int64_t layer)
{
    rp_status st = RP_OK;

    for (int r = 0; r < of[0].nranks; r++) {
        rp_layer_loader_traffic(&of[r], session->weights, layer);
        rp_traffic_agree(&of[r]); /* on having entered the layer */
        for (int site = 0; site < RP_SITE_COUNT; site++) {
            step_traffic(&of[r], session, layer, (rp_site)site);
        }
    }
    for (int site = 0; site < RP_SITE_COUNT; site++) {
        if (rp_site_is_active(session, layer, (rp_site)site)) {
            RP_TRY(rp_site_solve_traffic(of, session, layer, (rp_site)site));
        }
    }
out:
    return st;
}

static double forward_seconds(const pass *p)
{
    return p->s->seconds[RP_PHASE_READ] + p->s->seconds[RP_PHASE_FORWARD];
}

static rp_status save_streams(pass *p, rp_cursor at)
{
    p->saved_at = rp_clock_seconds();
    p->seconds_at_saved = forward_seconds(p);
    return rp_activations_save(&p->run.act, p->s, at);
}

/* Collective. At a layer's end: its files are finished while the next layer is worked on. */
static rp_status save_layers(pass *p, int64_t border)
{
    rp_status st = RP_OK;
    rp_session *s = p->s;
    const double bytes = rp_activations_save_bytes(&p->run.act, RP_BEFORE_LAYER);
    double start = rp_clock_seconds();
    double is_cheap =
        rp_checkpoint_write_seconds(s->checkpoint, bytes) <= SAVE_SHARE * (start - p->saved_at);

    RP_TRY(rp_checkpoint_settle(s->checkpoint, true));
    RP_TRY(rp_algorithms_put(s));
    st = rp_site_parts_drop(s, NULL);
    rp_comm_bcast(s->comm, &is_cheap, sizeof(is_cheap), 0); /* rank 0 judges by its own rate */
    if (st == RP_OK && is_cheap > 0 && border < s->config->n_layers) {
        st = save_streams(p, (rp_cursor){border, RP_BEFORE_LAYER});
    }
    RP_TRY(rp_checkpoint_seal(s->checkpoint, st));
    if (border == s->config->n_layers) {
        RP_TRY(rp_checkpoint_settle(s->checkpoint, true));
    }
    rp_session_lap(s, RP_PHASE_CHECKPOINT, &start);
    RP_LOG(RP_LOG_INFO, "saved", rp_log_i64("layers", border));
out:
    return st;
}

/* Collective. What was saved is committed as soon as it is written. Counts of the layer's traffic
 * are without commits: `before` moves on by this one's. */
static rp_status settle(pass *p, rp_traffic *before)
{
    rp_status st = RP_OK;
    double start = rp_clock_seconds();
    const rp_traffic at = rp_comm_counts_get(p->s->comm).traffic;

    st = rp_checkpoint_settle(p->s->checkpoint, false);
    rp_traffic_add(before, rp_traffic_since(at, rp_comm_counts_get(p->s->comm).traffic));
    rp_session_lap(p->s, RP_PHASE_CHECKPOINT, &start);
    return st;
}

/* Collective. *moved: what the layer sent and received, without the commit of what was saved before
 * it. */
static rp_status run_layer(pass *p, int64_t layer, rp_traffic *moved)
{
    rp_status st = RP_OK;
    float *slots[RP_SLOT_COUNT];
    rp_traffic before = rp_comm_counts_get(p->s->comm).traffic;
    const bool is_inside = layer == p->at.layer && p->at.site != RP_BEFORE_LAYER;

    rp_session_does(p->s, "in layer %lld of %lld", (long long)layer + 1,
                    (long long)p->s->config->n_layers);
    RP_TRY(rp_pass_load(&p->run, layer, slots));
    if (!is_inside) {
        RP_TRY(enter_layer(p, layer, slots));
    }
    for (int site = is_inside ? p->at.site : 0; site < RP_SITE_COUNT; site++) {
        RP_TRY(run_site(p, layer, site, slots));
        RP_TRY(settle(p, &before));
    }
    *moved = rp_traffic_since(before, rp_comm_counts_get(p->s->comm).traffic);
out:
    return st;
}

/* Collective, when all ranks stop. The streams are worth saving when forwarding to here again takes
 * longer. */
static rp_status save_stopped(pass *p)
{
    rp_status st = RP_OK;
    rp_session *s = p->s;
    const rp_site_part here = {s, p->now.layer, (rp_site)p->now.site};
    const double redo_seconds = forward_seconds(p) - p->seconds_at_saved;
    rp_status local = RP_OK;

    RP_TRY(rp_checkpoint_settle(s->checkpoint, true));
    if (p->streams_stand &&
        rp_site_part_pays(s, rp_activations_save_bytes(&p->run.act, p->now.site), redo_seconds)) {
        local = save_streams(p, p->now);
    }
    if (rp_comm_any(s->comm, local != RP_OK || rp_checkpoint_is_dirty(s->checkpoint))) {
        if (local == RP_OK) {
            local = rp_site_parts_drop(s, &here);
        }
        RP_TRY(rp_algorithms_put(s));
        RP_TRY(rp_checkpoint_commit(s->checkpoint, local));
        RP_LOG(RP_LOG_INFO, "committed", rp_log_i64("layers", p->now.layer),
               rp_log_i64("site", p->now.site), rp_log_i64("streams", p->streams_stand));
    }
out:
    return st;
}

/* Collective. What was saved before a failure is not lost by it; the failure stays the first one.
 */
static rp_status settle_failed(pass *p, rp_status st)
{
    const rp_status peer = rp_error_peer_status();
    rp_status settled = RP_OK;
    char message[RP_MESSAGE_BYTES];

    (void)snprintf(message, sizeof(message), "%s", rp_error_message());
    settled = rp_checkpoint_settle(p->s->checkpoint, true);
    (void)settled;
    rp_error_set_peer_status(peer);
    return RP_FAIL(st, "%s", message);
}

static rp_status run_layers(pass *p)
{
    rp_status st = RP_OK;
    rp_session *s = p->s;
    const int64_t n_layers = s->config->n_layers;
    const int64_t every = s->job->cluster.checkpoint.every_layers;

    RP_TRY(rp_agree(s->comm, rp_checkpoint_begin(s->checkpoint)));
    for (int64_t layer = p->at.layer; layer < n_layers; layer++) {
        const double start = rp_clock_seconds();
        const bool was_done = is_site_done(s, layer, RP_SITE_COUNT - 1);
        rp_traffic moved;
        RP_TRY(run_layer(p, layer, &moved));
        if (!was_done && ((layer + 1) % every == 0 || layer + 1 == n_layers)) {
            RP_TRY(save_layers(p, layer + 1));
        }
        RP_LOG(RP_LOG_INFO, "layer", rp_log_i64("layer", layer),
               rp_log_f64("seconds", rp_clock_seconds() - start), rp_log_i64("solved", !was_done),
               rp_log_i64("calls", moved.calls), rp_log_i64("sent_bytes", moved.sent_bytes),
               rp_log_i64("received_bytes", moved.received_bytes));
    }
out:
    if (st == RP_ERR_STOPPED) {
        double start = rp_clock_seconds();
        const rp_status saved = save_stopped(p);
        st = saved == RP_OK ? RP_ERR_STOPPED : saved; /* the stop's message is still there */
        rp_session_lap(s, RP_PHASE_CHECKPOINT, &start);
    } else if (st != RP_OK) {
        st = settle_failed(p, st);
    }
    return st;
}

rp_status rp_calibrate(rp_session *session)
{
    rp_status st = RP_OK;
    pass p = {0};

    if (first_undone(session).layer == session->config->n_layers) {
        return RP_OK;
    }
    RP_TRY(create(&p, session));
    RP_TRY(run_layers(&p));
out:
    destroy(&p);
    return st;
}

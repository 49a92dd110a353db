/* Streams step block by block; every block is this rank's own. */
#include "jobs/pass.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "jobs/calibration_text.h"
#include "kernels/place.h"

static rp_status create_local(rp_pass *p, const rp_blocks *blocks, int n_streams, const char *what)
{
    rp_status st = RP_OK;
    rp_session *s = p->s;
    const rp_activations_opts opts = {n_streams, rp_comm_nranks(s->comm), rp_comm_rank(s->comm),
                                      s->streams_activations};

    RP_TRY(rp_activations_create(&p->act, s->config, s->exec, blocks, &opts));
    RP_TRY(rp_executor_create(&p->executor, s->config, s->ops, s->exec, blocks->seq_len,
                              blocks->seqs_per_block));
    RP_TRY(rp_layer_loader_create(&p->loader, s->comm, s->weights, s->ops, s->exec));
    RP_TRY(rp_progress_create(&p->progress, rp_session_prints(s) ? stderr : NULL, what, "layers",
                              (double)s->config->n_layers));
out:
    return st;
}

rp_status rp_pass_create(rp_pass *out, rp_session *session, int n_streams, const char *what)
{
    rp_status st = RP_OK;
    const rp_blocks blocks = rp_calibration_blocks(session->job, session->config);

    *out = (rp_pass){.s = session};
    RP_TRY(rp_calibration_ids(session, &blocks, &out->ids));
    RP_TRY(rp_agree(session->comm, create_local(out, &blocks, n_streams, what)));
out:
    return st;
}

void rp_pass_destroy(rp_pass *pass)
{
    rp_progress_finish(&pass->progress);
    rp_layer_loader_destroy(&pass->loader);
    rp_executor_destroy(&pass->executor);
    rp_activations_destroy(&pass->act);
    free(pass->ids);
    pass->ids = NULL;
}

rp_status rp_pass_load(rp_pass *pass, int64_t layer, float *slots[RP_SLOT_COUNT])
{
    rp_status st = RP_OK;
    double start = rp_clock_seconds();

    RP_TRY(rp_layer_loader_get(pass->loader, layer, slots));
    if (layer + 1 < pass->s->config->n_layers) {
        rp_layer_loader_prefetch(pass->loader, layer + 1);
    }
    rp_session_lap(pass->s, RP_PHASE_READ, &start);
out:
    return st;
}

/* One block of a step. */
static rp_status step_block(rp_pass *pass, int stream, int64_t layer, int site,
                            const rp_layer_weights *w, int64_t b, const rp_pass_watch *watch)
{
    const rp_activations *a = &pass->act;
    const rp_model_config *config = pass->s->config;
    const bool is_entering = site == RP_BEFORE_LAYER;
    const rp_step_columns n = is_entering ? rp_executor_enter_columns(config)
                                          : rp_executor_step_columns(config, (rp_site)site);
    const rp_stream *of = &a->stream[stream];
    const int64_t local = b - a->mine.first;
    const int64_t n_seqs = rp_blocks_seqs(&a->blocks, b);
    const int64_t n_rows = n_seqs * a->blocks.seq_len;
    const int64_t ld = rp_window_cols(of->buf);
    float *h = rp_window_use(of->h, local, n.h_read, n.h_written);
    float *buf = rp_window_use(of->buf, local, n.buf_read, n.buf_written);

    if (is_entering) {
        rp_executor_enter(pass->executor, layer, w, n_seqs, h, buf, ld);
    } else {
        rp_executor_step(pass->executor, layer, (rp_site)site, w, n_seqs, h, buf, ld);
        pass->s->flop[RP_PHASE_FORWARD] +=
            rp_executor_step_flop(config, (rp_site)site, n_rows, a->blocks.seq_len);
    }
    return watch == NULL ? RP_OK
                         : watch->see(watch->ctx, b, rp_cmat_of(buf, n_rows, n.buf_written, ld));
}

rp_status rp_pass_step(rp_pass *pass, int stream, int64_t layer, int site,
                       float *const slots[RP_SLOT_COUNT], const rp_pass_watch *watch)
{
    rp_status st = RP_OK;
    rp_session *s = pass->s;
    const rp_range mine = pass->act.mine;
    rp_layer_weights w;
    double start = rp_clock_seconds();

    for (int i = 0; i < RP_SLOT_COUNT; i++) {
        w.slot[i] = slots[i];
    }
    for (int64_t b = mine.first; b < mine.first + mine.count; b++) {
        RP_TRY(rp_stop_poll(&s->stop));
        RP_TRY(step_block(pass, stream, layer, site, &w, b, watch));
    }
    RP_TRY(rp_place_check(s->exec));
out:
    rp_session_lap(s, RP_PHASE_FORWARD, &start);
    return st;
}

rp_site_input rp_pass_input(const rp_pass *pass)
{
    const rp_activations *a = &pass->act;
    const rp_stream *compressed = &a->stream[RP_STREAM_COMPRESSED];
    const rp_stream *full = &a->stream[RP_STREAM_FULL];
    const rp_site_input input = {a->blocks,     a->mine, compressed->buf, full->buf,
                                 compressed->h, full->h, a->hidden};

    return input;
}

void rp_pass_advance(rp_pass *pass, int64_t layer, int site)
{
    rp_progress_update(pass->progress, (double)layer + (site + 1) / (double)RP_SITE_COUNT);
}

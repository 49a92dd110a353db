/* Site by site: Gram matrix, losses, step. The probes follow layer by layer, the output matrix
 * comes last, behind the final norm. */
#include "jobs/type_measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "jobs/calibration_text.h"
#include "jobs/pass.h"
#include "jobs/site_gram.h"
#include "jobs/type_probes.h"
#include "model/eval.h"

#define MAX_SITE_LINEARS 3

typedef struct measure {
    rp_session *s;
    rp_pass run;
    rp_type_losses *losses;
    rp_type_probes probes;
    rp_gram gram;
    int64_t *reduce_scratch;
    float *mean; /* [widest, widest] the site's Gram matrix a token, on all ranks */
    int64_t n_sites;
} measure;

static int64_t widest(const rp_model_config *config)
{
    int64_t most = config->hidden_size;

    for (int site = 0; site < RP_SITE_COUNT; site++) {
        most = RP_MAX(most, rp_model_site_width(config, (rp_site)site));
    }
    return most;
}

size_t rp_type_measure_bytes(const rp_session *session, int nranks, int nthreads)
{
    const rp_blocks blocks = rp_calibration_blocks(session->job, session->config);
    const size_t width = (size_t)widest(session->config);
    const rp_place_bytes layer = rp_layer_loader_bytes(session->weights, nranks);

    const rp_activations_opts activations = {.n_streams = 1, .nranks = nranks};

    return rp_activations_bytes(session->config, &blocks, &activations).place +
           (size_t)(blocks.n_seqs * blocks.seq_len) * sizeof(int32_t) + layer.host + layer.place +
           rp_executor_bytes(session->config, blocks.seq_len, blocks.seqs_per_block) +
           width * width * (sizeof(int64_t) + sizeof(float)) +
           (nranks > 1 ? rp_gram_scratch_bytes((int64_t)width) : 0) +
           rp_type_losses_bytes(session, nthreads) +
           rp_type_probes_bytes(session, nranks, nthreads);
}

size_t rp_type_compare_bytes(const rp_session *session, int nranks, int nthreads)
{
    const rp_blocks blocks = rp_calibration_blocks(session->job, session->config);
    const int64_t n_kept = blocks.n_seqs - rp_blocks_fitted_seqs(&blocks);
    const rp_eval_opts opts = {.context = blocks.seq_len};
    const rp_place_bytes eval =
        rp_eval_bytes(session->config, true, &opts, false, nthreads, RP_DIV_UP(n_kept, nranks));

    return eval.host + eval.place + (size_t)(blocks.n_seqs * blocks.seq_len) * sizeof(int32_t) +
           rp_type_losses_bytes(session, nthreads);
}

double rp_type_measure_flop(const rp_session *session)
{
    const rp_blocks blocks = rp_calibration_blocks(session->job, session->config);
    const int64_t tokens = blocks.n_seqs * blocks.seq_len;
    const double hidden = (double)session->config->hidden_size;
    double flop = rp_type_probes_flop(session);
    const rp_gguf_block_type *names[RP_MAX_CHOICES];
    const double types = rp_type_candidates(names, session->config->hidden_size);

    for (int64_t layer = 0; layer < session->config->n_layers; layer++) {
        for (int site = 0; site < RP_SITE_COUNT; site++) {
            const double cols = (double)rp_model_site_width(session->config, (rp_site)site);
            flop += rp_executor_step_flop(session->config, (rp_site)site, tokens, blocks.seq_len) +
                    (double)tokens * cols * cols;
        }
    }
    for (int64_t i = 0; i < session->linears.n; i++) {
        const rp_linear *linear = &session->linears.items[i];
        flop += 2 * types * (double)linear->rows * (double)linear->cols * (double)linear->cols;
    }
    return flop +
           (2 * types * (double)session->config->vocab_size + (double)tokens) * hidden * hidden;
}

static rp_status create_local(measure *m)
{
    rp_status st = RP_OK;
    const size_t width = (size_t)widest(m->s->config);

    RP_TRY(rp_type_probes_create(&m->probes, m->s, m->losses, &m->run.act.blocks, m->run.ids));
    RP_TRY(rp_gram_create(&m->gram, m->s->ops, m->s->exec, (int64_t)width));
    RP_TRY(rp_alloc_array(&m->mean, width * width, sizeof(*m->mean)));
    if (rp_comm_nranks(m->s->comm) > 1) {
        RP_TRY(rp_alloc(&m->reduce_scratch, rp_gram_scratch_bytes((int64_t)width)));
    }
    RP_TRY(rp_activations_embed(&m->run.act, m->s->weights, m->run.ids));
out:
    return st;
}

static void destroy(measure *m)
{
    rp_type_probes_destroy(&m->probes);
    rp_gram_destroy(&m->gram);
    free(m->reduce_scratch);
    free(m->mean);
    rp_pass_destroy(&m->run);
}

/* The sum as f32 a token, both triangles. */
static void fill_mean(measure *m)
{
    const rp_gram *g = &m->gram;

    for (int64_t i = 0; i < g->cols; i++) {
        for (int64_t j = 0; j <= i; j++) {
            const double sum = (double)g->sum[i * g->cols + j] / (double)g->n_tokens;
            const float value = (float)ldexp(sum, g->exponent[i] + g->exponent[j] - g->shift);
            m->mean[i * g->cols + j] = value;
            m->mean[j * g->cols + i] = value;
        }
    }
}

/* Collective. Losses of the matrices that see `input`. */
static rp_status measure_input(measure *m, const rp_site_input *input, int64_t cols,
                               rp_type_tensor *const *tensors, const float *const *w, int n)
{
    rp_status st = RP_OK;
    rp_session *s = m->s;
    const int owner = (int)(m->n_sites % rp_comm_nranks(s->comm));
    const rp_site_gram_opts opts = {
        .cols = cols, .keeps_aside = true, .owner = owner, .scratch = m->reduce_scratch};

    m->n_sites++;
    RP_TRY(rp_site_gram_sum(&m->gram, s, input, &opts));
    if (rp_comm_rank(s->comm) == owner) {
        fill_mean(m);
    }
    rp_comm_bcast(s->comm, m->mean, (size_t)(cols * cols) * sizeof(*m->mean), owner);
    RP_TRY(rp_type_losses_measure(m->losses, tensors, w, n, m->mean));
out:
    return st;
}

static rp_status measure_site(measure *m, int64_t layer, rp_site site,
                              float *const slots[RP_SLOT_COUNT])
{
    rp_type_tensor *tensors[MAX_SITE_LINEARS];
    const float *w[MAX_SITE_LINEARS];
    const rp_site_input input = rp_pass_input(&m->run);
    int n = 0;

    for (int slot = 0; slot < RP_SLOT_LINEARS; slot++) {
        if (rp_slot_info_of((rp_slot)slot)->site == site) {
            tensors[n] = rp_type_losses_of_linear(
                m->losses, rp_linears_at(&m->s->linears, layer, (rp_slot)slot));
            w[n++] = slots[slot];
        }
    }
    return measure_input(m, &input, rp_model_site_width(m->s->config, site), tensors, w, n);
}

static rp_status measure_layer(measure *m, int64_t layer)
{
    rp_status st = RP_OK;
    float *slots[RP_SLOT_COUNT];

    RP_TRY(rp_pass_load(&m->run, layer, slots));
    RP_TRY(rp_agree(m->s->comm, rp_pass_step(&m->run, 0, layer, RP_BEFORE_LAYER, slots, NULL)));
    for (int site = 0; site < RP_SITE_COUNT; site++) {
        RP_TRY(measure_site(m, layer, (rp_site)site, slots));
        RP_TRY(rp_agree(m->s->comm, rp_pass_step(&m->run, 0, layer, site, slots, NULL)));
        rp_pass_advance(&m->run, layer, site);
    }
    RP_TRY(rp_agree(m->s->comm, rp_type_probes_layer(&m->probes, layer, slots)));
out:
    return st;
}

/* The stream behind the final norm, where a site's input stands. */
static rp_status norm_stream(measure *m)
{
    rp_status st = RP_OK;
    rp_session *s = m->s;
    rp_activations *a = &m->run.act;
    const rp_weight_info *info = rp_weights_find(s->weights, "model.norm.weight");
    float *norm = NULL;

    RP_TRY(rp_alloc_array(&norm, (size_t)a->hidden, sizeof(*norm)));
    RP_TRY(rp_weights_read_f32(s->weights, info, 0, a->hidden, norm));
    for (int64_t b = a->mine.first; b < a->mine.first + a->mine.count; b++) {
        const int64_t rows = rp_blocks_seqs(&a->blocks, b) * a->blocks.seq_len;
        float *buf = rp_window_use(a->stream[0].buf, b - a->mine.first, 0, a->hidden);
        const float *h = rp_window_use(a->stream[0].h, b - a->mine.first, a->hidden, 0);
        s->ops->rms_norm(s->exec, rp_mat_of(buf, rows, a->hidden, rp_window_cols(a->stream[0].buf)),
                         rp_cmat_of(h, rows, a->hidden, a->hidden), norm,
                         (float)s->config->rms_eps);
    }
out:
    free(norm);
    return st;
}

static rp_status measure_output(measure *m)
{
    rp_status st = RP_OK;
    rp_type_tensor *tensor = rp_type_losses_output(m->losses);
    const rp_site_input input = rp_pass_input(&m->run);

    RP_TRY(rp_agree(m->s->comm, norm_stream(m)));
    RP_TRY(measure_input(m, &input, m->s->config->hidden_size, &tensor, NULL, 1));
    RP_TRY(rp_type_probes_finish(&m->probes));
out:
    return st;
}

static rp_status measure_layers(measure *m)
{
    rp_status st = RP_OK;
    rp_session *s = m->s;

    for (int64_t layer = 0; layer < s->config->n_layers; layer++) {
        const double start = rp_clock_seconds();
        RP_TRY(measure_layer(m, layer));
        RP_LOG(RP_LOG_INFO, "measured", rp_log_i64("layer", layer),
               rp_log_f64("seconds", rp_clock_seconds() - start));
    }
out:
    return st;
}

rp_status rp_type_measure(rp_type_losses *losses, rp_session *session)
{
    rp_status st = RP_OK;
    measure m = {.s = session, .losses = losses};

    RP_TRY(rp_pass_create(&m.run, session, 1, "measure types"));
    RP_TRY(rp_agree(session->comm, create_local(&m)));
    RP_TRY(measure_layers(&m));
    RP_TRY(measure_output(&m));
out:
    destroy(&m);
    return st;
}

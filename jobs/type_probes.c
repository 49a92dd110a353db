/* Every copy holds the sequences of this rank; a sequence is never computed together with another,
 * so results do not depend on the ranks. */
#include "jobs/type_probes.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "formats/gguf_mix.h"
#include "jobs/calibration_text.h"
#include "jobs/dealt.h"
#include "jobs/round_rows.h"
#include "model/eval.h"

#define MAX_SEQS 8
#define MAX_TOKENS 256 /* of a sequence */
#define PROBE_TYPE "Q3_K"

typedef struct probe_shape {
    int64_t n_seqs, seq_len;
} probe_shape;

static probe_shape shape_of(const rp_session *s)
{
    const rp_blocks blocks = rp_calibration_blocks(s->job, s->config);
    const probe_shape shape = {RP_MIN(MAX_SEQS, rp_blocks_fitted_seqs(&blocks)),
                               RP_MIN(MAX_TOKENS, blocks.seq_len)};

    return shape;
}

static size_t largest_matrix(const rp_session *s)
{
    size_t most = 0;

    for (int64_t i = 0; i < s->linears.n; i++) {
        most = RP_MAX(most, (size_t)(s->linears.items[i].rows * s->linears.items[i].cols));
    }
    return most;
}

size_t rp_type_probes_bytes(const rp_session *session, int nranks, int nthreads)
{
    const probe_shape shape = shape_of(session);
    const rp_eval_opts opts = {.context = shape.seq_len};
    const size_t seqs = (size_t)RP_DIV_UP(shape.n_seqs, nranks);
    const size_t rows = seqs * (size_t)shape.seq_len;
    const rp_place_bytes eval =
        rp_eval_bytes(session->config, true, &opts, false, nthreads, (int64_t)seqs);

    return ((size_t)(session->linears.n + 1) * rows * (size_t)session->config->hidden_size +
            largest_matrix(session)) *
               sizeof(float) +
           eval.host + eval.place;
}

double rp_type_probes_flop(const rp_session *session)
{
    const probe_shape shape = shape_of(session);
    const double n_layers = (double)session->config->n_layers;
    double layer = 0;

    for (int site = 0; site < RP_SITE_COUNT; site++) {
        layer += rp_executor_step_flop(session->config, (rp_site)site, shape.n_seqs * shape.seq_len,
                                       shape.seq_len);
    }
    /* A copy of each linear from its layer on, and the model as it is. */
    return layer * (n_layers + RP_SLOT_LINEARS * n_layers * (n_layers + 1) / 2);
}

/* The first tokens of sequences spread over those that are not kept aside. */
static void take_ids(rp_type_probes *p, const rp_blocks *blocks, const int32_t *ids)
{
    const int64_t step = rp_blocks_fitted_seqs(blocks) / p->n_seqs;
    const int rank = rp_comm_rank(p->s->comm);
    const int nranks = rp_comm_nranks(p->s->comm);
    int64_t fitted = 0;

    for (int64_t seq = 0; seq < blocks->n_seqs; seq++) {
        const int64_t number = fitted / step;
        if (rp_blocks_is_kept_aside(blocks, seq / blocks->seqs_per_block)) {
            continue;
        }
        if (fitted % step == 0 && number < p->n_seqs && number % nranks == rank) {
            memcpy(p->ids + number / nranks * p->seq_len, ids + seq * blocks->seq_len,
                   (size_t)p->seq_len * sizeof(*ids));
        }
        fitted++;
    }
}

static int64_t values_of_copy(const rp_type_probes *p)
{
    return p->n_mine * p->seq_len * p->s->config->hidden_size;
}

rp_status rp_type_probes_create(rp_type_probes *out, rp_session *session, rp_type_losses *losses,
                                const rp_blocks *blocks, const int32_t *ids)
{
    rp_status st = RP_OK;
    rp_type_probes *p = out;
    const probe_shape shape = shape_of(session);
    const int nranks = rp_comm_nranks(session->comm);
    rp_exec exec = *session->exec; /* figures are of f32 products, whatever calibration uses */

    exec.products = RP_PRODUCTS_F32;
    *p = (rp_type_probes){
        .s = session, .losses = losses, .seq_len = shape.seq_len, .n_seqs = shape.n_seqs};
    p->n_mine = (shape.n_seqs - rp_comm_rank(session->comm) + nranks - 1) / nranks;
    p->n_mine = RP_MAX(p->n_mine, 0);
    RP_TRY(rp_lm_create(&p->lm, session->weights, NULL, session->ops, &exec, p->seq_len));
    RP_TRY(rp_alloc_array(&p->ids, (size_t)(p->n_mine * p->seq_len), sizeof(*p->ids)));
    RP_TRY(rp_alloc_array(&p->base, (size_t)values_of_copy(p), sizeof(float)));
    RP_TRY(rp_alloc_array(&p->copies, (size_t)(session->linears.n * values_of_copy(p)),
                          sizeof(float)));
    RP_TRY(rp_alloc_array(&p->rounded, largest_matrix(session), sizeof(float)));
    take_ids(p, blocks, ids);
    RP_TRY(rp_lm_embed(session->weights, &exec, p->ids, p->n_mine * p->seq_len, p->base));
out:
    return st;
}

void rp_type_probes_destroy(rp_type_probes *probes)
{
    rp_lm_destroy(&probes->lm);
    free(probes->ids);
    free(probes->base);
    free(probes->copies);
    free(probes->rounded);
    memset(probes, 0, sizeof(*probes));
}

static void set_probe(rp_type_tensor *t)
{
    const rp_gguf_block_type *type =
        rp_gguf_type_for_cols(rp_gguf_block_type_find(PROBE_TYPE), t->info->shape[1]);

    t->probe = rp_type_index(t, type);
}

static rp_status add_copy(rp_type_probes *p, int64_t layer, rp_slot slot, rp_layer_weights *w)
{
    rp_status st = RP_OK;
    const rp_linear *linear = rp_linears_at(&p->s->linears, layer, slot);
    rp_type_tensor *t = rp_type_losses_of_linear(p->losses, linear);
    float *copy = p->copies + p->n_copies * values_of_copy(p);
    const float *whole = w->slot[slot];

    set_probe(t);
    RP_TRY(rp_round_matrix(p->s->exec, t->types[t->probe], t->importance, linear->rows,
                           linear->cols, whole, p->rounded));
    memcpy(copy, p->base, (size_t)values_of_copy(p) * sizeof(float));
    w->slot[slot] = p->rounded;
    st = rp_lm_layer(p->lm, layer, w, p->n_mine, copy, NULL);
    w->slot[slot] = whole;
    p->n_copies++;
out:
    return st;
}

rp_status rp_type_probes_layer(rp_type_probes *probes, int64_t layer,
                               float *const slots[RP_SLOT_COUNT])
{
    rp_status st = RP_OK;
    rp_type_probes *p = probes;
    rp_layer_weights w;
    double start = rp_clock_seconds();

    for (int i = 0; i < RP_SLOT_COUNT; i++) {
        w.slot[i] = slots[i];
    }
    RP_TRY(rp_lm_layer(p->lm, layer, &w, p->n_copies * p->n_mine, p->copies, NULL));
    for (int slot = 0; slot < RP_SLOT_LINEARS && p->n_mine > 0; slot++) {
        RP_TRY(add_copy(p, layer, (rp_slot)slot, &w));
    }
    RP_TRY(rp_lm_layer(p->lm, layer, &w, p->n_mine, p->base, NULL));
    rp_session_lap(p->s, RP_PHASE_FORWARD, &start);
out:
    return st;
}

/* ---- The end ---- */

/* The output matrix rounded, and with it a tied embedding. */
typedef struct output_filter {
    const rp_type_tensor *tensor;
    const rp_exec *exec;
} output_filter;

static rp_status round_output(void *ctx, const rp_weight_info *info, int64_t row0, int64_t nrows,
                              float *values)
{
    const output_filter *f = ctx;

    (void)row0;
    if (strcmp(info->name, f->tensor->info->name) != 0) {
        return RP_OK;
    }
    return rp_round_matrix(f->exec, f->tensor->types[f->tensor->probe], f->tensor->importance,
                           nrows, info->shape[1], values, values);
}

static rp_status probe_output(rp_type_probes *p, rp_eval_window *out)
{
    rp_status st = RP_OK;
    rp_type_tensor *t = rp_type_losses_output(p->losses);
    output_filter f = {t, p->s->exec};
    const rp_weights_filter filter = {round_output, &f};
    const rp_eval_opts opts = {.context = p->seq_len};
    rp_weights *view = NULL;
    rp_lm *lm = NULL;
    rp_exec exec = *p->s->exec;
    int64_t indices[MAX_SEQS];

    exec.products = RP_PRODUCTS_F32;
    set_probe(t);
    for (int64_t i = 0; i < p->n_mine; i++) {
        indices[i] = i;
    }
    RP_TRY(rp_weights_open_view(&view, p->s->weights, &filter));
    RP_TRY(rp_lm_create(&lm, view, NULL, p->s->ops, &exec, p->seq_len));
    RP_TRY(rp_eval_windows(out, lm, p->lm, &opts, p->ids, indices, p->n_mine, NULL));
out:
    rp_lm_destroy(&lm);
    rp_weights_close(&view);
    return st;
}

/* all [n_seqs, losses->n]: this rank's rows. */
static rp_status finish_local(rp_type_probes *p, double *all)
{
    rp_status st = RP_OK;
    const int64_t n_rows = p->n_mine * p->seq_len;
    const int rank = rp_comm_rank(p->s->comm);
    const int nranks = rp_comm_nranks(p->s->comm);
    rp_eval_window windows[MAX_SEQS];

    if (p->n_mine == 0) {
        return RP_OK;
    }
    rp_lm_final_norm(p->lm, n_rows, p->base);
    rp_lm_final_norm(p->lm, n_rows * p->n_copies, p->copies);
    for (int64_t c = 0; c < p->losses->n; c++) {
        if (c < p->n_copies) {
            RP_TRY(rp_eval_hidden(windows, p->lm, p->ids, p->copies + c * values_of_copy(p),
                                  p->base, p->n_mine));
        } else {
            RP_TRY(probe_output(p, windows));
        }
        for (int64_t i = 0; i < p->n_mine; i++) {
            all[(rank + i * nranks) * p->losses->n + c] = windows[i].kl;
        }
    }
out:
    return st;
}

rp_status rp_type_probes_finish(rp_type_probes *probes)
{
    rp_status st = RP_OK;
    rp_type_probes *p = probes;
    rp_session *s = p->s;
    const int64_t n = p->losses->n;
    double *all = NULL;
    double start = rp_clock_seconds();

    RP_TRY(rp_agree(s->comm, rp_calloc(&all, (size_t)(p->n_seqs * n), sizeof(*all))));
    RP_TRY(rp_agree(s->comm, finish_local(p, all)));
    RP_TRY(rp_dealt_gather(s->comm, all, p->n_seqs, (size_t)n * sizeof(*all)));
    for (int64_t c = 0; c < n; c++) {
        rp_type_tensor *t = &p->losses->items[c];
        double sum = 0;
        for (int64_t seq = 0; seq < p->n_seqs; seq++) {
            sum += all[seq * n + c];
        }
        set_probe(t); /* on ranks without sequences, too */
        t->probe_kl = RP_MAX(sum / (double)(p->n_seqs * (p->seq_len - 1)), 0);
    }
    rp_session_lap(s, RP_PHASE_EVALUATE, &start);
out:
    free(all);
    return st;
}

/* See eval.h. For each chunk of windows: hidden rows of both models, then the vocabulary in tiles
 * as the outer loop (each head row is read once a chunk), windows over threads inside. */
#include "model/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/loss.h"

enum { HEAD_TILE_IDS = 1536 };
#define CHUNK_BYTES ((int64_t)256 << 20)

rp_eval_opts rp_eval_opts_default(void)
{
    return (rp_eval_opts){.context = 512, .bos_id = -1};
}

/* ---- Windows ---- */

/* Row of the first scored prediction: row i predicts token i + 1. */
static int64_t first_scored_row(const rp_eval_opts *opts)
{
    return opts->style == RP_EVAL_LLAMA_CPP ? opts->context / 2 : 0;
}

/* Tokens of the text that a window takes. */
static int64_t window_stride(const rp_eval_opts *opts)
{
    return opts->style == RP_EVAL_WINDOWS && opts->add_bos ? opts->context - 1 : opts->context;
}

rp_status rp_eval_count_windows(int64_t *n_windows, const rp_eval_opts *opts, int64_t n_ids)
{
    const int64_t head = opts->style == RP_EVAL_LLAMA_CPP && opts->add_bos ? 1 : 0;
    const int64_t stride = window_stride(opts);

    if (opts->context - 1 - first_scored_row(opts) < 1) {
        return RP_FAIL(RP_ERR_CONFIG, "context %lld is too small: no token of a window is scored",
                       (long long)opts->context);
    }
    *n_windows = (n_ids + head) / stride;
    if (*n_windows == 0) {
        return RP_FAIL(RP_ERR_FORMAT, "text too short: it has %lld tokens, one window needs %lld",
                       (long long)n_ids, (long long)(stride - head));
    }
    if (opts->max_windows > 0) {
        *n_windows = RP_MIN(*n_windows, opts->max_windows);
    }
    return RP_OK;
}

void rp_eval_window_tokens(int32_t *out, const rp_eval_opts *opts, const int32_t *ids,
                           int64_t index)
{
    const int64_t stride = window_stride(opts);

    if (!opts->add_bos) {
        memcpy(out, ids + index * stride, (size_t)stride * sizeof(*out));
        return;
    }
    /* In llama.cpp's style the text's token i is number i + 1 of the stream, and BOS takes the
     * place of a window's first: both styles copy from the same place. */
    out[0] = opts->bos_id;
    memcpy(out + 1, ids + index * stride, (size_t)(opts->context - 1) * sizeof(*out));
}

/* ---- One chunk ---- */

typedef struct model_state {
    rp_lm *lm;
    float *h;      /* [chunk, context, hidden] */
    float *head;   /* [HEAD_TILE_IDS, hidden] */
    float *logits; /* [nthreads, scored rows, HEAD_TILE_IDS] */
    rp_loss *loss; /* [chunk, scored rows] */
} model_state;

typedef struct eval_state {
    const rp_eval_opts *opts;
    model_state model, base;   /* base.lm NULL: none */
    int64_t first_row, n_rows; /* scored rows of a window */
    int64_t chunk;
    int32_t *tokens;         /* [chunk, context] */
    int64_t first_id, n_ids; /* the vocabulary tile */
} eval_state;

static void free_model_state(model_state *s)
{
    free(s->h);
    free(s->head);
    free(s->logits);
    free(s->loss);
}

static rp_status alloc_model_state(model_state *s, const eval_state *e, int nthreads)
{
    rp_status st = RP_OK;
    const size_t hidden = (size_t)rp_lm_config(s->lm)->hidden_size;
    const size_t rows = (size_t)e->chunk * (size_t)e->opts->context;
    size_t elems = 0;

    RP_TRY(rp_mul_size(&elems, rows, hidden));
    RP_TRY(rp_alloc_array(&s->h, elems, sizeof(float)));
    RP_TRY(rp_alloc_array(&s->head, HEAD_TILE_IDS * hidden, sizeof(float)));
    RP_TRY(rp_mul_size(&elems, (size_t)nthreads * HEAD_TILE_IDS, (size_t)e->n_rows));
    RP_TRY(rp_alloc_array(&s->logits, elems, sizeof(float)));
    RP_TRY(rp_alloc_array(&s->loss, (size_t)(e->chunk * e->n_rows), sizeof(rp_loss)));
out:
    return st;
}

/* Logits of one window's scored rows against the current head tile. */
static float *window_logits(const eval_state *e, const model_state *s, int64_t window, int thread)
{
    const int64_t hidden = rp_lm_config(s->lm)->hidden_size;
    const float *const rows = s->h + (window * e->opts->context + e->first_row) * hidden;
    float *const logits = s->logits + thread * e->n_rows * HEAD_TILE_IDS;

    rp_lm_logits(s->lm, thread, logits, rp_cmat_of(rows, e->n_rows, hidden, hidden), s->head,
                 e->n_ids);
    return logits;
}

static void score_window(void *ctx, int64_t window, int thread)
{
    const eval_state *e = ctx;
    const bool has_base = e->base.lm != NULL;
    const float *const logits = window_logits(e, &e->model, window, thread);
    const float *const base = has_base ? window_logits(e, &e->base, window, thread) : NULL;
    const int32_t *const targets = e->tokens + window * e->opts->context + e->first_row + 1;

    for (int64_t i = 0; i < e->n_rows; i++) {
        const int64_t at = i * e->n_ids;
        rp_loss_add(&e->model.loss[window * e->n_rows + i], logits + at, NULL, e->first_id,
                    e->n_ids, targets[i]);
        if (has_base) {
            rp_loss_add(&e->base.loss[window * e->n_rows + i], base + at, logits + at, e->first_id,
                        e->n_ids, targets[i]);
        }
    }
}

static rp_eval_window sum_window(const eval_state *e, int64_t window)
{
    rp_eval_window sum = {.n_scored = e->n_rows};

    for (int64_t i = 0; i < e->n_rows; i++) {
        const rp_loss *model = &e->model.loss[window * e->n_rows + i];
        sum.nll += rp_loss_nll(model);
        if (e->base.lm != NULL) {
            const rp_loss *base = &e->base.loss[window * e->n_rows + i];
            sum.kl += rp_loss_kl(base, model);
            sum.n_same_top1 += base->best == model->best;
        }
    }
    return sum;
}

static void start_losses(const model_state *s, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        s->loss[i] = rp_loss_start();
    }
}

/* n windows from the hidden rows that stand in both states. */
static rp_status score_windows(eval_state *e, int64_t n, rp_pool *pool, rp_eval_window *out)
{
    rp_status st = RP_OK;
    const int64_t vocab = rp_lm_config(e->model.lm)->vocab_size;

    start_losses(&e->model, n * e->n_rows);
    if (e->base.lm != NULL) {
        start_losses(&e->base, n * e->n_rows);
    }
    for (e->first_id = 0; e->first_id < vocab; e->first_id += e->n_ids) {
        e->n_ids = RP_MIN((int64_t)HEAD_TILE_IDS, vocab - e->first_id);
        RP_TRY(rp_lm_read_head(e->model.lm, e->first_id, e->n_ids, e->model.head));
        if (e->base.lm != NULL) {
            RP_TRY(rp_lm_read_head(e->base.lm, e->first_id, e->n_ids, e->base.head));
        }
        rp_pool_run(pool, n, score_window, e);
    }
    for (int64_t i = 0; i < n; i++) {
        out[i] = sum_window(e, i);
    }
out:
    return st;
}

static rp_status run_chunk(eval_state *e, int64_t n, rp_pool *pool, rp_eval_window *out,
                           const rp_lm_tick *tick)
{
    rp_status st = RP_OK;

    RP_TRY(rp_lm_hidden(e->model.lm, e->tokens, n, e->model.h, tick));
    if (e->base.lm != NULL) {
        RP_TRY(rp_lm_hidden(e->base.lm, e->tokens, n, e->base.h, tick));
    }
    RP_TRY(score_windows(e, n, pool, out));
    if (tick != NULL) {
        RP_TRY(tick->fn(tick->ctx, n));
    }
out:
    return st;
}

/* ---- All windows ---- */

static int64_t chunk_windows(const rp_model_config *config, const rp_eval_opts *opts, int64_t n)
{
    const int64_t window_bytes = opts->context * config->hidden_size * (int64_t)sizeof(float);
    const int64_t chunk =
        opts->chunk_windows > 0 ? opts->chunk_windows : RP_MAX(CHUNK_BYTES / window_bytes, 1);

    return RP_MIN(chunk, RP_MAX(n, 1));
}

size_t rp_eval_bytes(const rp_model_config *config, bool has_base, const rp_eval_opts *opts,
                     int nthreads, int64_t n)
{
    const size_t chunk = (size_t)chunk_windows(config, opts, n);
    const size_t context = (size_t)opts->context;
    const size_t hidden = (size_t)config->hidden_size;
    const size_t rows = (size_t)(opts->context - 1 - first_scored_row(opts));
    const size_t model_bytes = (chunk * context * hidden + HEAD_TILE_IDS * hidden +
                                (size_t)nthreads * rows * HEAD_TILE_IDS) *
                                   sizeof(float) +
                               chunk * rows * sizeof(rp_loss);

    return (has_base ? 2 : 1) * model_bytes + chunk * context * sizeof(int32_t);
}

static rp_status check_pair(const rp_lm *model, const rp_lm *base, const rp_eval_opts *opts)
{
    const int64_t vocab = rp_lm_config(model)->vocab_size;

    RP_ASSERT(rp_lm_seq_len(model) == opts->context);
    RP_ASSERT(base == NULL || rp_lm_seq_len(base) == opts->context);
    if (base != NULL && rp_lm_config(base)->vocab_size != vocab) {
        return RP_FAIL(RP_ERR_FORMAT,
                       "the base model has %lld vocabulary entries, the model %lld: they cannot be "
                       "compared",
                       (long long)rp_lm_config(base)->vocab_size, (long long)vocab);
    }
    if (opts->add_bos && opts->bos_id < 0) {
        return RP_FAIL(RP_ERR_FORMAT, "add_bos: the model names no bos_token_id");
    }
    return RP_OK;
}

rp_status rp_eval_windows(rp_eval_window *out, rp_lm *model, rp_lm *base, const rp_eval_opts *opts,
                          const int32_t *ids, const int64_t *indices, int64_t n,
                          const rp_lm_tick *tick)
{
    rp_status st = RP_OK;
    rp_pool *const pool = rp_lm_pool(model);
    const int nthreads = pool == NULL ? 1 : rp_pool_nthreads(pool);
    eval_state e = {.opts = opts, .model.lm = model, .base.lm = base};

    RP_TRY(check_pair(model, base, opts));
    e.first_row = first_scored_row(opts);
    e.n_rows = opts->context - 1 - e.first_row;
    e.chunk = chunk_windows(rp_lm_config(model), opts, n);
    RP_TRY(rp_alloc_array(&e.tokens, (size_t)(e.chunk * opts->context), sizeof(int32_t)));
    RP_TRY(alloc_model_state(&e.model, &e, nthreads));
    if (base != NULL) {
        RP_TRY(alloc_model_state(&e.base, &e, nthreads));
    }
    for (int64_t done = 0; done < n; done += e.chunk) {
        const int64_t now = RP_MIN(e.chunk, n - done);
        for (int64_t i = 0; i < now; i++) {
            rp_eval_window_tokens(e.tokens + i * opts->context, opts, ids, indices[done + i]);
        }
        RP_TRY(run_chunk(&e, now, pool, out + done, tick));
    }
out:
    free_model_state(&e.model);
    free_model_state(&e.base);
    free(e.tokens);
    return st;
}

rp_status rp_eval_hidden(rp_eval_window *out, rp_lm *lm, const int32_t *ids, const float *h,
                         const float *base_h, int64_t n)
{
    rp_status st = RP_OK;
    rp_pool *const pool = rp_lm_pool(lm);
    const int nthreads = pool == NULL ? 1 : rp_pool_nthreads(pool);
    const rp_eval_opts opts = {.context = rp_lm_seq_len(lm)};
    const size_t elems =
        (size_t)(n * opts.context) * (size_t)rp_lm_config(lm)->hidden_size * sizeof(float);
    eval_state e = {.opts = &opts, .model.lm = lm, .base.lm = lm, .chunk = n};

    e.n_rows = opts.context - 1;
    RP_TRY(rp_alloc_array(&e.tokens, (size_t)(n * opts.context), sizeof(int32_t)));
    memcpy(e.tokens, ids, (size_t)(n * opts.context) * sizeof(int32_t));
    RP_TRY(alloc_model_state(&e.model, &e, nthreads));
    RP_TRY(alloc_model_state(&e.base, &e, nthreads));
    memcpy(e.model.h, h, elems);
    memcpy(e.base.h, base_h, elems);
    RP_TRY(score_windows(&e, n, pool, out));
out:
    free_model_state(&e.model);
    free_model_state(&e.base);
    free(e.tokens);
    return st;
}

int64_t rp_eval_units(const rp_model_config *model, const rp_model_config *base, int64_t n)
{
    return n * (model->n_layers + (base == NULL ? 0 : base->n_layers) + 1);
}

rp_eval_result rp_eval_summarise(const rp_eval_window *windows, int64_t n)
{
    rp_eval_result result = {.n_windows = n};
    rp_eval_window sum = {.n_scored = 0};

    for (int64_t i = 0; i < n; i++) {
        sum.nll += windows[i].nll;
        sum.kl += windows[i].kl;
        sum.n_scored += windows[i].n_scored;
        sum.n_same_top1 += windows[i].n_same_top1;
    }
    result.n_scored = sum.n_scored;
    if (sum.n_scored > 0) {
        const double tokens = (double)sum.n_scored;
        result.nll = sum.nll / tokens;
        result.kl = sum.kl / tokens;
        result.top1 = (double)sum.n_same_top1 / tokens;
    }
    result.perplexity = exp(result.nll);
    return result;
}

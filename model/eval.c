/* See eval.h. For each chunk of windows: hidden rows of both models, then the vocabulary in tiles
 * as the outer loop (each head row is read once a chunk), batches of windows over threads inside.
 *
 * A batch is scored as one matrix: from its first window's first scored row to its last window's
 * last. Rows between that are not scored are computed with the others and left out of the sums. */
#include "model/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/loss.h"

typedef struct eval_shape {
    int64_t head_ids;    /* of a vocabulary tile; in the last bits of results */
    int64_t chunk_bytes; /* of hidden rows; not seen in results */
} eval_shape;

static eval_shape shape_of(const rp_model_config *config, bool has_gpu)
{
    eval_shape shape = {1536, (int64_t)256 << 20};

    if (has_gpu) {
        shape = (eval_shape){4096, (int64_t)2 << 30};
    }
    shape.head_ids = RP_MIN(shape.head_ids, config->vocab_size);
    return shape;
}

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
    float *h;            /* [place] [chunk, context, hidden] */
    float *head;         /* [place] [head_ids, hidden] */
    float *logits;       /* [place] [nthreads, batch_rows, head_ids] */
    rp_loss *loss;       /* [place] [chunk, context] */
    rp_loss *one_window; /* [context] the same of one window, on the host */
} model_state;

typedef struct eval_state {
    const rp_eval_opts *opts;
    model_state model, base; /* base.lm NULL: none */
    const rp_exec *exec;     /* of the calling thread */
    eval_shape shape;
    int64_t first_row, n_rows;     /* scored rows of a window */
    int64_t chunk, batch;          /* windows */
    int64_t n_windows, batch_rows; /* in hand; of a whole batch */
    int32_t *tokens;               /* [chunk, context] */
    int32_t *placed_tokens;        /* [place] the same */
    int64_t first_id, n_ids;       /* the vocabulary tile */
} eval_state;

static void free_model_state(model_state *s, const rp_exec *exec)
{
    rp_place_free(exec, s->h);
    rp_place_free(exec, s->head);
    rp_place_free(exec, s->logits);
    rp_place_free(exec, s->loss);
    free(s->one_window);
}

static rp_status alloc_model_state(model_state *s, const eval_state *e)
{
    rp_status st = RP_OK;
    const rp_pool *pool = rp_lm_pool(s->lm);
    const size_t n_threads = pool == NULL ? 1 : (size_t)rp_pool_nthreads(pool);
    const size_t hidden = (size_t)rp_lm_config(s->lm)->hidden_size;
    const size_t rows = (size_t)e->chunk * (size_t)e->opts->context;
    size_t elems = 0;

    RP_TRY(rp_mul_size(&elems, rows, hidden));
    RP_TRY(rp_place_alloc(e->exec, &s->h, elems, sizeof(float)));
    RP_TRY(rp_place_alloc(e->exec, &s->head, (size_t)e->shape.head_ids * hidden, sizeof(float)));
    RP_TRY(rp_mul_size(&elems, n_threads * (size_t)e->shape.head_ids, (size_t)e->batch_rows));
    RP_TRY(rp_place_alloc(e->exec, &s->logits, elems, sizeof(float)));
    RP_TRY(rp_place_alloc(e->exec, &s->loss, rows, sizeof(rp_loss)));
    RP_TRY(rp_alloc_array(&s->one_window, (size_t)e->opts->context, sizeof(rp_loss)));
out:
    return st;
}

static int64_t batch_rows(const rp_eval_opts *opts, int64_t n_windows)
{
    return n_windows * opts->context - 1 - first_scored_row(opts);
}

/* Fills e but for the models, which it has, and the content of the tokens. */
static rp_status create_state(eval_state *e, int64_t chunk)
{
    rp_status st = RP_OK;
    const rp_eval_opts *opts = e->opts;
    const size_t n_tokens = (size_t)(chunk * opts->context);

    e->exec = rp_lm_exec(e->model.lm, 0);
    e->shape = shape_of(rp_lm_config(e->model.lm), !rp_place_is_host(e->exec));
    e->first_row = first_scored_row(opts);
    e->n_rows = opts->context - 1 - e->first_row;
    e->chunk = chunk;
    e->batch = rp_lm_batch_seqs(!rp_place_is_host(e->exec), opts->context);
    e->batch_rows = batch_rows(opts, e->batch);
    RP_TRY(rp_alloc_array(&e->tokens, n_tokens, sizeof(int32_t)));
    RP_TRY(rp_place_alloc(e->exec, &e->placed_tokens, n_tokens, sizeof(int32_t)));
    RP_TRY(alloc_model_state(&e->model, e));
    if (e->base.lm != NULL) {
        RP_TRY(alloc_model_state(&e->base, e));
    }
out:
    return st;
}

static void destroy_state(eval_state *e)
{
    const rp_exec *exec = rp_lm_exec(e->model.lm, 0);

    free_model_state(&e->model, exec);
    free_model_state(&e->base, exec);
    rp_place_free(exec, e->placed_tokens);
    free(e->tokens);
}

/* Logits of `rows` rows from row0 of the chunk on against the current head tile. */
static rp_cmat batch_logits(const eval_state *e, const model_state *s, int64_t row0, int64_t rows,
                            int thread)
{
    const int64_t hidden = rp_lm_config(s->lm)->hidden_size;
    float *const logits = s->logits + thread * e->batch_rows * e->shape.head_ids;

    rp_lm_logits(s->lm, thread, logits, rp_cmat_of(s->h + row0 * hidden, rows, hidden, hidden),
                 s->head, e->n_ids);
    return rp_cmat_of(logits, rows, e->n_ids, e->n_ids);
}

static void score_batch(void *ctx, int64_t tile, int thread)
{
    const eval_state *e = ctx;
    const rp_kernel_ops *ops = rp_lm_ops(e->model.lm);
    const rp_exec *exec = rp_lm_exec(e->model.lm, thread);
    const int64_t first = tile * e->batch;
    const int64_t row0 = first * e->opts->context + e->first_row;
    const int64_t rows = batch_rows(e->opts, RP_MIN(e->batch, e->n_windows - first));
    const int32_t *const targets = e->placed_tokens + row0 + 1;
    const rp_cmat logits = batch_logits(e, &e->model, row0, rows, thread);

    ops->loss_add(exec, e->model.loss + row0, logits, (rp_cmat){.data = NULL}, e->first_id,
                  targets);
    if (e->base.lm != NULL) {
        ops->loss_add(exec, e->base.loss + row0, batch_logits(e, &e->base, row0, rows, thread),
                      logits, e->first_id, targets);
    }
}

/* One window's scored rows, from their place. */
static const rp_loss *get_losses(const eval_state *e, const model_state *s, int64_t window)
{
    rp_place_get(e->exec, s->one_window, s->loss + window * e->opts->context + e->first_row,
                 (size_t)e->n_rows * sizeof(rp_loss));
    return s->one_window;
}

static rp_eval_window sum_window(const eval_state *e, int64_t window)
{
    rp_eval_window sum = {.n_scored = e->n_rows};
    const rp_loss *model = get_losses(e, &e->model, window);
    const rp_loss *base = e->base.lm == NULL ? NULL : get_losses(e, &e->base, window);

    for (int64_t i = 0; i < e->n_rows; i++) {
        sum.nll += rp_loss_nll(&model[i]);
        if (base != NULL) {
            sum.kl += rp_loss_kl(&base[i], &model[i]);
            sum.n_same_top1 += base[i].best == model[i].best;
        }
    }
    return sum;
}

static void start_losses(const eval_state *e, const model_state *s)
{
    const int64_t context = e->opts->context;

    for (int64_t i = 0; i < context; i++) {
        s->one_window[i] = rp_loss_start();
    }
    for (int64_t w = 0; w < e->n_windows; w++) {
        rp_place_put(e->exec, s->loss + w * context, s->one_window,
                     (size_t)context * sizeof(rp_loss));
    }
}

/* The windows in hand from the hidden rows that stand in both states. */
static rp_status score_windows(eval_state *e, rp_eval_window *out)
{
    rp_status st = RP_OK;
    const int64_t vocab = rp_lm_config(e->model.lm)->vocab_size;

    rp_place_put(e->exec, e->placed_tokens, e->tokens,
                 (size_t)(e->n_windows * e->opts->context) * sizeof(int32_t));
    start_losses(e, &e->model);
    if (e->base.lm != NULL) {
        start_losses(e, &e->base);
    }
    for (e->first_id = 0; e->first_id < vocab; e->first_id += e->n_ids) {
        e->n_ids = RP_MIN(e->shape.head_ids, vocab - e->first_id);
        RP_TRY(rp_lm_read_head(e->model.lm, e->first_id, e->n_ids, e->model.head));
        if (e->base.lm != NULL) {
            RP_TRY(rp_lm_read_head(e->base.lm, e->first_id, e->n_ids, e->base.head));
        }
        rp_pool_run(rp_lm_pool(e->model.lm), RP_DIV_UP(e->n_windows, e->batch), score_batch, e);
    }
    for (int64_t i = 0; i < e->n_windows; i++) {
        out[i] = sum_window(e, i);
    }
    RP_TRY(rp_place_check(e->exec));
out:
    return st;
}

static rp_status run_chunk(eval_state *e, rp_eval_window *out, const rp_lm_tick *tick)
{
    rp_status st = RP_OK;

    RP_TRY(rp_lm_hidden(e->model.lm, e->tokens, e->n_windows, e->model.h, tick));
    if (e->base.lm != NULL) {
        RP_TRY(rp_lm_hidden(e->base.lm, e->tokens, e->n_windows, e->base.h, tick));
    }
    RP_TRY(score_windows(e, out));
    if (tick != NULL) {
        RP_TRY(tick->fn(tick->ctx, e->n_windows));
    }
out:
    return st;
}

/* ---- All windows ---- */

/* Whole batches. */
static int64_t chunk_windows(const rp_model_config *config, const rp_eval_opts *opts, bool has_gpu,
                             int64_t n)
{
    const int64_t batch = rp_lm_batch_seqs(has_gpu, opts->context);
    const int64_t window_bytes = opts->context * config->hidden_size * (int64_t)sizeof(float);
    const int64_t fitting = RP_MAX(shape_of(config, has_gpu).chunk_bytes / window_bytes, 1);
    const int64_t chunk = opts->chunk_windows > 0 ? opts->chunk_windows : fitting;

    return RP_DIV_UP(RP_MIN(chunk, RP_MAX(n, 1)), batch) * batch;
}

rp_place_bytes rp_eval_bytes(const rp_model_config *config, bool has_base, const rp_eval_opts *opts,
                             bool has_gpu, int nthreads, int64_t n)
{
    const size_t n_models = has_base ? 2 : 1;
    const size_t tokens = (size_t)(chunk_windows(config, opts, has_gpu, n) * opts->context);
    const size_t hidden = (size_t)config->hidden_size;
    const size_t head_ids = (size_t)shape_of(config, has_gpu).head_ids;
    const size_t logits_rows = (has_gpu ? 1 : (size_t)nthreads) *
                               (size_t)batch_rows(opts, rp_lm_batch_seqs(has_gpu, opts->context));
    const size_t state_bytes =
        (tokens * hidden + head_ids * hidden + logits_rows * head_ids) * sizeof(float) +
        tokens * sizeof(rp_loss);
    const rp_place_bytes lm = rp_lm_bytes(config, has_gpu, nthreads, opts->context);

    return (rp_place_bytes){
        .host = n_models * (lm.host + (size_t)opts->context * sizeof(rp_loss)) +
                tokens * sizeof(int32_t),
        .place = n_models * (lm.place + state_bytes) + tokens * sizeof(int32_t),
    };
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
    const bool has_gpu = !rp_place_is_host(rp_lm_exec(model, 0));
    eval_state e = {.opts = opts, .model.lm = model, .base.lm = base};

    RP_TRY(check_pair(model, base, opts));
    RP_TRY(create_state(&e, chunk_windows(rp_lm_config(model), opts, has_gpu, n)));
    for (int64_t done = 0; done < n; done += e.chunk) {
        e.n_windows = RP_MIN(e.chunk, n - done);
        for (int64_t i = 0; i < e.n_windows; i++) {
            rp_eval_window_tokens(e.tokens + i * opts->context, opts, ids, indices[done + i]);
        }
        RP_TRY(run_chunk(&e, out + done, tick));
    }
out:
    destroy_state(&e);
    return st;
}

rp_status rp_eval_hidden(rp_eval_window *out, rp_lm *lm, const int32_t *ids, const float *h,
                         const float *base_h, int64_t n)
{
    rp_status st = RP_OK;
    const rp_eval_opts opts = {.context = rp_lm_seq_len(lm)};
    const size_t h_bytes =
        (size_t)(n * opts.context) * (size_t)rp_lm_config(lm)->hidden_size * sizeof(float);
    eval_state e = {.opts = &opts, .model.lm = lm, .base.lm = lm, .n_windows = n};

    RP_TRY(create_state(&e, n));
    memcpy(e.tokens, ids, (size_t)(n * opts.context) * sizeof(int32_t));
    rp_place_copy(e.exec, e.model.h, h, h_bytes);
    rp_place_copy(e.exec, e.base.h, base_h, h_bytes);
    RP_TRY(score_windows(&e, out));
out:
    destroy_state(&e);
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

/* See lm.h. */
#include "model/lm.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/place_rows.h"

enum {
    TICK_BATCHES = 4,     /* batches a worker goes through between two ticks */
    GPU_TOKENS = 8192,    /* of a batch */
    GPU_EMBED_ROWS = 4096 /* on their way to a GPU */
};

#define EMBED_NAME "model.embed_tokens.weight"
#define NORM_NAME "model.norm.weight"
#define HEAD_NAME "lm_head.weight"

struct rp_lm {
    const rp_weights *weights;
    rp_model_config config;
    rp_layer_reader *reader; /* NULL: the source is the caller's */
    rp_layer_source source;
    const rp_kernel_ops *ops;
    rp_exec exec;
    rp_pool *pool; /* whose threads are the workers; NULL: one, the caller's */
    int n_workers;
    rp_exec *alone; /* [n_workers] what a worker computes with: its scratch and no pool */
    int64_t seq_len, batch_seqs;
    rp_executor **executors; /* [n_workers] */
    int64_t ld;              /* widest site */
    float *bufs;             /* [place] [n_workers, batch_seqs * seq_len, ld] */
    float *norm;             /* [place] [hidden] */
};

static int64_t widest_site(const rp_model_config *config)
{
    int64_t widest = 0;

    for (int site = 0; site < RP_SITE_COUNT; site++) {
        widest = RP_MAX(widest, rp_model_site_width(config, (rp_site)site));
    }
    return widest;
}

static rp_status find_tensor(const rp_weight_info **out, const rp_weights *weights,
                             const char *name)
{
    *out = rp_weights_find(weights, name);
    if (*out == NULL) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s is missing", rp_weights_path(weights), name);
    }
    return RP_OK;
}

int64_t rp_lm_batch_seqs(bool has_gpu, int64_t seq_len)
{
    return has_gpu ? RP_MAX(GPU_TOKENS / seq_len, 1) : 1;
}

static rp_status create_workers(rp_lm *lm)
{
    rp_status st = RP_OK;
    const bool has_gpu = !rp_place_is_host(&lm->exec);
    size_t elems = 0;

    lm->pool = has_gpu ? NULL : lm->exec.pool;
    lm->n_workers = lm->pool == NULL ? 1 : rp_pool_nthreads(lm->pool);
    lm->batch_seqs = rp_lm_batch_seqs(has_gpu, lm->seq_len);
    lm->ld = widest_site(&lm->config);
    RP_TRY(rp_calloc(&lm->alone, (size_t)lm->n_workers, sizeof(*lm->alone)));
    RP_TRY(rp_calloc(&lm->executors, (size_t)lm->n_workers, sizeof(*lm->executors)));
    for (int t = 0; t < lm->n_workers; t++) {
        lm->alone[t] = lm->exec;
        lm->alone[t].pool = NULL;
        lm->alone[t].scratch = rp_exec_scratch(&lm->exec, t);
        RP_TRY(rp_executor_create(&lm->executors[t], &lm->config, lm->ops, &lm->alone[t],
                                  lm->seq_len, lm->batch_seqs));
    }
    RP_TRY(rp_mul_size(&elems, (size_t)lm->n_workers * (size_t)(lm->batch_seqs * lm->seq_len),
                       (size_t)lm->ld));
    RP_TRY(rp_place_alloc(&lm->exec, &lm->bufs, elems, sizeof(float)));
out:
    return st;
}

rp_status rp_lm_create(rp_lm **out, const rp_weights *weights, const rp_layer_source *source,
                       const rp_kernel_ops *ops, const rp_exec *exec, int64_t seq_len)
{
    rp_status st = RP_OK;
    rp_lm *made = NULL;
    const rp_weight_info *norm = NULL;

    *out = NULL;
    RP_TRY(rp_calloc(&made, 1, sizeof(*made)));
    made->weights = weights;
    made->config = *rp_weights_config(weights);
    made->ops = ops;
    made->exec = *exec;
    made->seq_len = seq_len;
    if (source != NULL) {
        made->source = *source;
    } else {
        RP_TRY(rp_layer_reader_create(&made->reader, weights, ops, &made->exec));
        made->source = rp_layer_reader_source(made->reader);
    }
    RP_TRY(create_workers(made));
    RP_TRY(find_tensor(&norm, weights, NORM_NAME));
    RP_TRY(rp_place_alloc(exec, &made->norm, (size_t)made->config.hidden_size, sizeof(float)));
    RP_TRY(rp_place_rows_read(weights, norm, 0, made->config.hidden_size, ops, exec, made->norm));
    *out = made;
    made = NULL;
out:
    rp_lm_destroy(&made);
    return st;
}

void rp_lm_destroy(rp_lm **lm)
{
    if (*lm == NULL) {
        return;
    }
    for (int t = 0; (*lm)->executors != NULL && t < (*lm)->n_workers; t++) {
        rp_executor_destroy(&(*lm)->executors[t]);
    }
    rp_layer_reader_destroy(&(*lm)->reader);
    free((*lm)->executors);
    free((*lm)->alone);
    rp_place_free(&(*lm)->exec, (*lm)->bufs);
    rp_place_free(&(*lm)->exec, (*lm)->norm);
    free(*lm);
    *lm = NULL;
}

rp_place_bytes rp_lm_bytes(const rp_model_config *config, bool has_gpu, int nthreads,
                           int64_t seq_len)
{
    const size_t n_workers = has_gpu ? 1 : (size_t)nthreads;
    const int64_t n_seqs = rp_lm_batch_seqs(has_gpu, seq_len);
    const size_t buf_bytes = (size_t)(n_seqs * seq_len * widest_site(config)) * sizeof(float);
    const size_t row_bytes = (size_t)config->hidden_size * sizeof(float);
    const rp_place_bytes reader = rp_layer_reader_bytes(config, has_gpu);
    const size_t other_reads =
        has_gpu ? RP_MAX(rp_place_rows_bytes(true), GPU_EMBED_ROWS * row_bytes) : 0;

    return (rp_place_bytes){
        .host = reader.host + other_reads,
        .place = n_workers * (buf_bytes + rp_executor_bytes(config, seq_len, n_seqs)) +
                 reader.place + row_bytes,
    };
}

const rp_model_config *rp_lm_config(const rp_lm *lm)
{
    return &lm->config;
}

int64_t rp_lm_seq_len(const rp_lm *lm)
{
    return lm->seq_len;
}

const rp_kernel_ops *rp_lm_ops(const rp_lm *lm)
{
    return lm->ops;
}

rp_pool *rp_lm_pool(const rp_lm *lm)
{
    return lm->pool;
}

const rp_exec *rp_lm_exec(const rp_lm *lm, int thread)
{
    return &lm->alone[thread];
}

/* ---- Embedding ---- */

typedef struct placed_id {
    int32_t id;
    int64_t row;
} placed_id;

static int compare_placed(const void *a, const void *b)
{
    const placed_id *x = a;
    const placed_id *y = b;

    if (x->id != y->id) {
        return x->id < y->id ? -1 : 1;
    }
    return (x->row > y->row) - (x->row < y->row);
}

static rp_status check_ids(const rp_weights *weights, const int32_t *ids, int64_t n)
{
    const int64_t vocab = rp_weights_config(weights)->vocab_size;

    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= vocab) {
            return RP_FAIL(RP_ERR_FORMAT,
                           "token id %d (number %lld of the text) is outside the vocabulary of "
                           "%lld of %s",
                           (int)ids[i], (long long)i, (long long)vocab, rp_weights_path(weights));
        }
    }
    return RP_OK;
}

/* h on the host. */
static rp_status read_rows(const rp_weights *weights, const int32_t *ids, int64_t n, float *h)
{
    rp_status st = RP_OK;
    const int64_t cols = rp_weights_config(weights)->hidden_size;
    const rp_weight_info *embed = NULL;
    placed_id *placed = NULL;

    RP_TRY(find_tensor(&embed, weights, EMBED_NAME));
    RP_TRY(rp_alloc_array(&placed, (size_t)n, sizeof(*placed)));
    for (int64_t i = 0; i < n; i++) {
        placed[i] = (placed_id){.id = ids[i], .row = i};
    }
    qsort(placed, (size_t)n, sizeof(*placed), compare_placed);
    for (int64_t i = 0; i < n; i++) {
        float *const row = h + placed[i].row * cols;
        if (i > 0 && placed[i].id == placed[i - 1].id) {
            memcpy(row, h + placed[i - 1].row * cols, (size_t)cols * sizeof(float));
        } else {
            RP_TRY(rp_weights_read_f32(weights, embed, placed[i].id, 1, row));
        }
    }
out:
    free(placed);
    return st;
}

static rp_status put_rows(const rp_weights *weights, const rp_exec *exec, const int32_t *ids,
                          int64_t n, float *h)
{
    rp_status st = RP_OK;
    const int64_t cols = rp_weights_config(weights)->hidden_size;
    float *rows = NULL;

    RP_TRY(rp_alloc_array(&rows, (size_t)(RP_MIN(GPU_EMBED_ROWS, n) * cols), sizeof(float)));
    for (int64_t i = 0; i < n; i += GPU_EMBED_ROWS) {
        const int64_t count = RP_MIN(GPU_EMBED_ROWS, n - i);
        RP_TRY(read_rows(weights, ids + i, count, rows));
        rp_place_put(exec, h + i * cols, rows, (size_t)(count * cols) * sizeof(float));
    }
out:
    free(rows);
    return st;
}

rp_status rp_lm_embed(const rp_weights *weights, const rp_exec *exec, const int32_t *ids, int64_t n,
                      float *h)
{
    rp_status st = RP_OK;

    RP_TRY(check_ids(weights, ids, n));
    if (rp_place_is_host(exec)) {
        RP_TRY(read_rows(weights, ids, n, h));
    } else {
        RP_TRY(put_rows(weights, exec, ids, n, h));
    }
out:
    return st;
}

/* ---- Layers ---- */

typedef struct layer_work {
    const rp_lm *lm;
    const rp_layer_weights *w;
    int64_t layer, n_seqs;
    int64_t first_seq; /* of the batches in hand */
    float *h;          /* [n_seqs * seq_len, hidden] */
} layer_work;

static void run_batch(void *ctx, int64_t tile, int thread)
{
    const layer_work *work = ctx;
    const rp_lm *lm = work->lm;
    rp_executor *const executor = lm->executors[thread];
    const int64_t first = work->first_seq + tile * lm->batch_seqs;
    const int64_t n = RP_MIN(lm->batch_seqs, work->n_seqs - first);
    float *const h = work->h + first * lm->seq_len * lm->config.hidden_size;
    float *const buf = lm->bufs + thread * lm->batch_seqs * lm->seq_len * lm->ld;

    rp_executor_enter(executor, work->layer, work->w, n, h, buf, lm->ld);
    for (int site = 0; site < RP_SITE_COUNT; site++) {
        rp_executor_step(executor, work->layer, (rp_site)site, work->w, n, h, buf, lm->ld);
    }
}

rp_status rp_lm_layer(const rp_lm *lm, int64_t layer, const rp_layer_weights *w, int64_t n_seqs,
                      float *h, const rp_lm_tick *tick)
{
    rp_status st = RP_OK;
    layer_work work = {.lm = lm, .w = w, .layer = layer, .n_seqs = n_seqs, .h = h};
    const int64_t step = (int64_t)TICK_BATCHES * lm->n_workers * lm->batch_seqs;

    for (; work.first_seq < n_seqs; work.first_seq += step) {
        const int64_t n = RP_MIN(step, n_seqs - work.first_seq);
        rp_pool_run(lm->pool, RP_DIV_UP(n, lm->batch_seqs), run_batch, &work);
        if (tick != NULL) {
            RP_TRY(tick->fn(tick->ctx, n));
        }
    }
out:
    return st;
}

static rp_status run_layer(const rp_lm *lm, int64_t layer, int64_t n_seqs, float *h,
                           const rp_lm_tick *tick)
{
    rp_status st = RP_OK;
    rp_layer_weights w;

    RP_TRY(lm->source.load(lm->source.ctx, layer, &w));
    st = rp_lm_layer(lm, layer, &w, n_seqs, h, tick);
    lm->source.release(lm->source.ctx, layer);
out:
    return st;
}

void rp_lm_final_norm(const rp_lm *lm, int64_t n_rows, float *h)
{
    const int64_t cols = lm->config.hidden_size;

    lm->ops->rms_norm(&lm->exec, rp_mat_of(h, n_rows, cols, cols),
                      rp_cmat_of(h, n_rows, cols, cols), lm->norm, (float)lm->config.rms_eps);
}

rp_status rp_lm_hidden(rp_lm *lm, const int32_t *ids, int64_t n_seqs, float *h,
                       const rp_lm_tick *tick)
{
    rp_status st = RP_OK;
    const int64_t rows = n_seqs * lm->seq_len;

    RP_TRY(rp_lm_embed(lm->weights, &lm->exec, ids, rows, h));
    for (int64_t layer = 0; layer < lm->config.n_layers; layer++) {
        RP_TRY(run_layer(lm, layer, n_seqs, h, tick));
    }
    rp_lm_final_norm(lm, rows, h);
    RP_TRY(rp_place_check(&lm->exec));
out:
    return st;
}

/* ---- Head ---- */

rp_status rp_lm_read_head(const rp_lm *lm, int64_t first, int64_t n, float *out)
{
    rp_status st = RP_OK;
    const rp_weight_info *head = NULL;

    RP_TRY(find_tensor(&head, lm->weights, lm->config.tie_embeddings ? EMBED_NAME : HEAD_NAME));
    RP_TRY(rp_place_rows_read(lm->weights, head, first, n, lm->ops, &lm->exec, out));
out:
    return st;
}

void rp_lm_logits(const rp_lm *lm, int thread, float *logits, rp_cmat h, const float *head,
                  int64_t n)
{
    lm->ops->linear(&lm->alone[thread], rp_mat_of(logits, h.rows, n, n), h,
                    rp_cmat_of(head, n, h.cols, h.cols), NULL, false);
}

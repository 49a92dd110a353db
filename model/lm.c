/* See lm.h. */
#include "model/lm.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Sequences a thread works through between two ticks. */
enum { TICK_SEQS_PER_THREAD = 4 };

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
    int nthreads;
    rp_exec *alone; /* [nthreads] what one thread computes with: its scratch and no pool */
    int64_t seq_len;
    rp_executor **executors; /* [nthreads] */
    int64_t ld;              /* widest site */
    float *bufs;             /* [nthreads, seq_len, ld] */
    float *norm;             /* [hidden] */
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

static rp_status create_threads(rp_lm *lm)
{
    rp_status st = RP_OK;
    size_t elems = 0;

    lm->nthreads = lm->exec.pool == NULL ? 1 : rp_pool_nthreads(lm->exec.pool);
    lm->ld = widest_site(&lm->config);
    RP_TRY(rp_calloc(&lm->alone, (size_t)lm->nthreads, sizeof(*lm->alone)));
    RP_TRY(rp_calloc(&lm->executors, (size_t)lm->nthreads, sizeof(*lm->executors)));
    for (int t = 0; t < lm->nthreads; t++) {
        lm->alone[t] = lm->exec;
        lm->alone[t].pool = NULL;
        lm->alone[t].scratch = rp_exec_scratch(&lm->exec, t);
        RP_TRY(rp_executor_create(&lm->executors[t], &lm->config, lm->ops, &lm->alone[t],
                                  lm->seq_len, 1));
    }
    RP_TRY(rp_mul_size(&elems, (size_t)lm->nthreads * (size_t)lm->seq_len, (size_t)lm->ld));
    RP_TRY(rp_alloc_array(&lm->bufs, elems, sizeof(float)));
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
        RP_TRY(rp_layer_reader_create(&made->reader, weights));
        made->source = rp_layer_reader_source(made->reader);
    }
    RP_TRY(create_threads(made));
    RP_TRY(find_tensor(&norm, weights, NORM_NAME));
    RP_TRY(rp_alloc_array(&made->norm, (size_t)made->config.hidden_size, sizeof(float)));
    RP_TRY(rp_weights_read_f32(weights, norm, 0, made->config.hidden_size, made->norm));
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
    for (int t = 0; (*lm)->executors != NULL && t < (*lm)->nthreads; t++) {
        rp_executor_destroy(&(*lm)->executors[t]);
    }
    rp_layer_reader_destroy(&(*lm)->reader);
    free((*lm)->executors);
    free((*lm)->alone);
    free((*lm)->bufs);
    free((*lm)->norm);
    free(*lm);
    *lm = NULL;
}

size_t rp_lm_bytes(const rp_model_config *config, int nthreads, int64_t seq_len)
{
    const size_t buf_bytes = (size_t)(seq_len * widest_site(config)) * sizeof(float);

    return (size_t)nthreads * (buf_bytes + rp_executor_bytes(config, seq_len, 1)) +
           rp_layer_reader_bytes(config) + (size_t)config->hidden_size * sizeof(float);
}

const rp_model_config *rp_lm_config(const rp_lm *lm)
{
    return &lm->config;
}

int64_t rp_lm_seq_len(const rp_lm *lm)
{
    return lm->seq_len;
}

rp_pool *rp_lm_pool(const rp_lm *lm)
{
    return lm->exec.pool;
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

rp_status rp_lm_embed(const rp_weights *weights, const int32_t *ids, int64_t n, float *h)
{
    rp_status st = RP_OK;
    const rp_model_config *config = rp_weights_config(weights);
    const int64_t cols = config->hidden_size;
    const rp_weight_info *embed = NULL;
    placed_id *placed = NULL;

    RP_TRY(find_tensor(&embed, weights, EMBED_NAME));
    RP_TRY(rp_alloc_array(&placed, (size_t)n, sizeof(*placed)));
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= config->vocab_size) {
            st = RP_FAIL(RP_ERR_FORMAT,
                         "token id %d (number %lld of the text) is outside the vocabulary of %lld "
                         "of %s",
                         (int)ids[i], (long long)i, (long long)config->vocab_size,
                         rp_weights_path(weights));
            goto out;
        }
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

/* ---- Layers ---- */

typedef struct layer_work {
    const rp_lm *lm;
    const rp_layer_weights *w;
    int64_t layer, first_seq;
    float *h; /* [n_seqs * seq_len, hidden] */
} layer_work;

static void run_sequence(void *ctx, int64_t tile, int thread)
{
    const layer_work *work = ctx;
    const rp_lm *lm = work->lm;
    rp_executor *const executor = lm->executors[thread];
    float *const h = work->h + (work->first_seq + tile) * lm->seq_len * lm->config.hidden_size;
    float *const buf = lm->bufs + thread * lm->seq_len * lm->ld;

    rp_executor_enter(executor, work->layer, work->w, 1, h, buf, lm->ld);
    for (int site = 0; site < RP_SITE_COUNT; site++) {
        rp_executor_step(executor, work->layer, (rp_site)site, work->w, 1, h, buf, lm->ld);
    }
}

rp_status rp_lm_layer(const rp_lm *lm, int64_t layer, const rp_layer_weights *w, int64_t n_seqs,
                      float *h, const rp_lm_tick *tick)
{
    rp_status st = RP_OK;
    layer_work work = {.lm = lm, .w = w, .layer = layer, .h = h};
    const int64_t step = (int64_t)TICK_SEQS_PER_THREAD * lm->nthreads;

    for (; work.first_seq < n_seqs; work.first_seq += step) {
        const int64_t n = RP_MIN(step, n_seqs - work.first_seq);
        rp_pool_run(lm->exec.pool, n, run_sequence, &work);
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

    RP_TRY(rp_lm_embed(lm->weights, ids, rows, h));
    for (int64_t layer = 0; layer < lm->config.n_layers; layer++) {
        RP_TRY(run_layer(lm, layer, n_seqs, h, tick));
    }
    rp_lm_final_norm(lm, rows, h);
out:
    return st;
}

/* ---- Head ---- */

rp_status rp_lm_read_head(const rp_lm *lm, int64_t first, int64_t n, float *out)
{
    rp_status st = RP_OK;
    const rp_weight_info *head = NULL;

    RP_TRY(find_tensor(&head, lm->weights, lm->config.tie_embeddings ? EMBED_NAME : HEAD_NAME));
    RP_TRY(rp_weights_read_f32(lm->weights, head, first, n, out));
out:
    return st;
}

void rp_lm_logits(const rp_lm *lm, int thread, float *logits, rp_cmat h, const float *head,
                  int64_t n)
{
    lm->ops->linear(&lm->alone[thread], rp_mat_of(logits, h.rows, n, n), h,
                    rp_cmat_of(head, n, h.cols, h.cols), NULL, false);
}

/* The whole model for evaluation: token ids to final hidden rows to logits.
 *
 * Layers are the outer loop and sequences the inner one, so each layer's weights are read once for
 * a chunk of sequences and a model larger than memory works. Sequences go through in batches of
 * rp_lm_batch_seqs, each batch on its own: its results do not depend on the chunk, the threads or
 * the ranks. On the CPU a batch is one sequence, and threads take batches, each in its own
 * executor; a GPU takes one batch after the other. */
#ifndef RP_MODEL_LM_H
#define RP_MODEL_LM_H

#include "kernels/place.h"
#include "model/layer_source.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_lm rp_lm;

/* Called between batches of work by the calling thread; a failure (a stop) ends the work. `units`:
 * sequences times layers done since the last call, the head counting as one layer. */
typedef struct rp_lm_tick {
    rp_status (*fn)(void *ctx, int64_t units);
    void *ctx;
} rp_lm_tick;

/* Local. Sequences of a batch; the last of a chunk may be smaller. */
int64_t rp_lm_batch_seqs(bool has_gpu, int64_t seq_len);

/* Local. For sequences of seq_len tokens. Borrows all but the structs. source NULL: a reader of its
 * own over weights. Embedding, final norm and head are read from weights. */
RP_CHECKED rp_status rp_lm_create(rp_lm **out, const rp_weights *weights,
                                  const rp_layer_source *source, const rp_kernel_ops *ops,
                                  const rp_exec *exec, int64_t seq_len);
void rp_lm_destroy(rp_lm **lm);
/* Local. Most that an rp_lm takes (source NULL), for the plan. */
rp_place_bytes rp_lm_bytes(const rp_model_config *config, bool has_gpu, int nthreads,
                           int64_t seq_len);
const rp_model_config *rp_lm_config(const rp_lm *lm);
int64_t rp_lm_seq_len(const rp_lm *lm);
const rp_kernel_ops *rp_lm_ops(const rp_lm *lm);
/* Local. The threads that work on batches; NULL: the caller's. */
rp_pool *rp_lm_pool(const rp_lm *lm);
/* Local. What thread `thread` of rp_lm_pool (0: the caller's) computes with, alone. */
const rp_exec *rp_lm_exec(const rp_lm *lm, int thread);

/* Local. h [place] [n, hidden] = embedding rows of ids; each distinct id is read once, or once in
 * so many ids for a GPU. RP_ERR_FORMAT for an id outside the vocabulary. */
RP_CHECKED rp_status rp_lm_embed(const rp_weights *weights, const rp_exec *exec, const int32_t *ids,
                                 int64_t n, float *h);
/* Local. h [place] [n_seqs * seq_len, hidden] = rows after the final norm. tick may be NULL. */
RP_CHECKED rp_status rp_lm_hidden(rp_lm *lm, const int32_t *ids, int64_t n_seqs, float *h,
                                  const rp_lm_tick *tick);
/* Local. The parts of rp_lm_hidden: h [place] [n_seqs * seq_len, hidden] through one layer with
 * weights that the caller has, and h [place] [n_rows, hidden] through the final norm. */
RP_CHECKED rp_status rp_lm_layer(const rp_lm *lm, int64_t layer, const rp_layer_weights *w,
                                 int64_t n_seqs, float *h, const rp_lm_tick *tick);
void rp_lm_final_norm(const rp_lm *lm, int64_t n_rows, float *h);
/* Local. Head rows of ids first .. first + n - 1, out [place] [n, hidden] f32. */
RP_CHECKED rp_status rp_lm_read_head(const rp_lm *lm, int64_t first, int64_t n, float *out);
/* Local. logits [place] [h.rows, n] = h head^T for head [place] [n, hidden], computed by thread
 * `thread` of rp_lm_pool alone. */
void rp_lm_logits(const rp_lm *lm, int thread, float *logits, rp_cmat h, const float *head,
                  int64_t n);

#ifdef __cplusplus
}
#endif
#endif

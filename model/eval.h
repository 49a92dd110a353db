/* Perplexity of a text in fixed windows, and KL divergence and top-1 agreement against a base
 * model.
 *
 * A batch of rp_lm_batch_seqs windows (on the CPU: a window) is the unit of work: its results
 * depend on nothing else, so ranks take batches r, r + R, ..., and whoever gathers the results adds
 * them up in window order. */
#ifndef RP_MODEL_EVAL_H
#define RP_MODEL_EVAL_H

#include "model/lm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a text is cut and scored. */
typedef enum rp_eval_style {
    /* Windows of `context` tokens without overlap, tokens 1 .. context - 1 of each scored. With
     * add_bos every window is BOS and context - 1 tokens of the text, all of them scored. */
    RP_EVAL_WINDOWS = 0,
    /* llama.cpp's perplexity tool: the text (with add_bos: BOS and the text) in windows of
     * `context` tokens, the first replaced by BOS with add_bos, tokens context / 2 + 1 ..
     * context - 1 scored. */
    RP_EVAL_LLAMA_CPP
} rp_eval_style;

typedef struct rp_eval_opts {
    int64_t context; /* tokens a window, 2 or more */
    rp_eval_style style;
    bool add_bos;
    int32_t bos_id;        /* used with add_bos */
    int64_t max_windows;   /* 0: all that the text gives */
    int64_t chunk_windows; /* windows held at a time, whole batches; 0: as many as fit 256 MiB of
                              hidden rows, 2 GiB on a GPU. Not seen in results. */
} rp_eval_opts;
rp_eval_opts rp_eval_opts_default(void); /* context 512 */

typedef struct rp_eval_window {
    double nll;       /* nats, sum over the scored tokens */
    double kl;        /* sum of KL(base || model), nats; 0 without base */
    int64_t n_scored; /* tokens */
    int64_t n_same_top1;
} rp_eval_window;

typedef struct rp_eval_result {
    int64_t n_windows, n_scored;
    double nll;        /* nats a token */
    double perplexity; /* exp(nll) */
    double kl;         /* mean over scored tokens */
    double top1;       /* share of tokens with the same most likely token, 0 to 1 */
} rp_eval_result;

/* Local. Windows that n_ids tokens of text give; RP_ERR_FORMAT, saying how many tokens there are
 * and how many one window needs, when none. */
RP_CHECKED rp_status rp_eval_count_windows(int64_t *n_windows, const rp_eval_opts *opts,
                                           int64_t n_ids);
/* Local. The tokens [context] of window `index`. */
void rp_eval_window_tokens(int32_t *out, const rp_eval_opts *opts, const int32_t *ids,
                           int64_t index);
/* Local. out [n] = results of the windows indices[n], each below rp_eval_count_windows, whole
 * batches one after the other. model and base are made for sequences of opts->context tokens with
 * the same operations and share a vocabulary size; base NULL: no KL. tick may be NULL; units in
 * all: rp_eval_units. */
RP_CHECKED rp_status rp_eval_windows(rp_eval_window *out, rp_lm *model, rp_lm *base,
                                     const rp_eval_opts *opts, const int32_t *ids,
                                     const int64_t *indices, int64_t n, const rp_lm_tick *tick);
/* Local. The same for n sequences ids [n, rp_lm_seq_len] of which rows after the final norm are
 * known [place]: h of a model that shares lm's head, base_h of lm's own. */
RP_CHECKED rp_status rp_eval_hidden(rp_eval_window *out, rp_lm *lm, const int32_t *ids,
                                    const float *h, const float *base_h, int64_t n);
int64_t rp_eval_units(const rp_model_config *model, const rp_model_config *base, int64_t n);
/* Local. Bytes that rp_eval_windows takes, each rp_lm included, for the plan. */
rp_place_bytes rp_eval_bytes(const rp_model_config *config, bool has_base, const rp_eval_opts *opts,
                             bool has_gpu, int nthreads, int64_t n);
/* Local. Sums in window order. */
rp_eval_result rp_eval_summarise(const rp_eval_window *windows, int64_t n);

#ifdef __cplusplus
}
#endif
#endif

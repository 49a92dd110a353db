/* The block executor: runs one layer's steps on one block of rows, for every family.
 *
 * A layer is four sites (model/config.h). For each, `buf` holds the site's input rows; the step
 * multiplies by the site's linears and leaves the next site's input in `buf`: enter:            buf
 * = norm(h)                                        input of QKV step(QKV):        q, k, v =
 * linears(buf); buf = attention(q, k, v)     input of O step(O):          h += o(buf); buf =
 * norm(h)                           input of GATE_UP step(GATE_UP):    buf = silu(gate(buf)) *
 * up(buf)                      input of DOWN step(DOWN):       h += down(buf) Calibration solves a
 * site's linears before it steps over it, so each linear is forwarded once, compressed. */
#ifndef RP_MODEL_EXECUTOR_H
#define RP_MODEL_EXECUTOR_H

#include "kernels/ops.h"
#include "model/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Borrowed f32 weights of one layer [place], by slot; linears [rows, cols] row-major; NULL where
 * the model has none. */
typedef struct rp_layer_weights {
    const float *slot[RP_SLOT_COUNT];
} rp_layer_weights;

typedef struct rp_executor rp_executor;

/* Local. For blocks of at most max_seqs sequences of seq_len tokens. Borrows ops and exec; copies
 * config. */
RP_CHECKED rp_status rp_executor_create(rp_executor **out, const rp_model_config *config,
                                        const rp_kernel_ops *ops, const rp_exec *exec,
                                        int64_t seq_len, int64_t max_seqs);
void rp_executor_destroy(rp_executor **executor);
/* Local. Bytes in the place that rp_executor_create allocates, for the plan. */
size_t rp_executor_bytes(const rp_model_config *config, int64_t seq_len, int64_t max_seqs);
/* Local. h [place] [n_seqs * seq_len, hidden] f32 contiguous, NULL for steps that do not touch it;
 * buf [place]: rows have leading dimension ldbuf >= every site's width. */
void rp_executor_enter(rp_executor *executor, int64_t layer, const rp_layer_weights *w,
                       int64_t n_seqs, const float *h, float *buf, int64_t ldbuf);
void rp_executor_step(rp_executor *executor, int64_t layer, rp_site site, const rp_layer_weights *w,
                      int64_t n_seqs, float *h, float *buf, int64_t ldbuf);
/* Local. Columns of h and of buf that enter and a step read and write. */
typedef struct rp_step_columns {
    int64_t h_read, h_written, buf_read, buf_written;
} rp_step_columns;
rp_step_columns rp_executor_enter_columns(const rp_model_config *config);
rp_step_columns rp_executor_step_columns(const rp_model_config *config, rp_site site);
/* Local. FLOP of one step over n_rows tokens (2 per multiply-add; attention with its causal half).
 */
double rp_executor_step_flop(const rp_model_config *config, rp_site site, int64_t n_rows,
                             int64_t seq_len);

#ifdef __cplusplus
}
#endif
#endif

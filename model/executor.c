/* The block executor: one pre-norm decoder layer as four steps over the operation table. Families
 * differ only by which slots are present (biases, q and k norms) and by the layer's window.
 *
 * Scratch [max_rows, max(q + 2 kv, 2 mlp)] holds q, k, v of the QKV step or gate, up of the GATE_UP
 * step, each contiguous; no two steps need it at once. */
#include "model/executor.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "kernels/place.h"
#include "model/rope.h"

struct rp_executor {
    rp_model_config config;
    const rp_kernel_ops *ops;
    rp_exec exec;
    int64_t seq_len, max_seqs;
    rp_rope rope;
    float *scratch; /* [place] */
};

static int64_t q_width(const rp_model_config *config)
{
    return config->n_heads * config->head_dim;
}

static int64_t kv_width(const rp_model_config *config)
{
    return config->n_kv_heads * config->head_dim;
}

static int64_t scratch_width(const rp_model_config *config)
{
    return RP_MAX(q_width(config) + 2 * kv_width(config), 2 * config->intermediate_size);
}

rp_status rp_executor_create(rp_executor **out, const rp_model_config *config,
                             const rp_kernel_ops *ops, const rp_exec *exec, int64_t seq_len,
                             int64_t max_seqs)
{
    rp_status st = RP_OK;
    rp_executor *made = NULL;
    size_t rows = 0;
    size_t elems = 0;

    *out = NULL;
    RP_TRY(rp_calloc(&made, 1, sizeof(*made)));
    made->config = *config;
    made->ops = ops;
    made->exec = *exec;
    made->seq_len = seq_len;
    made->max_seqs = max_seqs;
    RP_TRY(rp_rope_create(&made->rope, config, &made->exec, seq_len));
    RP_TRY(rp_mul_size(&rows, (size_t)seq_len, (size_t)max_seqs));
    RP_TRY(rp_mul_size(&elems, rows, (size_t)scratch_width(config)));
    RP_TRY(rp_place_alloc(&made->exec, &made->scratch, elems, sizeof(float)));
    *out = made;
    made = NULL;
out:
    rp_executor_destroy(&made);
    return st;
}

void rp_executor_destroy(rp_executor **executor)
{
    if (*executor != NULL) {
        rp_rope_destroy(&(*executor)->exec, &(*executor)->rope);
        rp_place_free(&(*executor)->exec, (*executor)->scratch);
        free(*executor);
        *executor = NULL;
    }
}

size_t rp_executor_bytes(const rp_model_config *config, int64_t seq_len, int64_t max_seqs)
{
    return rp_rope_bytes(config, seq_len) +
           (size_t)(seq_len * max_seqs * scratch_width(config)) * sizeof(float);
}

/* y (+)= x * slot^T + bias; the slot's own shape says how wide both are. */
static void apply_linear(const rp_executor *e, const rp_layer_weights *w, rp_slot slot, rp_mat y,
                         rp_cmat x, bool accumulate)
{
    const rp_slot bias = (rp_slot)(RP_SLOT_Q_BIAS + (slot - RP_SLOT_Q));
    int64_t rows = 0;
    int64_t cols = 0;

    rp_model_slot_shape(&e->config, slot, &rows, &cols);
    RP_ASSERT(y.cols == rows && x.cols == cols);
    e->ops->linear(&e->exec, y, x, rp_cmat_of(w->slot[slot], rows, cols, cols), w->slot[bias],
                   accumulate);
}

static void apply_norm(const rp_executor *e, const float *weight, rp_mat y, rp_cmat x)
{
    e->ops->rms_norm(&e->exec, y, x, weight, (float)e->config.rms_eps);
}

/* RMSNorm of every head (where the family has it), then rotation, in place. */
static void norm_and_rotate(const rp_executor *e, const float *norm, rp_mat x, int64_t n_heads)
{
    const int64_t head_dim = e->config.head_dim;

    if (norm != NULL) {
        const int64_t rows = x.rows * n_heads;
        apply_norm(e, norm, rp_mat_of(x.data, rows, head_dim, head_dim),
                   rp_cmat_of(x.data, rows, head_dim, head_dim));
    }
    e->ops->rope(&e->exec, x, (int)n_heads, (int)head_dim, e->seq_len, &e->rope.table);
}

static void step_qkv(const rp_executor *e, int64_t layer, const rp_layer_weights *w, int64_t n_seqs,
                     float *buf, int64_t ldbuf)
{
    const rp_model_config *config = &e->config;
    const int64_t rows = n_seqs * e->seq_len;
    const int64_t q_cols = q_width(config);
    const int64_t kv_cols = kv_width(config);
    const rp_cmat x = rp_cmat_of(buf, rows, config->hidden_size, ldbuf);
    const rp_mat q = rp_mat_of(e->scratch, rows, q_cols, q_cols);
    const rp_mat k = rp_mat_of(q.data + rows * q_cols, rows, kv_cols, kv_cols);
    const rp_mat v = rp_mat_of(k.data + rows * kv_cols, rows, kv_cols, kv_cols);
    const rp_attention_shape shape = {
        .seq_len = e->seq_len,
        .n_seqs = n_seqs,
        .n_heads = (int)config->n_heads,
        .n_kv_heads = (int)config->n_kv_heads,
        .head_dim = (int)config->head_dim,
        .window = rp_model_layer_window(config, layer),
        .scale = (float)(1.0 / sqrt((double)config->head_dim)),
    };

    apply_linear(e, w, RP_SLOT_Q, q, x, false);
    apply_linear(e, w, RP_SLOT_K, k, x, false);
    apply_linear(e, w, RP_SLOT_V, v, x, false);
    norm_and_rotate(e, w->slot[RP_SLOT_Q_NORM], q, config->n_heads);
    norm_and_rotate(e, w->slot[RP_SLOT_K_NORM], k, config->n_kv_heads);
    e->ops->attention(&e->exec, &shape, rp_mat_of(buf, rows, q_cols, ldbuf),
                      rp_cmat_of(q.data, rows, q_cols, q_cols),
                      rp_cmat_of(k.data, rows, kv_cols, kv_cols),
                      rp_cmat_of(v.data, rows, kv_cols, kv_cols));
}

static void step_gate_up(const rp_executor *e, const rp_layer_weights *w, int64_t n_seqs,
                         float *buf, int64_t ldbuf)
{
    const int64_t rows = n_seqs * e->seq_len;
    const int64_t cols = e->config.intermediate_size;
    const rp_cmat x = rp_cmat_of(buf, rows, e->config.hidden_size, ldbuf);
    const rp_mat gate = rp_mat_of(e->scratch, rows, cols, cols);
    const rp_mat up = rp_mat_of(gate.data + rows * cols, rows, cols, cols);

    apply_linear(e, w, RP_SLOT_GATE, gate, x, false);
    apply_linear(e, w, RP_SLOT_UP, up, x, false);
    e->ops->silu_mul(&e->exec, rp_mat_of(buf, rows, cols, ldbuf),
                     rp_cmat_of(gate.data, rows, cols, cols),
                     rp_cmat_of(up.data, rows, cols, cols));
}

void rp_executor_enter(rp_executor *executor, int64_t layer, const rp_layer_weights *w,
                       int64_t n_seqs, const float *h, float *buf, int64_t ldbuf)
{
    const int64_t rows = n_seqs * executor->seq_len;
    const int64_t cols = executor->config.hidden_size;

    (void)layer;
    RP_ASSERT(n_seqs <= executor->max_seqs);
    apply_norm(executor, w->slot[RP_SLOT_ATTN_NORM], rp_mat_of(buf, rows, cols, ldbuf),
               rp_cmat_of(h, rows, cols, cols));
}

void rp_executor_step(rp_executor *executor, int64_t layer, rp_site site, const rp_layer_weights *w,
                      int64_t n_seqs, float *h, float *buf, int64_t ldbuf)
{
    const int64_t rows = n_seqs * executor->seq_len;
    const int64_t cols = executor->config.hidden_size;
    const rp_cmat x = rp_cmat_of(buf, rows, rp_model_site_width(&executor->config, site), ldbuf);
    const rp_mat residual = rp_mat_of(h, rows, cols, cols);

    RP_ASSERT(n_seqs <= executor->max_seqs && ldbuf >= x.cols);
    switch (site) {
    case RP_SITE_QKV:
        step_qkv(executor, layer, w, n_seqs, buf, ldbuf);
        break;
    case RP_SITE_O:
        apply_linear(executor, w, RP_SLOT_O, residual, x, true);
        apply_norm(executor, w->slot[RP_SLOT_MLP_NORM], rp_mat_of(buf, rows, cols, ldbuf),
                   rp_cmat_of(h, rows, cols, cols));
        break;
    case RP_SITE_GATE_UP:
        step_gate_up(executor, w, n_seqs, buf, ldbuf);
        break;
    case RP_SITE_DOWN:
        apply_linear(executor, w, RP_SLOT_DOWN, residual, x, true);
        break;
    default:
        RP_ASSERT(false);
    }
}

rp_step_columns rp_executor_enter_columns(const rp_model_config *config)
{
    const int64_t hidden = config->hidden_size;

    return (rp_step_columns){.h_read = hidden, .buf_written = hidden};
}

rp_step_columns rp_executor_step_columns(const rp_model_config *config, rp_site site)
{
    const bool is_adding = site == RP_SITE_O || site == RP_SITE_DOWN;
    rp_step_columns columns = {.buf_read = rp_model_site_width(config, site)};

    columns.h_read = columns.h_written = is_adding ? config->hidden_size : 0;
    columns.buf_written =
        site == RP_SITE_DOWN ? 0 : rp_model_site_width(config, (rp_site)(site + 1));
    return columns;
}

double rp_executor_step_flop(const rp_model_config *config, rp_site site, int64_t n_rows,
                             int64_t seq_len)
{
    double flop_per_row = 0;

    for (int slot = 0; slot < RP_SLOT_LINEARS; slot++) {
        int64_t rows = 0;
        int64_t cols = 0;
        if (rp_slot_info_of((rp_slot)slot)->site == site) {
            rp_model_slot_shape(config, (rp_slot)slot, &rows, &cols);
            flop_per_row += 2.0 * (double)rows * (double)cols;
        }
    }
    if (site == RP_SITE_QKV) { /* scores and values over (seq_len + 1) / 2 keys on average */
        flop_per_row += 2.0 * (double)q_width(config) * (double)(seq_len + 1);
    }
    return flop_per_row * (double)n_rows;
}

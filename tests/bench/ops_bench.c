/* Times every CPU operation of one layer of a llama-like model on one block, beside the time that
 * its products would take at the library's own best rate:
 *
 *     OPENBLAS_CORETYPE=SkylakeX ops_bench THREADS f32|bf16 [WIDTH HEADS KV_HEADS MIDDLE SEQ_LEN]
 *
 * (f32 rates: bf16 products exceed them). Defaults are those of SmolLM2-135M with sequences of 512
 * tokens. */
#include "base/clock.h"
#include "base/mem.h"
#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/gemm_bench.h"
#include "kernels/ops.h"
#include "tests/bench/best_of.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 2048, REPS = 5 };
#define RATE_LIMIT_S 0.15

typedef struct layer {
    rp_exec *exec;
    int64_t width, n_heads, n_kv_heads, head_dim, middle, seq_len;
    float *x, *y, *u, *w; /* activations [ROWS, max cols], weights */
    float *cos, *sin;
    int *exponent;
    int64_t *sum;
    double spent_s, ideal_s;
} layer;

static void report(layer *l, const char *name, double seconds, double gflop, double best_rate)
{
    const double ideal_s = gflop / best_rate;

    printf("%-24s %8.2f ms %8.1f GFLOP/s %6.2f of ideal\n", name, seconds * 1e3, gflop / seconds,
           ideal_s / seconds);
    l->spent_s += seconds;
    l->ideal_s += ideal_s;
}

static double rate_of(const layer *l, rp_bench_kind kind, int64_t m, int64_t n, int64_t k)
{
    const rp_bench_shape shape = {m, n, k};
    double rate = 1.0;

    if (rp_gemm_bench(&rate, l->exec, kind, &shape, RATE_LIMIT_S) != RP_OK) {
        fprintf(stderr, "%s\n", rp_error_message());
        exit(71);
    }
    return rate;
}

static rp_cmat const_of(rp_mat m)
{
    return rp_cmat_of(m.data, m.rows, m.cols, m.ld);
}

static void time_linear(layer *l, const char *name, int64_t n, int64_t k)
{
    const rp_kernel_ops *ops = rp_kernels_cpu();
    const rp_cmat x = rp_cmat_of(l->x, ROWS, k, k), w = rp_cmat_of(l->w, n, k, k);
    const double gflop = 2e-9 * ROWS * (double)n * (double)k;
    double seconds;

    BEST_OF(seconds, REPS, rp_clock_seconds,
            ops->linear(l->exec, rp_mat_of(l->y, ROWS, n, n), x, w, NULL, false));
    report(l, name, seconds, gflop, rate_of(l, RP_BENCH_SGEMM, ROWS, n, k));
}

static void time_gram(layer *l, const char *name, int64_t d)
{
    const rp_kernel_ops *ops = rp_kernels_cpu();
    const rp_cmat x = rp_cmat_of(l->x, ROWS, d, d);
    const double gflop = 1e-9 * ROWS * (double)d * (double)d;
    double seconds;

    BEST_OF(seconds, REPS, rp_clock_seconds, ops->gram_add(l->exec, x, l->exponent, 30, l->sum));
    report(l, name, seconds, gflop, rate_of(l, RP_BENCH_SGEMM, d, d, ROWS));
}

static void time_attention(layer *l)
{
    const rp_kernel_ops *ops = rp_kernels_cpu();
    const int64_t q_cols = l->n_heads * l->head_dim, kv_cols = l->n_kv_heads * l->head_dim;
    const rp_attention_shape shape = {.seq_len = l->seq_len,
                                      .n_seqs = ROWS / l->seq_len,
                                      .n_heads = (int)l->n_heads,
                                      .n_kv_heads = (int)l->n_kv_heads,
                                      .head_dim = (int)l->head_dim,
                                      .scale = 1.0F / sqrtf((float)l->head_dim)};
    const rp_cmat q = rp_cmat_of(l->x, ROWS, q_cols, q_cols);
    const rp_cmat k = rp_cmat_of(l->u, ROWS, kv_cols, kv_cols);
    const double gflop = 2e-9 * ROWS * (double)q_cols * (double)(l->seq_len + 1);
    const rp_rope_table table = {l->cos, l->sin, (int)l->head_dim};
    double seconds;

    BEST_OF(seconds, REPS, rp_clock_seconds,
            ops->attention(l->exec, &shape, rp_mat_of(l->y, ROWS, q_cols, q_cols), q, k, k));
    report(l, "attention (causal half)", seconds, gflop,
           rate_of(l, RP_BENCH_SGEMM, ROWS, l->width, l->width));
    BEST_OF(seconds, REPS, rp_clock_seconds,
            ops->rope(l->exec, rp_mat_of(l->x, ROWS, q_cols, q_cols), (int)l->n_heads,
                      (int)l->head_dim, l->seq_len, &table));
    report(l, "rope", seconds, 0.0, 1.0);
}

static void time_rowwise(layer *l)
{
    const rp_kernel_ops *ops = rp_kernels_cpu();
    const rp_mat wide = rp_mat_of(l->y, ROWS, l->middle, l->middle);
    const rp_cmat x = rp_cmat_of(l->x, ROWS, l->width, l->width);
    float *max = l->w;
    double seconds;

    BEST_OF(seconds, REPS, rp_clock_seconds,
            ops->rms_norm(l->exec, rp_mat_of(l->y, ROWS, l->width, l->width), x, l->w, 1e-5F));
    report(l, "rms_norm", seconds, 0.0, 1.0);
    report(l, "rms_norm (second)", seconds, 0.0, 1.0);
    BEST_OF(seconds, REPS, rp_clock_seconds,
            ops->silu_mul(l->exec, wide, rp_cmat_of(l->x, ROWS, l->middle, l->middle),
                          rp_cmat_of(l->u, ROWS, l->middle, l->middle)));
    report(l, "silu_mul", seconds, 0.0, 1.0);
    BEST_OF(seconds, REPS, rp_clock_seconds, ops->max_abs(l->exec, const_of(wide), max));
    report(l, "max_abs (middle)", seconds, 0.0, 1.0);
    BEST_OF(seconds, REPS, rp_clock_seconds, ops->max_abs(l->exec, x, max));
    report(l, "max_abs (3 of width)", 3.0 * seconds, 0.0, 1.0);
}

static float *floats(int64_t n)
{
    float *x = NULL;

    if (rp_alloc_array(&x, (size_t)n, sizeof(*x)) != RP_OK) {
        exit(71);
    }
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)((uint32_t)i * 2654435761U >> 8) / 8388608.0F - 1.0F;
    }
    return x;
}

int main(int argc, char **argv)
{
    const int threads = argc > 1 ? atoi(argv[1]) : 1;
    const rp_products products =
        argc > 2 && strcmp(argv[2], "bf16") == 0 ? RP_PRODUCTS_BF16 : RP_PRODUCTS_F32;
    const bool has_shape = argc > 7;
    layer l = {.width = has_shape ? atoi(argv[3]) : 576,
               .n_heads = has_shape ? atoi(argv[4]) : 9,
               .n_kv_heads = has_shape ? atoi(argv[5]) : 3,
               .middle = has_shape ? atoi(argv[6]) : 1536,
               .seq_len = has_shape ? atoi(argv[7]) : 512};
    const int64_t widest = RP_MAX(l.width, l.middle);
    char class_name[128];

    l.head_dim = l.width / l.n_heads;
    if (rp_exec_create(&l.exec, threads, products) != RP_OK ||
        rp_calloc(&l.sum, (size_t)(widest * widest), sizeof(*l.sum)) != RP_OK ||
        rp_calloc(&l.exponent, (size_t)widest, sizeof(*l.exponent)) != RP_OK) {
        fprintf(stderr, "%s\n", rp_error_message());
        return 71;
    }
    l.x = floats(ROWS * widest);
    l.y = floats(ROWS * widest);
    l.u = floats(ROWS * widest);
    l.w = floats(widest * widest);
    l.cos = floats(l.seq_len * l.head_dim);
    l.sin = floats(l.seq_len * l.head_dim);
    rp_cpu_arith_class(class_name, sizeof(class_name), products);
    printf("%s, %d threads\n", class_name, threads);
    time_linear(&l, "linear q", l.width, l.width);
    time_linear(&l, "linear k", l.n_kv_heads * l.head_dim, l.width);
    time_linear(&l, "linear v", l.n_kv_heads * l.head_dim, l.width);
    time_linear(&l, "linear o", l.width, l.width);
    time_linear(&l, "linear gate", l.middle, l.width);
    time_linear(&l, "linear up", l.middle, l.width);
    time_linear(&l, "linear down", l.width, l.middle);
    time_gram(&l, "gram qkv", l.width);
    time_gram(&l, "gram o", l.width);
    time_gram(&l, "gram gate, up", l.width);
    time_gram(&l, "gram down", l.middle);
    time_attention(&l);
    time_rowwise(&l);
    printf("sum of FLOP / best rate: %.2f of %.2f ms\n", l.ideal_s / l.spent_s, l.spent_s * 1e3);
    printf("cholesky of middle: %.1f GFLOP/s, dgemm %.1f, copy %.1f GB/s\n",
           rate_of(&l, RP_BENCH_CHOLESKY, 0, l.middle, 0),
           rate_of(&l, RP_BENCH_DGEMM, l.middle, l.middle, l.middle),
           rate_of(&l, RP_BENCH_COPY, 1 << 15, 1024, 0));
    rp_exec_destroy(&l.exec);
    free(l.x);
    free(l.y);
    free(l.u);
    free(l.w);
    free(l.cos);
    free(l.sin);
    free(l.exponent);
    free(l.sum);
    return 0;
}

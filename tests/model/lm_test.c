/* The language model and its evaluation on a GPU, or on the stand-in: against the CPU's operations
 * with products of the same kind, and the same bits however batches are dealt. Arguments: golden
 * models. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "kernels/place.h"
#include "model/eval.h"

#define ARENA_BYTES ((size_t)96 << 20)

enum {
    SEQ_LEN = 21,
    N_SEQS = 3,
    CONTEXT = 250,
    N_WINDOWS = 34,
    N_FEW = 4,
    N_IDS = N_WINDOWS * CONTEXT
};

static const char *const *models;
static int n_models;

/* Two back ends; the GPU's exec is the other one with a GPU. */
typedef struct machines {
    rp_exec *cpu;
    rp_exec gpu;
} machines;

static int start(void **state)
{
    machines *m = NULL;

    assert_int_equal(rp_calloc(&m, 1, sizeof(*m)), RP_OK);
    assert_int_equal(rp_exec_create(&m->cpu, 2, RP_PRODUCTS_F32), RP_OK);
    m->gpu = *m->cpu;
    assert_int_equal(rp_gpu_create(&m->gpu.gpu, 0, ARENA_BYTES), RP_OK);
    *state = m;
    return 0;
}

static int end(void **state)
{
    machines *m = *state;

    rp_gpu_destroy(&m->gpu.gpu);
    rp_exec_destroy(&m->cpu);
    free(m);
    return 0;
}

/* ---- The CPU's operations with a GPU's products ---- */

static float *rounded(rp_cmat x)
{
    float *out = NULL;

    assert_int_equal(rp_alloc_array(&out, (size_t)(x.rows * x.cols), sizeof(float)), RP_OK);
    for (int64_t r = 0; r < x.rows; r++) {
        for (int64_t c = 0; c < x.cols; c++) {
            out[r * x.cols + c] = rp_round_to_dtype(x.data[r * x.ld + c], RP_BF16);
        }
    }
    return out;
}

static void linear_bf16(const rp_exec *exec, rp_mat y, rp_cmat x, rp_cmat w, const float *bias,
                        bool accumulate)
{
    float *x_copy = rounded(x);
    float *w_copy = rounded(w);

    rp_kernels_cpu()->linear(exec, y, rp_cmat_of(x_copy, x.rows, x.cols, x.cols),
                             rp_cmat_of(w_copy, w.rows, w.cols, w.cols), bias, accumulate);
    free(x_copy);
    free(w_copy);
}

static rp_kernel_ops bf16_ops(void)
{
    rp_kernel_ops ops = *rp_kernels_cpu();

    ops.linear = linear_bf16;
    return ops;
}

/* ---- Logits ---- */

static void make_ids(int32_t *ids, int64_t n)
{
    unsigned seed = 9;

    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525U + 1013904223U;
        ids[i] = (int32_t)(seed >> 20) % 128;
    }
}

/* out [N_SEQS * SEQ_LEN, vocab], to be freed. */
static float *logits_of(const rp_weights *weights, const rp_kernel_ops *ops, const rp_exec *exec)
{
    const size_t rows = (size_t)N_SEQS * SEQ_LEN;
    const size_t hidden = (size_t)rp_weights_config(weights)->hidden_size;
    const size_t vocab = (size_t)rp_weights_config(weights)->vocab_size;
    int32_t ids[N_SEQS * SEQ_LEN];
    rp_lm *lm = NULL;
    float *h = NULL;
    float *head = NULL;
    float *logits = NULL;
    float *out = NULL;

    make_ids(ids, N_SEQS * SEQ_LEN);
    assert_int_equal(rp_place_alloc(exec, &h, rows * hidden, sizeof(float)), RP_OK);
    assert_int_equal(rp_place_alloc(exec, &head, vocab * hidden, sizeof(float)), RP_OK);
    assert_int_equal(rp_place_alloc(exec, &logits, rows * vocab, sizeof(float)), RP_OK);
    assert_int_equal(rp_alloc_array(&out, rows * vocab, sizeof(float)), RP_OK);
    assert_int_equal(rp_lm_create(&lm, weights, NULL, ops, exec, SEQ_LEN), RP_OK);
    assert_int_equal(rp_lm_hidden(lm, ids, N_SEQS, h, NULL), RP_OK);
    assert_int_equal(rp_lm_read_head(lm, 0, (int64_t)vocab, head), RP_OK);
    rp_lm_logits(lm, 0, logits, rp_cmat_of(h, (int64_t)rows, (int64_t)hidden, (int64_t)hidden),
                 head, (int64_t)vocab);
    rp_place_get(exec, out, logits, rows * vocab * sizeof(float));
    assert_int_equal(rp_place_check(exec), RP_OK);
    rp_lm_destroy(&lm);
    rp_place_free(exec, h);
    rp_place_free(exec, head);
    rp_place_free(exec, logits);
    return out;
}

/* Of n values from `want`, as a part of them, by squares. */
static double distance(const float *x, const float *want, int64_t n)
{
    double sum = 0;
    double delta_sum = 0;

    for (int64_t i = 0; i < n; i++) {
        const double delta = (double)x[i] - (double)want[i];
        sum += (double)want[i] * (double)want[i];
        delta_sum += delta * delta;
    }
    return sqrt(delta_sum / sum);
}

static void test_logits(void **state)
{
    machines *m = *state;
    const rp_kernel_ops ops = bf16_ops();

    for (int i = 0; i < n_models; i++) {
        rp_weights *weights = NULL;
        assert_int_equal(rp_weights_open(&weights, models[i]), RP_OK);
        const int64_t n = N_SEQS * SEQ_LEN * rp_weights_config(weights)->vocab_size;
        float *want = logits_of(weights, &ops, m->cpu);
        float *got = logits_of(weights, rp_kernels_cuda(), &m->gpu);
        float *f32 = logits_of(weights, rp_kernels_cpu(), m->cpu);
        const double off = distance(got, want, n);
        print_message("%s: logits off by %.2e, f32's by %.2e\n", models[i], off,
                      distance(f32, want, n));
        assert_true(off <= 0.01 && off < distance(f32, want, n));
        free(f32);
        free(got);
        free(want);
        rp_weights_close(&weights);
    }
}

/* ---- Evaluation ---- */

/* A compressed model's stand-in: weights off by up to 6 %. */
static rp_status disturb(void *ctx, const rp_weight_info *info, int64_t row0, int64_t nrows,
                         float *values)
{
    (void)ctx;
    for (int64_t i = 0; i < nrows * info->shape[1]; i++) {
        const unsigned at = (unsigned)(row0 * info->shape[1] + i);
        values[i] *= 1 + 0.06F * ((float)((at * 2654435761U) >> 16) / 32768.0F - 1);
    }
    return RP_OK;
}

/* What evaluates: models, operations, and where they run. */
typedef struct evaluation {
    const rp_weights *model, *base;
    const rp_kernel_ops *ops;
    const rp_exec *exec;
    const rp_eval_opts *opts;
    const int32_t *ids;
} evaluation;

/* Windows first .. first + n - 1, in their places of out. */
static void evaluate(rp_eval_window out[N_WINDOWS], const evaluation *e, int64_t first, int64_t n)
{
    rp_eval_window results[N_WINDOWS];
    int64_t indices[N_WINDOWS];
    rp_lm *lm = NULL;
    rp_lm *base_lm = NULL;

    for (int64_t i = 0; i < n; i++) {
        indices[i] = first + i;
    }
    assert_int_equal(rp_lm_create(&lm, e->model, NULL, e->ops, e->exec, e->opts->context), RP_OK);
    assert_int_equal(rp_lm_create(&base_lm, e->base, NULL, e->ops, e->exec, e->opts->context),
                     RP_OK);
    assert_int_equal(rp_eval_windows(results, lm, base_lm, e->opts, e->ids, indices, n, NULL),
                     RP_OK);
    for (int64_t i = 0; i < n; i++) {
        out[first + i] = results[i];
    }
    rp_lm_destroy(&base_lm);
    rp_lm_destroy(&lm);
}

static void assert_near(const rp_eval_window *want, const rp_eval_window *got, int64_t n)
{
    const rp_eval_result a = rp_eval_summarise(want, n);
    const rp_eval_result b = rp_eval_summarise(got, n);

    print_message("perplexity %.5f %.5f, KL %.6f %.6f, top-1 %.4f %.4f\n", a.perplexity,
                  b.perplexity, a.kl, b.kl, a.top1, b.top1);
    assert_int_equal(a.n_scored, b.n_scored);
    assert_true(fabs(b.perplexity / a.perplexity - 1) <= 0.002);
    assert_true(fabs(b.kl / a.kl - 1) <= 0.05);
    assert_true(fabs(b.top1 - a.top1) <= 0.02);
}

static void test_evaluation(void **state)
{
    machines *m = *state;
    const rp_weights_filter filter = {disturb, NULL};
    const int64_t batch = rp_lm_batch_seqs(true, CONTEXT);
    rp_eval_opts opts = rp_eval_opts_default();
    rp_weights *base = NULL;
    rp_weights *model = NULL;
    rp_eval_window want[N_WINDOWS];
    rp_eval_window got[N_WINDOWS];
    rp_eval_window again[N_WINDOWS];
    int32_t *ids = NULL;

    assert_in_range(batch, 2, N_WINDOWS - 1);
    assert_int_equal(rp_alloc_array(&ids, N_IDS, sizeof(*ids)), RP_OK);
    make_ids(ids, N_IDS);
    assert_int_equal(rp_weights_open(&base, models[0]), RP_OK);
    assert_int_equal(rp_weights_open_view(&model, base, &filter), RP_OK);
    opts.context = CONTEXT;
    const evaluation cpu = {model, base, rp_kernels_cpu(), m->cpu, &opts, ids};
    const evaluation gpu = {model, base, rp_kernels_cuda(), &m->gpu, &opts, ids};
    evaluate(got, &gpu, 0, N_WINDOWS);
    opts.chunk_windows = 1; /* whole batches in any case */
    evaluate(again, &gpu, batch, N_WINDOWS - batch);
    for (int64_t i = batch; i < N_WINDOWS; i++) { /* a batch by itself, as ranks are dealt them */
        assert_true(again[i].nll == got[i].nll && again[i].kl == got[i].kl);
        assert_int_equal(again[i].n_same_top1, got[i].n_same_top1);
    }
    evaluate(want, &cpu, 0, N_WINDOWS);
    assert_near(want, got, N_WINDOWS);
    opts.style = RP_EVAL_LLAMA_CPP;
    evaluate(want, &cpu, 0, N_FEW);
    evaluate(got, &gpu, 0, N_FEW);
    assert_near(want, got, N_FEW);
    free(ids);
    rp_weights_close(&model);
    rp_weights_close(&base);
}

static void test_planned_memory(void **state)
{
    machines *m = *state;
    rp_eval_opts opts = rp_eval_opts_default();
    rp_weights *base = NULL;
    rp_eval_window out[N_WINDOWS];
    int32_t ids[4 * 64];

    opts.context = 64;
    make_ids(ids, RP_COUNT(ids));
    assert_int_equal(rp_weights_open(&base, models[0]), RP_OK);
    const evaluation gpu = {base, base, rp_kernels_cuda(), &m->gpu, &opts, ids};
    evaluate(out, &gpu, 0, 4);
    const rp_eval_result all = rp_eval_summarise(out, 4);
    assert_true(all.kl == 0 && all.top1 == 1);
    const double planned =
        (double)rp_eval_bytes(rp_weights_config(base), true, &opts, true, 2, 4).place;
    const double peak = (double)rp_gpu_peak_bytes(m->gpu.gpu);
    print_message("planned %.0f, peak %.0f\n", planned, peak);
    assert_true(fabs(peak / planned - 1) <= 0.1);
    rp_weights_close(&base);
}

/* ---- A layer is read while the GPU works on the one before ---- */

/* What happened: rows of matrices read since a GPU was last asked to compute, at the first weights
 * that went there after it, layer by layer. */
static _Atomic int64_t rows_read;
static int64_t rows_before_upload[64];
static int n_uploads;
static bool has_computed;

static rp_status count_read(void *ctx, const rp_weight_info *info, int64_t row0, int64_t nrows,
                            float *values)
{
    (void)ctx;
    (void)info;
    (void)row0;
    (void)values;
    rows_read += nrows;
    return RP_OK;
}

static int64_t widen_counted(const rp_exec *exec, float *out, const void *stored, rp_dtype dtype,
                             int64_t n)
{
    if (has_computed) {
        rows_before_upload[n_uploads++] = rows_read;
        has_computed = false;
    }
    return rp_kernels_cuda()->widen(exec, out, stored, dtype, n);
}

static void compute_counted(const rp_exec *exec, rp_mat out, rp_cmat gate, rp_cmat up)
{
    rp_kernels_cuda()->silu_mul(exec, out, gate, up);
    has_computed = true;
    rows_read = 0;
}

static int64_t matrix_rows(const rp_model_config *config)
{
    int64_t sum = 0;

    for (int slot = 0; slot < RP_SLOT_COUNT; slot++) {
        int64_t rows = 0, cols = 0;
        if (rp_model_has_slot(config, (rp_slot)slot)) {
            rp_model_slot_shape(config, (rp_slot)slot, &rows, &cols);
            sum += cols > 0 ? rows : 0;
        }
    }
    return sum;
}

static void test_layers_are_read_ahead(void **state)
{
    machines *m = *state;
    const rp_weights_filter filter = {count_read, NULL};
    rp_kernel_ops ops = *rp_kernels_cuda();
    rp_weights *base = NULL;
    rp_weights *model = NULL;
    int32_t ids[SEQ_LEN];
    float *h = NULL;
    rp_lm *lm = NULL;

    ops.widen = widen_counted;
    ops.silu_mul = compute_counted;
    make_ids(ids, SEQ_LEN);
    assert_int_equal(rp_weights_open(&base, models[0]), RP_OK);
    assert_int_equal(rp_weights_open_view(&model, base, &filter), RP_OK);
    const rp_model_config *config = rp_weights_config(base);
    assert_int_equal(
        rp_place_alloc(&m->gpu, &h, (size_t)(SEQ_LEN * config->hidden_size), sizeof(float)), RP_OK);
    assert_int_equal(rp_lm_create(&lm, model, NULL, &ops, &m->gpu, SEQ_LEN), RP_OK);
    assert_int_equal(rp_lm_hidden(lm, ids, 1, h, NULL), RP_OK);
    assert_int_equal(n_uploads, config->n_layers - 1);
    assert_true(n_uploads > 0);
    for (int i = 0; i < n_uploads; i++) {
        assert_int_equal(rows_before_upload[i], matrix_rows(config));
    }
    rp_lm_destroy(&lm);
    rp_place_free(&m->gpu, h);
    rp_weights_close(&model);
    rp_weights_close(&base);
}

/* ---- Values that are no numbers ---- */

static rp_status put_nan(void *ctx, const rp_weight_info *info, int64_t row0, int64_t nrows,
                         float *values)
{
    (void)ctx;
    if (strstr(info->name, "layers.1.mlp.up_proj") != NULL && row0 <= 7 && row0 + nrows > 7) {
        values[(7 - row0) * info->shape[1] + 3] = NAN;
    }
    return RP_OK;
}

static rp_status fail_read(void *ctx, const rp_weight_info *info, int64_t row0, int64_t nrows,
                           float *values)
{
    (void)ctx;
    (void)row0;
    (void)nrows;
    (void)values;
    return strstr(info->name, "layers.1.mlp.up_proj") != NULL
               ? RP_FAIL(RP_ERR_IO, "%s: no such disk", info->name)
               : RP_OK;
}

/* Message of an evaluation through the filter, which fails with `want`. */
static const char *
failure(machines *m, rp_status (*fn)(void *, const rp_weight_info *, int64_t, int64_t, float *),
        rp_status want)
{
    const rp_weights_filter filter = {fn, NULL};
    rp_weights *base = NULL;
    rp_weights *model = NULL;
    int32_t ids[SEQ_LEN];
    float *h = NULL;
    rp_lm *lm = NULL;

    make_ids(ids, SEQ_LEN);
    assert_int_equal(rp_weights_open(&base, models[0]), RP_OK);
    assert_int_equal(rp_weights_open_view(&model, base, &filter), RP_OK);
    assert_int_equal(rp_place_alloc(&m->gpu, &h,
                                    (size_t)(SEQ_LEN * rp_weights_config(base)->hidden_size),
                                    sizeof(float)),
                     RP_OK);
    assert_int_equal(rp_lm_create(&lm, model, NULL, rp_kernels_cuda(), &m->gpu, SEQ_LEN), RP_OK);
    assert_int_equal(rp_lm_hidden(lm, ids, 1, h, NULL), want);
    rp_lm_destroy(&lm);
    rp_place_free(&m->gpu, h);
    rp_weights_close(&model);
    rp_weights_close(&base);
    return rp_error_message();
}

static void test_bad_weights(void **state)
{
    machines *m = *state;
    rp_weights *base = NULL;
    char want[128];

    assert_int_equal(rp_weights_open(&base, models[0]), RP_OK);
    const long long bad = 7 * rp_weights_config(base)->hidden_size + 3;
    rp_weights_close(&base);
    (void)snprintf(want, sizeof(want),
                   "tensor model.layers.1.mlp.up_proj.weight: value %lld is not finite", bad);
    assert_non_null(strstr(failure(m, put_nan, RP_ERR_FORMAT), want));
    assert_string_equal(failure(m, fail_read, RP_ERR_IO),
                        "model.layers.1.mlp.up_proj.weight: no such disk");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_logits, start, end),
        cmocka_unit_test_setup_teardown(test_evaluation, start, end),
        cmocka_unit_test_setup_teardown(test_planned_memory, start, end),
        cmocka_unit_test_setup_teardown(test_layers_are_read_ahead, start, end),
        cmocka_unit_test_setup_teardown(test_bad_weights, start, end),
    };

    if (rp_gpu_count() == 0) {
        return 77;
    }
    models = (const char *const *)argv + 1;
    n_models = argc - 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Evaluation on a random model: windows, scores against whole-vocabulary sums, and results that do
 * not depend on chunks, threads or the order of windows. Argument: folder of golden models. */
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
#include "model/eval.h"
#include "ref_ops.h"

enum { CONTEXT = 20, N_IDS = 111, N_WINDOWS = 5 };

static const char *golden_dir;

static void make_ids(int32_t ids[N_IDS])
{
    unsigned seed = 9;

    for (int i = 0; i < N_IDS; i++) {
        seed = seed * 1664525U + 1013904223U;
        ids[i] = (int32_t)(seed >> 20) % 128;
    }
}

static rp_weights *open_model(const char *name)
{
    char path[4096];
    rp_weights *weights = NULL;

    (void)snprintf(path, sizeof(path), "%s/%s", golden_dir, name);
    assert_int_equal(rp_weights_open(&weights, path), RP_OK);
    return weights;
}

static void test_windows(void **state)
{
    (void)state;
    rp_eval_opts opts = rp_eval_opts_default();
    int32_t ids[N_IDS];
    int32_t out[CONTEXT];
    int64_t n = 0;

    make_ids(ids);
    opts.context = CONTEXT;
    assert_int_equal(rp_eval_count_windows(&n, &opts, N_IDS), RP_OK);
    assert_int_equal(n, 5);
    rp_eval_window_tokens(out, &opts, ids, 2);
    assert_memory_equal(out, ids + 40, sizeof(out));
    opts.add_bos = true;
    opts.bos_id = 1;
    assert_int_equal(rp_eval_count_windows(&n, &opts, 5 * (CONTEXT - 1)), RP_OK);
    assert_int_equal(n, 5);
    rp_eval_window_tokens(out, &opts, ids, 2);
    assert_int_equal(out[0], 1);
    assert_memory_equal(out + 1, ids + 38, (CONTEXT - 1) * sizeof(*out));
    opts.style = RP_EVAL_LLAMA_CPP;
    assert_int_equal(rp_eval_count_windows(&n, &opts, 2 * CONTEXT - 1), RP_OK);
    assert_int_equal(n, 2);
    rp_eval_window_tokens(out, &opts, ids, 1);
    assert_int_equal(out[0], 1);
    assert_memory_equal(out + 1, ids + 20, (CONTEXT - 1) * sizeof(*out));
    opts.max_windows = 1;
    assert_int_equal(rp_eval_count_windows(&n, &opts, N_IDS), RP_OK);
    assert_int_equal(n, 1);
    assert_int_equal(rp_eval_count_windows(&n, &opts, 7), RP_ERR_FORMAT);
    assert_string_equal(rp_error_message(), "text too short: it has 7 tokens, one window needs 19");
}

/* Sum of one window's losses from whole rows of logits, by the operation table. */
static double window_nll(const rp_weights *weights, const int32_t *tokens, int64_t first_row)
{
    rp_exec *exec = NULL;
    const int64_t hidden = rp_weights_config(weights)->hidden_size;
    const int64_t vocab = rp_weights_config(weights)->vocab_size;
    float *h = NULL;
    float *head = NULL;
    float *logits = NULL;
    rp_lm *lm = NULL;
    double nll[CONTEXT];
    double sum = 0;

    assert_int_equal(rp_alloc_array(&h, (size_t)(CONTEXT * hidden), sizeof(float)), RP_OK);
    assert_int_equal(rp_alloc_array(&head, (size_t)(vocab * hidden), sizeof(float)), RP_OK);
    assert_int_equal(rp_alloc_array(&logits, (size_t)(CONTEXT * vocab), sizeof(float)), RP_OK);
    assert_int_equal(rp_exec_create(&exec, 1, RP_PRODUCTS_F32), RP_OK);
    assert_int_equal(rp_lm_create(&lm, weights, NULL, ref_ops(), exec, CONTEXT), RP_OK);
    assert_int_equal(rp_lm_hidden(lm, tokens, 1, h, NULL), RP_OK);
    assert_int_equal(rp_lm_read_head(lm, 0, vocab, head), RP_OK);
    rp_lm_logits(lm, 0, logits, rp_cmat_of(h, CONTEXT, hidden, hidden), head, vocab);
    ref_token_nll(rp_cmat_of(logits, CONTEXT - 1, vocab, vocab), tokens + 1, nll);
    for (int64_t i = first_row; i < CONTEXT - 1; i++) {
        sum += nll[i];
    }
    rp_lm_destroy(&lm);
    rp_exec_destroy(&exec);
    free(logits);
    free(head);
    free(h);
    return sum;
}

/* All windows, dealt in the given order. */
static void evaluate(rp_eval_window out[N_WINDOWS], const rp_weights *weights,
                     const rp_weights *base_weights, const rp_eval_opts *opts, int nthreads,
                     const int64_t order[N_WINDOWS])
{
    rp_exec *exec = NULL;
    rp_eval_window results[N_WINDOWS];
    int32_t ids[N_IDS];
    rp_lm *lm = NULL;
    rp_lm *base = NULL;

    make_ids(ids);
    assert_int_equal(rp_exec_create(&exec, nthreads, RP_PRODUCTS_F32), RP_OK);
    assert_int_equal(rp_lm_create(&lm, weights, NULL, rp_kernels_cpu(), exec, CONTEXT), RP_OK);
    if (base_weights != NULL) {
        assert_int_equal(rp_lm_create(&base, base_weights, NULL, rp_kernels_cpu(), exec, CONTEXT),
                         RP_OK);
    }
    assert_int_equal(rp_eval_windows(results, lm, base, opts, ids, order, N_WINDOWS, NULL), RP_OK);
    for (int i = 0; i < N_WINDOWS; i++) {
        out[order[i]] = results[i];
    }
    rp_lm_destroy(&base);
    rp_lm_destroy(&lm);
    rp_exec_destroy(&exec);
}

static void test_scores(void **state)
{
    (void)state;
    static const int64_t order[N_WINDOWS] = {0, 1, 2, 3, 4};
    rp_weights *weights = open_model("qwen3-norm");
    int32_t ids[N_IDS];

    make_ids(ids);
    for (int style = 0; style < 2; style++) {
        rp_eval_window got[N_WINDOWS];
        rp_eval_opts opts = rp_eval_opts_default();
        opts.context = CONTEXT;
        opts.style = (rp_eval_style)style;
        evaluate(got, weights, NULL, &opts, 1, order);
        const int64_t first_row = style == RP_EVAL_LLAMA_CPP ? CONTEXT / 2 : 0;
        for (int i = 0; i < N_WINDOWS; i++) {
            const double want = window_nll(weights, ids + i * CONTEXT, first_row);
            assert_int_equal(got[i].n_scored, CONTEXT - 1 - first_row);
            assert_true(fabs(got[i].nll - want) < 1e-4 * want);
        }
        const rp_eval_result all = rp_eval_summarise(got, N_WINDOWS);
        assert_int_equal(all.n_scored, N_WINDOWS * (CONTEXT - 1 - first_row));
        assert_true(all.perplexity > 1);
    }
    rp_weights_close(&weights);
}

static void test_same_for_any_split(void **state)
{
    (void)state;
    static const int64_t forwards[N_WINDOWS] = {0, 1, 2, 3, 4};
    static const int64_t mixed[N_WINDOWS] = {3, 0, 4, 2, 1};
    rp_weights *model = open_model("llama-gqa");
    rp_weights *base = open_model("llama-bias");
    rp_eval_opts opts = rp_eval_opts_default();
    rp_eval_window a[N_WINDOWS];
    rp_eval_window b[N_WINDOWS];

    opts.context = CONTEXT;
    evaluate(a, model, base, &opts, 1, forwards);
    opts.chunk_windows = 2;
    evaluate(b, model, base, &opts, 3, mixed);
    for (int i = 0; i < N_WINDOWS; i++) {
        assert_true(a[i].nll == b[i].nll && a[i].kl == b[i].kl);
        assert_int_equal(a[i].n_same_top1, b[i].n_same_top1);
        assert_true(a[i].kl > 0);
    }
    evaluate(a, model, model, &opts, 2, forwards);
    const rp_eval_result same = rp_eval_summarise(a, N_WINDOWS);
    assert_true(same.kl == 0 && same.top1 == 1);
    rp_weights_close(&base);
    rp_weights_close(&model);
}

static void test_bad_input(void **state)
{
    (void)state;
    rp_exec *exec = NULL;
    rp_weights *model = open_model("llama-gqa");
    rp_eval_opts opts = rp_eval_opts_default();
    rp_eval_window out;
    int32_t ids[CONTEXT] = {0};
    const int64_t first = 0;
    rp_lm *lm = NULL;

    opts.context = CONTEXT;
    ids[7] = 128;
    assert_int_equal(rp_exec_create(&exec, 1, RP_PRODUCTS_F32), RP_OK);
    assert_int_equal(rp_lm_create(&lm, model, NULL, rp_kernels_cpu(), exec, CONTEXT), RP_OK);
    assert_int_equal(rp_eval_windows(&out, lm, NULL, &opts, ids, &first, 1, NULL), RP_ERR_FORMAT);
    assert_non_null(strstr(rp_error_message(), "token id 128"));
    opts.add_bos = true;
    assert_int_equal(rp_eval_windows(&out, lm, NULL, &opts, ids, &first, 1, NULL), RP_ERR_FORMAT);
    assert_non_null(strstr(rp_error_message(), "bos_token_id"));
    rp_lm_destroy(&lm);
    rp_exec_destroy(&exec);
    rp_weights_close(&model);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_same_for_any_split),
        cmocka_unit_test(test_bad_input),
    };

    golden_dir = argc > 1 ? argv[1] : ".";
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Perplexity of a trained model on a real text, from file to number, against the value that
 * transformers gives for the same windows.
 *
 *     perplexity_test MODEL TEXT CONTEXT WINDOWS WANT
 *
 * Exit code 77 when the model or the text is absent. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/mem.h"
#include "model/eval.h"
#include "model/tokenizer.h"

/* WANT is given with five digits. */
#define TOLERANCE 1e-4

static rp_status read_ids(int32_t **ids, int64_t *n_ids, const char *model, const char *path)
{
    rp_status st = RP_OK;
    rp_tokenizer *tokenizer = NULL;
    char *text = NULL;
    size_t nbytes = 0;

    RP_TRY(rp_tokenizer_open(&tokenizer, model));
    RP_TRY(rp_fs_read_file(&text, &nbytes, path, (size_t)1 << 30));
    RP_TRY(rp_tokenizer_encode(tokenizer, text, nbytes, false, ids, n_ids));
out:
    free(text);
    rp_tokenizer_destroy(&tokenizer);
    return st;
}

static rp_status evaluate(rp_eval_result *result, const char *model, const char *text,
                          const rp_eval_opts *opts)
{
    rp_status st = RP_OK;
    rp_weights *weights = NULL;
    rp_exec *exec = NULL;
    rp_lm *lm = NULL;
    int32_t *ids = NULL;
    int64_t *indices = NULL;
    rp_eval_window *windows = NULL;
    int64_t n_ids = 0;
    int64_t n = 0;

    RP_TRY(read_ids(&ids, &n_ids, model, text));
    RP_TRY(rp_eval_count_windows(&n, opts, n_ids));
    RP_TRY(rp_alloc_array(&indices, (size_t)n, sizeof(*indices)));
    RP_TRY(rp_alloc_array(&windows, (size_t)n, sizeof(*windows)));
    for (int64_t i = 0; i < n; i++) {
        indices[i] = i;
    }
    RP_TRY(rp_weights_open(&weights, model));
    RP_TRY(rp_exec_create(&exec, 2, RP_PRODUCTS_F32));
    RP_TRY(rp_lm_create(&lm, weights, NULL, rp_kernels_cpu(), exec, opts->context));
    RP_TRY(rp_eval_windows(windows, lm, NULL, opts, ids, indices, n, NULL));
    *result = rp_eval_summarise(windows, n);
out:
    rp_lm_destroy(&lm);
    rp_exec_destroy(&exec);
    rp_weights_close(&weights);
    free(windows);
    free(indices);
    free(ids);
    return st;
}

int main(int argc, char **argv)
{
    rp_eval_opts opts = rp_eval_opts_default();
    rp_eval_result result;

    if (argc != 6) {
        printf("usage: perplexity_test MODEL TEXT CONTEXT WINDOWS WANT\n");
        return 1;
    }
    if (!rp_fs_exists(argv[1]) || !rp_fs_exists(argv[2])) {
        printf("skipped: %s or %s is absent\n", argv[1], argv[2]);
        return 77;
    }
    opts.context = strtoll(argv[3], NULL, 10);
    opts.max_windows = strtoll(argv[4], NULL, 10);
    const double want = strtod(argv[5], NULL);
    if (evaluate(&result, argv[1], argv[2], &opts) != RP_OK) {
        printf("FAIL %s\n", rp_error_message());
        return 1;
    }
    printf("%lld windows: perplexity %.5f, want %.5f\n", (long long)result.n_windows,
           result.perplexity, want);
    return fabs(result.perplexity / want - 1) <= TOLERANCE ? 0 : 1;
}

/* Logits against transformers' of the same files: max |delta| <= 2e-4 of the largest |logit|, with
 * the naive reference operations and with the CPU's.
 *
 *     logits_test MODEL GOLDEN.json [MODEL GOLDEN.json ...]
 *
 * GOLDEN.json is made by make_golden.py. Exit code 77 when a model is absent. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/mem.h"
#include "model/lm.h"
#include "ref_ops.h"

#define TOLERANCE 2e-4

/* Largest |logit| of the golden row and largest distance from it. */
typedef struct distance {
    double max_logit, max_delta;
} distance;

static rp_status read_ids(int32_t **out, int64_t *n, const json_t *test_case)
{
    rp_status st = RP_OK;
    const json_t *list = json_object_get(test_case, "ids");

    *n = (int64_t)json_array_size(list);
    RP_TRY(rp_alloc_array(out, (size_t)*n, sizeof(**out)));
    for (int64_t i = 0; i < *n; i++) {
        (*out)[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    }
out:
    return st;
}

static void compare_rows(distance *d, const rp_lm *lm, const json_t *test_case, const float *h,
                         const float *head, float *logits)
{
    const json_t *positions = json_object_get(test_case, "positions");
    const int64_t cols = rp_lm_config(lm)->hidden_size;
    const int64_t vocab = rp_lm_config(lm)->vocab_size;

    for (size_t i = 0; i < json_array_size(positions); i++) {
        const int64_t position = json_integer_value(json_array_get(positions, i));
        const json_t *want = json_array_get(json_object_get(test_case, "logits"), i);
        rp_lm_logits(lm, 0, logits, rp_cmat_of(h + position * cols, 1, cols, cols), head, vocab);
        for (int64_t v = 0; v < vocab; v++) {
            const double x = json_number_value(json_array_get(want, (size_t)v));
            const double delta = fabs((double)logits[v] - x);
            d->max_logit = fmax(d->max_logit, fabs(x));
            /* fmax would drop a NaN. */
            d->max_delta = delta <= d->max_delta ? d->max_delta : delta;
        }
    }
}

static rp_status run_case(distance *d, const rp_weights *weights, const json_t *test_case,
                          const rp_kernel_ops *ops)
{
    rp_status st = RP_OK;
    const rp_model_config *config = rp_weights_config(weights);
    rp_exec *exec = NULL;
    const size_t hidden = (size_t)config->hidden_size;
    const size_t vocab = (size_t)config->vocab_size;
    int64_t n = 0;
    int32_t *ids = NULL;
    float *h = NULL;
    float *head = NULL;
    float *logits = NULL;
    rp_lm *lm = NULL;

    RP_TRY(read_ids(&ids, &n, test_case));
    RP_TRY(rp_alloc_array(&h, (size_t)n * hidden, sizeof(float)));
    RP_TRY(rp_alloc_array(&head, vocab * hidden, sizeof(float)));
    RP_TRY(rp_alloc_array(&logits, vocab, sizeof(float)));
    RP_TRY(rp_exec_create(&exec, 1, RP_PRODUCTS_F32));
    RP_TRY(rp_lm_create(&lm, weights, NULL, ops, exec, n));
    RP_TRY(rp_lm_hidden(lm, ids, 1, h, NULL));
    RP_TRY(rp_lm_read_head(lm, 0, (int64_t)vocab, head));
    compare_rows(d, lm, test_case, h, head, logits);
out:
    rp_lm_destroy(&lm);
    rp_exec_destroy(&exec);
    free(logits);
    free(head);
    free(h);
    free(ids);
    return st;
}

static rp_status run_model(bool *is_good, const char *dir, const char *golden)
{
    rp_status st = RP_OK;
    const rp_kernel_ops *const ops[] = {ref_ops(), rp_kernels_cpu()};
    rp_weights *weights = NULL;
    json_error_t error;
    json_t *const root = json_load_file(golden, 0, &error);
    const json_t *const cases = json_object_get(root, "cases");

    if (json_array_size(cases) == 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: no cases", golden);
        goto out;
    }
    RP_TRY(rp_weights_open(&weights, dir));
    for (size_t i = 0; i < RP_COUNT(ops) * json_array_size(cases); i++) {
        const rp_kernel_ops *op = ops[i % RP_COUNT(ops)];
        distance d = {0, 0};
        RP_TRY(run_case(&d, weights, json_array_get(cases, i / RP_COUNT(ops)), op));
        const bool is_near = d.max_logit > 0 && d.max_delta <= TOLERANCE * d.max_logit;
        printf("%s %s, case %zu, %s: max |delta| %.2e of %.2f\n", is_near ? "ok  " : "FAIL", dir,
               i / RP_COUNT(ops), op->name, d.max_delta, d.max_logit);
        *is_good = *is_good && is_near;
    }
out:
    rp_weights_close(&weights);
    json_decref(root);
    return st;
}

int main(int argc, char **argv)
{
    bool is_good = argc > 2;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (!rp_fs_is_dir(argv[i])) {
            printf("skipped: %s is absent\n", argv[i]);
            return 77;
        }
        if (run_model(&is_good, argv[i], argv[i + 1]) != RP_OK) {
            printf("FAIL %s: %s\n", argv[i], rp_error_message());
            is_good = false;
        }
    }
    return is_good ? 0 : 1;
}

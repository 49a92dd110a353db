/* The executor on random layers: blocks of several sequences against each sequence alone, the CPU's
 * operations against the naive ones, with every optional part (biases, head norms, window, partial
 * rotation) on. Equality with transformers is logits_test.c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "model/executor.h"
#include "ref_ops.h"

enum { SEQ_LEN = 9, N_SEQS = 3, ROWS = SEQ_LEN * N_SEQS, HIDDEN = 24, MLP = 40, LD = 50 };

static rp_model_config make_config(void)
{
    return (rp_model_config){
        .arch = rp_arch_find("qwen3"),
        .vocab_size = 10,
        .hidden_size = HIDDEN,
        .intermediate_size = MLP,
        .n_layers = 2,
        .n_heads = 4,
        .n_kv_heads = 2,
        .head_dim = 8,
        .max_position = 64,
        .rms_eps = 1e-5,
        .attention_bias = true,
        .mlp_bias = true,
        .sliding_window = 4,
        .first_window_layer = 1,
        .rope = {.theta = 100, .partial_factor = 0.5},
    };
}

static float next_random(unsigned *seed)
{
    *seed = *seed * 1664525U + 1013904223U;
    return (float)(*seed >> 8) / 8388608.0F - 1.0F;
}

/* Every slot random; norms around 1. Memory is owned by *values. */
static rp_layer_weights make_weights(const rp_model_config *config, float **values)
{
    rp_layer_weights w;
    unsigned seed = 3;
    size_t used = 0;

    assert_int_equal(rp_alloc_array(values, 1 << 14, sizeof(float)), RP_OK);
    for (int i = 0; i < RP_SLOT_COUNT; i++) {
        const rp_slot slot = (rp_slot)i;
        int64_t rows = 0;
        int64_t cols = 0;
        assert_true(rp_model_has_slot(config, slot));
        rp_model_slot_shape(config, slot, &rows, &cols);
        float *const at = *values + used;
        for (int64_t j = 0; j < rows * RP_MAX(cols, 1); j++) {
            const float x = next_random(&seed);
            at[j] = slot >= RP_SLOT_ATTN_NORM ? 1 + 0.2F * x : 0.4F * x;
        }
        w.slot[slot] = at;
        used += (size_t)(rows * RP_MAX(cols, 1));
        assert_true(used <= 1 << 14);
    }
    return w;
}

/* One layer over n_seqs sequences that start at h. */
static void run_layer(const rp_kernel_ops *ops, int64_t layer, int64_t n_seqs, float *h)
{
    const rp_model_config config = make_config();
    rp_exec *exec = NULL;
    rp_executor *executor = NULL;
    float *values = NULL;
    float *buf = NULL;
    const rp_layer_weights w = make_weights(&config, &values);

    assert_int_equal(rp_exec_create(&exec, 2, RP_PRODUCTS_F32), RP_OK);
    assert_int_equal(rp_executor_create(&executor, &config, ops, exec, SEQ_LEN, N_SEQS), RP_OK);
    assert_int_equal(rp_alloc_array(&buf, ROWS * LD, sizeof(float)), RP_OK);
    for (int i = 0; i < ROWS * LD; i++) {
        buf[i] = NAN; /* what lies beyond a site's width must not matter */
    }
    rp_executor_enter(executor, layer, &w, n_seqs, h, buf, LD);
    for (int site = 0; site < RP_SITE_COUNT; site++) {
        rp_executor_step(executor, layer, (rp_site)site, &w, n_seqs, h, buf, LD);
    }
    free(buf);
    free(values);
    rp_executor_destroy(&executor);
    rp_exec_destroy(&exec);
}

static void make_input(float h[ROWS * HIDDEN])
{
    unsigned seed = 17;

    for (int i = 0; i < ROWS * HIDDEN; i++) {
        h[i] = next_random(&seed);
    }
}

static void test_block_of_sequences(void **state)
{
    (void)state;
    for (int64_t layer = 0; layer < 2; layer++) {
        float block[ROWS * HIDDEN];
        float alone[ROWS * HIDDEN];
        make_input(block);
        memcpy(alone, block, sizeof(alone));
        run_layer(ref_ops(), layer, N_SEQS, block);
        for (int s = 0; s < N_SEQS; s++) {
            run_layer(ref_ops(), layer, 1, alone + s * SEQ_LEN * HIDDEN);
        }
        assert_memory_equal(block, alone, sizeof(block));
    }
}

static void test_cpu_operations(void **state)
{
    (void)state;
    float everything[ROWS * HIDDEN];
    for (int64_t layer = 0; layer < 2; layer++) {
        float want[ROWS * HIDDEN];
        float got[ROWS * HIDDEN];
        make_input(want);
        make_input(got);
        run_layer(ref_ops(), layer, N_SEQS, want);
        run_layer(rp_kernels_cpu(), layer, N_SEQS, got);
        for (int i = 0; i < ROWS * HIDDEN; i++) {
            assert_true(fabsf(got[i] - want[i]) <= 1e-5F * (1 + fabsf(want[i])));
        }
        /* The window of layer 1 shows once a query has more than 4 keys. */
        for (int i = 0; layer == 1 && i < SEQ_LEN * HIDDEN; i++) {
            assert_true((want[i] == everything[i]) == (i < 4 * HIDDEN));
        }
        memcpy(everything, want, sizeof(everything));
    }
}

static void test_flop(void **state)
{
    (void)state;
    const rp_model_config config = make_config();

    assert_true(rp_executor_step_flop(&config, RP_SITE_DOWN, 10, SEQ_LEN) ==
                10.0 * 2 * HIDDEN * MLP);
    assert_true(rp_executor_step_flop(&config, RP_SITE_QKV, 1, SEQ_LEN) ==
                2.0 * HIDDEN * (32 + 16 + 16) + 2.0 * 32 * (SEQ_LEN + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_of_sequences),
        cmocka_unit_test(test_cpu_operations),
        cmocka_unit_test(test_flop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

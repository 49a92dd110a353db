/* Model folders: what fits the config opens and reads back, everything else is refused by name. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/mem.h"
#include "model/weights.h"
#include "tests/formats/make_files.h"
#include "tests/model/make_model.h"

static made_model model;

static rp_weights *open_model(void)
{
    rp_weights *weights = NULL;

    if (rp_weights_open(&weights, scratch_path("")) != RP_OK) {
        fail_msg("%s", rp_error_message());
    }
    return weights;
}

static void expect_refused(const char *cause)
{
    rp_weights *weights = NULL;

    assert_int_equal(rp_weights_open(&weights, scratch_path("")), RP_ERR_FORMAT);
    assert_null(weights);
    if (strstr(rp_error_message(), cause) == NULL) {
        fail_msg("want \"%s\", got \"%s\"", cause, rp_error_message());
    }
}

static void dense_models_read_as_stored(void **state)
{
    static const rp_dtype types[] = {RP_F32, RP_F16, RP_BF16};
    const char *name = "model.layers.1.mlp.down_proj.weight";
    static char raw[32 * 64 * 4];
    static float values[32 * 64];
    static float want[32 * 64];

    (void)state;
    for (size_t t = 0; t < RP_COUNT(types); t++) {
        const size_t row_bytes = 64 * rp_dtype_bytes(types[t]);
        const rp_weight_info *info = NULL;
        rp_weights *weights = NULL;
        make_model(&model, types[t]);
        model_write(&model, "{" MADE_MODEL_CONFIG "}");
        weights = open_model();
        assert_int_equal(rp_weights_count(weights), model.n);
        for (int64_t i = 1; i < rp_weights_count(weights); i++) {
            assert_true(
                strcmp(rp_weights_at(weights, i - 1)->name, rp_weights_at(weights, i)->name) < 0);
        }
        info = rp_weights_find(weights, name);
        assert_non_null(info);
        assert_int_equal(info->ndim, 2);
        assert_int_equal(info->shape[0], 32);
        assert_int_equal(info->shape[1], 64);
        assert_int_equal(info->dtype, types[t]);
        assert_true(info->is_dense);
        assert_string_equal(info->stored_as, rp_dtype_name(types[t]));
        assert_int_equal(info->stored_bytes, 32 * row_bytes);
        assert_int_equal(rp_weights_read_rows(weights, info, 3, 20, raw), RP_OK);
        assert_memory_equal(raw, model.bytes[model_find(&model, name)] + 3 * row_bytes,
                            20 * row_bytes);
        rp_to_f32(want, model.bytes[model_find(&model, name)], types[t], 32 * 64);
        assert_int_equal(rp_weights_read_f32(weights, info, 3, 29, values), RP_OK);
        assert_memory_equal(values, want + 3 * 64, 29 * 64 * sizeof(float));
        info = rp_weights_find(weights, "model.norm.weight");
        rp_to_f32(want, model.bytes[model_find(&model, "model.norm.weight")], types[t], 32);
        assert_int_equal(rp_weights_read_f32(weights, info, 30, 2, values), RP_OK);
        assert_memory_equal(values, want + 30, 2 * sizeof(float));
        assert_int_equal(rp_weights_read_rows(weights, info, 30, 3, values), RP_ERR_INTERNAL);
        assert_null(rp_weights_find(weights, "model.norm.bias"));
        assert_int_equal(rp_weights_config(weights)->n_layers, 2);
        assert_string_equal(
            json_string_value(json_object_get(rp_weights_config_json(weights), "model_type")),
            "llama");
        rp_weights_close(&weights);
    }
}

static void fingerprints_tell_models_apart(void **state)
{
    static const char *const configs[] = {"{" MADE_MODEL_CONFIG "}", "{" MADE_MODEL_CONFIG "}",
                                          "{" MADE_MODEL_CONFIG ",\"rms_norm_eps\":1e-3}",
                                          "{" MADE_MODEL_CONFIG "}"};
    uint64_t print[4][2];

    (void)state;
    for (int i = 0; i < 4; i++) {
        rp_weights *weights = NULL;
        make_model(&model, i == 3 ? RP_F16 : RP_BF16);
        model_write(&model, configs[i]);
        weights = open_model();
        rp_weights_fingerprint(weights, print[i]);
        rp_weights_close(&weights);
    }
    assert_memory_equal(print[0], print[1], 16);
    assert_memory_not_equal(print[0], print[2], 16);
    assert_memory_not_equal(print[0], print[3], 16);
}

static void what_no_model_uses_is_left_out(void **state)
{
    rp_weights *weights = NULL;

    (void)state;
    make_model(&model, RP_BF16);
    model_add(&model, "model.layers.0.self_attn.rotary_emb.inv_freq", RP_F32, 4, 0);
    model_write(&model, "{" MADE_MODEL_CONFIG ",\"tie_word_embeddings\":true}");
    weights = open_model();
    assert_int_equal(rp_weights_count(weights), model.n - 2);
    assert_null(rp_weights_find(weights, "lm_head.weight"));
    rp_weights_close(&weights);
    model_remove(&model, "lm_head.weight");
    model_write(&model, "{" MADE_MODEL_CONFIG "}");
    expect_refused("tensor lm_head.weight is missing");
}

static void models_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    make_model(&model, RP_BF16);
    model_remove(&model, "model.layers.1.self_attn.k_proj.weight");
    model_write(&model, "{" MADE_MODEL_CONFIG "}");
    expect_refused("tensor model.layers.1.self_attn.k_proj.weight is missing");
    model_add(&model, "model.layers.1.self_attn.k_proj.weight", RP_BF16, 32, 16);
    model_write(&model, "{" MADE_MODEL_CONFIG "}");
    expect_refused("model.safetensors: tensor model.layers.1.self_attn.k_proj.weight: shape "
                   "[32, 16], but the model's config asks for [32, 32]");
    make_model(&model, RP_BF16);
    model_add(&model, "model.layers.2.input_layernorm.weight", RP_BF16, 32, 0);
    model_write(&model, "{" MADE_MODEL_CONFIG "}");
    expect_refused("tensor model.layers.2.input_layernorm.weight is no part of a llama model of 2");
    make_model(&model, RP_BF16);
    model_add(&model, "model.layers.0.self_attn.q_proj.bias", RP_BF16, 32, 0);
    model_write(&model, "{" MADE_MODEL_CONFIG "}");
    expect_refused("tensor model.layers.0.self_attn.q_proj.bias is no part");
    make_model(&model, RP_BF16);
    model_remove(&model, "model.norm.weight");
    model_add(&model, "model.norm.weight", RP_I16, 32, 0);
    model_write(&model, "{" MADE_MODEL_CONFIG "}");
    expect_refused("tensor model.norm.weight: type I16, want F32, F16 or BF16");
}

static void non_finite_values_are_refused(void **state)
{
    static float values[40 * 32];
    const uint16_t nan_bits = 0x7fc0;
    rp_weights *weights = NULL;
    const rp_weight_info *info = NULL;

    (void)state;
    make_model(&model, RP_BF16);
    memcpy(model.bytes[model_find(&model, "lm_head.weight")] + 2 * (32 * 5 + 7), &nan_bits, 2);
    model_write(&model, "{" MADE_MODEL_CONFIG "}");
    weights = open_model();
    info = rp_weights_find(weights, "lm_head.weight");
    assert_int_equal(rp_weights_read_f32(weights, info, 0, 5, values), RP_OK);
    assert_int_equal(rp_weights_read_f32(weights, info, 2, 10, values), RP_ERR_FORMAT);
    assert_non_null(strstr(rp_error_message(), "model.safetensors: tensor lm_head.weight: value "
                                               "167 is"));
    rp_weights_close(&weights);
}

static void packed_models_read_as_decoded(void **state)
{
    static const char *const containers[] = {"gptq", "compressed-tensors"};
    const rp_container_opts opts = {.dense_type = RP_F16};
    const char *module = "model.layers.1.mlp.up_proj";
    static float want[64 * 32];
    static float got[64 * 32];

    (void)state;
    for (size_t c = 0; c < RP_COUNT(containers); c++) {
        json_t *config = NULL;
        char *text = NULL;
        rp_weights *weights = NULL;
        const rp_weight_info *info = NULL;
        char stored_as[64];
        make_model(&model, RP_F16);
        config = model_pack(&model, rp_container_find(containers[c]), &opts, module, want);
        text = json_dumps(config, 0);
        model_write(&model, text);
        weights = open_model();
        info = rp_weights_find(weights, "model.layers.1.mlp.up_proj.weight");
        assert_non_null(info);
        assert_false(info->is_dense);
        assert_int_equal(info->dtype, RP_F32);
        (void)snprintf(stored_as, sizeof(stored_as), "%s int4", containers[c]);
        assert_string_equal(info->stored_as, stored_as);
        assert_int_equal(rp_weights_read_f32(weights, info, 0, 64, got), RP_OK);
        assert_memory_equal(got, want, sizeof(want));
        assert_int_equal(rp_weights_read_f32(weights, info, 17, 30, got), RP_OK);
        assert_memory_equal(got, want + 17 * 32, 30 * 32 * sizeof(float));
        assert_non_null(rp_weights_find(weights, "model.layers.0.self_attn.q_proj.weight"));
        rp_weights_close(&weights);
        free(text);
        json_decref(config);
    }
}

/* Opens the model in the scratch folder and reads one packed linear. */
static rp_status open_and_read(void)
{
    static float values[64 * 32];
    rp_status st = RP_OK;
    rp_weights *weights = NULL;

    RP_TRY(rp_weights_open(&weights, scratch_path("")));
    RP_TRY(rp_weights_read_f32(
        weights, rp_weights_find(weights, "model.layers.1.mlp.up_proj.weight"), 3, 20, values));
out:
    rp_weights_close(&weights);
    return st;
}

static void every_failure_is_reported_and_leaves_nothing(void **state)
{
    static const struct {
        const char *site;
        rp_status status;
    } sites[] = {{"alloc", RP_ERR_MEMORY}, {"open", RP_ERR_IO}, {"read", RP_ERR_IO}};
    static const char *const containers[] = {"gptq", "compressed-tensors"};
    const rp_container_opts opts = {.dense_type = RP_F16};

    (void)state;
    for (size_t i = 0; i < RP_COUNT(sites) * RP_COUNT(containers); i++) {
        const size_t site = i / RP_COUNT(containers);
        json_t *config = NULL;
        char *text = NULL;
        int64_t n = 0;
        make_model(&model, RP_F16);
        config = model_pack(&model, rp_container_find(containers[i % RP_COUNT(containers)]), &opts,
                            "", NULL);
        text = json_dumps(config, 0);
        model_write(&model, text);
        for (bool is_reached = true; is_reached;) {
            rp_status status = RP_OK;
            rp_fault_arm(sites[site].site, ++n, false);
            status = open_and_read();
            is_reached = rp_fault_count() >= n;
            rp_fault_arm(NULL, 0, false);
            assert_int_equal(status, is_reached ? sites[site].status : RP_OK);
        }
        assert_true(n > 2);
        free(text);
        json_decref(config);
    }
}

static void other_quantisers_are_named(void **state)
{
    (void)state;
    make_model(&model, RP_BF16);
    model_write(&model,
                "{" MADE_MODEL_CONFIG ",\"quantization_config\":{\"quant_method\":\"awq\"}}");
    expect_refused("config.json: quantization_config.quant_method \"awq\" is not supported");
    model_write(&model, "{" MADE_MODEL_CONFIG ",\"quantization_config\":{}}");
    expect_refused("quant_method \"\" is not supported");
    model_write(&model, "{" MADE_MODEL_CONFIG
                        ",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4}}");
    expect_refused("config.json: quantization_config.group_size");
}

static void paths_that_are_no_model_are_refused(void **state)
{
    rp_weights *weights = NULL;

    (void)state;
    assert_int_equal(rp_weights_open(&weights, "/nowhere/model"), RP_ERR_FORMAT);
    assert_string_equal(rp_error_message(), "/nowhere/model: no such file or folder");
    assert_int_equal(rp_weights_open(&weights, scratch_path("config.json")), RP_ERR_FORMAT);
    assert_non_null(strstr(rp_error_message(), "config.json: neither a model folder nor"));
    assert_int_equal(unlink(scratch_path("config.json")), 0);
    expect_refused("config.json: cannot open");
}

static void the_shipped_model_opens(void **state)
{
    const char *const *argument = *state;
    rp_weights *weights = NULL;
    static float row[256];

    assert_int_equal(rp_weights_open(&weights, *argument), RP_OK);
    assert_int_equal(rp_weights_count(weights), 2 + 6 * 9);
    assert_int_equal(rp_weights_read_f32(weights,
                                         rp_weights_find(weights, "model.embed_tokens.weight"),
                                         4095, 1, row),
                     RP_OK);
    rp_weights_close(&weights);
}

int main(int argc, char **argv)
{
    const char *shipped_model = argc > 1 ? argv[1] : "";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_models_read_as_stored),
        cmocka_unit_test(fingerprints_tell_models_apart),
        cmocka_unit_test(what_no_model_uses_is_left_out),
        cmocka_unit_test(models_that_do_not_fit_are_refused),
        cmocka_unit_test(non_finite_values_are_refused),
        cmocka_unit_test(packed_models_read_as_decoded),
        cmocka_unit_test(every_failure_is_reported_and_leaves_nothing),
        cmocka_unit_test(other_quantisers_are_named),
        cmocka_unit_test(paths_that_are_no_model_are_refused),
        cmocka_unit_test_prestate(the_shipped_model_opens, (void *)&shipped_model),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);

    free_model(&model);
    return failed;
}

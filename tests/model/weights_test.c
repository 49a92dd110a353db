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

#include "base/mem.h"
#include "formats/container.h"
#include "formats/safetensors.h"
#include "model/weights.h"
#include "tests/formats/make_files.h"

#define MAX_TENSORS 128
#define CONFIG                                                                                     \
    "\"model_type\":\"llama\",\"vocab_size\":40,\"hidden_size\":32,\"intermediate_size\":64,"      \
    "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":2,"                 \
    "\"max_position_embeddings\":64"

/* The model to be written: parts and their bytes. */
static rp_part parts[MAX_TENSORS];
static char *bytes[MAX_TENSORS];
static int n_parts;

static int find_part(const char *name)
{
    for (int i = 0; i < n_parts; i++) {
        if (strcmp(parts[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static void remove_part(const char *name)
{
    const int i = find_part(name);

    assert_true(i >= 0);
    free(bytes[i]);
    n_parts--;
    parts[i] = parts[n_parts];
    bytes[i] = bytes[n_parts];
}

static void add_part(const char *name, rp_dtype dtype, int64_t rows, int64_t cols)
{
    rp_part *part = &parts[n_parts];

    assert_true(n_parts < MAX_TENSORS);
    *part = (rp_part){.dtype = dtype, .ndim = cols == 0 ? 1 : 2, .shape = {rows, cols}};
    (void)snprintf(part->name, sizeof(part->name), "%s", name);
    part->nbytes = (size_t)(rows * (cols == 0 ? 1 : cols)) * rp_dtype_bytes(dtype);
    assert_int_equal(rp_alloc(&bytes[n_parts], part->nbytes), RP_OK);
    for (size_t i = 0; i < part->nbytes; i++) {
        bytes[n_parts][i] = (char)((i * 7 + strlen(name)) % 61); /* finite in every float type */
    }
    n_parts++;
}

static void start_model(rp_dtype dtype)
{
    rp_model_config config;
    json_t *root = json_loads("{" CONFIG "}", 0, NULL);

    assert_int_equal(rp_model_config_parse(&config, root), RP_OK);
    json_decref(root);
    while (n_parts > 0) {
        free(bytes[--n_parts]);
    }
    add_part("model.embed_tokens.weight", dtype, 40, 32);
    add_part("model.norm.weight", dtype, 32, 0);
    add_part("lm_head.weight", dtype, 40, 32);
    for (int64_t layer = 0; layer < 2; layer++) {
        for (int slot = 0; slot < RP_SLOT_COUNT; slot++) {
            char name[256];
            int64_t rows = 0;
            int64_t cols = 0;
            rp_model_slot_name(name, sizeof(name), layer, (rp_slot)slot);
            rp_model_slot_shape(&config, (rp_slot)slot, &rows, &cols);
            if (rp_model_has_slot(&config, (rp_slot)slot)) {
                add_part(name, dtype, rows, cols);
            }
        }
    }
}

static void write_model(const char *config)
{
    rp_safetensors_layout layout;
    char *file = NULL;

    (void)make_file("config.json", config, strlen(config));
    assert_int_equal(rp_safetensors_layout_create(&layout, parts, n_parts, 0), RP_OK);
    assert_int_equal(rp_alloc(&file, layout.files[0].total_bytes), RP_OK);
    memcpy(file, layout.files[0].header, layout.files[0].header_bytes);
    for (int i = 0; i < n_parts; i++) {
        memcpy(file + layout.places[i].offset_bytes, bytes[i], parts[i].nbytes);
    }
    (void)make_file("model.safetensors", file, layout.files[0].total_bytes);
    free(file);
    rp_safetensors_layout_destroy(&layout);
}

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
        start_model(types[t]);
        write_model("{" CONFIG "}");
        weights = open_model();
        assert_int_equal(rp_weights_count(weights), n_parts);
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
        assert_memory_equal(raw, bytes[find_part(name)] + 3 * row_bytes, 20 * row_bytes);
        rp_to_f32(want, bytes[find_part(name)], types[t], 32 * 64);
        assert_int_equal(rp_weights_read_f32(weights, info, 3, 29, values), RP_OK);
        assert_memory_equal(values, want + 3 * 64, 29 * 64 * sizeof(float));
        info = rp_weights_find(weights, "model.norm.weight");
        rp_to_f32(want, bytes[find_part("model.norm.weight")], types[t], 32);
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
    static const char *const configs[] = {"{" CONFIG "}", "{" CONFIG "}",
                                          "{" CONFIG ",\"rms_norm_eps\":1e-3}", "{" CONFIG "}"};
    uint64_t print[4][2];

    (void)state;
    for (int i = 0; i < 4; i++) {
        rp_weights *weights = NULL;
        start_model(i == 3 ? RP_F16 : RP_BF16);
        write_model(configs[i]);
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
    start_model(RP_BF16);
    add_part("model.layers.0.self_attn.rotary_emb.inv_freq", RP_F32, 4, 0);
    write_model("{" CONFIG ",\"tie_word_embeddings\":true}");
    weights = open_model();
    assert_int_equal(rp_weights_count(weights), n_parts - 2);
    assert_null(rp_weights_find(weights, "lm_head.weight"));
    rp_weights_close(&weights);
    remove_part("lm_head.weight");
    write_model("{" CONFIG "}");
    expect_refused("tensor lm_head.weight is missing");
}

static void models_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    start_model(RP_BF16);
    remove_part("model.layers.1.self_attn.k_proj.weight");
    write_model("{" CONFIG "}");
    expect_refused("tensor model.layers.1.self_attn.k_proj.weight is missing");
    add_part("model.layers.1.self_attn.k_proj.weight", RP_BF16, 32, 16);
    write_model("{" CONFIG "}");
    expect_refused("model.safetensors: tensor model.layers.1.self_attn.k_proj.weight: shape "
                   "[32, 16], but the model's config asks for [16, 32]");
    start_model(RP_BF16);
    add_part("model.layers.2.input_layernorm.weight", RP_BF16, 32, 0);
    write_model("{" CONFIG "}");
    expect_refused("tensor model.layers.2.input_layernorm.weight is no part of a llama model of 2");
    start_model(RP_BF16);
    add_part("model.layers.0.self_attn.q_proj.bias", RP_BF16, 32, 0);
    write_model("{" CONFIG "}");
    expect_refused("tensor model.layers.0.self_attn.q_proj.bias is no part");
    start_model(RP_BF16);
    remove_part("model.norm.weight");
    add_part("model.norm.weight", RP_I16, 32, 0);
    write_model("{" CONFIG "}");
    expect_refused("tensor model.norm.weight: type I16, want F32, F16 or BF16");
}

static void non_finite_values_are_refused(void **state)
{
    static float values[40 * 32];
    const uint16_t nan_bits = 0x7fc0;
    rp_weights *weights = NULL;
    const rp_weight_info *info = NULL;

    (void)state;
    start_model(RP_BF16);
    memcpy(bytes[find_part("lm_head.weight")] + 2 * (32 * 5 + 7), &nan_bits, 2);
    write_model("{" CONFIG "}");
    weights = open_model();
    info = rp_weights_find(weights, "lm_head.weight");
    assert_int_equal(rp_weights_read_f32(weights, info, 0, 5, values), RP_OK);
    assert_int_equal(rp_weights_read_f32(weights, info, 2, 10, values), RP_ERR_FORMAT);
    assert_non_null(strstr(rp_error_message(), "model.safetensors: tensor lm_head.weight: value "
                                               "167 is"));
    rp_weights_close(&weights);
}

/* Replaces every linear by its packed form in `container`; want: decoded values of one of them. */
static json_t *pack_model(const rp_container *container, const rp_container_opts *opts,
                          const char *kept_module, float *want)
{
    const rp_scheme scheme = {.bits = 4, .is_symmetric = false, .group_size = 16};
    static char names[MAX_TENSORS][256];
    rp_module_scheme modules[MAX_TENSORS];
    int n_modules = 0;
    json_t *quant = NULL;

    for (int i = 0; i < n_parts;) {
        char *end = strstr(parts[i].name, "_proj.weight");
        rp_form form;
        rp_grid grid;
        rp_part packed[RP_MAX_PARTS];
        int n_packed = 0;
        if (end == NULL || strcmp(end, "_proj.weight") != 0) {
            i++;
            continue;
        }
        end[strlen("_proj")] = '\0';
        (void)snprintf(names[n_modules], sizeof(names[0]), "%s", parts[i].name);
        end[strlen("_proj")] = '.';
        const int64_t rows = parts[i].shape[0];
        const int64_t cols = parts[i].shape[1];
        assert_int_equal(container->grid(&grid, opts, &scheme, rows, cols), RP_OK);
        assert_int_equal(rp_form_create_codes(&form, &grid, rows, cols), RP_OK);
        for (int64_t k = 0; k < rows * cols; k++) {
            form.codes[k] = (uint8_t)((k * 5 + i) % 16);
        }
        for (int64_t k = 0; k < rows * rp_form_params_per_row(&form); k += 2) {
            form.params[k] = 0.25f * (float)(1 + k % 5);
            form.params[k + 1] = (float)(1 + (k + i) % 15);
        }
        if (strcmp(names[n_modules], kept_module) == 0) {
            rp_form_decode_rows(&form, 0, rows, want);
        }
        remove_part(parts[i].name);
        assert_int_equal(
            container->parts(opts, names[n_modules], &grid, rows, cols, packed, &n_packed), RP_OK);
        for (int p = 0; p < n_packed; p++) {
            assert_true(n_parts < MAX_TENSORS);
            parts[n_parts] = packed[p];
            assert_int_equal(rp_alloc(&bytes[n_parts], packed[p].nbytes), RP_OK);
            assert_int_equal(container->encode(opts, &form, p, bytes[n_parts]), RP_OK);
            n_parts++;
        }
        modules[n_modules] =
            (rp_module_scheme){.module = names[n_modules], .is_quantised = true, .grid = grid};
        n_modules++;
        rp_form_destroy(&form);
    }
    assert_int_equal(container->config(&quant, opts, modules, n_modules, 0.01), RP_OK);
    return quant;
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
        start_model(RP_F16);
        for (int layer = 0; layer < 2; layer++) { /* k and v wide enough for the container */
            char name[64];
            (void)snprintf(name, sizeof(name), "model.layers.%d.self_attn.k_proj.weight", layer);
            remove_part(name);
            add_part(name, RP_F16, 32, 32);
            (void)snprintf(name, sizeof(name), "model.layers.%d.self_attn.v_proj.weight", layer);
            remove_part(name);
            add_part(name, RP_F16, 32, 32);
        }
        config = json_loads("{" CONFIG "}", 0, NULL);
        assert_int_equal(json_object_set_new(config, "num_key_value_heads", json_integer(4)), 0);
        assert_int_equal(
            json_object_set_new(config, "quantization_config",
                                pack_model(rp_container_find(containers[c]), &opts, module, want)),
            0);
        text = json_dumps(config, 0);
        write_model(text);
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

static void other_quantisers_are_named(void **state)
{
    (void)state;
    start_model(RP_BF16);
    write_model("{" CONFIG ",\"quantization_config\":{\"quant_method\":\"awq\"}}");
    expect_refused("config.json: quantization_config.quant_method \"awq\" is not supported");
    write_model("{" CONFIG ",\"quantization_config\":{}}");
    expect_refused("quant_method \"\" is not supported");
    write_model("{" CONFIG ",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4}}");
    expect_refused("config.json: quantization_config.group_size");
}

static void paths_that_are_no_model_are_refused(void **state)
{
    rp_weights *weights = NULL;

    (void)state;
    assert_int_equal(rp_weights_open(&weights, "/nowhere/model.bin"), RP_ERR_FORMAT);
    assert_non_null(strstr(rp_error_message(), "/nowhere/model.bin: neither a model folder nor"));
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
        cmocka_unit_test(other_quantisers_are_named),
        cmocka_unit_test(paths_that_are_no_model_are_refused),
        cmocka_unit_test_prestate(the_shipped_model_opens, (void *)&shipped_model),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);

    while (n_parts > 0) {
        free(bytes[--n_parts]);
    }
    return failed;
}

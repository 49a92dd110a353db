/* config.json: what is read, both spellings, defaults, and the line that each bad file gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "model/config.h"

#define SIZES                                                                                      \
    "\"vocab_size\": 100, \"hidden_size\": 64, \"intermediate_size\": 96,"                         \
    "\"num_hidden_layers\": 4, \"num_attention_heads\": 8, \"max_position_embeddings\": 128"
#define CONFIG(type, more) "{\"model_type\": \"" type "\", " SIZES more "}"

static rp_status parse(rp_model_config *out, const char *text)
{
    json_error_t error;
    json_t *root = json_loads(text, 0, &error);
    rp_status st = RP_OK;

    assert_non_null(root);
    st = rp_model_config_parse(out, root);
    json_decref(root);
    return st;
}

static rp_model_config parse_good(const char *text)
{
    rp_model_config config;
    const rp_status st = parse(&config, text);

    if (st != RP_OK) {
        print_message("%s\n", rp_error_message());
    }
    assert_int_equal(st, RP_OK);
    return config;
}

static void test_defaults(void **state)
{
    (void)state;
    const rp_model_config llama = parse_good(CONFIG("llama", ""));
    assert_int_equal(llama.n_kv_heads, 8);
    assert_int_equal(llama.head_dim, 8);
    assert_int_equal(llama.sliding_window, 0);
    assert_int_equal(llama.bos_id, -1);
    assert_true(llama.rms_eps == 1e-6 && llama.rope.theta == 1e4 && !llama.tie_embeddings);
    const rp_model_config mistral = parse_good(CONFIG("mistral", ""));
    assert_int_equal(mistral.sliding_window, 4096);
    const rp_model_config open = parse_good(CONFIG("mistral", ", \"sliding_window\": null"));
    assert_int_equal(open.sliding_window, 0);
    const rp_model_config qwen3 = parse_good(CONFIG("qwen3", ", \"num_key_value_heads\": 2"));
    assert_int_equal(qwen3.head_dim, 128);
    assert_int_equal(rp_model_site_width(&qwen3, RP_SITE_O), 1024);
}

static void test_both_spellings(void **state)
{
    (void)state;
    const char *const old_text =
        CONFIG("llama", ", \"rope_theta\": 500000.0, \"eos_token_id\": [7, 8], \"rope_scaling\": "
                        "{\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, "
                        "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 32}");
    const char *const new_text =
        CONFIG("llama", ", \"eos_token_id\": 7, \"rope_parameters\": {\"rope_theta\": 500000.0, "
                        "\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
                        "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 32}");
    const rp_model_config a = parse_good(old_text);
    const rp_model_config b = parse_good(new_text);
    assert_int_equal(a.rope.type, RP_ROPE_LLAMA3);
    assert_int_equal(b.rope.type, RP_ROPE_LLAMA3);
    assert_true(a.rope.theta == 500000.0 && b.rope.theta == a.rope.theta);
    assert_true(a.rope.factor == 8 && b.rope.factor == 8);
    assert_true(a.rope.high_freq_factor == 4 && b.rope.high_freq_factor == 4);
    assert_int_equal(a.rope.original_max_position, 32);
    assert_int_equal(b.rope.original_max_position, 32);
    assert_int_equal(a.eos_id, 7);
    assert_int_equal(b.eos_id, 7);
}

static void test_windows(void **state)
{
    (void)state;
    const char *const on = CONFIG("qwen2", ", \"num_key_value_heads\": 4, \"sliding_window\": 16, "
                                           "\"use_sliding_window\": true, "
                                           "\"max_window_layers\": 2, \"layer_types\": "
                                           "[\"full_attention\", \"full_attention\", "
                                           "\"sliding_attention\", \"sliding_attention\"]");
    const char *const off = CONFIG("qwen2", ", \"num_key_value_heads\": 4, \"sliding_window\": 16, "
                                            "\"max_window_layers\": 2");
    const rp_model_config with = parse_good(on);
    assert_int_equal(rp_model_layer_window(&with, 1), 0);
    assert_int_equal(rp_model_layer_window(&with, 2), 16);
    const rp_model_config without = parse_good(off);
    assert_int_equal(rp_model_layer_window(&without, 3), 0);
}

static void test_slots(void **state)
{
    (void)state;
    const rp_model_config qwen2 =
        parse_good(CONFIG("qwen2", ", \"num_key_value_heads\": 4, \"attention_bias\": true"));
    const rp_model_config qwen3 = parse_good(CONFIG("qwen3", ", \"num_key_value_heads\": 4"));
    const rp_model_config llama =
        parse_good(CONFIG("llama", ", \"attention_bias\": true, \"mlp_bias\": true"));
    char name[128];
    int64_t rows = 0;
    int64_t cols = 0;

    assert_true(rp_model_has_slot(&qwen2, RP_SLOT_K_BIAS));
    assert_false(rp_model_has_slot(&qwen2, RP_SLOT_O_BIAS));
    assert_true(rp_model_has_slot(&qwen3, RP_SLOT_Q_NORM));
    assert_false(rp_model_has_slot(&qwen3, RP_SLOT_Q_BIAS));
    assert_true(rp_model_has_slot(&llama, RP_SLOT_O_BIAS));
    assert_true(rp_model_has_slot(&llama, RP_SLOT_DOWN_BIAS));
    rp_model_slot_name(name, sizeof(name), 12, RP_SLOT_V);
    assert_string_equal(name, "model.layers.12.self_attn.v_proj.weight");
    rp_model_slot_shape(&qwen3, RP_SLOT_K, &rows, &cols);
    assert_int_equal(rows, 512);
    assert_int_equal(cols, 64);
    rp_model_slot_shape(&qwen3, RP_SLOT_K_NORM, &rows, &cols);
    assert_int_equal(rows, 128);
    assert_int_equal(cols, 0);
    for (int slot = 0; slot < RP_SLOT_COUNT; slot++) {
        assert_non_null(rp_slot_info_of((rp_slot)slot)->hf_name);
        assert_non_null(rp_slot_info_of((rp_slot)slot)->gguf_name);
    }
}

static void test_bad_files(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[1]", "want an object"},
        {"{" SIZES "}", "key 'model_type' is missing"},
        {CONFIG("mixtral", ""), "'mixtral' is not supported (supported: llama, mistral, qwen2, "
                                "qwen3)"},
        {CONFIG("llama", ", \"hidden_act\": \"gelu\""), "key 'hidden_act': 'gelu'"},
        {CONFIG("llama", ", \"num_key_value_heads\": 3"), "3 does not divide"},
        {CONFIG("llama", ", \"num_key_value_heads\": 0"), "key 'num_key_value_heads': want"},
        {CONFIG("llama", ", \"head_dim\": 7"), "key 'head_dim': 7"},
        {CONFIG("llama", ", \"head_dim\": 64.5"), "key 'head_dim': want an integer"},
        {CONFIG("llama", ", \"head_dim\": 4096"), "found 4096"},
        {CONFIG("llama", ", \"rms_norm_eps\": \"x\""), "key 'rms_norm_eps'"},
        {CONFIG("llama", ", \"tie_word_embeddings\": 1"), "key 'tie_word_embeddings'"},
        {CONFIG("llama", ", \"bos_token_id\": \"a\""), "key 'bos_token_id'"},
        {CONFIG("llama", ", \"rope_scaling\": {\"type\": \"mrope\"}"), "'mrope' is not supported"},
        {CONFIG("llama", ", \"rope_scaling\": 3"), "want an object, found 3"},
        {CONFIG("llama", ", \"rope_scaling\": {\"type\": \"linear\"}"), "key 'factor' is missing"},
        {CONFIG("llama", ", \"rope_parameters\": {\"mrope_section\": []}"), "'mrope_section'"},
        {CONFIG("llama", ", \"rope_parameters\": {\"rope_theta\": -1}"), "key 'rope_theta'"},
        {CONFIG("llama", ", \"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1], "
                         "\"long_factor\": [1]}"),
         "want a list of 4 numbers, found 1"},
        {CONFIG("mistral", ", \"sliding_window\": -2"), "key 'sliding_window'"},
        {CONFIG("mistral", ", \"layer_types\": [\"full_attention\"]"), "key 'layer_types'"},
        {"{\"model_type\": \"llama\", \"vocab_size\": 5}", "key 'hidden_size' is missing"},
        {"{\"model_type\": \"llama\", \"vocab_size\": 99999999999}", "key 'vocab_size'"},
    };

    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        rp_model_config config;
        assert_int_equal(parse(&config, cases[i].text), RP_ERR_FORMAT);
        if (strstr(rp_error_message(), cases[i].message) == NULL) {
            fail_msg("want '%s' in '%s'", cases[i].message, rp_error_message());
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),  cmocka_unit_test(test_both_spellings),
        cmocka_unit_test(test_windows),   cmocka_unit_test(test_slots),
        cmocka_unit_test(test_bad_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

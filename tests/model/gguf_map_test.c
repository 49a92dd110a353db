/* The GGUF view of a model: names, row order, rope frequencies, keys out and in, tokenizer out and
 * in, weights of a small file. */
#include "model/gguf_map.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "formats/json.h"
#include "model/weights_backend.h"
#include "tests/formats/make_files.h"

#define BOOKLM RP_SOURCE_DIR "/examples/models/booklm"

static rp_model_config parse_config(const char *text)
{
    rp_model_config config;
    json_t *root = NULL;

    assert_int_equal(rp_json_parse(&root, text, strlen(text), "test"), RP_OK);
    assert_int_equal(rp_model_config_parse(&config, root), RP_OK);
    json_decref(root);
    return config;
}

#define SIZES                                                                                      \
    "\"vocab_size\": 40, \"hidden_size\": 64, \"intermediate_size\": 96, "                         \
    "\"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "           \
    "\"max_position_embeddings\": 128, \"bos_token_id\": 1, \"eos_token_id\": [2, 3]"

static void names_both_ways(void **state)
{
    char gguf[RP_GGUF_NAME_BYTES];
    char hf[128];
    char again[128];

    (void)state;
    for (int slot = 0; slot < RP_SLOT_COUNT; slot++) {
        rp_model_slot_name(hf, sizeof(hf), 17, (rp_slot)slot);
        assert_true(rp_gguf_name_from_hf(gguf, hf));
        assert_int_equal(strncmp(gguf, "blk.17.", 7), 0);
        assert_true(rp_gguf_name_to_hf(again, sizeof(again), gguf));
        assert_string_equal(again, hf);
    }
    assert_true(rp_gguf_name_from_hf(gguf, "model.layers.0.post_attention_layernorm.weight"));
    assert_string_equal(gguf, "blk.0.ffn_norm.weight");
    assert_true(rp_gguf_name_from_hf(gguf, "lm_head.weight"));
    assert_string_equal(gguf, "output.weight");
    assert_true(rp_gguf_name_to_hf(hf, sizeof(hf), "token_embd.weight"));
    assert_string_equal(hf, "model.embed_tokens.weight");
    assert_false(rp_gguf_name_to_hf(hf, sizeof(hf), "blk.01.attn_q.weight"));
    assert_false(rp_gguf_name_to_hf(hf, sizeof(hf), "blk.1.attn_z.weight"));
    assert_false(rp_gguf_name_to_hf(hf, sizeof(hf), "blk.99999999999999999999.attn_q.weight"));
    assert_false(rp_gguf_name_from_hf(gguf, "model.layers.x.mlp.up_proj.weight"));
}

static void rows_both_ways(void **state)
{
    const rp_model_config llama = parse_config("{\"model_type\": \"llama\", " SIZES "}");
    const rp_model_config qwen = parse_config("{\"model_type\": \"qwen2\", " SIZES "}");
    const rp_gguf_row_order order =
        rp_gguf_row_order_of(&llama, "model.layers.0.self_attn.k_proj.weight");

    (void)state;
    assert_int_equal(order.head_rows, 16);
    assert_int_equal(rp_gguf_row_to_hf(order, 0), 0);
    assert_int_equal(rp_gguf_row_to_hf(order, 1), 8);
    assert_int_equal(rp_gguf_row_to_hf(order, 2), 1);
    assert_int_equal(rp_gguf_row_to_hf(order, 16 + 15), 16 + 15);
    for (int64_t row = 0; row < 64; row++) {
        assert_int_equal(rp_gguf_row_from_hf(order, rp_gguf_row_to_hf(order, row)), row);
    }
    assert_int_equal(
        rp_gguf_row_order_of(&llama, "model.layers.0.self_attn.v_proj.weight").head_rows, 0);
    assert_int_equal(
        rp_gguf_row_order_of(&qwen, "model.layers.0.self_attn.q_proj.weight").head_rows, 0);
    assert_int_equal(rp_gguf_row_to_hf((rp_gguf_row_order){0}, 5), 5);
}

/* Llama 3.1's own numbers: short waves untouched, long ones by the factor. Those in between are
 * what the formula of llama.cpp's converter gives in torch. */
static void llama3_frequencies(void **state)
{
    const rp_model_config config = parse_config(
        "{\"model_type\": \"llama\", \"vocab_size\": 64, \"hidden_size\": 4096, "
        "\"intermediate_size\": 64, \"num_hidden_layers\": 1, \"num_attention_heads\": 32, "
        "\"max_position_embeddings\": 131072, \"rope_theta\": 500000.0, \"rope_scaling\": "
        "{\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
        "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}}");
    const float between[6] = {1.2074839f, 1.5534146f, 2.0263131f,
                              2.6945300f, 3.6842532f, 5.2573271f};
    float freqs[RP_ROPE_MAX_FACTORS];

    (void)state;
    assert_int_equal(rp_gguf_rope_freqs(&config, freqs), 64);
    for (int i = 0; i <= 28; i++) {
        assert_true(freqs[i] == 1.0f);
    }
    for (int i = 0; i < 6; i++) {
        assert_true(fabsf(freqs[29 + i] - between[i]) < 1e-5f);
    }
    for (int i = 35; i < 64; i++) {
        assert_true(freqs[i] == 8.0f);
    }
}

/* ---- Keys ---- */

/* A file in memory with the model's keys and empty tensors that the reader looks at. */
static rp_gguf *file_of(const rp_model_config *config, const char *const *tensors)
{
    rp_gguf_writer *w = NULL;
    rp_gguf *gguf = NULL;
    const uint8_t *header = NULL;
    size_t header_bytes = 0;
    uint8_t *file = NULL;
    float freqs[RP_ROPE_MAX_FACTORS];
    const int64_t n_freqs = rp_gguf_rope_freqs(config, freqs);
    const int64_t embedding[2] = {config->hidden_size, config->vocab_size};
    const rp_gguf_block_type *f32 = rp_gguf_block_type_find("F32");

    assert_int_equal(rp_gguf_writer_create(&w), RP_OK);
    assert_int_equal(rp_gguf_put_model(w, config, "test", 0), RP_OK);
    if (n_freqs > 0) {
        assert_int_equal(rp_gguf_add_tensor(w, RP_GGUF_ROPE_FREQS, f32, 1, &n_freqs), RP_OK);
    }
    assert_int_equal(rp_gguf_add_tensor(w, "token_embd.weight", f32, 2, embedding), RP_OK);
    for (; *tensors != NULL; tensors++) {
        assert_int_equal(rp_gguf_add_tensor(w, *tensors, f32, 1, embedding), RP_OK);
    }
    assert_int_equal(rp_gguf_writer_finish(w, &header, &header_bytes), RP_OK);
    file = calloc(1, rp_gguf_writer_file_bytes(w));
    assert_non_null(file);
    memcpy(file, header, header_bytes);
    if (n_freqs > 0) {
        memcpy(file + rp_gguf_writer_tensor(w, 0)->offset, freqs,
               (size_t)n_freqs * sizeof(freqs[0]));
    }
    assert_int_equal(rp_gguf_parse(&gguf, file, rp_gguf_writer_file_bytes(w), "test.gguf"), RP_OK);
    free(file);
    rp_gguf_writer_destroy(&w);
    return gguf;
}

/* config.json of a GGUF file says the same as its keys; divisors by llama3's rule are named so. */
static void check_config_json(const rp_model_config *keys, const rp_gguf *gguf)
{
    rp_model_config json_says;
    json_t *root = NULL;

    assert_int_equal(rp_gguf_config_json(&root, gguf), RP_OK);
    assert_int_equal(rp_model_config_parse(&json_says, root), RP_OK);
    json_decref(root);
    assert_int_equal(json_says.rope.type,
                     keys->rope.type == RP_ROPE_LONGROPE ? RP_ROPE_LLAMA3 : keys->rope.type);
    assert_true((float)json_says.rms_eps == (float)keys->rms_eps);
    assert_true((float)json_says.rope.theta == (float)keys->rope.theta);
    assert_true((float)json_says.rope.attention_factor == (float)keys->rope.attention_factor ||
                keys->rope.type == RP_ROPE_LONGROPE);
    assert_int_equal(rp_model_rotary_dims(&json_says), rp_model_rotary_dims(keys));
    /* what stands before the reals, and the flags behind */
    assert_memory_equal(&json_says, keys, offsetof(rp_model_config, rms_eps));
    assert_int_equal(json_says.tie_embeddings, keys->tie_embeddings);
    assert_int_equal(json_says.attention_bias, keys->attention_bias);
    assert_int_equal(json_says.mlp_bias, keys->mlp_bias);
    assert_int_equal(json_says.sliding_window, 0);
}

static rp_model_config through_gguf(const rp_model_config *config, const char *const *tensors)
{
    rp_model_config out;
    rp_gguf *gguf = file_of(config, tensors);

    assert_int_equal(rp_gguf_read_config(&out, gguf), RP_OK);
    check_config_json(&out, gguf);
    rp_gguf_close(&gguf);
    assert_string_equal(out.arch->gguf_arch, config->arch->gguf_arch);
    assert_int_equal(out.vocab_size, config->vocab_size);
    assert_int_equal(out.hidden_size, config->hidden_size);
    assert_int_equal(out.intermediate_size, config->intermediate_size);
    assert_int_equal(out.n_layers, config->n_layers);
    assert_int_equal(out.n_heads, config->n_heads);
    assert_int_equal(out.n_kv_heads, config->n_kv_heads);
    assert_int_equal(out.head_dim, config->head_dim);
    assert_int_equal(out.max_position, config->max_position);
    assert_true((float)out.rms_eps == (float)config->rms_eps);
    assert_true((float)out.rope.theta == (float)config->rope.theta);
    assert_int_equal(rp_model_rotary_dims(&out), rp_model_rotary_dims(config));
    return out;
}

static void configs_of_the_families(void **state)
{
    static const char *const none[] = {NULL};
    static const char *const untied[] = {"output.weight", "blk.0.attn_output.bias",
                                         "blk.0.ffn_down.bias", NULL};
    rp_model_config config = parse_config("{\"model_type\": \"llama\", " SIZES "}");
    rp_model_config out = through_gguf(&config, none);

    (void)state;
    assert_true(out.tie_embeddings);
    assert_false(out.attention_bias || out.mlp_bias);
    out = through_gguf(&config, untied);
    assert_false(out.tie_embeddings);
    assert_true(out.attention_bias && out.mlp_bias);
    config = parse_config("{\"model_type\": \"mistral\", \"head_dim\": 32, " SIZES "}");
    out = through_gguf(&config, none);
    assert_string_equal(out.arch->model_type, "llama");
    config = parse_config("{\"model_type\": \"qwen2\", \"rope_theta\": 1000000.0, " SIZES "}");
    (void)through_gguf(&config, none);
    config = parse_config("{\"model_type\": \"qwen3\", \"head_dim\": 32, " SIZES "}");
    (void)through_gguf(&config, none);
}

static void rope_scalings(void **state)
{
    static const char *const none[] = {NULL};
    rp_model_config config =
        parse_config("{\"model_type\": \"llama\", \"rope_scaling\": {\"type\": \"linear\", "
                     "\"factor\": 4.0}, " SIZES "}");
    rp_model_config out = through_gguf(&config, none);
    float freqs[RP_ROPE_MAX_FACTORS];

    (void)state;
    assert_int_equal(out.rope.type, RP_ROPE_LINEAR);
    assert_true(out.rope.factor == 4.0);
    config = parse_config("{\"model_type\": \"qwen2\", \"rope_scaling\": {\"type\": \"yarn\", "
                          "\"factor\": 4.0, \"original_max_position_embeddings\": 32, "
                          "\"attention_factor\": 1.5}, " SIZES "}");
    out = through_gguf(&config, none);
    assert_int_equal(out.rope.type, RP_ROPE_YARN);
    assert_int_equal(out.rope.original_max_position, 32);
    assert_true(fabs(out.rope.attention_factor - 1.5) < 1e-6);
    config = parse_config(
        "{\"model_type\": \"llama\", \"rope_scaling\": {\"rope_type\": "
        "\"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
        "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 64}, " SIZES "}");
    out = through_gguf(&config, none);
    assert_int_equal(out.rope.type, RP_ROPE_LONGROPE);
    assert_int_equal(rp_gguf_rope_freqs(&config, freqs), 8);
    assert_memory_equal(out.rope.short_factor, freqs, 8 * sizeof(freqs[0]));
    assert_memory_equal(out.rope.long_factor, freqs, 8 * sizeof(freqs[0]));
    assert_int_equal(rp_gguf_rope_freqs(&out, freqs), 8); /* and out again */
}

/* Divisors that no rule gives stay a list. */
static void free_divisors(void **state)
{
    static const char *const none[] = {NULL};
    rp_model_config config = parse_config("{\"model_type\": \"llama\", " SIZES "}");
    rp_gguf *gguf = NULL;
    json_t *root = NULL;

    (void)state;
    config.rope.type = RP_ROPE_LONGROPE;
    config.rope.attention_factor = 1;
    config.rope.n_factors = 8;
    for (int i = 0; i < 8; i++) {
        config.rope.short_factor[i] = config.rope.long_factor[i] = (float)(1 + i % 3);
    }
    gguf = file_of(&config, none);
    assert_int_equal(rp_gguf_config_json(&root, gguf), RP_OK);
    rp_gguf_close(&gguf);
    assert_int_equal(rp_model_config_parse(&config, root), RP_OK);
    json_decref(root);
    assert_int_equal(config.rope.type, RP_ROPE_LONGROPE);
    assert_true(config.rope.short_factor[2] == 3.0f && config.rope.long_factor[4] == 2.0f);
    assert_true(config.rope.attention_factor == 1.0);
}

static void scalings_that_gguf_lacks(void **state)
{
    const rp_model_config config =
        parse_config("{\"model_type\": \"llama\", \"rope_scaling\": {\"type\": \"dynamic\", "
                     "\"factor\": 4.0}, " SIZES "}");
    rp_gguf_writer *w = NULL;

    (void)state;
    assert_int_equal(rp_gguf_writer_create(&w), RP_OK);
    assert_int_equal(rp_gguf_put_model(w, &config, "x", 1), RP_ERR_CONFIG);
    assert_non_null(strstr(rp_error_message(), "dynamic"));
    rp_gguf_writer_destroy(&w);
}

/* Each size key wrong once. */
static void wrong_keys(void **state)
{
    static const char *const lines[][2] = {
        {"general.architecture", "mamba"}, {"general.architecture", "llama"}, /* no sizes */
    };
    const int64_t shape[2] = {64, 40};
    const char *wants[] = {"mamba is not supported", "token_embd.weight: missing",
                           "llama.block_count: missing"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        rp_gguf_writer *w = NULL;
        rp_gguf *gguf = NULL;
        rp_model_config config;
        const uint8_t *header = NULL;
        size_t n = 0;
        uint8_t file[16384] = {0};
        assert_int_equal(rp_gguf_writer_create(&w), RP_OK);
        assert_int_equal(rp_gguf_put_string(w, lines[i > 0][0], lines[i > 0][1]), RP_OK);
        if (i == 2) {
            assert_int_equal(rp_gguf_add_tensor(w, "token_embd.weight",
                                                rp_gguf_block_type_find("F32"), 2, shape),
                             RP_OK);
        }
        assert_int_equal(rp_gguf_writer_finish(w, &header, &n), RP_OK);
        memcpy(file, header, n);
        assert_int_equal(rp_gguf_parse(&gguf, file, rp_gguf_writer_file_bytes(w), "x"), RP_OK);
        assert_int_equal(rp_gguf_read_config(&config, gguf), RP_ERR_FORMAT);
        assert_non_null(strstr(rp_error_message(), wants[i]));
        rp_gguf_close(&gguf);
        rp_gguf_writer_destroy(&w);
    }
}

/* ---- Tokenizer ---- */

/* The tokenizer written to keys, read back, loaded again. */
static rp_tokenizer *tokenizer_through_gguf(const rp_tokenizer *tokenizer, int64_t n_rows,
                                            const json_t *tokenizer_config)
{
    rp_gguf_writer *w = NULL;
    rp_gguf *gguf = NULL;
    rp_tokenizer *out = NULL;
    json_t *root = NULL;
    const uint8_t *header = NULL;
    size_t n = 0;
    const rp_model_config config = {.vocab_size = n_rows, .bos_id = 1, .eos_id = 2};

    assert_int_equal(rp_gguf_writer_create(&w), RP_OK);
    assert_int_equal(rp_gguf_put_tokenizer(w, &config, tokenizer, tokenizer_config), RP_OK);
    assert_int_equal(rp_gguf_writer_finish(w, &header, &n), RP_OK);
    assert_int_equal(rp_gguf_parse(&gguf, header, n, "tokens.gguf"), RP_OK);
    assert_int_equal(rp_gguf_kv_find(gguf, "tokenizer.ggml.tokens")->count, n_rows);
    assert_int_equal(rp_gguf_tokenizer_json(&root, gguf), RP_OK);
    if (rp_tokenizer_from_json(&out, root, "tokens.gguf") != RP_OK) {
        fail_msg("%s", rp_error_message());
    }
    json_decref(root);
    rp_gguf_close(&gguf);
    rp_gguf_writer_destroy(&w);
    return out;
}

static void assert_same_ids(const rp_tokenizer *a, const rp_tokenizer *b, const char *text,
                            size_t nbytes)
{
    int32_t *ids[2] = {NULL, NULL};
    int64_t n[2] = {0, 0};

    assert_int_equal(rp_tokenizer_encode(a, text, nbytes, true, &ids[0], &n[0]), RP_OK);
    assert_int_equal(rp_tokenizer_encode(b, text, nbytes, true, &ids[1], &n[1]), RP_OK);
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(ids[0], ids[1], (size_t)n[0] * sizeof(int32_t));
    free(ids[0]);
    free(ids[1]);
}

static const char *const texts[] = {
    "",
    " ",
    "a",
    "The quick brown fox\n\n  jumps over 12345 lazy dogs.",
    "<s>special</s> tokens <unk>",
    "\xc3\xa9t\xc3\xa9 \xe6\xbc\xa2\xe5\xad\x97 \xf0\x9f\x98\x80",
};

static void tokenizer_with_byte_fallback(void **state)
{
    rp_tokenizer *tokenizer = NULL;
    rp_tokenizer *again = NULL;
    json_t *config = NULL;
    char *book = NULL;
    size_t nbytes = 0;

    (void)state;
    assert_int_equal(rp_tokenizer_open(&tokenizer, BOOKLM), RP_OK);
    assert_int_equal(rp_gguf_load_tokenizer_config(&config, BOOKLM), RP_OK);
    again = tokenizer_through_gguf(tokenizer, 4100, config);
    assert_int_equal(rp_tokenizer_kind_of(again), RP_TOKENIZER_BYTE_FALLBACK);
    assert_int_equal(rp_tokenizer_size(again), rp_tokenizer_size(tokenizer));
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_same_ids(tokenizer, again, texts[i], strlen(texts[i]));
    }
    assert_int_equal(rp_fs_read_file(&book, &nbytes, BOOKLM "/heldout.txt", (size_t)1 << 26),
                     RP_OK);
    assert_same_ids(tokenizer, again, book, nbytes);
    free(book);
    json_decref(config);
    rp_tokenizer_destroy(&again);
    rp_tokenizer_destroy(&tokenizer);
}

/* A byte-level tokenizer of a few pieces with the pre-tokenizer of one of llama.cpp's names. */
static rp_tokenizer *small_byte_level(const char *pre_tokenizer, const char *post)
{
    char *text = NULL;
    json_t *root = NULL;
    rp_tokenizer *out = NULL;

    assert_true(
        asprintf(
            &text,
            "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, "
            "\"added_tokens\": [{\"id\": 9, \"content\": \"<|end|>\", \"single_word\": false, "
            "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true}], "
            "\"normalizer\": null, \"pre_tokenizer\": %s, \"post_processor\": %s, "
            "\"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
            "\"trim_offsets\": true, \"use_regex\": true}, \"model\": {\"type\": \"BPE\", "
            "\"vocab\": {\"a\": 0, \"b\": 1, \"\\u0120\": 2, \"1\": 3, \"ab\": 4, "
            "\"\\u0120ab\": 5, \"11\": 6, \"\\u0120a\": 7}, \"merges\": [[\"a\", \"b\"], "
            "[\"\\u0120\", \"ab\"], [\"1\", \"1\"], [\"\\u0120\", \"a\"]]}}",
            pre_tokenizer, post) > 0);
    assert_int_equal(rp_json_parse(&root, text, strlen(text), "small"), RP_OK);
    if (rp_tokenizer_from_json(&out, root, "small") != RP_OK) {
        fail_msg("%s", rp_error_message());
    }
    json_decref(root);
    free(text);
    return out;
}

#define BYTE_LEVEL "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true"
static void tokenizer_of_bytes(void **state)
{
    static const char *const pre[] = {
        BYTE_LEVEL "}",
        "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", "
        "\"individual_digits\": true}, " BYTE_LEVEL "}]}",
    };
    static const char post[] =
        "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<|end|>\", "
        "\"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"pair\": [], "
        "\"special_tokens\": {\"<|end|>\": {\"id\": \"<|end|>\", \"ids\": [9], \"tokens\": "
        "[\"<|end|>\"]}}}";
    static const char text[] = " ab ab11 1ab<|end|>a b";
    json_t *config = json_pack("{s:s}", "bos_token", "<|end|>");

    (void)state;
    for (int i = 0; i < 2; i++) {
        rp_tokenizer *tokenizer = small_byte_level(pre[i], i == 0 ? "null" : post);
        rp_tokenizer *again = tokenizer_through_gguf(tokenizer, 12, config);
        assert_int_equal(rp_tokenizer_kind_of(again), RP_TOKENIZER_BYTE_LEVEL);
        assert_string_equal(rp_tokenizer_gguf_pre(again), i == 0 ? "gpt-2" : "smollm");
        assert_same_ids(tokenizer, again, text, strlen(text));
        rp_tokenizer_destroy(&again);
        rp_tokenizer_destroy(&tokenizer);
    }
    json_decref(config);
}

static void tokenizer_larger_than_the_embedding(void **state)
{
    rp_tokenizer *tokenizer = small_byte_level(BYTE_LEVEL "}", "null");
    rp_gguf_writer *w = NULL;
    const rp_model_config config = {.vocab_size = 9, .bos_id = -1, .eos_id = -1};

    (void)state;
    assert_int_equal(rp_gguf_writer_create(&w), RP_OK);
    assert_int_equal(rp_gguf_put_tokenizer(w, &config, tokenizer, NULL), RP_ERR_FORMAT);
    rp_gguf_writer_destroy(&w);
    rp_tokenizer_destroy(&tokenizer);
}

static void chat_templates(void **state)
{
    rp_tokenizer *tokenizer = small_byte_level(BYTE_LEVEL "}", "null");
    json_t *config = json_pack("{s:[{s:s, s:s}, {s:s, s:s}]}", "chat_template", "name", "default",
                               "template", "T", "name", "tools", "template", "U");
    const rp_model_config model = {.vocab_size = 10, .bos_id = -1, .eos_id = -1};
    rp_gguf_writer *w = NULL;
    rp_gguf *gguf = NULL;
    const uint8_t *header = NULL;
    size_t n = 0;
    char *text = NULL;

    (void)state;
    assert_int_equal(rp_gguf_writer_create(&w), RP_OK);
    assert_int_equal(rp_gguf_put_tokenizer(w, &model, tokenizer, config), RP_OK);
    assert_int_equal(rp_gguf_writer_finish(w, &header, &n), RP_OK);
    assert_int_equal(rp_gguf_parse(&gguf, header, n, "chat"), RP_OK);
    assert_int_equal(rp_gguf_get_string(&text, gguf, "tokenizer.chat_template", true), RP_OK);
    assert_string_equal(text, "T");
    free(text);
    assert_int_equal(rp_gguf_get_string(&text, gguf, "tokenizer.chat_template.tools", true), RP_OK);
    assert_string_equal(text, "U");
    free(text);
    assert_int_equal(rp_gguf_kv_find(gguf, "tokenizer.chat_templates")->count, 1);
    assert_null(rp_gguf_kv_find(gguf, "tokenizer.ggml.bos_token_id"));
    rp_gguf_close(&gguf);
    rp_gguf_writer_destroy(&w);
    json_decref(config);
    rp_tokenizer_destroy(&tokenizer);
}

static void make_text(const char *name, const char *text)
{
    (void)make_file(name, text, strlen(text));
}

/* Files beside tokenizer_config.json: templates by their own names, ids of config.json. */
static void folder_of_templates(void **state)
{
    json_t *config = NULL;
    const json_t *list = NULL;
    char dir[256];

    (void)state;
    (void)snprintf(dir, sizeof(dir), "%s", scratch_path(""));
    make_text("chat_template.json", "{\"chat_template\": \"older\"}");
    make_text("config.json", "{\"eos_token_id\": [3, 4], \"pad_token_id\": 5}");
    assert_int_equal(rp_gguf_load_tokenizer_config(&config, dir), RP_OK);
    assert_string_equal(json_string_value(json_object_get(config, "chat_template")), "older");
    assert_int_equal(json_integer_value(json_object_get(config, "pad_token_id")), 5);
    assert_null(json_object_get(config, "eos_token_id"));
    json_decref(config);
    make_text("chat_template.jinja", "plain");
    assert_int_equal(rp_fs_make_dirs(scratch_path("additional_chat_templates")), RP_OK);
    make_text("additional_chat_templates/tools.jinja", "with tools");
    make_text("additional_chat_templates/rag.jinja", "with texts");
    make_text("additional_chat_templates/notes.txt", "none");
    assert_int_equal(rp_gguf_load_tokenizer_config(&config, dir), RP_OK);
    list = json_object_get(config, "chat_template");
    assert_int_equal(json_array_size(list), 3);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "name")),
                        "default");
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "template")),
                        "plain");
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "name")), "rag");
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 2), "template")),
                        "with tools");
    json_decref(config);
}

/* ---- Weights ---- */

enum { Q_ROWS = 64, COLS = 64 };

/* Q in Q8_0 with GGUF's row order, where HF row r holds the value r in all columns; a norm. */
static const char *weights_file(const rp_model_config *config)
{
    const char *path = scratch_path("weights.gguf");
    const rp_gguf_block_type *q8 = rp_gguf_block_type_find("Q8_0");
    const rp_gguf_block_type *f32 = rp_gguf_block_type_find("F32");
    const int64_t embedding[2] = {COLS, config->vocab_size};
    const int64_t q_shape[2] = {COLS, Q_ROWS};
    const rp_gguf_row_order order =
        rp_gguf_row_order_of(config, "model.layers.0.self_attn.q_proj.weight");
    rp_gguf_writer *w = NULL;
    const uint8_t *header = NULL;
    size_t n = 0;
    rp_form form;

    assert_int_equal(rp_gguf_writer_create(&w), RP_OK);
    assert_int_equal(rp_gguf_put_model(w, config, "t", 7), RP_OK);
    assert_int_equal(rp_gguf_add_tensor(w, "token_embd.weight", f32, 2, embedding), RP_OK);
    assert_int_equal(rp_gguf_add_tensor(w, "blk.0.attn_q.weight", q8, 2, q_shape), RP_OK);
    assert_int_equal(rp_gguf_add_tensor(w, "blk.0.attn_norm.weight", f32, 1, embedding), RP_OK);
    assert_int_equal(rp_gguf_writer_finish(w, &header, &n), RP_OK);
    uint8_t *file = calloc(1, rp_gguf_writer_file_bytes(w));
    assert_non_null(file);
    memcpy(file, header, n);
    assert_int_equal(rp_form_create_dense(&form, Q_ROWS, COLS), RP_OK);
    for (int64_t row = 0; row < Q_ROWS; row++) {
        for (int64_t c = 0; c < COLS; c++) {
            form.values[row * COLS + c] = (float)rp_gguf_row_to_hf(order, row) * 127.0f;
        }
    }
    assert_int_equal(
        rp_gguf_encode_rows(q8, &form, 0, Q_ROWS, NULL, file + rp_gguf_writer_tensor(w, 1)->offset),
        RP_OK);
    rp_form_destroy(&form);
    assert_int_equal(rp_fs_write_file(path, file, rp_gguf_writer_file_bytes(w)), RP_OK);
    free(file);
    rp_gguf_writer_destroy(&w);
    return path;
}

static void weights_in_hf_order(void **state)
{
    const rp_model_config config = parse_config("{\"model_type\": \"llama\", " SIZES "}");
    const rp_weights_backend *backend = &rp_weights_backend_gguf;
    const char *path = weights_file(&config);
    rp_model_config read;
    void *weights = NULL;
    rp_weight_info info;
    float rows[40 * COLS];

    (void)state;
    assert_true(backend->claims(path));
    assert_false(backend->claims("folder"));
    assert_int_equal(backend->open(&weights, path, &read), RP_OK);
    assert_int_equal(backend->count(weights), 3);
    backend->info(weights, 1, &info);
    assert_string_equal(info.name, "model.layers.0.self_attn.q_proj.weight");
    assert_string_equal(info.stored_as, "Q8_0");
    assert_int_equal(info.ndim, 2);
    assert_int_equal(info.shape[0], Q_ROWS);
    assert_int_equal(info.shape[1], COLS);
    assert_int_equal(info.dtype, RP_F32);
    assert_false(info.is_dense);
    assert_int_equal(backend->read_rows(weights, 1, 5, 40, rows), RP_OK); /* across heads */
    for (int64_t i = 0; i < 40; i++) {
        assert_true(rows[i * COLS] == (float)(5 + i) * 127.0f);
        assert_true(rows[i * COLS + COLS - 1] == (float)(5 + i) * 127.0f);
    }
    backend->info(weights, 2, &info);
    assert_int_equal(info.ndim, 1);
    assert_true(info.is_dense);
    assert_int_equal(backend->read_rows(weights, 2, 60, 4, rows), RP_OK);
    assert_true(rows[3] == 0.0f);
    backend->close(weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_both_ways),
        cmocka_unit_test(rows_both_ways),
        cmocka_unit_test(llama3_frequencies),
        cmocka_unit_test(configs_of_the_families),
        cmocka_unit_test(rope_scalings),
        cmocka_unit_test(free_divisors),
        cmocka_unit_test(scalings_that_gguf_lacks),
        cmocka_unit_test(wrong_keys),
        cmocka_unit_test(tokenizer_with_byte_fallback),
        cmocka_unit_test(tokenizer_of_bytes),
        cmocka_unit_test(tokenizer_larger_than_the_embedding),
        cmocka_unit_test(chat_templates),
        cmocka_unit_test(folder_of_templates),
        cmocka_unit_test(weights_in_hf_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

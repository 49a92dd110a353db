/* What Hugging Face's files beside the weights would say of a GGUF file: config.json,
 * tokenizer_config.json and generation_config.json from its keys (tokenizer.json is
 * gguf_tokenizer_read.c's). */
#include "model/gguf_map.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* ---- config.json ---- */

/* GGUF's reals are f32: the shortest decimal that rounds to the same one, 1e-05 and not
 * 9.99999974737875e-06. */
static json_t *shortest_real(double value)
{
    char text[40];
    double found = value;

    for (int digits = 1; digits <= 9; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, value);
        found = strtod(text, NULL);
        if ((float)found == (float)value) {
            break;
        }
    }
    return json_real(found);
}

/* The parameters of llama3's rule when the divisors are what it gives; the usual bounds 1 and 4. */
static bool is_llama3(rp_rope_config *out, const rp_model_config *config)
{
    rp_model_config trial = *config;
    float want[RP_ROPE_MAX_FACTORS];
    float found[RP_ROPE_MAX_FACTORS];
    const int64_t n = rp_gguf_rope_freqs(config, want);

    trial.rope = (rp_rope_config){.type = RP_ROPE_LLAMA3,
                                  .theta = config->rope.theta,
                                  .partial_factor = config->rope.partial_factor,
                                  .low_freq_factor = 1,
                                  .high_freq_factor = 4};
    for (int64_t i = 0; i < n; i++) {
        trial.rope.factor = RP_MAX(trial.rope.factor, (double)want[i]);
    }
    for (int64_t original = 64; original <= 1 << 20 && n > 0; original *= 2) {
        int64_t same = 0;
        trial.rope.original_max_position = original;
        (void)rp_gguf_rope_freqs(&trial, found);
        while (same < n && fabsf(found[same] - want[same]) <= 1e-5f * want[same]) {
            same++;
        }
        if (same == n) {
            *out = trial.rope;
            return true;
        }
    }
    return false;
}

static json_t *factor_list(const float *factors, int64_t n)
{
    json_t *list = json_array();

    for (int64_t i = 0; i < n; i++) {
        (void)json_array_append_new(list, shortest_real((double)factors[i]));
    }
    return list;
}

/* rope_scaling of the types that a GGUF file can have; NULL for plain rotation. */
static json_t *rope_scaling(const rp_model_config *config)
{
    const rp_rope_config *rope = &config->rope;
    rp_rope_config llama3 = {0};
    json_t *out = NULL;

    switch (rope->type) {
    case RP_ROPE_LINEAR:
        return json_pack("{s:s, s:o}", "rope_type", "linear", "factor",
                         shortest_real(rope->factor));
    case RP_ROPE_YARN:
        out =
            json_pack("{s:s, s:o, s:I, s:o, s:o}", "rope_type", "yarn", "factor",
                      shortest_real(rope->factor), "original_max_position_embeddings",
                      (json_int_t)rope->original_max_position, "beta_fast",
                      shortest_real(rope->beta_fast), "beta_slow", shortest_real(rope->beta_slow));
        if (rope->attention_factor > 0) {
            (void)json_object_set_new(out, "attention_factor",
                                      shortest_real(rope->attention_factor));
        }
        return out;
    case RP_ROPE_LONGROPE:
        if (is_llama3(&llama3, config)) {
            return json_pack("{s:s, s:o, s:o, s:o, s:I}", "rope_type", "llama3", "factor",
                             shortest_real(llama3.factor), "low_freq_factor",
                             shortest_real(llama3.low_freq_factor), "high_freq_factor",
                             shortest_real(llama3.high_freq_factor),
                             "original_max_position_embeddings",
                             (json_int_t)llama3.original_max_position);
        }
        return json_pack("{s:s, s:o, s:o, s:f, s:f, s:I}", "rope_type", "longrope", "short_factor",
                         factor_list(rope->short_factor, rope->n_factors), "long_factor",
                         factor_list(rope->long_factor, rope->n_factors), "attention_factor", 1.0,
                         "factor", 1.0, "original_max_position_embeddings",
                         (json_int_t)rope->original_max_position);
    default:
        return NULL;
    }
}

static void set_token_ids(json_t *root, const rp_model_config *config)
{
    (void)json_object_set_new(root, "bos_token_id",
                              config->bos_id < 0 ? json_null() : json_integer(config->bos_id));
    (void)json_object_set_new(root, "eos_token_id",
                              config->eos_id < 0 ? json_null() : json_integer(config->eos_id));
}

static void set_flags(json_t *root, const rp_model_config *config)
{
    const rp_arch *arch = config->arch;

    (void)json_object_set_new(root, "tie_word_embeddings", json_boolean(config->tie_embeddings));
    if (config->rope.partial_factor < 1) {
        (void)json_object_set_new(root, "partial_rotary_factor",
                                  json_real(config->rope.partial_factor));
    }
    if (arch->reads_attention_bias) {
        (void)json_object_set_new(root, "attention_bias", json_boolean(config->attention_bias));
    }
    if (arch->reads_mlp_bias) {
        (void)json_object_set_new(root, "mlp_bias", json_boolean(config->mlp_bias));
    }
    if (arch->has_window_switch) {
        (void)json_object_set_new(root, "use_sliding_window", json_false());
    }
}

static rp_status made(const json_t *root)
{
    return root != NULL ? RP_OK : RP_FAIL(RP_ERR_MEMORY, "no memory for a model's JSON files");
}

rp_status rp_gguf_config_json(json_t **out, const rp_gguf *gguf)
{
    static const struct {
        const char *key;
        size_t offset;
    } sizes[] = {
        {"vocab_size", offsetof(rp_model_config, vocab_size)},
        {"hidden_size", offsetof(rp_model_config, hidden_size)},
        {"intermediate_size", offsetof(rp_model_config, intermediate_size)},
        {"num_hidden_layers", offsetof(rp_model_config, n_layers)},
        {"num_attention_heads", offsetof(rp_model_config, n_heads)},
        {"num_key_value_heads", offsetof(rp_model_config, n_kv_heads)},
        {"head_dim", offsetof(rp_model_config, head_dim)},
        {"max_position_embeddings", offsetof(rp_model_config, max_position)},
    };
    rp_status st = RP_OK;
    rp_model_config config;
    json_t *root = NULL;
    json_t *scaling = NULL;

    RP_TRY(rp_gguf_read_config(&config, gguf));
    root = json_pack("{s:[s], s:s, s:s}", "architectures", config.arch->hf_class, "model_type",
                     config.arch->model_type, "hidden_act", "silu");
    RP_TRY(made(root));
    for (size_t i = 0; i < RP_COUNT(sizes); i++) {
        const int64_t value = *(const int64_t *)((const char *)&config + sizes[i].offset);
        (void)json_object_set_new(root, sizes[i].key, json_integer(value));
    }
    (void)json_object_set_new(root, "rms_norm_eps", shortest_real(config.rms_eps));
    (void)json_object_set_new(root, "rope_theta", shortest_real(config.rope.theta));
    scaling = rope_scaling(&config);
    (void)json_object_set_new(root, "rope_scaling", scaling != NULL ? scaling : json_null());
    set_flags(root, &config);
    set_token_ids(root, &config);
    *out = root;
    root = NULL;
out:
    json_decref(root);
    return st;
}

rp_status rp_gguf_generation_config_json(json_t **out, const rp_gguf *gguf)
{
    rp_status st = RP_OK;
    rp_model_config config;
    int64_t pad = -1;

    RP_TRY(rp_gguf_read_config(&config, gguf));
    RP_TRY(rp_gguf_get_int(&pad, gguf, "tokenizer.ggml.padding_token_id", false));
    *out = json_object();
    RP_TRY(made(*out));
    set_token_ids(*out, &config);
    if (pad >= 0) {
        (void)json_object_set_new(*out, "pad_token_id", json_integer(pad));
    }
out:
    return st;
}

/* ---- tokenizer_config.json ---- */

static rp_status set_special_tokens(json_t *root, const rp_gguf *gguf)
{
    static const char *const names[][2] = {
        {"bos_token", "tokenizer.ggml.bos_token_id"},
        {"eos_token", "tokenizer.ggml.eos_token_id"},
        {"unk_token", "tokenizer.ggml.unknown_token_id"},
        {"sep_token", "tokenizer.ggml.seperator_token_id"}, /* llama.cpp's spelling */
        {"pad_token", "tokenizer.ggml.padding_token_id"},
        {"cls_token", "tokenizer.ggml.cls_token_id"},
        {"mask_token", "tokenizer.ggml.mask_token_id"},
    };
    rp_status st = RP_OK;
    const rp_gguf_kv *tokens = NULL;

    RP_TRY(rp_gguf_get_array(&tokens, gguf, "tokenizer.ggml.tokens", RP_GGUF_STRING, true));
    for (size_t i = 0; i < RP_COUNT(names); i++) {
        int64_t id = -1;
        RP_TRY(rp_gguf_get_int(&id, gguf, names[i][1], false));
        if (id >= 0 && id < tokens->count) {
            const rp_gguf_string text = rp_gguf_kv_string(tokens, id);
            (void)json_object_set_new(root, names[i][0], json_stringn(text.data, text.nbytes));
        }
    }
out:
    return st;
}

/* One template is a string; named ones make a list of which the plain one is "default". */
static rp_status set_chat_templates(json_t *root, const rp_gguf *gguf)
{
    rp_status st = RP_OK;
    char *plain = NULL;
    char *key = NULL;
    char *text = NULL;
    const rp_gguf_kv *names = NULL;
    json_t *list = json_array();

    RP_TRY(rp_gguf_get_string(&plain, gguf, "tokenizer.chat_template", false));
    RP_TRY(rp_gguf_get_array(&names, gguf, "tokenizer.chat_templates", RP_GGUF_STRING, false));
    if (plain != NULL) {
        (void)json_array_append_new(list,
                                    json_pack("{s:s, s:s}", "name", "default", "template", plain));
    }
    for (int64_t i = 0; names != NULL && i < names->count; i++) {
        const rp_gguf_string name = rp_gguf_kv_string(names, i);
        free(key);
        free(text);
        key = NULL;
        text = NULL;
        RP_TRY(rp_strprintf(&key, "tokenizer.chat_template.%.*s", (int)name.nbytes, name.data));
        RP_TRY(rp_gguf_get_string(&text, gguf, key, true));
        (void)json_array_append_new(
            list, json_pack("{s:s%, s:s}", "name", name.data, name.nbytes, "template", text));
    }
    if (json_array_size(list) == 1 && plain != NULL) {
        (void)json_object_set_new(root, "chat_template", json_string(plain));
    } else if (json_array_size(list) > 0) {
        (void)json_object_set(root, "chat_template", list);
    }
out:
    json_decref(list);
    free(text);
    free(key);
    free(plain);
    return st;
}

rp_status rp_gguf_tokenizer_config_json(json_t **out, const rp_gguf *gguf)
{
    rp_status st = RP_OK;
    rp_model_config config;
    json_t *root = NULL;

    RP_TRY(rp_gguf_read_config(&config, gguf));
    /* the class that takes tokenizer.json as it is */
    root = json_pack("{s:s, s:I, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                     "model_max_length", (json_int_t)config.max_position,
                     "clean_up_tokenization_spaces", 0);
    RP_TRY(made(root));
    RP_TRY(set_special_tokens(root, gguf));
    RP_TRY(set_chat_templates(root, gguf));
    *out = root;
    root = NULL;
out:
    json_decref(root);
    return st;
}

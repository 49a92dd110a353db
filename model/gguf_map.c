/* Names, row order, rope and model keys between Hugging Face and GGUF.
 *
 * Sources: llama.cpp's loader (llama-model.cpp: which keys and tensors it wants) and its converter
 * convert_hf_to_gguf.py (names, permutation of Q and K, rope_freqs), reimplemented. */
#include "model/gguf_map.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define KEY_BYTES 128
#define QUANTIZATION_VERSION 2
#define MAX_SIZE INT32_MAX /* of a size that is read; products of two fit into 63 bits */

/* ---- Tensor names ---- */

static const struct {
    const char *hf, *gguf;
} outer_names[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
};

/* Splits "<prefix>N.<rest>"; NULL when the name is not of that kind. */
static const char *split_layer(const char *name, const char *prefix, int64_t *layer)
{
    const size_t n = strlen(prefix);
    char *end = NULL;

    if (strncmp(name, prefix, n) != 0 || name[n] < '0' || name[n] > '9' ||
        (name[n] == '0' && name[n + 1] != '.')) { /* one spelling a number */
        return NULL;
    }
    *layer = strtoll(name + n, &end, 10);
    return *layer < INT32_MAX && *end == '.' ? end + 1 : NULL;
}

bool rp_gguf_name_from_hf(char out[RP_GGUF_NAME_BYTES], const char *hf_name)
{
    int64_t layer = 0;
    const char *rest = split_layer(hf_name, "model.layers.", &layer);

    for (size_t i = 0; i < RP_COUNT(outer_names); i++) {
        if (strcmp(outer_names[i].hf, hf_name) == 0) {
            (void)snprintf(out, RP_GGUF_NAME_BYTES, "%s", outer_names[i].gguf);
            return true;
        }
    }
    for (int slot = 0; rest != NULL && slot < RP_SLOT_COUNT; slot++) {
        const rp_slot_info *info = rp_slot_info_of((rp_slot)slot);
        if (strcmp(info->hf_name, rest) == 0) {
            (void)snprintf(out, RP_GGUF_NAME_BYTES, "blk.%" PRId64 ".%s", layer, info->gguf_name);
            return true;
        }
    }
    return false;
}

bool rp_gguf_name_to_hf(char *out, size_t out_bytes, const char *gguf_name)
{
    int64_t layer = 0;
    const char *rest = split_layer(gguf_name, "blk.", &layer);

    for (size_t i = 0; i < RP_COUNT(outer_names); i++) {
        if (strcmp(outer_names[i].gguf, gguf_name) == 0) {
            (void)snprintf(out, out_bytes, "%s", outer_names[i].hf);
            return true;
        }
    }
    for (int slot = 0; rest != NULL && slot < RP_SLOT_COUNT; slot++) {
        if (strcmp(rp_slot_info_of((rp_slot)slot)->gguf_name, rest) == 0) {
            rp_model_slot_name(out, out_bytes, layer, (rp_slot)slot);
            return true;
        }
    }
    return false;
}

/* ---- Row order ---- */

rp_gguf_row_order rp_gguf_row_order_of(const rp_model_config *config, const char *hf_name)
{
    static const rp_slot permuted[] = {RP_SLOT_Q, RP_SLOT_K, RP_SLOT_Q_BIAS, RP_SLOT_K_BIAS};
    int64_t layer = 0;
    const char *rest = split_layer(hf_name, "model.layers.", &layer);
    rp_gguf_row_order order = {0};

    for (size_t i = 0; config->arch->gguf_permutes_qk && rest != NULL && i < RP_COUNT(permuted);
         i++) {
        if (strcmp(rp_slot_info_of(permuted[i])->hf_name, rest) == 0) {
            order.head_rows = config->head_dim;
        }
    }
    return order;
}

int64_t rp_gguf_row_to_hf(rp_gguf_row_order order, int64_t gguf_row)
{
    if (order.head_rows == 0) {
        return gguf_row;
    }
    const int64_t in_head = gguf_row % order.head_rows;
    return gguf_row - in_head + in_head % 2 * (order.head_rows / 2) + in_head / 2;
}

int64_t rp_gguf_row_from_hf(rp_gguf_row_order order, int64_t hf_row)
{
    if (order.head_rows == 0) {
        return hf_row;
    }
    const int64_t half = order.head_rows / 2;
    const int64_t in_head = hf_row % order.head_rows;
    return hf_row - in_head + in_head % half * 2 + in_head / half;
}

/* ---- Rope ---- */

/* Longrope that is only a list of divisors, which is how a GGUF file's own list is read. */
static bool is_plain_factors(const rp_rope_config *rope)
{
    return rope->type == RP_ROPE_LONGROPE && rope->attention_factor == 1.0 &&
           memcmp(rope->short_factor, rope->long_factor,
                  (size_t)rope->n_factors * sizeof(rope->short_factor[0])) == 0;
}

/* llama3: what the long wave lengths are divided by, with a smooth passage between the two bounds.
 */
static float llama3_factor(const rp_rope_config *rope, double freq)
{
    const double original = (double)rope->original_max_position;
    const double wavelen = 2.0 * M_PI / freq;

    if (wavelen < original / rope->high_freq_factor) {
        return 1.0f;
    }
    if (wavelen > original / rope->low_freq_factor) {
        return (float)rope->factor;
    }
    const double smooth = (original / wavelen - rope->low_freq_factor) /
                          (rope->high_freq_factor - rope->low_freq_factor);
    return (float)(1.0 / ((1.0 - smooth) / rope->factor + smooth));
}

int64_t rp_gguf_rope_freqs(const rp_model_config *config, float *out)
{
    const rp_rope_config *rope = &config->rope;
    const int64_t n = rp_model_rotary_dims(config) / 2;

    if (rope->type == RP_ROPE_LLAMA3) {
        for (int64_t i = 0; i < n; i++) {
            out[i] = llama3_factor(rope, pow(rope->theta, -(double)i / (double)n));
        }
        return n;
    }
    if (is_plain_factors(rope)) {
        memcpy(out, rope->short_factor, (size_t)n * sizeof(*out));
        return n;
    }
    return 0;
}

/* ---- Keys of the model, written ---- */

/* "<arch>.<name>". */
static const char *arch_key(char out[KEY_BYTES], const char *arch, const char *name)
{
    (void)snprintf(out, KEY_BYTES, "%s.%s", arch, name);
    return out;
}

static rp_status put_size(rp_gguf_writer *w, const char *arch, const char *name, int64_t value)
{
    char key[KEY_BYTES];

    if (value < 0 || value > UINT32_MAX) {
        return RP_FAIL(RP_ERR_CONFIG, "%s: %" PRId64 " does not fit into a GGUF key", name, value);
    }
    return rp_gguf_put_u32(w, arch_key(key, arch, name), (uint32_t)value);
}

static rp_status put_real(rp_gguf_writer *w, const char *arch, const char *name, double value)
{
    char key[KEY_BYTES];

    return rp_gguf_put_f32(w, arch_key(key, arch, name), (float)value);
}

/* yarn's attention factor when the config says nothing. */
static double yarn_default_attention(const rp_rope_config *rope)
{
    return 0.1 * log(RP_MAX(rope->factor, 1.0)) + 1.0;
}

static rp_status put_yarn(rp_gguf_writer *w, const rp_model_config *config)
{
    rp_status st = RP_OK;
    const rp_rope_config *rope = &config->rope;
    const char *arch = config->arch->gguf_arch;
    const int64_t original =
        rope->original_max_position > 0 ? rope->original_max_position : config->max_position;

    if (!rope->truncate) {
        return RP_FAIL(RP_ERR_CONFIG, "rope type yarn with truncate: false has no GGUF keys");
    }
    RP_TRY(put_size(w, arch, "rope.scaling.original_context_length", original));
    if (rope->attention_factor > 0) {
        RP_TRY(put_real(w, arch, "rope.scaling.attn_factor",
                        rope->attention_factor / yarn_default_attention(rope)));
    }
    RP_TRY(put_real(w, arch, "rope.scaling.yarn_beta_fast", rope->beta_fast));
    RP_TRY(put_real(w, arch, "rope.scaling.yarn_beta_slow", rope->beta_slow));
out:
    return st;
}

static rp_status put_rope(rp_gguf_writer *w, const rp_model_config *config)
{
    rp_status st = RP_OK;
    const rp_rope_config *rope = &config->rope;
    const char *arch = config->arch->gguf_arch;
    const bool is_yarn = rope->type == RP_ROPE_YARN;
    char key[KEY_BYTES];

    if (rope->type == RP_ROPE_DYNAMIC ||
        (rope->type == RP_ROPE_LONGROPE && !is_plain_factors(rope))) {
        return RP_FAIL(RP_ERR_CONFIG, "rope type %s has no GGUF keys for %s",
                       rope->type == RP_ROPE_DYNAMIC ? "dynamic" : "longrope", arch);
    }
    RP_TRY(put_size(w, arch, "rope.dimension_count", rp_model_rotary_dims(config)));
    RP_TRY(put_real(w, arch, "rope.freq_base", rope->theta));
    if (rope->type == RP_ROPE_LINEAR || is_yarn) {
        RP_TRY(rp_gguf_put_string(w, arch_key(key, arch, "rope.scaling.type"),
                                  is_yarn ? "yarn" : "linear"));
        RP_TRY(put_real(w, arch, "rope.scaling.factor", rope->factor));
    }
    if (is_yarn) {
        RP_TRY(put_yarn(w, config));
    }
out:
    return st;
}

/* Sizes that are a key each, in both directions. The embedding's rows give the vocabulary when
 * read. */
static const struct {
    const char *name;
    size_t offset; /* of the int64_t in rp_model_config */
    bool is_required;
} size_keys[] = {
    {"block_count", offsetof(rp_model_config, n_layers), true},
    {"context_length", offsetof(rp_model_config, max_position), true},
    {"embedding_length", offsetof(rp_model_config, hidden_size), true},
    {"feed_forward_length", offsetof(rp_model_config, intermediate_size), true},
    {"attention.head_count", offsetof(rp_model_config, n_heads), true},
    {"attention.head_count_kv", offsetof(rp_model_config, n_kv_heads), false},
    {"attention.key_length", offsetof(rp_model_config, head_dim), false},
};

rp_status rp_gguf_put_model(rp_gguf_writer *writer, const rp_model_config *config, const char *name,
                            int32_t file_type)
{
    rp_status st = RP_OK;
    const char *arch = config->arch->gguf_arch;

    if (config->arch->gguf_permutes_qk && rp_model_rotary_dims(config) != config->head_dim) {
        return RP_FAIL(RP_ERR_CONFIG, "GGUF's %s rotates whole heads; partial_rotary_factor is %g",
                       arch, config->rope.partial_factor);
    }
    RP_TRY(rp_gguf_put_string(writer, "general.architecture", arch));
    RP_TRY(rp_gguf_put_string(writer, "general.type", "model"));
    RP_TRY(rp_gguf_put_string(writer, "general.name", name));
    RP_TRY(rp_gguf_put_u32(writer, "general.file_type", (uint32_t)file_type));
    RP_TRY(rp_gguf_put_u32(writer, "general.quantization_version", QUANTIZATION_VERSION));
    for (size_t i = 0; i < RP_COUNT(size_keys); i++) {
        RP_TRY(put_size(writer, arch, size_keys[i].name,
                        *(const int64_t *)((const char *)config + size_keys[i].offset)));
    }
    RP_TRY(put_size(writer, arch, "attention.value_length", config->head_dim));
    RP_TRY(put_size(writer, arch, "vocab_size", config->vocab_size));
    RP_TRY(put_real(writer, arch, "attention.layer_norm_rms_epsilon", config->rms_eps));
    RP_TRY(put_rope(writer, config));
out:
    return st;
}

/* ---- Keys of the model, read ---- */

static rp_status read_arch(rp_model_config *out, const rp_gguf *gguf)
{
    rp_status st = RP_OK;
    char *name = NULL;

    RP_TRY(rp_gguf_get_string(&name, gguf, "general.architecture", true));
    for (const rp_arch *arch = rp_arch_table(); arch->model_type != NULL && out->arch == NULL;
         arch++) {
        out->arch = strcmp(arch->gguf_arch, name) == 0 ? arch : NULL;
    }
    if (out->arch == NULL) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key general.architecture: %.64s is not supported",
                     rp_gguf_path(gguf), name);
    }
out:
    free(name);
    return st;
}

static rp_status read_sizes(rp_model_config *out, const rp_gguf *gguf)
{
    rp_status st = RP_OK;
    const char *arch = out->arch->gguf_arch;
    const rp_gguf_tensor *embedding = rp_gguf_tensor_find(gguf, "token_embd.weight");
    char key[KEY_BYTES];
    int64_t value_length = 0;

    if (embedding == NULL) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensor token_embd.weight: missing", rp_gguf_path(gguf));
    }
    out->vocab_size = embedding->ne[1];
    for (size_t i = 0; i < RP_COUNT(size_keys); i++) {
        int64_t *value = (int64_t *)((char *)out + size_keys[i].offset);
        const bool required = size_keys[i].is_required;
        *value = 1;
        RP_TRY(rp_gguf_get_int(value, gguf, arch_key(key, arch, size_keys[i].name), required));
        if (*value < 1 || *value > MAX_SIZE) {
            return RP_FAIL(RP_ERR_FORMAT, "%s: key %s: %" PRId64 " is out of range",
                           rp_gguf_path(gguf), key, *value);
        }
    }
    if (rp_gguf_kv_find(gguf, arch_key(key, arch, "attention.head_count_kv")) == NULL) {
        out->n_kv_heads = out->n_heads;
    }
    if (rp_gguf_kv_find(gguf, arch_key(key, arch, "attention.key_length")) == NULL) {
        out->head_dim = out->hidden_size / out->n_heads;
    }
    value_length = out->head_dim;
    RP_TRY(
        rp_gguf_get_int(&value_length, gguf, arch_key(key, arch, "attention.value_length"), false));
    if (value_length != out->head_dim) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key %s: %" PRId64 " differs from the key length %" PRId64,
                     rp_gguf_path(gguf), key, value_length, out->head_dim);
    }
out:
    return st;
}

/* The tensor of divisors as longrope's two lists. */
static rp_status read_rope_freqs(rp_model_config *out, const rp_gguf *gguf, const rp_gguf_tensor *t)
{
    rp_status st = RP_OK;
    rp_rope_config *rope = &out->rope;
    const int64_t n = rp_model_rotary_dims(out) / 2;

    if (t->type != rp_gguf_block_type_find("F32") || t->ndim != 1 || t->ne[0] != n ||
        n > RP_ROPE_MAX_FACTORS) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: want %" PRId64 " F32, at most %d",
                     rp_gguf_path(gguf), t->name, n, RP_ROPE_MAX_FACTORS);
        goto out;
    }
    RP_TRY(rp_gguf_read(gguf, t, 0, t->nbytes, rope->short_factor));
    for (int64_t i = 0; i < n; i++) {
        if (!(rope->short_factor[i] > 0.0f && rope->short_factor[i] < 1e9f)) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: value %" PRId64 " is no positive number",
                         rp_gguf_path(gguf), t->name, i);
            goto out;
        }
        rope->long_factor[i] = rope->short_factor[i];
    }
    rope->type = RP_ROPE_LONGROPE;
    rope->n_factors = n;
    rope->attention_factor = 1;
out:
    return st;
}

static rp_status read_scaling(rp_model_config *out, const rp_gguf *gguf)
{
    static const struct {
        const char *name;
        rp_rope_type type;
    } types[] = {{"none", RP_ROPE_DEFAULT}, {"linear", RP_ROPE_LINEAR}, {"yarn", RP_ROPE_YARN}};
    rp_status st = RP_OK;
    rp_rope_config *rope = &out->rope;
    const char *arch = out->arch->gguf_arch;
    char key[KEY_BYTES];
    char *name = NULL;
    size_t i = 0;
    double attn_factor = 0;

    RP_TRY(rp_gguf_get_string(&name, gguf, arch_key(key, arch, "rope.scaling.type"), false));
    while (name != NULL && i < RP_COUNT(types) && strcmp(types[i].name, name) != 0) {
        i++;
    }
    if (i == RP_COUNT(types)) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key %s: %.64s is not supported", rp_gguf_path(gguf), key,
                     name);
        goto out;
    }
    rope->type = types[i].type;
    /* of older files; and a factor alone is linear scaling, for llama.cpp */
    RP_TRY(rp_gguf_get_float(&rope->factor, gguf, arch_key(key, arch, "rope.scale_linear"), false));
    RP_TRY(rp_gguf_get_float(&rope->factor, gguf, arch_key(key, arch, "rope.scaling.factor"),
                             rope->type != RP_ROPE_DEFAULT));
    if (name == NULL && rope->factor != 0 && rope->factor != 1) {
        rope->type = RP_ROPE_LINEAR;
    }
    if (rope->type == RP_ROPE_DEFAULT || rope->factor == 0) { /* llama.cpp's 0: none */
        rope->factor = 1;
    }
    RP_TRY(rp_gguf_get_float(&attn_factor, gguf, arch_key(key, arch, "rope.scaling.attn_factor"),
                             false));
    RP_TRY(rp_gguf_get_float(&rope->beta_fast, gguf,
                             arch_key(key, arch, "rope.scaling.yarn_beta_fast"), false));
    RP_TRY(rp_gguf_get_float(&rope->beta_slow, gguf,
                             arch_key(key, arch, "rope.scaling.yarn_beta_slow"), false));
    if (!(rope->factor > 0 && rope->beta_fast > 0 && rope->beta_slow > 0 && attn_factor >= 0)) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: rope.scaling keys: want positive numbers",
                     rp_gguf_path(gguf));
        goto out;
    }
    if (rope->type == RP_ROPE_YARN) {
        rope->attention_factor = attn_factor * yarn_default_attention(rope);
    }
out:
    free(name);
    return st;
}

static rp_status read_rope(rp_model_config *out, const rp_gguf *gguf)
{
    rp_status st = RP_OK;
    rp_rope_config *rope = &out->rope;
    const char *arch = out->arch->gguf_arch;
    const rp_gguf_tensor *freqs = rp_gguf_tensor_find(gguf, RP_GGUF_ROPE_FREQS);
    char key[KEY_BYTES];
    int64_t rotary = out->head_dim;

    *rope = (rp_rope_config){
        .theta = 1e4, .factor = 1, .beta_fast = 32, .beta_slow = 1, .truncate = true};
    rope->original_max_position = out->max_position;
    RP_TRY(rp_gguf_get_float(&rope->theta, gguf, arch_key(key, arch, "rope.freq_base"), false));
    if (!(rope->theta >= 1 && rope->theta <= 1e18)) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key %s: %g is out of range", rp_gguf_path(gguf), key,
                     rope->theta);
        goto out;
    }
    RP_TRY(rp_gguf_get_int(&rotary, gguf, arch_key(key, arch, "rope.dimension_count"), false));
    if (rotary < 2 || rotary > out->head_dim) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key %s: %" PRId64 ", want 2 to %" PRId64,
                     rp_gguf_path(gguf), key, rotary, out->head_dim);
        goto out;
    }
    /* the quarter keeps rp_model_rotary_dims, which truncates, from losing a dim to rounding */
    rope->partial_factor =
        rotary == out->head_dim ? 1.0 : ((double)rotary + 0.25) / (double)out->head_dim;
    RP_TRY(read_scaling(out, gguf));
    RP_TRY(rp_gguf_get_int(&rope->original_max_position, gguf,
                           arch_key(key, arch, "rope.scaling.original_context_length"), false));
    if (rope->original_max_position < 1 || rope->original_max_position > MAX_SIZE) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key %s: %" PRId64 " is out of range", rp_gguf_path(gguf),
                     key, rope->original_max_position);
        goto out;
    }
    if (freqs != NULL) {
        RP_TRY(read_rope_freqs(out, gguf, freqs));
    }
out:
    return st;
}

static rp_status read_token_id(int32_t *out, const rp_gguf *gguf, const char *key)
{
    rp_status st = RP_OK;
    int64_t id = -1;

    RP_TRY(rp_gguf_get_int(&id, gguf, key, false));
    *out = id >= 0 && id <= INT32_MAX ? (int32_t)id : -1;
out:
    return st;
}

rp_status rp_gguf_read_config(rp_model_config *out, const rp_gguf *gguf)
{
    rp_status st = RP_OK;
    char key[KEY_BYTES];

    *out = (rp_model_config){.arch = NULL};
    RP_TRY(read_arch(out, gguf));
    RP_TRY(read_sizes(out, gguf));
    RP_TRY(rp_gguf_get_float(
        &out->rms_eps, gguf,
        arch_key(key, out->arch->gguf_arch, "attention.layer_norm_rms_epsilon"), true));
    if (!(out->rms_eps >= 0 && out->rms_eps <= 1)) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key %s: %g is out of range", rp_gguf_path(gguf), key,
                     out->rms_eps);
        goto out;
    }
    out->tie_embeddings = rp_gguf_tensor_find(gguf, "output.weight") == NULL;
    out->attention_bias = rp_gguf_tensor_find(gguf, "blk.0.attn_output.bias") != NULL;
    out->mlp_bias = rp_gguf_tensor_find(gguf, "blk.0.ffn_down.bias") != NULL;
    RP_TRY(read_rope(out, gguf));
    RP_TRY(read_token_id(&out->bos_id, gguf, "tokenizer.ggml.bos_token_id"));
    RP_TRY(read_token_id(&out->eos_id, gguf, "tokenizer.ggml.eos_token_id"));
    RP_TRY(rp_model_config_check(out));
out:
    return st;
}

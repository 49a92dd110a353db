/* config.json to rp_model_config: both spellings of the rope keys (rope_theta + rope_scaling of
 * older files, rope_parameters of transformers 5), the family's defaults for absent keys, and one
 * clear line for anything missing, out of range or not supported. Meaning and defaults follow
 * transformers' configuration classes and modeling_rope_utils.py. */
#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/ops.h"

#define MAX_HEAD_DIM (2L * RP_ROPE_MAX_FACTORS)
_Static_assert(MAX_HEAD_DIM <= RP_ATTENTION_MAX_HEAD_DIM, "attention has no scratch for it");

/* ---- Typed access to keys; a JSON null counts as absent ---- */

static const json_t *find_key(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

/* A value as text for messages, cut to the buffer. */
static const char *show(const json_t *value, char *out, size_t out_bytes)
{
    const size_t n = json_dumpb(value, out, out_bytes - 1, JSON_ENCODE_ANY | JSON_COMPACT);
    out[RP_MIN(n, out_bytes - 1)] = '\0';
    return out;
}

/* *out keeps its value, the default, when the key is absent. */
static rp_status read_int(int64_t *out, const json_t *object, const char *key, int64_t min,
                          int64_t max)
{
    const json_t *value = find_key(object, key);
    char text[64];

    if (value == NULL) {
        return RP_OK;
    }
    if (!json_is_integer(value) || json_integer_value(value) < min ||
        json_integer_value(value) > max) {
        return RP_FAIL(RP_ERR_FORMAT, "key '%s': want an integer %lld to %lld, found %s", key,
                       (long long)min, (long long)max, show(value, text, sizeof(text)));
    }
    *out = json_integer_value(value);
    return RP_OK;
}

static rp_status read_real(double *out, const json_t *object, const char *key, double min,
                           double max)
{
    const json_t *value = find_key(object, key);
    char text[64];

    if (value == NULL) {
        return RP_OK;
    }
    /* Written so that a NaN fails too. */
    if (!json_is_number(value) ||
        !(json_number_value(value) >= min && json_number_value(value) <= max)) {
        return RP_FAIL(RP_ERR_FORMAT, "key '%s': want a number %g to %g, found %s", key, min, max,
                       show(value, text, sizeof(text)));
    }
    *out = json_number_value(value);
    return RP_OK;
}

static rp_status read_bool(bool *out, const json_t *object, const char *key)
{
    const json_t *value = find_key(object, key);
    char text[64];

    if (value == NULL) {
        return RP_OK;
    }
    if (!json_is_boolean(value)) {
        return RP_FAIL(RP_ERR_FORMAT, "key '%s': want true or false, found %s", key,
                       show(value, text, sizeof(text)));
    }
    *out = json_is_true(value);
    return RP_OK;
}

static rp_status read_text(const char **out, const json_t *object, const char *key)
{
    const json_t *value = find_key(object, key);
    char text[64];

    if (value == NULL) {
        return RP_OK;
    }
    if (!json_is_string(value)) {
        return RP_FAIL(RP_ERR_FORMAT, "key '%s': want a string, found %s", key,
                       show(value, text, sizeof(text)));
    }
    *out = json_string_value(value);
    return RP_OK;
}

/* A token id, or the first of a list; -1 when absent. */
static rp_status read_token_id(int32_t *out, const json_t *config, const char *key)
{
    const json_t *value = find_key(config, key);
    const json_t *first = json_is_array(value) ? json_array_get(value, 0) : value;
    char text[64];

    *out = -1;
    if (value == NULL) {
        return RP_OK;
    }
    if (!json_is_integer(first) || json_integer_value(first) < -1 ||
        json_integer_value(first) > INT32_MAX) {
        return RP_FAIL(RP_ERR_FORMAT, "key '%s': want a token id or a list of them, found %s", key,
                       show(value, text, sizeof(text)));
    }
    *out = (int32_t)json_integer_value(first);
    return RP_OK;
}

/* ---- Family and sizes ---- */

static rp_status parse_family(rp_model_config *out, const json_t *config)
{
    rp_status st = RP_OK;
    const char *model_type = NULL;
    const char *activation = "silu";
    char known[RP_MESSAGE_BYTES / 2] = "";

    RP_TRY(read_text(&model_type, config, "model_type"));
    if (model_type == NULL) {
        st = RP_FAIL(RP_ERR_FORMAT, "key 'model_type' is missing");
        goto out;
    }
    out->arch = rp_arch_find(model_type);
    if (out->arch == NULL) {
        size_t used = 0;
        for (const rp_arch *arch = rp_arch_table(); arch->model_type != NULL; arch++) {
            used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
                                     used == 0 ? "" : ", ", arch->model_type);
        }
        st = RP_FAIL(RP_ERR_FORMAT, "key 'model_type': '%.64s' is not supported (supported: %s)",
                     model_type, known);
        goto out;
    }
    RP_TRY(read_text(&activation, config, "hidden_act"));
    if (strcmp(activation, "silu") != 0 && strcmp(activation, "swish") != 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "key 'hidden_act': '%.64s' is not supported (supported: silu)",
                     activation);
    }
out:
    return st;
}

static rp_status parse_sizes(rp_model_config *out, const json_t *config)
{
    static const struct {
        const char *key;
        size_t offset;
        int64_t max;
        bool is_required;
    } sizes[] = {
        {"vocab_size", offsetof(rp_model_config, vocab_size), INT32_MAX, true},
        {"hidden_size", offsetof(rp_model_config, hidden_size), 1 << 20, true},
        {"intermediate_size", offsetof(rp_model_config, intermediate_size), 1 << 24, true},
        {"num_hidden_layers", offsetof(rp_model_config, n_layers), 1 << 16, true},
        {"num_attention_heads", offsetof(rp_model_config, n_heads), 1 << 16, true},
        {"num_key_value_heads", offsetof(rp_model_config, n_kv_heads), 1 << 16, false},
        {"head_dim", offsetof(rp_model_config, head_dim), MAX_HEAD_DIM, false},
        {"max_position_embeddings", offsetof(rp_model_config, max_position), INT32_MAX, true},
    };
    rp_status st = RP_OK;

    for (size_t i = 0; i < RP_COUNT(sizes); i++) {
        if (sizes[i].is_required && find_key(config, sizes[i].key) == NULL) {
            st = RP_FAIL(RP_ERR_FORMAT, "key '%s' is missing", sizes[i].key);
            goto out;
        }
        RP_TRY(read_int((int64_t *)((char *)out + sizes[i].offset), config, sizes[i].key, 1,
                        sizes[i].max));
    }
    if (out->n_kv_heads == 0) {
        out->n_kv_heads =
            out->arch->default_n_kv_heads != 0 ? out->arch->default_n_kv_heads : out->n_heads;
    }
    if (out->head_dim == 0 && out->arch->default_head_dim != 0) {
        out->head_dim = out->arch->default_head_dim;
    }
    if (out->head_dim == 0) {
        if (out->hidden_size % out->n_heads != 0) {
            st = RP_FAIL(RP_ERR_FORMAT,
                         "key 'hidden_size': %lld is no multiple of num_attention_heads %lld, and "
                         "there is no head_dim",
                         (long long)out->hidden_size, (long long)out->n_heads);
            goto out;
        }
        out->head_dim = out->hidden_size / out->n_heads;
    }
out:
    return st;
}

/* ---- Sliding window ---- */

/* Newer files also list every layer's kind; it must be what the other keys say. */
static rp_status check_layer_types(const rp_model_config *config, const json_t *root)
{
    const json_t *types = find_key(root, "layer_types");
    char text[64];

    if (types == NULL) {
        return RP_OK;
    }
    if (!json_is_array(types) || (int64_t)json_array_size(types) != config->n_layers) {
        return RP_FAIL(RP_ERR_FORMAT, "key 'layer_types': want a list of %lld entries, found %s",
                       (long long)config->n_layers, show(types, text, sizeof(text)));
    }
    for (int64_t layer = 0; layer < config->n_layers; layer++) {
        const json_t *entry = json_array_get(types, (size_t)layer);
        const char *want =
            rp_model_layer_window(config, layer) > 0 ? "sliding_attention" : "full_attention";
        if (!json_is_string(entry) || strcmp(json_string_value(entry), want) != 0) {
            return RP_FAIL(RP_ERR_FORMAT,
                           "key 'layer_types': layer %lld is %s, the window keys say \"%s\"",
                           (long long)layer, show(entry, text, sizeof(text)), want);
        }
    }
    return RP_OK;
}

static rp_status parse_window(rp_model_config *out, const json_t *config)
{
    rp_status st = RP_OK;
    bool is_used = out->arch->has_windows;

    /* An explicit null means none; only an absent key takes the family's default. */
    if (json_object_get(config, "sliding_window") == NULL) {
        out->sliding_window = out->arch->default_window;
    }
    RP_TRY(read_int(&out->sliding_window, config, "sliding_window", 0, INT32_MAX));
    if (out->arch->has_window_switch) {
        out->first_window_layer = 28; /* transformers' default of max_window_layers */
        RP_TRY(read_bool(&is_used, config, "use_sliding_window"));
        RP_TRY(read_int(&out->first_window_layer, config, "max_window_layers", 0, 1 << 16));
    }
    if (!is_used || out->sliding_window == 0) {
        out->sliding_window = 0;
        out->first_window_layer = 0;
    }
    RP_TRY(check_layer_types(out, config));
out:
    return st;
}

/* ---- Rope ---- */

static rp_status parse_rope_type(rp_rope_config *rope, const json_t *object)
{
    static const struct {
        const char *name;
        rp_rope_type type;
    } types[] = {
        {"default", RP_ROPE_DEFAULT}, {"linear", RP_ROPE_LINEAR}, {"dynamic", RP_ROPE_DYNAMIC},
        {"llama3", RP_ROPE_LLAMA3},   {"yarn", RP_ROPE_YARN},     {"longrope", RP_ROPE_LONGROPE},
        {"su", RP_ROPE_LONGROPE},
    };
    rp_status st = RP_OK;
    const char *name = "default";

    RP_TRY(read_text(&name, object, "type")); /* the spelling before rope_type */
    RP_TRY(read_text(&name, object, "rope_type"));
    for (size_t i = 0; i < RP_COUNT(types); i++) {
        if (strcmp(types[i].name, name) == 0) {
            rope->type = types[i].type;
            return RP_OK;
        }
    }
    st = RP_FAIL(RP_ERR_FORMAT,
                 "key 'rope_type': '%.64s' is not supported (supported: default, linear, dynamic, "
                 "llama3, yarn, longrope)",
                 name);
out:
    return st;
}

static rp_status read_factors(float out[RP_ROPE_MAX_FACTORS], int64_t n, const json_t *object,
                              const char *key)
{
    const json_t *list = find_key(object, key);

    if (!json_is_array(list) || (int64_t)json_array_size(list) != n) {
        return RP_FAIL(RP_ERR_FORMAT, "key '%s': want a list of %lld numbers, found %zu", key,
                       (long long)n, json_array_size(list));
    }
    for (int64_t i = 0; i < n; i++) {
        const double x = json_number_value(json_array_get(list, (size_t)i));
        if (!(x > 0 && x < 1e9)) {
            return RP_FAIL(RP_ERR_FORMAT, "key '%s': entry %lld is no positive number", key,
                           (long long)i);
        }
        out[i] = (float)x;
    }
    return RP_OK;
}

/* The keys of one rope object. A key that no supported type reads is refused: ignoring it could
 * mean another model. */
static rp_status check_rope_keys(const json_t *object)
{
    static const char *const known[] = {
        "type",
        "rope_type",
        "rope_theta",
        "partial_rotary_factor",
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
        "short_factor",
        "long_factor",
        "finetuned",
    };
    const char *key = NULL;
    json_t *value = NULL;

    json_object_foreach((json_t *)object, key, value)
    {
        bool is_known = false;
        for (size_t i = 0; i < RP_COUNT(known) && !is_known; i++) {
            is_known = strcmp(known[i], key) == 0;
        }
        if (!is_known) {
            return RP_FAIL(RP_ERR_FORMAT, "key '%.64s' in the rope parameters is not supported",
                           key);
        }
    }
    return RP_OK;
}

/* yarn with DeepSeek's two scales: their ratio is the attention factor (modeling_rope_utils.py). */
static rp_status read_mscale(rp_rope_config *rope, const json_t *object)
{
    rp_status st = RP_OK;
    double num = 0;
    double den = 0;

    RP_TRY(read_real(&num, object, "mscale", 0, 1e3));
    RP_TRY(read_real(&den, object, "mscale_all_dim", 0, 1e3));
    if (rope->type == RP_ROPE_YARN && rope->attention_factor == 0 && num > 0 && den > 0) {
        const double log_factor = log(RP_MAX(rope->factor, 1.0));
        rope->attention_factor = (0.1 * num * log_factor + 1) / (0.1 * den * log_factor + 1);
    }
out:
    return st;
}

/* The object that holds type and factors: rope_parameters, or rope_scaling of older files. */
static rp_status read_rope_object(rp_rope_config *rope, const json_t *object)
{
    static const struct {
        const char *key;
        size_t offset;
        double min, max;
    } reals[] = {
        {"rope_theta", offsetof(rp_rope_config, theta), 1.0, 1e18},
        {"partial_rotary_factor", offsetof(rp_rope_config, partial_factor), 1e-3, 1},
        {"factor", offsetof(rp_rope_config, factor), 1e-3, 1e6},
        {"low_freq_factor", offsetof(rp_rope_config, low_freq_factor), 1e-6, 1e6},
        {"high_freq_factor", offsetof(rp_rope_config, high_freq_factor), 1e-6, 1e6},
        {"attention_factor", offsetof(rp_rope_config, attention_factor), 1e-3, 1e3},
        {"beta_fast", offsetof(rp_rope_config, beta_fast), 1e-3, 1e6},
        {"beta_slow", offsetof(rp_rope_config, beta_slow), 1e-3, 1e6},
    };
    rp_status st = RP_OK;
    char text[64];

    if (!json_is_object(object)) {
        return RP_FAIL(RP_ERR_FORMAT, "rope parameters: want an object, found %s",
                       show(object, text, sizeof(text)));
    }
    RP_TRY(check_rope_keys(object));
    RP_TRY(parse_rope_type(rope, object));
    for (size_t i = 0; i < RP_COUNT(reals); i++) {
        RP_TRY(read_real((double *)((char *)rope + reals[i].offset), object, reals[i].key,
                         reals[i].min, reals[i].max));
    }
    RP_TRY(read_int(&rope->original_max_position, object, "original_max_position_embeddings", 1,
                    INT32_MAX));
    RP_TRY(read_bool(&rope->truncate, object, "truncate"));
    RP_TRY(read_mscale(rope, object));
out:
    return st;
}

static rp_status require_keys(const json_t *object, const char *const *keys)
{
    for (; *keys != NULL; keys++) {
        if (find_key(object, *keys) == NULL) {
            return RP_FAIL(RP_ERR_FORMAT, "key '%s' is missing in the rope parameters", *keys);
        }
    }
    return RP_OK;
}

static rp_status parse_rope(rp_model_config *out, const json_t *config)
{
    static const char *const required[][4] = {
        [RP_ROPE_DEFAULT] = {NULL},
        [RP_ROPE_LINEAR] = {"factor", NULL},
        [RP_ROPE_DYNAMIC] = {"factor", NULL},
        [RP_ROPE_LLAMA3] = {"factor", "low_freq_factor", "high_freq_factor", NULL},
        [RP_ROPE_YARN] = {NULL},
        [RP_ROPE_LONGROPE] = {"short_factor", "long_factor", NULL},
    };
    rp_status st = RP_OK;
    rp_rope_config *rope = &out->rope;
    const json_t *object = find_key(config, "rope_parameters");

    *rope = (rp_rope_config){.theta = out->arch->default_rope_theta,
                             .partial_factor = 1,
                             .beta_fast = 32,
                             .beta_slow = 1,
                             .truncate = true};
    RP_TRY(read_real(&rope->theta, config, "rope_theta", 1.0, 1e18));
    RP_TRY(read_real(&rope->partial_factor, config, "partial_rotary_factor", 1e-3, 1));
    RP_TRY(read_int(&rope->original_max_position, config, "original_max_position_embeddings", 1,
                    INT32_MAX));
    if (object == NULL) {
        object = find_key(config, "rope_scaling");
    }
    if (object != NULL) {
        RP_TRY(read_rope_object(rope, object));
        RP_TRY(require_keys(object, required[rope->type]));
    }
    if (rope->original_max_position == 0) {
        rope->original_max_position = out->max_position;
    }
    if (rope->factor == 0) {
        rope->factor = (double)out->max_position / (double)rope->original_max_position;
    }
    if (rope->type == RP_ROPE_LONGROPE) {
        rope->n_factors = rp_model_rotary_dims(out) / 2;
        RP_TRY(read_factors(rope->short_factor, rope->n_factors, object, "short_factor"));
        RP_TRY(read_factors(rope->long_factor, rope->n_factors, object, "long_factor"));
    }
out:
    return st;
}

int64_t rp_model_rotary_dims(const rp_model_config *config)
{
    return (int64_t)((double)config->head_dim * config->rope.partial_factor);
}

rp_status rp_model_config_check(const rp_model_config *config)
{
    const rp_rope_config *rope = &config->rope;
    const int64_t rotary = rp_model_rotary_dims(config);

    if (config->n_heads % config->n_kv_heads != 0) {
        return RP_FAIL(RP_ERR_FORMAT,
                       "key 'num_key_value_heads': %lld does not divide num_attention_heads %lld",
                       (long long)config->n_kv_heads, (long long)config->n_heads);
    }
    if (config->n_heads / config->n_kv_heads > RP_ATTENTION_MAX_GROUP) {
        return RP_FAIL(RP_ERR_FORMAT,
                       "key 'num_key_value_heads': %lld for num_attention_heads %lld: more than %d "
                       "query heads to one are not supported",
                       (long long)config->n_kv_heads, (long long)config->n_heads,
                       RP_ATTENTION_MAX_GROUP);
    }
    if (config->head_dim < 2 || config->head_dim > MAX_HEAD_DIM) {
        return RP_FAIL(RP_ERR_FORMAT, "key 'head_dim': want 2 to %ld, found %lld", MAX_HEAD_DIM,
                       (long long)config->head_dim);
    }
    if (rotary < 2 || rotary % 2 != 0) {
        return RP_FAIL(RP_ERR_FORMAT,
                       "key 'head_dim': %lld with partial_rotary_factor %g rotates %lld dims, want "
                       "an even number",
                       (long long)config->head_dim, rope->partial_factor, (long long)rotary);
    }
    if (rope->type == RP_ROPE_DYNAMIC && rotary == 2) {
        return RP_FAIL(RP_ERR_FORMAT, "key 'rope_type': dynamic needs more than 2 rotary dims");
    }
    if (rope->type == RP_ROPE_LLAMA3 && rope->high_freq_factor <= rope->low_freq_factor) {
        return RP_FAIL(RP_ERR_FORMAT,
                       "key 'high_freq_factor': want more than low_freq_factor %g, "
                       "found %g",
                       rope->low_freq_factor, rope->high_freq_factor);
    }
    if (rope->type == RP_ROPE_YARN && rope->theta <= 1) {
        return RP_FAIL(RP_ERR_FORMAT, "key 'rope_theta': yarn wants more than 1, found %g",
                       rope->theta);
    }
    if (rope->type == RP_ROPE_LONGROPE &&
        (rope->n_factors != rotary / 2 || rope->original_max_position < 2)) {
        return RP_FAIL(RP_ERR_FORMAT,
                       "longrope: want %lld factors and an original length above 1, found %lld "
                       "and %lld",
                       (long long)rotary / 2, (long long)rope->n_factors,
                       (long long)rope->original_max_position);
    }
    return RP_OK;
}

rp_status rp_model_config_parse(rp_model_config *out, const json_t *config)
{
    rp_status st = RP_OK;

    *out = (rp_model_config){.arch = NULL};
    if (!json_is_object(config)) {
        st = RP_FAIL(RP_ERR_FORMAT, "config.json: want an object at the top");
        goto out;
    }
    RP_TRY(parse_family(out, config));
    RP_TRY(parse_sizes(out, config));
    out->rms_eps = out->arch->default_rms_eps;
    RP_TRY(read_real(&out->rms_eps, config, "rms_norm_eps", 0, 1));
    if (out->arch->reads_attention_bias) {
        RP_TRY(read_bool(&out->attention_bias, config, "attention_bias"));
    }
    if (out->arch->reads_mlp_bias) {
        RP_TRY(read_bool(&out->mlp_bias, config, "mlp_bias"));
    }
    RP_TRY(read_bool(&out->tie_embeddings, config, "tie_word_embeddings"));
    RP_TRY(parse_window(out, config));
    RP_TRY(parse_rope(out, config));
    RP_TRY(read_token_id(&out->bos_id, config, "bos_token_id"));
    RP_TRY(read_token_id(&out->eos_id, config, "eos_token_id"));
    RP_TRY(rp_model_config_check(out));
out:
    return st;
}

/* Types of a GGUF output's tensors: names of the model's weights in GGUF, llama-quantize's way of
 * naming tensors by pattern, and then the mix's rules. */
#include "jobs/gguf_types.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <ctype.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/gguf_map.h"

#define PATTERN_CHARS 512
/* Where a size decides, until it does. */
#define FIRST_MIX "Q4_K_M"
/* What std::regex (ECMAScript) makes of a pattern, as llama-quantize reads it. */
#define PATTERN_OPTIONS                                                                            \
    (PCRE2_ALT_BSUX | PCRE2_ALLOW_EMPTY_CLASS | PCRE2_MATCH_UNSET_BACKREF | PCRE2_DOLLAR_ENDONLY)

const rp_gguf_mix *rp_gguf_mix_of(const rp_output_format *format)
{
    return format->gguf_type == NULL ? NULL : rp_gguf_mix_find(format->gguf_type);
}

/* ---- PATTERN=TYPE ---- */

typedef struct name_rule {
    pcre2_code *code;
    const rp_gguf_block_type *type;
    bool is_used;
} name_rule;

rp_status rp_gguf_type_check(const char *text)
{
    if (rp_gguf_block_type_find(text) == NULL) {
        return RP_FAIL(RP_ERR_USAGE, "want a GGUF type such as Q6_K or F16, got \"%s\"", text);
    }
    return RP_OK;
}

/* The pattern in lower case, which is how llama-quantize takes it; the type behind the first "=".
 */
static rp_status parse_name_rule(name_rule *out, const char *text)
{
    const char *sign = strchr(text, '=');
    const size_t length = sign == NULL ? 0 : (size_t)(sign - text);
    char pattern[PATTERN_CHARS];
    PCRE2_UCHAR problem[128];
    PCRE2_SIZE at = 0;
    int code = 0;

    if (length == 0 || length >= sizeof(pattern)) {
        return RP_FAIL(RP_ERR_USAGE, "want PATTERN=TYPE, such as \"ffn_down=Q6_K\", got \"%s\"",
                       text);
    }
    out->type = rp_gguf_block_type_find(sign + 1);
    if (out->type == NULL) {
        return RP_FAIL(RP_ERR_USAGE, "\"%s\": want a GGUF type such as Q6_K or F16, got \"%s\"",
                       text, sign + 1);
    }
    for (size_t i = 0; i < length; i++) {
        pattern[i] = (char)tolower((unsigned char)text[i]);
    }
    out->code = pcre2_compile((PCRE2_SPTR)pattern, length, PATTERN_OPTIONS, &code, &at, NULL);
    if (out->code == NULL) {
        (void)pcre2_get_error_message(code, problem, sizeof(problem));
        return RP_FAIL(RP_ERR_USAGE, "\"%s\": not a regular expression: %s at offset %zu", text,
                       (const char *)problem, at);
    }
    return RP_OK;
}

rp_status rp_tensor_type_check(const char *text)
{
    name_rule rule = {0};
    const rp_status st = parse_name_rule(&rule, text);

    pcre2_code_free(rule.code);
    return st;
}

static rp_status matches(bool *out, const name_rule *rule, const char *name)
{
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(rule->code, NULL);

    if (data == NULL) {
        return RP_FAIL(RP_ERR_MEMORY, "no memory to match \"%s\"", name);
    }
    *out = pcre2_match(rule->code, (PCRE2_SPTR)name, strlen(name), 0, 0, data, NULL) >= 0;
    pcre2_match_data_free(data);
    return RP_OK;
}

/* The first rule that matches anywhere in a tensor's name has it. */
static rp_status apply_rules(rp_gguf_types *types, name_rule *rules, int64_t n_rules)
{
    rp_status st = RP_OK;

    for (int64_t i = 0; i < types->n; i++) {
        bool is_match = false;
        for (int64_t r = 0; r < n_rules; r++) {
            bool is_this = false;
            RP_TRY(matches(&is_this, &rules[r], types->items[i].name));
            rules[r].is_used = rules[r].is_used || is_this;
            if (is_this && !is_match) {
                types->items[i].named = rules[r].type;
                is_match = true;
            }
        }
    }
out:
    return st;
}

static rp_status name_tensors(rp_gguf_types *types, const rp_string_list *texts)
{
    rp_status st = RP_OK;
    name_rule *rules = NULL;

    RP_TRY(rp_calloc(&rules, (size_t)texts->n + 1, sizeof(*rules)));
    for (int64_t r = 0; r < texts->n; r++) {
        RP_TRY(parse_name_rule(&rules[r], texts->items[r]));
    }
    RP_TRY(apply_rules(types, rules, texts->n));
    for (int64_t r = 0; r < texts->n; r++) {
        if (!rules[r].is_used) {
            st = RP_FAIL(RP_ERR_CONFIG, "tensor_types: \"%s\" matches no tensor of the model",
                         texts->items[r]);
            goto out;
        }
    }
out:
    for (int64_t r = 0; rules != NULL && r < texts->n; r++) {
        pcre2_code_free(rules[r].code);
    }
    free(rules);
    return st;
}

/* ---- All tensors ---- */

/* What the recipe leaves alone stays as it is in a GGUF source. */
static const rp_gguf_block_type *kept_type(const rp_weight_info *info)
{
    return info->block != NULL && !info->block->is_float ? info->block
                                                         : rp_gguf_block_type_find("F16");
}

static rp_status add_weight(rp_gguf_types *types, const rp_weight_info *info, int64_t index,
                            bool is_kept)
{
    rp_gguf_mix_tensor *t = &types->items[types->n];
    const bool is_vector = info->ndim < 2;

    *t = (rp_gguf_mix_tensor){
        .ndim = info->ndim,
        .ne = {is_vector ? info->shape[0] : info->shape[1], is_vector ? 1 : info->shape[0], 1, 1},
        .index = index,
        .named = is_kept ? kept_type(info) : NULL,
    };
    if (!rp_gguf_name_from_hf(t->name, info->name)) {
        return RP_FAIL(RP_ERR_CONFIG, "%s has no name in GGUF", info->name);
    }
    types->n++;
    return RP_OK;
}

static rp_status list_tensors(rp_gguf_types *types, const rp_weights *weights, const bool *is_kept)
{
    rp_status st = RP_OK;
    const int64_t n = rp_weights_count(weights);
    float freqs[RP_ROPE_MAX_FACTORS];
    const int64_t n_freqs = rp_gguf_rope_freqs(rp_weights_config(weights), freqs);

    RP_TRY(rp_calloc(&types->items, (size_t)n + 1, sizeof(*types->items)));
    for (int64_t i = 0; i < n; i++) {
        RP_TRY(add_weight(types, rp_weights_at(weights, i), i, is_kept[i]));
    }
    if (n_freqs > 0) {
        types->items[types->n++] = (rp_gguf_mix_tensor){.name = RP_GGUF_ROPE_FREQS,
                                                        .ndim = 1,
                                                        .ne = {n_freqs, 1, 1, 1},
                                                        .index = RP_GGUF_NOT_A_WEIGHT};
    }
    rp_gguf_mix_sort(types->items, types->n);
out:
    return st;
}

/* Types that this program does not write are copied from a source that has them. */
static bool can_write(const rp_gguf_mix_tensor *t, const rp_weights *weights)
{
    return rp_gguf_can_encode(t->type) ||
           (t->index != RP_GGUF_NOT_A_WEIGHT && rp_weights_at(weights, t->index)->block == t->type);
}

rp_status rp_gguf_types_set_mix(rp_gguf_types *types, const rp_weights *weights,
                                const rp_output_format *format, const rp_gguf_mix *mix,
                                bool has_imatrix)
{
    rp_status st = RP_OK;
    const rp_model_config *config = rp_weights_config(weights);
    const rp_gguf_mix_model model = {.arch = config->arch->gguf_arch,
                                     .n_layers = config->n_layers,
                                     .n_heads = config->n_heads,
                                     .n_kv_heads = config->n_kv_heads};
    rp_gguf_mix_opts opts = {.mix = mix, .is_pure = format->is_pure, .has_imatrix = has_imatrix};

    types->mix = mix;
    if (format->output_tensor_type != NULL) {
        opts.output_type = rp_gguf_block_type_find(format->output_tensor_type);
    }
    if (format->token_embedding_type != NULL) {
        opts.embedding_type = rp_gguf_block_type_find(format->token_embedding_type);
    }
    RP_TRY(rp_gguf_mix_choose(&opts, &model, types->items, types->n));
    for (int64_t i = 0; i < types->n; i++) {
        const rp_gguf_mix_tensor *t = &types->items[i];
        if (!can_write(t, weights)) {
            st = RP_FAIL(RP_ERR_CONFIG, "%s: type %s is not written by this program", t->name,
                         t->type->name);
            goto out;
        }
    }
out:
    return st;
}

rp_status rp_gguf_types_create(rp_gguf_types *out, const rp_weights *weights,
                               const rp_output_format *format, const bool *is_kept,
                               bool has_imatrix)
{
    rp_status st = RP_OK;
    rp_gguf_types types = {0};

    memset(out, 0, sizeof(*out));
    RP_TRY(list_tensors(&types, weights, is_kept));
    RP_TRY(name_tensors(&types, &format->tensor_types));
    RP_TRY(rp_gguf_types_set_mix(&types, weights, format,
                                 format->gguf_type == NULL ? rp_gguf_mix_find(FIRST_MIX)
                                                           : rp_gguf_mix_of(format),
                                 has_imatrix));
    *out = types;
    memset(&types, 0, sizeof(types));
out:
    rp_gguf_types_destroy(&types);
    if (st != RP_OK) {
        st = rp_error_prefix(st, "output %s", format->name);
    }
    return st;
}

bool rp_gguf_types_is_given(const rp_gguf_mix_tensor *tensor, const rp_model_config *config,
                            const rp_output_format *format)
{
    const bool is_embedding = strcmp(tensor->name, "token_embd.weight") == 0;
    const bool is_output =
        strcmp(tensor->name, "output.weight") == 0 || (is_embedding && config->tie_embeddings);

    return tensor->named != NULL || (is_output && format->output_tensor_type != NULL) ||
           (is_embedding && format->token_embedding_type != NULL);
}

rp_status rp_gguf_types_copy(rp_gguf_types *out, const rp_gguf_types *from)
{
    rp_status st = RP_OK;
    rp_gguf_types copy = *from;

    RP_TRY(rp_alloc_array(&copy.items, (size_t)from->n + 1, sizeof(*copy.items)));
    memcpy(copy.items, from->items, (size_t)from->n * sizeof(*copy.items));
    rp_gguf_types_destroy(out);
    *out = copy;
out:
    return st;
}

void rp_gguf_types_destroy(rp_gguf_types *types)
{
    free(types->items);
    memset(types, 0, sizeof(*types));
}

const rp_gguf_mix_tensor *rp_gguf_types_find(const rp_gguf_types *types, const char *hf_name)
{
    char name[RP_GGUF_NAME_BYTES];

    if (!rp_gguf_name_from_hf(name, hf_name)) {
        return NULL;
    }
    for (int64_t i = 0; i < types->n; i++) {
        if (strcmp(types->items[i].name, name) == 0) {
            return &types->items[i];
        }
    }
    return NULL;
}

json_t *rp_gguf_types_count(const rp_gguf_types *types)
{
    json_t *counts = json_object();

    for (const rp_gguf_block_type *type = rp_gguf_block_type_table(); type->name != NULL; type++) {
        int64_t n = 0;
        for (int64_t i = 0; i < types->n; i++) {
            n += types->items[i].type == type;
        }
        if (n > 0) {
            (void)json_object_set_new(counts, type->name, json_integer(n));
        }
    }
    return counts;
}

/* GGUF's tokenizer keys from a tokenizer.
 *
 * Byte-level BPE becomes llama.cpp's "gpt2" model with its list of merges. Llama-style BPE with
 * byte fallback becomes its "llama" model, which has no merges: it joins the neighbours whose
 * concatenation has the highest score. With the score -(rank of the first merge that makes the
 * piece) it joins in tokenizer.json's order. What the post-processor and the normalizer do (BOS,
 * EOS, a space in front) is found by encoding a letter, not by reading their settings. */
#include "model/gguf_map.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define PAD_TEXT_BYTES 32

/* ---- Tokens ---- */

static bool is_byte_token(const char *text)
{
    unsigned byte = 0;
    int end = 0;

    return sscanf(text, "<0x%2X>%n", &byte, &end) == 1 && end == 6 && text[6] == '\0';
}

/* Added tokens that are control tokens whatever their `special` says, by llama.cpp's converter. */
static bool looks_like_control(const char *text)
{
    const size_t n = strlen(text);

    return (n >= 4 && strncmp(text, "<|", 2) == 0 && strcmp(text + n - 2, "|>") == 0) ||
           strcmp(text, "<pad>") == 0 || strcmp(text, "<mask>") == 0;
}

static rp_gguf_token_type type_of(const rp_tokenizer *tokenizer, int32_t id, int32_t unk_id)
{
    const bool has_bytes = rp_tokenizer_kind_of(tokenizer) == RP_TOKENIZER_BYTE_FALLBACK;
    const char *text = rp_tokenizer_token(tokenizer, id);
    bool is_special = false;

    if (text == NULL) {
        return RP_GGUF_TOKEN_UNUSED;
    }
    if (has_bytes && id == unk_id) {
        return RP_GGUF_TOKEN_UNKNOWN;
    }
    if (has_bytes && is_byte_token(text)) {
        return RP_GGUF_TOKEN_BYTE;
    }
    if (!rp_tokenizer_is_added(tokenizer, id, &is_special)) {
        return RP_GGUF_TOKEN_NORMAL;
    }
    return is_special || looks_like_control(text) ? RP_GGUF_TOKEN_CONTROL
                                                  : RP_GGUF_TOKEN_USER_DEFINED;
}

static rp_status put_tokens(rp_gguf_writer *w, const rp_tokenizer *tokenizer, int64_t n,
                            int32_t unk_id)
{
    rp_status st = RP_OK;
    char pad[PAD_TEXT_BYTES];
    int32_t *types = NULL;

    RP_TRY(rp_alloc_array(&types, (size_t)n, sizeof(*types)));
    RP_TRY(rp_gguf_put_strings(w, "tokenizer.ggml.tokens", n));
    for (int64_t id = 0; id < n; id++) {
        const bool has_id = id < rp_tokenizer_size(tokenizer);
        const char *text = has_id ? rp_tokenizer_token(tokenizer, (int32_t)id) : NULL;
        types[id] =
            has_id ? (int32_t)type_of(tokenizer, (int32_t)id, unk_id) : RP_GGUF_TOKEN_UNUSED;
        (void)snprintf(pad, sizeof(pad), "[PAD%" PRId64 "]", id);
        RP_TRY(rp_gguf_add_string(w, text != NULL ? text : pad));
    }
    RP_TRY(rp_gguf_put_i32s(w, "tokenizer.ggml.token_type", types, n));
out:
    free(types);
    return st;
}

/* ---- Merges and scores ---- */

static rp_status put_merges(rp_gguf_writer *w, const rp_tokenizer *tokenizer)
{
    rp_status st = RP_OK;
    const int64_t n = rp_tokenizer_n_merges(tokenizer);
    char *pair = NULL;

    RP_TRY(rp_gguf_put_strings(w, "tokenizer.ggml.merges", n));
    for (int64_t i = 0; i < n; i++) {
        const char *left = NULL;
        const char *right = NULL;
        rp_tokenizer_merge(tokenizer, i, &left, &right);
        free(pair);
        RP_TRY(rp_strprintf(&pair, "%s %s", left, right));
        RP_TRY(rp_gguf_add_string(w, pair));
    }
out:
    free(pair);
    return st;
}

static bool is_one_character(const char *text)
{
    size_t n = 1;

    while (((unsigned char)text[n] & 0xc0u) == 0x80u) {
        n++;
    }
    return text[0] == '\0' || text[n] == '\0';
}

/* Pieces that no merge makes are below all others. */
static rp_status put_scores(rp_gguf_writer *w, const rp_tokenizer *tokenizer, int64_t n)
{
    rp_status st = RP_OK;
    const int64_t n_merges = rp_tokenizer_n_merges(tokenizer);
    float *scores = NULL;
    char *piece = NULL;

    RP_TRY(rp_calloc(&scores, (size_t)n, sizeof(*scores)));
    for (int64_t id = 0; id < RP_MIN(n, rp_tokenizer_size(tokenizer)); id++) {
        const char *text = rp_tokenizer_token(tokenizer, (int32_t)id);
        if (text != NULL && !is_one_character(text) && !is_byte_token(text)) {
            scores[id] = -(float)n_merges;
        }
    }
    for (int64_t rank = n_merges; rank-- > 0;) { /* downwards, so that the first merge remains */
        const char *left = NULL;
        const char *right = NULL;
        rp_tokenizer_merge(tokenizer, rank, &left, &right);
        free(piece);
        RP_TRY(rp_strprintf(&piece, "%s%s", left, right));
        const int32_t id = rp_tokenizer_find(tokenizer, piece);
        if (id >= 0 && id < n) {
            scores[id] = -(float)rank;
        }
    }
    RP_TRY(rp_gguf_put_f32s(w, "tokenizer.ggml.scores", scores, n));
out:
    free(piece);
    free(scores);
    return st;
}

/* ---- Special tokens ---- */

enum { BOS = 0, EOS, UNK, N_SPECIALS = 7 };
static const struct {
    const char *hf, *gguf;
} special_keys[N_SPECIALS] = {
    [BOS] = {"bos_token", "tokenizer.ggml.bos_token_id"},
    [EOS] = {"eos_token", "tokenizer.ggml.eos_token_id"},
    [UNK] = {"unk_token", "tokenizer.ggml.unknown_token_id"},
    {"sep_token", "tokenizer.ggml.seperator_token_id"}, /* llama.cpp's spelling */
    {"pad_token", "tokenizer.ggml.padding_token_id"},
    {"cls_token", "tokenizer.ggml.cls_token_id"},
    {"mask_token", "tokenizer.ggml.mask_token_id"},
};

/* "<name>_id" as a token id, or -1. */
static int32_t number_of(const json_t *tokenizer_config, const char *name)
{
    char key[32];
    const json_t *value = NULL;

    (void)snprintf(key, sizeof(key), "%s_id", name);
    value = json_object_get(tokenizer_config, key);
    return json_is_integer(value) && json_integer_value(value) <= INT32_MAX
               ? (int32_t)json_integer_value(value)
               : -1;
}

/* Ids of the special tokens, -1 where there is none: by text, else by the number that config.json
 * gave. */
static void find_specials(int32_t ids[N_SPECIALS], const rp_model_config *config,
                          const rp_tokenizer *tokenizer, const json_t *tokenizer_config)
{
    const bool has_bytes = rp_tokenizer_kind_of(tokenizer) == RP_TOKENIZER_BYTE_FALLBACK;

    for (int i = 0; i < N_SPECIALS; i++) {
        const json_t *value = json_object_get(tokenizer_config, special_keys[i].hf);
        const char *text =
            json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
        ids[i] = text != NULL ? rp_tokenizer_find(tokenizer, text) : -1;
        if (ids[i] < 0) {
            ids[i] = number_of(tokenizer_config, special_keys[i].hf);
        }
    }
    ids[BOS] = ids[BOS] < 0 ? config->bos_id : ids[BOS];
    ids[EOS] = ids[EOS] < 0 ? config->eos_id : ids[EOS];
    if (ids[UNK] < 0 && has_bytes) {
        ids[UNK] = rp_tokenizer_find(tokenizer, "<unk>");
    }
}

/* How the tokenizer puts something around a text. */
typedef struct habits {
    bool adds_bos, adds_eos, adds_space;
} habits;

static rp_status find_habits(habits *out, const rp_tokenizer *tokenizer)
{
    rp_status st = RP_OK;
    int32_t *plain = NULL;
    int32_t *whole = NULL;
    int64_t n_plain = 0;
    int64_t n_whole = 0;
    const char *first = NULL;

    RP_TRY(rp_tokenizer_encode(tokenizer, "a", 1, false, &plain, &n_plain));
    RP_TRY(rp_tokenizer_encode(tokenizer, "a", 1, true, &whole, &n_whole));
    first = n_plain > 0 ? rp_tokenizer_token(tokenizer, plain[0]) : NULL;
    out->adds_space =
        first != NULL && strncmp(first, RP_GGUF_SPACE_MARK, strlen(RP_GGUF_SPACE_MARK)) == 0;
    out->adds_bos = n_plain > 0 && n_whole > n_plain && whole[0] != plain[0];
    out->adds_eos = n_whole - n_plain == (out->adds_bos ? 2 : 1);
    if (n_whole > n_plain + out->adds_bos + out->adds_eos) {
        st = RP_FAIL(RP_ERR_CONFIG,
                     "the tokenizer puts %" PRId64 " tokens around a text; GGUF knows BOS and EOS",
                     n_whole - n_plain);
    }
out:
    free(plain);
    free(whole);
    return st;
}

/* tokenizer_config.json's word, which counts where tokenizer.json's post-processor adds nothing. */
static bool config_flag(const json_t *tokenizer_config, const char *key, const habits *found)
{
    return !found->adds_bos && !found->adds_eos &&
           json_is_true(json_object_get(tokenizer_config, key));
}

static rp_status put_specials(rp_gguf_writer *w, const int32_t ids[N_SPECIALS],
                              const rp_model_config *config, const rp_tokenizer *tokenizer,
                              const json_t *tokenizer_config)
{
    rp_status st = RP_OK;
    habits found = {false, false, false};

    for (int i = 0; i < N_SPECIALS; i++) {
        if (ids[i] >= 0 && ids[i] < config->vocab_size) {
            RP_TRY(rp_gguf_put_u32(w, special_keys[i].gguf, (uint32_t)ids[i]));
        }
    }
    RP_TRY(find_habits(&found, tokenizer));
    RP_TRY(
        rp_gguf_put_bool(w, "tokenizer.ggml.add_bos_token",
                         found.adds_bos || config_flag(tokenizer_config, "add_bos_token", &found)));
    RP_TRY(
        rp_gguf_put_bool(w, "tokenizer.ggml.add_eos_token",
                         found.adds_eos || config_flag(tokenizer_config, "add_eos_token", &found)));
    RP_TRY(rp_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", found.adds_space));
out:
    return st;
}

/* ---- Chat templates: one text, or a list of named ones of which "default" is the text ---- */

static rp_status put_named_templates(rp_gguf_writer *w, const json_t *list)
{
    rp_status st = RP_OK;
    char *key = NULL;
    size_t i = 0;
    json_t *entry = NULL;
    json_t *names = json_array();

    json_array_foreach(list, i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "name"));
        const char *text = json_string_value(json_object_get(entry, "template"));
        if (name == NULL || text == NULL) {
            continue;
        }
        if (strcmp(name, "default") == 0) {
            RP_TRY(rp_gguf_put_string(w, "tokenizer.chat_template", text));
            continue;
        }
        free(key);
        RP_TRY(rp_strprintf(&key, "tokenizer.chat_template.%s", name));
        RP_TRY(rp_gguf_put_string(w, key, text));
        (void)json_array_append(names, json_object_get(entry, "name"));
    }
    if (json_array_size(names) > 0) {
        RP_TRY(rp_gguf_put_strings(w, "tokenizer.chat_templates", (int64_t)json_array_size(names)));
    }
    json_array_foreach(names, i, entry)
    {
        RP_TRY(rp_gguf_add_string(w, json_string_value(entry)));
    }
out:
    json_decref(names);
    free(key);
    return st;
}

static rp_status put_chat_template(rp_gguf_writer *w, const json_t *tokenizer_config)
{
    const json_t *value = json_object_get(tokenizer_config, "chat_template");

    if (json_is_string(value)) {
        return rp_gguf_put_string(w, "tokenizer.chat_template", json_string_value(value));
    }
    return json_is_array(value) ? put_named_templates(w, value) : RP_OK;
}

rp_status rp_gguf_put_tokenizer(rp_gguf_writer *writer, const rp_model_config *config,
                                const rp_tokenizer *tokenizer, const json_t *tokenizer_config)
{
    rp_status st = RP_OK;
    const bool has_bytes = rp_tokenizer_kind_of(tokenizer) == RP_TOKENIZER_BYTE_FALLBACK;
    const char *pre = has_bytes ? "default" : rp_tokenizer_gguf_pre(tokenizer);
    const int64_t n = config->vocab_size;
    int32_t ids[N_SPECIALS];

    if (pre == NULL) {
        st = RP_FAIL(RP_ERR_CONFIG, "tokenizer: llama.cpp has no pre-tokenizer equal to this one");
        goto out;
    }
    if (rp_tokenizer_size(tokenizer) > n) {
        st = RP_FAIL(RP_ERR_FORMAT,
                     "tokenizer: %" PRId64 " ids, but the embedding has %" PRId64 " rows",
                     rp_tokenizer_size(tokenizer), n);
        goto out;
    }
    find_specials(ids, config, tokenizer, tokenizer_config);
    RP_TRY(rp_gguf_put_string(writer, "tokenizer.ggml.model", has_bytes ? "llama" : "gpt2"));
    RP_TRY(rp_gguf_put_string(writer, "tokenizer.ggml.pre", pre));
    RP_TRY(put_tokens(writer, tokenizer, n, ids[UNK]));
    if (has_bytes) {
        RP_TRY(put_scores(writer, tokenizer, n));
    } else {
        RP_TRY(put_merges(writer, tokenizer));
    }
    RP_TRY(put_specials(writer, ids, config, tokenizer, tokenizer_config));
    RP_TRY(put_chat_template(writer, tokenizer_config));
out:
    return st;
}

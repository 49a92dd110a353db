/* GGUF's tokenizer keys back into what tokenizer.json would say.
 *
 * The "gpt2" model keeps its merges, and the pre-tokenizer has a name. The "llama" model has scores
 * only: as transformers' converter of SentencePiece models does it, every split of a piece into two
 * pieces is a merge, ordered by the score of what it makes, then by ids. */
#include "model/gguf_map.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/tokenizer_parts.h"

#define MAX_PIECE_BYTES 1024 /* longer pieces would make the search for splits slow */

typedef struct reader {
    const rp_gguf *gguf;
    const rp_gguf_kv *tokens, *types, *scores, *merges; /* NULL: absent */
    json_t *vocab;                                      /* piece -> id */
    json_t *added;
} reader;

typedef struct split {
    float score;
    int32_t id, left_id, right_id;
    size_t left_bytes;
} split;

static rp_status fail_token(const reader *r, int64_t id, const char *cause)
{
    return RP_FAIL(RP_ERR_FORMAT, "%s: key tokenizer.ggml.tokens: token %" PRId64 " %s",
                   rp_gguf_path(r->gguf), id, cause);
}

static int64_t type_of(const reader *r, int64_t id)
{
    return r->types == NULL ? RP_GGUF_TOKEN_NORMAL : rp_gguf_kv_int(r->types, id);
}

/* ---- Vocabulary ---- */

static rp_status find_arrays(reader *r, bool has_scores)
{
    rp_status st = RP_OK;
    const char *path = rp_gguf_path(r->gguf);

    RP_TRY(rp_gguf_get_array(&r->tokens, r->gguf, "tokenizer.ggml.tokens", RP_GGUF_STRING, true));
    RP_TRY(rp_gguf_get_array(&r->types, r->gguf, "tokenizer.ggml.token_type", RP_GGUF_I32, false));
    RP_TRY(
        rp_gguf_get_array(&r->scores, r->gguf, "tokenizer.ggml.scores", RP_GGUF_F32, has_scores));
    RP_TRY(rp_gguf_get_array(&r->merges, r->gguf, "tokenizer.ggml.merges", RP_GGUF_STRING,
                             !has_scores));
    if (r->tokens->count > RP_TOK_MAX_ID ||
        (r->types != NULL && r->types->count != r->tokens->count) ||
        (r->scores != NULL && r->scores->count != r->tokens->count)) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: tokenizer.ggml: lists of different or too great length",
                     path);
    }
out:
    return st;
}

static rp_status add_token(reader *r, int64_t id)
{
    const rp_gguf_string text = rp_gguf_kv_string(r->tokens, id);
    const int64_t type = type_of(r, id);
    const bool is_special = type == RP_GGUF_TOKEN_CONTROL || type == RP_GGUF_TOKEN_UNKNOWN;

    if (type == RP_GGUF_TOKEN_UNUSED) {
        return RP_OK;
    }
    if (text.nbytes > MAX_PIECE_BYTES || memchr(text.data, '\0', text.nbytes) != NULL) {
        return fail_token(r, id, "is too long or holds a NUL");
    }
    if (json_object_getn(r->vocab, text.data, text.nbytes) != NULL) {
        return fail_token(r, id, "occurs twice");
    }
    if (json_object_setn_new(r->vocab, text.data, text.nbytes, json_integer(id)) != 0) {
        return fail_token(r, id, "is not UTF-8");
    }
    if (text.nbytes > 0 && (is_special || type == RP_GGUF_TOKEN_USER_DEFINED)) {
        json_t *entry = json_pack("{s:I, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)id,
                                  "content", text.data, text.nbytes, "single_word", 0, "lstrip", 0,
                                  "rstrip", 0, "normalized", 0, "special", (int)is_special);
        if (json_array_append_new(r->added, entry) != 0) {
            return fail_token(r, id, "cannot be added");
        }
    }
    return RP_OK;
}

/* Content of a special token by its key, or NULL. */
static rp_status find_special(const reader *r, const char *key, int64_t fallback, int64_t *id,
                              rp_gguf_string *text)
{
    rp_status st = RP_OK;

    *id = fallback;
    *text = (rp_gguf_string){NULL, 0};
    RP_TRY(rp_gguf_get_int(id, r->gguf, key, false));
    if (*id >= 0 && *id < r->tokens->count && type_of(r, *id) != RP_GGUF_TOKEN_UNUSED) {
        *text = rp_gguf_kv_string(r->tokens, *id);
    }
out:
    return st;
}

/* ---- Merges ---- */

static int compare_splits(const void *a, const void *b)
{
    const split *x = a;
    const split *y = b;

    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    if (x->id != y->id) {
        return x->id < y->id ? -1 : 1;
    }
    if (x->left_id != y->left_id) {
        return x->left_id < y->left_id ? -1 : 1;
    }
    return (x->right_id > y->right_id) - (x->right_id < y->right_id);
}

/* Id of a piece that merges may use, or -1. */
static int64_t find_piece(const reader *r, const char *data, size_t nbytes)
{
    const json_t *id = json_object_getn(r->vocab, data, nbytes);

    return id != NULL && type_of(r, json_integer_value(id)) == RP_GGUF_TOKEN_NORMAL
               ? json_integer_value(id)
               : -1;
}

static rp_status find_splits(const reader *r, int64_t id, split **splits, size_t *n,
                             size_t *capacity)
{
    rp_status st = RP_OK;
    const rp_gguf_string text = rp_gguf_kv_string(r->tokens, id);

    for (size_t at = 1; at < text.nbytes; at++) {
        if (((unsigned char)text.data[at] & 0xc0u) == 0x80u) {
            continue; /* within a character */
        }
        const int64_t left = find_piece(r, text.data, at);
        const int64_t right = left < 0 ? -1 : find_piece(r, text.data + at, text.nbytes - at);
        if (right >= 0) {
            RP_TRY(rp_grow(splits, capacity, *n + 1, sizeof(**splits)));
            (*splits)[(*n)++] = (split){(float)rp_gguf_kv_float(r->scores, id), (int32_t)id,
                                        (int32_t)left, (int32_t)right, at};
        }
    }
out:
    return st;
}

static rp_status merges_of_scores(const reader *r, json_t *merges)
{
    rp_status st = RP_OK;
    split *splits = NULL;
    size_t n = 0;
    size_t capacity = 0;

    for (int64_t id = 0; id < r->tokens->count; id++) {
        if (type_of(r, id) == RP_GGUF_TOKEN_NORMAL) {
            RP_TRY(find_splits(r, id, &splits, &n, &capacity));
        }
    }
    if (n > 0) {
        qsort(splits, n, sizeof(*splits), compare_splits);
    }
    for (size_t i = 0; i < n; i++) {
        const rp_gguf_string text = rp_gguf_kv_string(r->tokens, splits[i].id);
        const size_t at = splits[i].left_bytes;
        if (json_array_append_new(merges, json_pack("[s%, s%]", text.data, at, text.data + at,
                                                    text.nbytes - at)) != 0) {
            st = fail_token(r, splits[i].id, "cannot be split");
            goto out;
        }
    }
out:
    free(splits);
    return st;
}

static rp_status merges_of_list(const reader *r, json_t *merges)
{
    for (int64_t i = 0; i < r->merges->count; i++) {
        const rp_gguf_string pair = rp_gguf_kv_string(r->merges, i);
        if (json_array_append_new(merges, json_stringn(pair.data, pair.nbytes)) != 0) {
            return RP_FAIL(RP_ERR_FORMAT,
                           "%s: key tokenizer.ggml.merges: merge %" PRId64 " is not UTF-8",
                           rp_gguf_path(r->gguf), i);
        }
    }
    return RP_OK;
}

/* ---- The parts of tokenizer.json ---- */

/* BOS and EOS around the text, or null. */
static rp_status post_processor(const reader *r, bool adds_bos, int64_t bos_id, json_t **out)
{
    rp_status st = RP_OK;
    bool adds[2] = {adds_bos, false};
    int64_t ids[2] = {-1, -1};
    rp_gguf_string texts[2];
    json_t *single = json_array();
    json_t *known = json_object();

    RP_TRY(rp_gguf_get_bool(&adds[0], r->gguf, "tokenizer.ggml.add_bos_token", false));
    RP_TRY(rp_gguf_get_bool(&adds[1], r->gguf, "tokenizer.ggml.add_eos_token", false));
    RP_TRY(find_special(r, "tokenizer.ggml.bos_token_id", bos_id, &ids[0], &texts[0]));
    RP_TRY(find_special(r, "tokenizer.ggml.eos_token_id", -1, &ids[1], &texts[1]));
    for (int i = 0; i < 2; i++) {
        if (adds[i] && texts[i].data != NULL) {
            (void)json_array_append_new(single,
                                        json_pack("{s:{s:s%, s:i}}", "SpecialToken", "id",
                                                  texts[i].data, texts[i].nbytes, "type_id", 0));
            (void)json_object_setn_new(known, texts[i].data, texts[i].nbytes,
                                       json_pack("{s:s%, s:[I], s:[s%]}", "id", texts[i].data,
                                                 texts[i].nbytes, "ids", (json_int_t)ids[i],
                                                 "tokens", texts[i].data, texts[i].nbytes));
        }
        if (i == 0) {
            (void)json_array_append_new(
                single, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0));
        }
    }
    *out = json_array_size(single) == 1
               ? json_null()
               : json_pack("{s:s, s:O, s:[], s:O}", "type", "TemplateProcessing", "single", single,
                           "pair", "special_tokens", known);
out:
    json_decref(single);
    json_decref(known);
    return st;
}

static rp_status gpt2_parts(const reader *r, json_t *root)
{
    rp_status st = RP_OK;
    char *pre = NULL;
    bool ignores_merges = false;
    json_t *steps = NULL;
    json_t *merges = json_array();
    json_t *post = NULL;

    RP_TRY(rp_gguf_get_string(&pre, r->gguf, "tokenizer.ggml.pre", true));
    steps = rp_tok_gguf_pre_json(pre, &ignores_merges);
    if (steps == NULL) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key tokenizer.ggml.pre: %.64s is not supported",
                     rp_gguf_path(r->gguf), pre);
        goto out;
    }
    RP_TRY(merges_of_list(r, merges));
    RP_TRY(post_processor(r, ignores_merges, -1, &post));
    (void)json_object_set_new(root, "normalizer",
                              strcmp(pre, "qwen2") == 0 ? json_pack("{s:s}", "type", "NFC")
                                                        : json_null());
    (void)json_object_set(root, "pre_tokenizer", steps);
    (void)json_object_set(root, "post_processor", post);
    (void)json_object_set_new(root, "decoder",
                              json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel",
                                        "add_prefix_space", 1, "trim_offsets", 1, "use_regex", 1));
    (void)json_object_set_new(root, "model",
                              json_pack("{s:s, s:b, s:O, s:O}", "type", "BPE", "ignore_merges",
                                        (int)ignores_merges, "vocab", r->vocab, "merges", merges));
out:
    json_decref(post);
    json_decref(merges);
    json_decref(steps);
    free(pre);
    return st;
}

static json_t *llama_normalizer(bool adds_space)
{
    json_t *steps = json_array();

    if (adds_space) {
        (void)json_array_append_new(
            steps, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", RP_GGUF_SPACE_MARK));
    }
    (void)json_array_append_new(steps,
                                json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern",
                                          "String", " ", "content", RP_GGUF_SPACE_MARK));
    return json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", steps);
}

static json_t *llama_decoder(bool adds_space)
{
    json_t *steps =
        json_pack("[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}]", "type", "Replace", "pattern", "String",
                  RP_GGUF_SPACE_MARK, "content", " ", "type", "ByteFallback", "type", "Fuse");

    if (adds_space) {
        (void)json_array_append_new(steps, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip",
                                                     "content", " ", "start", 1, "stop", 0));
    }
    return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", steps);
}

static rp_status llama_parts(const reader *r, json_t *root)
{
    rp_status st = RP_OK;
    bool adds_space = true;
    int64_t unk_id = 0;
    rp_gguf_string unk;
    json_t *merges = json_array();
    json_t *post = NULL;
    json_t *model = NULL;

    RP_TRY(rp_gguf_get_bool(&adds_space, r->gguf, "tokenizer.ggml.add_space_prefix", false));
    RP_TRY(find_special(r, "tokenizer.ggml.unknown_token_id", 0, &unk_id, &unk));
    RP_TRY(merges_of_scores(r, merges));
    RP_TRY(post_processor(r, true, 1, &post));
    model = json_pack("{s:s, s:b, s:b, s:O, s:O}", "type", "BPE", "fuse_unk", 1, "byte_fallback", 1,
                      "vocab", r->vocab, "merges", merges);
    if (unk.data != NULL) {
        (void)json_object_set_new(model, "unk_token", json_stringn(unk.data, unk.nbytes));
    }
    (void)json_object_set_new(root, "normalizer", llama_normalizer(adds_space));
    (void)json_object_set_new(root, "pre_tokenizer", json_null());
    (void)json_object_set(root, "post_processor", post);
    (void)json_object_set_new(root, "decoder", llama_decoder(adds_space));
    (void)json_object_set(root, "model", model);
out:
    json_decref(model);
    json_decref(post);
    json_decref(merges);
    return st;
}

rp_status rp_gguf_tokenizer_json(json_t **out, const rp_gguf *gguf)
{
    rp_status st = RP_OK;
    reader r = {.gguf = gguf, .vocab = json_object(), .added = json_array()};
    json_t *root = NULL;
    char *model = NULL;
    bool is_llama = false;

    *out = NULL;
    RP_TRY(rp_gguf_get_string(&model, gguf, "tokenizer.ggml.model", true));
    is_llama = strcmp(model, "llama") == 0;
    if (!is_llama && strcmp(model, "gpt2") != 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key tokenizer.ggml.model: %.64s is not supported",
                     rp_gguf_path(gguf), model);
        goto out;
    }
    RP_TRY(find_arrays(&r, is_llama));
    for (int64_t id = 0; id < r.tokens->count; id++) {
        RP_TRY(add_token(&r, id));
    }
    root = json_pack("{s:s, s:n, s:n, s:O}", "version", "1.0", "truncation", "padding",
                     "added_tokens", r.added);
    RP_TRY(is_llama ? llama_parts(&r, root) : gpt2_parts(&r, root));
    *out = root;
    root = NULL;
out:
    json_decref(root);
    json_decref(r.added);
    json_decref(r.vocab);
    free(model);
    return st;
}

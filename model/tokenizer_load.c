/* tokenizer.json into structs. Every key is looked at; what the code does not do is an error that
 * names it, so that no file is read with other ids than its author's. */
#include "model/tokenizer_parts.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* ---- values ---- */

/* Is `name` one of the words of "a|b|c"? */
static bool is_listed(const char *words, const char *name)
{
    const size_t length = strlen(name);

    for (const char *word = words; *word != '\0';) {
        const size_t word_length = strcspn(word, "|");
        if (word_length == length && strncmp(word, name, length) == 0) {
            return true;
        }
        word += word_length + (word[word_length] == '|');
    }
    return false;
}

rp_status rp_tok_json_check_keys(const json_t *object, const char *keys)
{
    const char *key = NULL;
    json_t *value = NULL;

    json_object_foreach((json_t *)object, key, value)
    {
        if (strcmp(key, "type") != 0 && !is_listed(keys, key)) {
            return RP_FAIL(RP_ERR_FORMAT, "key \"%s\" is not supported", key);
        }
    }
    return RP_OK;
}

rp_status rp_tok_json_flag(bool *out, const json_t *object, const char *key, int fallback)
{
    const json_t *value = json_object_get(object, key);

    if ((value == NULL || json_is_null(value)) && fallback != RP_TOK_REQUIRED) {
        *out = fallback != 0;
        return RP_OK;
    }
    if (!json_is_boolean(value)) {
        return RP_FAIL(RP_ERR_FORMAT, "\"%s\" is not true or false", key);
    }
    *out = json_is_true(value);
    return RP_OK;
}

rp_status rp_tok_json_text(const char **out, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    if (!json_is_string(value)) {
        return RP_FAIL(RP_ERR_FORMAT, "\"%s\" is not a string", key);
    }
    *out = json_string_value(value);
    return RP_OK;
}

rp_status rp_tok_json_count(int64_t *out, const json_t *object, const char *key, int64_t max)
{
    const json_t *value = json_object_get(object, key);

    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > max) {
        return RP_FAIL(RP_ERR_FORMAT, "\"%s\" is not a number from 0 to %lld", key, (long long)max);
    }
    *out = json_integer_value(value);
    return RP_OK;
}

static bool is_absent(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    return value == NULL || json_is_null(value);
}

/* ---- model ---- */

static rp_status load_vocab(rp_tok_vocab *vocab, const json_t *config)
{
    rp_status st = RP_OK;
    const char *token = NULL;
    json_t *id = NULL;
    json_int_t max_id = -1;

    if (json_object_size(config) == 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "\"vocab\" is not an object with tokens");
        goto out;
    }
    json_object_foreach((json_t *)config, token, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > RP_TOK_MAX_ID) {
            st = RP_FAIL(RP_ERR_FORMAT, "id of token \"%s\" is not a number from 0 to %d", token,
                         RP_TOK_MAX_ID);
            goto out;
        }
        max_id = RP_MAX(max_id, json_integer_value(id));
    }
    RP_TRY(rp_tok_vocab_init(vocab, max_id + 1, json_object_size(config)));
    json_object_foreach((json_t *)config, token, id)
    {
        RP_TRY(rp_tok_vocab_add(vocab, token, (int32_t)json_integer_value(id)));
    }
out:
    return st;
}

typedef struct text {
    const char *bytes;
    size_t nbytes;
} text;

/* A merge is ["left", "right"] or "left right". */
static rp_status split_merge(text *left, text *right, const json_t *merge)
{
    const char *both = json_string_value(merge);
    const char *space = both == NULL ? NULL : strchr(both, ' ');

    if (json_array_size(merge) == 2 && json_is_string(json_array_get(merge, 0)) &&
        json_is_string(json_array_get(merge, 1))) {
        const json_t *halves[2] = {json_array_get(merge, 0), json_array_get(merge, 1)};
        *left = (text){json_string_value(halves[0]), json_string_length(halves[0])};
        *right = (text){json_string_value(halves[1]), json_string_length(halves[1])};
        return RP_OK;
    }
    if (space == NULL || strchr(space + 1, ' ') != NULL) {
        return RP_FAIL(RP_ERR_FORMAT, "not a pair of tokens");
    }
    *left = (text){both, (size_t)(space - both)};
    *right = (text){space + 1, strlen(space + 1)};
    return RP_OK;
}

static rp_status load_merge(rp_tok_merge *out, const rp_tok_vocab *vocab, const json_t *merge,
                            rp_tok_buf *joined)
{
    rp_status st = RP_OK;
    text left = {0};
    text right = {0};

    RP_TRY(split_merge(&left, &right, merge));
    joined->nbytes = 0;
    RP_TRY(rp_tok_buf_append(joined, left.bytes, left.nbytes));
    RP_TRY(rp_tok_buf_append(joined, right.bytes, right.nbytes));
    out->left = rp_tok_vocab_find(vocab, left.bytes, left.nbytes);
    out->right = rp_tok_vocab_find(vocab, right.bytes, right.nbytes);
    out->id = rp_tok_vocab_find(vocab, joined->text, joined->nbytes);
    if (out->left < 0 || out->right < 0 || out->id < 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "\"%.*s\" + \"%.*s\" has a part or a result not in the vocab",
                     (int)left.nbytes, left.bytes, (int)right.nbytes, right.bytes);
    }
out:
    return st;
}

static bool is_version_line(const json_t *merge)
{
    return json_is_string(merge) && strncmp(json_string_value(merge), "#version", 8) == 0;
}

static rp_status load_merges(rp_tok_bpe *bpe, const rp_tok_vocab *vocab, const json_t *config)
{
    rp_status st = RP_OK;
    const size_t n = json_array_size(config);
    rp_tok_buf joined = {0};

    if (!json_is_array(config) || n > INT32_MAX) {
        st = RP_FAIL(RP_ERR_FORMAT, "\"merges\" is not a list");
        goto out;
    }
    RP_TRY(rp_alloc_array(&bpe->merges, n, sizeof(*bpe->merges)));
    for (size_t i = 0; i < n; i++) {
        const json_t *merge = json_array_get(config, i);
        if (is_version_line(merge)) {
            continue;
        }
        st = load_merge(&bpe->merges[bpe->n_merges], vocab, merge, &joined);
        if (st != RP_OK) {
            st = rp_error_prefix(st, "merge %zu", i);
            goto out;
        }
        bpe->n_merges++;
    }
out:
    free(joined.text);
    return st;
}

/* Options of BPE that change ids and that this code does not have. */
static rp_status check_model(const json_t *config)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    rp_status st = RP_OK;
    const json_t *type = json_object_get(config, "type");
    const json_t *dropout = json_object_get(config, "dropout");

    if (type != NULL && (!json_is_string(type) || strcmp(json_string_value(type), "BPE") != 0)) {
        return RP_FAIL(RP_ERR_FORMAT, "type \"%s\" is not supported, only BPE",
                       json_is_string(type) ? json_string_value(type) : "?");
    }
    if (json_is_array(json_object_get(config, "vocab"))) {
        return RP_FAIL(RP_ERR_FORMAT, "type Unigram (a vocab with scores) is not supported");
    }
    RP_TRY(rp_tok_json_check_keys(config, "dropout|unk_token|continuing_subword_prefix|"
                                          "end_of_word_suffix|fuse_unk|byte_fallback|"
                                          "ignore_merges|vocab|merges"));
    if (!is_absent(config, "dropout") && json_number_value(dropout) != 0.0) {
        return RP_FAIL(RP_ERR_FORMAT, "dropout is not supported");
    }
    for (size_t i = 0; i < RP_COUNT(affixes); i++) {
        const char *affix = "";
        if (!is_absent(config, affixes[i])) {
            RP_TRY(rp_tok_json_text(&affix, config, affixes[i]));
        }
        if (*affix != '\0') {
            return RP_FAIL(RP_ERR_FORMAT, "%s \"%s\" is not supported", affixes[i], affix);
        }
    }
out:
    return st;
}

static rp_status load_model(rp_tok_bpe *bpe, rp_tok_vocab *vocab, const json_t *config)
{
    rp_status st = RP_OK;
    const char *unk = NULL;

    if (!json_is_object(config)) {
        st = RP_FAIL(RP_ERR_FORMAT, "not an object");
        goto out;
    }
    RP_TRY(check_model(config));
    RP_TRY(rp_tok_json_flag(&bpe->fuses_unk, config, "fuse_unk", 0));
    RP_TRY(rp_tok_json_flag(&bpe->has_byte_fallback, config, "byte_fallback", 0));
    RP_TRY(rp_tok_json_flag(&bpe->ignores_merges, config, "ignore_merges", 0));
    RP_TRY(load_vocab(vocab, json_object_get(config, "vocab")));
    bpe->unk_id = -1;
    if (!is_absent(config, "unk_token")) {
        RP_TRY(rp_tok_json_text(&unk, config, "unk_token"));
        bpe->unk_id = rp_tok_vocab_find(vocab, unk, strlen(unk));
        if (bpe->unk_id < 0) {
            st = RP_FAIL(RP_ERR_FORMAT, "unk_token \"%s\" is not in the vocab", unk);
            goto out;
        }
    }
    RP_TRY(load_merges(bpe, vocab, json_object_get(config, "merges")));
    RP_TRY(rp_tok_bpe_prepare(bpe, vocab));
out:
    return st;
}

/* ---- added tokens ---- */

static rp_status load_added(rp_tok_added *out, const rp_tok_vocab *vocab, const json_t *config)
{
    rp_status st = RP_OK;
    const char *content = NULL;
    int64_t id = 0;
    int32_t model_id = -1;

    RP_TRY(rp_tok_json_text(&content, config, "content"));
    RP_TRY(
        rp_tok_json_check_keys(config, "id|content|single_word|lstrip|rstrip|normalized|special"));
    RP_TRY(rp_tok_json_count(&id, config, "id", RP_TOK_MAX_ID));
    RP_TRY(rp_tok_json_flag(&out->is_single_word, config, "single_word", RP_TOK_REQUIRED));
    RP_TRY(rp_tok_json_flag(&out->strips_left, config, "lstrip", RP_TOK_REQUIRED));
    RP_TRY(rp_tok_json_flag(&out->strips_right, config, "rstrip", RP_TOK_REQUIRED));
    RP_TRY(rp_tok_json_flag(&out->is_normalized, config, "normalized", RP_TOK_REQUIRED));
    RP_TRY(rp_tok_json_flag(&out->is_special, config, "special", RP_TOK_REQUIRED));
    RP_TRY(rp_strdup(&out->content, content));
    model_id = rp_tok_vocab_find(vocab, content, strlen(content));
    out->id = model_id >= 0 ? model_id : (int32_t)id;
    if (model_id < 0 && id < vocab->size && vocab->tokens[id] != NULL) {
        st = RP_FAIL(RP_ERR_FORMAT, "added token \"%s\" has the id %lld of \"%s\"", content,
                     (long long)id, vocab->tokens[id]);
    }
out:
    return st;
}

static rp_status set_pattern(rp_tok_added *token, rp_tok_work *work)
{
    rp_status st = RP_OK;
    const char *pattern = token->content;
    size_t nbytes = strlen(token->content);

    if (token->is_normalized) {
        RP_TRY(rp_tok_normalize(work, pattern, nbytes, &pattern, &nbytes));
    }
    RP_TRY(rp_calloc(&token->pattern, nbytes + 1, 1));
    if (nbytes > 0) {
        memcpy(token->pattern, pattern, nbytes);
    }
    token->pattern_bytes = nbytes;
    token->is_skipped = token->is_special && strcmp(token->pattern, token->content) == 0;
out:
    return st;
}

static int compare_ids(const void *a, const void *b)
{
    const int32_t x = ((const rp_tok_added *)a)->id;
    const int32_t y = ((const rp_tok_added *)b)->id;

    return (x > y) - (x < y);
}

static rp_status load_all_added(rp_tokenizer *tokenizer, const json_t *list)
{
    rp_status st = RP_OK;
    rp_tok_work work = {0};

    if (list != NULL && !json_is_array(list)) {
        st = RP_FAIL(RP_ERR_FORMAT, "not a list");
        goto out;
    }
    RP_TRY(rp_tok_work_init(&work, tokenizer));
    RP_TRY(rp_calloc(&tokenizer->added, json_array_size(list), sizeof(*tokenizer->added)));
    for (size_t i = 0; i < json_array_size(list); i++) {
        rp_tok_added *token = &tokenizer->added[tokenizer->n_added++];
        RP_TRY(load_added(token, &tokenizer->vocab, json_array_get(list, i)));
        RP_TRY(set_pattern(token, &work));
    }
    qsort(tokenizer->added, tokenizer->n_added, sizeof(*tokenizer->added), compare_ids);
    for (size_t i = 1; i < tokenizer->n_added; i++) {
        const rp_tok_added *token = &tokenizer->added[i];
        if (token[-1].id == token->id) {
            st = RP_FAIL(RP_ERR_FORMAT, "id %d is given to \"%s\" and to \"%s\"", token->id,
                         token[-1].content, token->content);
            goto out;
        }
    }
    RP_TRY(rp_tok_matcher_init(&tokenizer->raw, tokenizer->added, tokenizer->n_added, false));
    RP_TRY(rp_tok_matcher_init(&tokenizer->normalized, tokenizer->added, tokenizer->n_added, true));
out:
    rp_tok_work_clear(&work);
    return st;
}

/* ---- post-processor ---- */

typedef struct around {
    int32_t *ids; /* before the text, then after it */
    size_t n, capacity;
    size_t n_before;
    bool has_text;
} around;

static rp_status add_id(around *ids, const json_t *id)
{
    rp_status st = RP_OK;

    if (!json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) > RP_TOK_MAX_ID) {
        st = RP_FAIL(RP_ERR_FORMAT, "a special token's id is not a number from 0 to %d",
                     RP_TOK_MAX_ID);
        goto out;
    }
    RP_TRY(rp_grow(&ids->ids, &ids->capacity, ids->n + 1, sizeof(*ids->ids)));
    ids->ids[ids->n++] = (int32_t)json_integer_value(id);
out:
    return st;
}

static rp_status add_text(around *ids)
{
    if (ids->has_text) {
        return RP_FAIL(RP_ERR_FORMAT, "a template that repeats the text is not supported");
    }
    ids->has_text = true;
    ids->n_before = ids->n;
    return RP_OK;
}

static rp_status load_template(around *ids, const json_t *config)
{
    rp_status st = RP_OK;
    const json_t *single = json_object_get(config, "single");
    const json_t *known = json_object_get(config, "special_tokens");

    RP_TRY(rp_tok_json_check_keys(config, "single|pair|special_tokens"));
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i);
        const json_t *token = json_object_get(piece, "SpecialToken");
        const char *name = json_string_value(json_object_get(token, "id"));
        const json_t *list = NULL;
        if (json_object_get(piece, "Sequence") != NULL) {
            RP_TRY(add_text(ids));
            continue;
        }
        list = name == NULL ? NULL : json_object_get(json_object_get(known, name), "ids");
        if (!json_is_array(list)) {
            st = RP_FAIL(RP_ERR_FORMAT, "piece %zu of \"single\" has no ids in special_tokens", i);
            goto out;
        }
        for (size_t k = 0; k < json_array_size(list); k++) {
            RP_TRY(add_id(ids, json_array_get(list, k)));
        }
    }
    if (!ids->has_text) {
        st = RP_FAIL(RP_ERR_FORMAT, "\"single\" has no text");
    }
out:
    return st;
}

/* BertProcessing and RobertaProcessing: cls, text, sep. */
static rp_status load_cls_sep(around *ids, const json_t *config)
{
    rp_status st = RP_OK;

    RP_TRY(rp_tok_json_check_keys(config, "cls|sep|trim_offsets|add_prefix_space"));
    RP_TRY(add_id(ids, json_array_get(json_object_get(config, "cls"), 1)));
    RP_TRY(add_text(ids));
    RP_TRY(add_id(ids, json_array_get(json_object_get(config, "sep"), 1)));
out:
    return st;
}

static rp_status load_processor(around *ids, const json_t *config, bool in_sequence)
{
    rp_status st = RP_OK;
    const json_t *list = json_object_get(config, "processors");
    const char *type = NULL;

    RP_TRY(rp_tok_json_text(&type, config, "type"));
    if (strcmp(type, "TemplateProcessing") == 0) {
        RP_TRY(load_template(ids, config));
    } else if (is_listed("BertProcessing|RobertaProcessing", type)) {
        RP_TRY(load_cls_sep(ids, config));
    } else if (strcmp(type, "ByteLevel") == 0) { /* changes offsets, not ids */
        RP_TRY(rp_tok_json_check_keys(config, "add_prefix_space|trim_offsets|use_regex"));
    } else if (strcmp(type, "Sequence") == 0 && json_is_array(list) && !in_sequence) {
        RP_TRY(rp_tok_json_check_keys(config, "processors"));
        for (size_t i = 0; i < json_array_size(list); i++) {
            RP_TRY(load_processor(ids, json_array_get(list, i), true));
        }
    } else {
        st = RP_FAIL(RP_ERR_FORMAT, "type \"%s\" is not supported here", type);
    }
out:
    return st;
}

static rp_status load_post_processor(rp_tokenizer *tokenizer, const json_t *config)
{
    rp_status st = RP_OK;
    around ids = {0};

    if (config == NULL || json_is_null(config)) {
        return RP_OK;
    }
    RP_TRY(load_processor(&ids, config, false));
    tokenizer->around = ids.ids;
    tokenizer->n_around = ids.n;
    tokenizer->n_before = ids.n_before;
    ids.ids = NULL;
out:
    free(ids.ids);
    return st == RP_OK ? st : rp_error_prefix(st, "post_processor");
}

/* ---- the file ---- */

static rp_status check_top(const json_t *root)
{
    rp_status st = RP_OK;
    const char *version = "1.0";

    if (!json_is_object(root)) {
        return RP_FAIL(RP_ERR_FORMAT, "not a JSON object");
    }
    RP_TRY(rp_tok_json_check_keys(root, "version|truncation|padding|added_tokens|normalizer|"
                                        "pre_tokenizer|post_processor|decoder|model"));
    if (!is_absent(root, "version")) {
        RP_TRY(rp_tok_json_text(&version, root, "version"));
    }
    if (strcmp(version, "1.0") != 0) {
        return RP_FAIL(RP_ERR_FORMAT, "version \"%s\" is not supported, only 1.0", version);
    }
    if (!is_absent(root, "truncation") || !is_absent(root, "padding")) {
        return RP_FAIL(RP_ERR_FORMAT, "truncation and padding are not supported");
    }
out:
    return st;
}

rp_status rp_tok_load(rp_tokenizer *tokenizer, const json_t *root)
{
    rp_status st = RP_OK;
    const json_t *decoder = json_object_get(root, "decoder");

    RP_TRY(check_top(root));
    st = load_model(&tokenizer->bpe, &tokenizer->vocab, json_object_get(root, "model"));
    if (st != RP_OK) {
        st = rp_error_prefix(st, "model");
        goto out;
    }
    RP_TRY(rp_tok_ops_load(&tokenizer->normalizers, RP_TOK_NORMALIZER,
                           json_object_get(root, "normalizer")));
    RP_TRY(rp_tok_ops_load(&tokenizer->pre_tokenizers, RP_TOK_PRE_TOKENIZER,
                           json_object_get(root, "pre_tokenizer")));
    RP_TRY(rp_tok_ops_load(&tokenizer->decoders, RP_TOK_DECODER, decoder));
    tokenizer->has_decoder = !is_absent(root, "decoder");
    RP_TRY(load_post_processor(tokenizer, json_object_get(root, "post_processor")));
    st = load_all_added(tokenizer, json_object_get(root, "added_tokens"));
    if (st != RP_OK) {
        st = rp_error_prefix(st, "added_tokens");
    }
out:
    return st;
}

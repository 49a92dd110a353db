/* Entries of "normalizer", "pre_tokenizer" and "decoder": one table row per supported type. A type
 * without a row, a key that a row does not name and a value of the wrong kind are errors. */
#include "model/tokenizer_parts.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 8 /* of Sequence in Sequence */

const char rp_tok_gpt2_regex[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static rp_status add_op(rp_tok_op **out, rp_tok_ops *ops, rp_tok_op_kind kind)
{
    rp_status st = RP_OK;

    RP_TRY(rp_grow(&ops->items, &ops->capacity, ops->n + 1, sizeof(*ops->items)));
    *out = &ops->items[ops->n++];
    **out = (rp_tok_op){.kind = kind};
out:
    return st;
}

static rp_status add_text_op(rp_tok_op **out, rp_tok_ops *ops, rp_tok_op_kind kind,
                             const char *text)
{
    rp_status st = RP_OK;

    RP_TRY(add_op(out, ops, kind));
    RP_TRY(rp_strdup(&(*out)->text, text));
out:
    return st;
}

static rp_status load_pattern(rp_tok_pattern **out, const json_t *config)
{
    const json_t *pattern = json_object_get(config, "pattern");
    const json_t *literal = json_object_get(pattern, "String");
    const json_t *regex = json_object_get(pattern, "Regex");

    if (json_object_size(pattern) == 1 && json_is_string(literal)) {
        return rp_tok_pattern_literal(out, json_string_value(literal));
    }
    if (json_object_size(pattern) == 1 && json_is_string(regex)) {
        return rp_tok_pattern_regex(out, json_string_value(regex));
    }
    return RP_FAIL(RP_ERR_FORMAT, "\"pattern\" is not {\"String\": ...} or {\"Regex\": ...}");
}

static rp_status load_behavior(rp_tok_behavior *out, const json_t *config, const char *fallback)
{
    static const char *const names[] = {
        [RP_TOK_REMOVED] = "Removed",
        [RP_TOK_ISOLATED] = "Isolated",
        [RP_TOK_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [RP_TOK_MERGED_WITH_NEXT] = "MergedWithNext",
        [RP_TOK_CONTIGUOUS] = "Contiguous",
    };
    rp_status st = RP_OK;
    const char *name = fallback;

    if (fallback == NULL || json_object_get(config, "behavior") != NULL) {
        RP_TRY(rp_tok_json_text(&name, config, "behavior"));
    }
    for (size_t i = 0; i < RP_COUNT(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (rp_tok_behavior)i;
            return RP_OK;
        }
    }
    st = RP_FAIL(RP_ERR_FORMAT, "behavior \"%s\" is not supported", name);
out:
    return st;
}

static rp_status add_class_split(rp_tok_ops *ops, rp_tok_char_class char_class,
                                 rp_tok_behavior behavior)
{
    rp_status st = RP_OK;
    rp_tok_op *op = NULL;

    RP_TRY(add_op(&op, ops, RP_TOK_SPLIT));
    op->behavior = behavior;
    RP_TRY(rp_tok_pattern_class(&op->pattern, char_class));
out:
    return st;
}

/* ---- normalizers ---- */

static rp_status make_plain(rp_tok_ops *ops, rp_tok_op_kind kind, const json_t *config)
{
    rp_tok_op *op = NULL;

    (void)config;
    return add_op(&op, ops, kind);
}

static rp_status make_strip_space(rp_tok_ops *ops, rp_tok_op_kind kind, const json_t *config)
{
    rp_status st = RP_OK;
    rp_tok_op *op = NULL;

    RP_TRY(add_op(&op, ops, kind));
    RP_TRY(rp_tok_json_flag(&op->strips_left, config, "strip_left", RP_TOK_REQUIRED));
    RP_TRY(rp_tok_json_flag(&op->strips_right, config, "strip_right", RP_TOK_REQUIRED));
out:
    return st;
}

static rp_status make_replace(rp_tok_ops *ops, rp_tok_op_kind kind, const json_t *config)
{
    rp_status st = RP_OK;
    const char *content = NULL;
    rp_tok_op *op = NULL;

    RP_TRY(rp_tok_json_text(&content, config, "content"));
    RP_TRY(add_text_op(&op, ops, kind, content));
    RP_TRY(load_pattern(&op->pattern, config));
out:
    return st;
}

static rp_status make_prepend(rp_tok_ops *ops, rp_tok_op_kind kind, const json_t *config)
{
    rp_status st = RP_OK;
    const char *text = NULL;
    rp_tok_op *op = NULL;

    RP_TRY(rp_tok_json_text(&text, config, "prepend"));
    RP_TRY(add_text_op(&op, ops, kind, text));
out:
    return st;
}

/* ---- pre-tokenizers ---- */

static rp_status make_byte_level(rp_tok_ops *ops, rp_tok_op_kind kind, const json_t *config)
{
    rp_status st = RP_OK;
    bool adds_prefix = false;
    bool uses_regex = false;
    rp_tok_op *op = NULL;

    RP_TRY(rp_tok_json_flag(&adds_prefix, config, "add_prefix_space", RP_TOK_REQUIRED));
    RP_TRY(rp_tok_json_flag(&uses_regex, config, "use_regex", 1));
    if (adds_prefix) {
        RP_TRY(add_text_op(&op, ops, RP_TOK_PREPEND_ONCE, " "));
    }
    if (uses_regex) {
        RP_TRY(add_op(&op, ops, RP_TOK_SPLIT));
        op->behavior = RP_TOK_ISOLATED;
        RP_TRY(rp_tok_pattern_regex(&op->pattern, rp_tok_gpt2_regex));
    }
    RP_TRY(add_op(&op, ops, kind));
out:
    return st;
}

static rp_status make_split(rp_tok_ops *ops, rp_tok_op_kind kind, const json_t *config)
{
    rp_status st = RP_OK;
    rp_tok_op *op = NULL;

    RP_TRY(add_op(&op, ops, kind));
    RP_TRY(load_pattern(&op->pattern, config));
    RP_TRY(load_behavior(&op->behavior, config, NULL));
    RP_TRY(rp_tok_json_flag(&op->is_inverted, config, "invert", RP_TOK_REQUIRED));
out:
    return st;
}

static rp_status make_digits(rp_tok_ops *ops, rp_tok_op_kind kind, const json_t *config)
{
    rp_status st = RP_OK;
    bool is_individual = false;

    (void)kind;
    RP_TRY(rp_tok_json_flag(&is_individual, config, "individual_digits", RP_TOK_REQUIRED));
    RP_TRY(add_class_split(ops, rp_tok_is_numeric,
                           is_individual ? RP_TOK_ISOLATED : RP_TOK_CONTIGUOUS));
out:
    return st;
}

static rp_status make_punctuation(rp_tok_ops *ops, rp_tok_op_kind kind, const json_t *config)
{
    rp_status st = RP_OK;
    rp_tok_behavior behavior = RP_TOK_ISOLATED;

    (void)kind;
    RP_TRY(load_behavior(&behavior, config, "Isolated"));
    RP_TRY(add_class_split(ops, rp_tok_is_punctuation, behavior));
out:
    return st;
}

#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}"

static rp_status make_whitespace(rp_tok_ops *ops, rp_tok_op_kind kind, const json_t *config)
{
    rp_status st = RP_OK;
    rp_tok_op *op = NULL;

    (void)config;
    RP_TRY(add_op(&op, ops, kind));
    op->behavior = RP_TOK_REMOVED;
    op->is_inverted = true;
    /* \w of the regex crate: unlike that of the patterns in files it has the joiners. */
    RP_TRY(rp_tok_pattern_regex(&op->pattern, "[" WORD "]+|[^" WORD "\\s]+"));
out:
    return st;
}

static rp_status make_whitespace_split(rp_tok_ops *ops, rp_tok_op_kind kind, const json_t *config)
{
    (void)config;
    (void)kind;
    return add_class_split(ops, rp_tok_is_space, RP_TOK_REMOVED);
}

typedef struct metaspace {
    const char *replacement;
    const char *scheme; /* "first", "always" or "never" */
    bool splits;
} metaspace;

static rp_status load_metaspace(metaspace *out, const json_t *config)
{
    rp_status st = RP_OK;
    const bool has_scheme = json_object_get(config, "prepend_scheme") != NULL;
    bool adds_prefix = false;
    uint32_t code_point = RP_TOK_NO_CHAR;

    RP_TRY(rp_tok_json_text(&out->replacement, config, "replacement"));
    RP_TRY(rp_tok_json_flag(&adds_prefix, config, "add_prefix_space", 1));
    RP_TRY(rp_tok_json_flag(&out->splits, config, "split", 1));
    out->scheme = adds_prefix ? "always" : "never";
    if (has_scheme) {
        RP_TRY(rp_tok_json_text(&out->scheme, config, "prepend_scheme"));
    }
    if (strcmp(out->scheme, "first") != 0 && strcmp(out->scheme, "always") != 0 &&
        strcmp(out->scheme, "never") != 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "prepend_scheme \"%s\" is not supported", out->scheme);
        goto out;
    }
    if (!adds_prefix && strcmp(out->scheme, "never") != 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "add_prefix_space false contradicts prepend_scheme \"%s\"",
                     out->scheme);
        goto out;
    }
    if (*out->replacement == '\0' ||
        rp_tok_char_get(&code_point, out->replacement, strlen(out->replacement)) !=
            strlen(out->replacement)) {
        st = RP_FAIL(RP_ERR_FORMAT, "replacement \"%s\" is not one character", out->replacement);
    }
out:
    return st;
}

static rp_status make_metaspace(rp_tok_ops *ops, rp_tok_op_kind kind, const json_t *config)
{
    rp_status st = RP_OK;
    metaspace space = {0};
    rp_tok_op *op = NULL;

    RP_TRY(load_metaspace(&space, config));
    for (size_t i = 0; i < ops->n; i++) { /* a later piece may still start at the text's start */
        if (ops->items[i].kind == RP_TOK_SPLIT && strcmp(space.scheme, "first") == 0) {
            st = RP_FAIL(RP_ERR_FORMAT, "prepend_scheme \"first\" after a split is not supported");
            goto out;
        }
    }
    RP_TRY(add_text_op(&op, ops, kind, space.replacement));
    RP_TRY(rp_tok_pattern_literal(&op->pattern, " "));
    if (strcmp(space.scheme, "never") != 0) {
        RP_TRY(add_text_op(&op, ops, RP_TOK_PREPEND_ONCE, space.replacement));
        op->at_start_only = strcmp(space.scheme, "first") == 0;
    }
    if (space.splits) {
        RP_TRY(add_op(&op, ops, RP_TOK_SPLIT));
        op->behavior = RP_TOK_MERGED_WITH_NEXT;
        RP_TRY(rp_tok_pattern_literal(&op->pattern, space.replacement));
    }
out:
    return st;
}

/* ---- decoders ---- */

static rp_status make_metaspace_decoder(rp_tok_ops *ops, rp_tok_op_kind kind, const json_t *config)
{
    rp_status st = RP_OK;
    metaspace space = {0};
    rp_tok_op *op = NULL;

    RP_TRY(load_metaspace(&space, config));
    RP_TRY(add_text_op(&op, ops, kind, " "));
    RP_TRY(rp_tok_pattern_literal(&op->pattern, space.replacement));
    op->drops_first = strcmp(space.scheme, "never") != 0;
out:
    return st;
}

static rp_status make_strip_text(rp_tok_ops *ops, rp_tok_op_kind kind, const json_t *config)
{
    rp_status st = RP_OK;
    const char *content = NULL;
    rp_tok_op *op = NULL;

    RP_TRY(rp_tok_json_text(&content, config, "content"));
    RP_TRY(add_text_op(&op, ops, kind, content));
    RP_TRY(rp_tok_json_count(&op->start, config, "start", INT32_MAX));
    RP_TRY(rp_tok_json_count(&op->stop, config, "stop", INT32_MAX));
out:
    return st;
}

/* ---- the table ---- */

typedef struct op_row {
    const char *type;
    const char *keys; /* besides "type" */
    rp_status (*make)(rp_tok_ops *ops, rp_tok_op_kind kind, const json_t *config);
    rp_tok_op_kind kind;
} op_row;

#define BYTE_LEVEL_KEYS "add_prefix_space|trim_offsets|use_regex"
#define METASPACE_KEYS "replacement|prepend_scheme|add_prefix_space|split|str_rep"

static const op_row normalizer_rows[] = {
    {"NFC", "", make_plain, RP_TOK_NFC},
    {"NFD", "", make_plain, RP_TOK_NFD},
    {"NFKC", "", make_plain, RP_TOK_NFKC},
    {"NFKD", "", make_plain, RP_TOK_NFKD},
    {"Lowercase", "", make_plain, RP_TOK_LOWERCASE},
    {"StripAccents", "", make_plain, RP_TOK_STRIP_MARKS},
    {"Strip", "strip_left|strip_right", make_strip_space, RP_TOK_STRIP_SPACE},
    {"Replace", "pattern|content", make_replace, RP_TOK_REPLACE},
    {"Prepend", "prepend", make_prepend, RP_TOK_PREPEND},
    {"ByteLevel", BYTE_LEVEL_KEYS, make_plain, RP_TOK_BYTE_LEVEL},
    {NULL, NULL, NULL, RP_TOK_NFC},
};
static const op_row pre_tokenizer_rows[] = {
    {"ByteLevel", BYTE_LEVEL_KEYS, make_byte_level, RP_TOK_BYTE_LEVEL},
    {"Split", "pattern|behavior|invert", make_split, RP_TOK_SPLIT},
    {"Digits", "individual_digits", make_digits, RP_TOK_SPLIT},
    {"Punctuation", "behavior", make_punctuation, RP_TOK_SPLIT},
    {"Whitespace", "", make_whitespace, RP_TOK_SPLIT},
    {"WhitespaceSplit", "", make_whitespace_split, RP_TOK_SPLIT},
    {"Metaspace", METASPACE_KEYS, make_metaspace, RP_TOK_REPLACE},
    {NULL, NULL, NULL, RP_TOK_NFC},
};
static const op_row decoder_rows[] = {
    {"ByteLevel", BYTE_LEVEL_KEYS, make_plain, RP_TOK_BYTE_LEVEL},
    {"Replace", "pattern|content", make_replace, RP_TOK_REPLACE},
    {"ByteFallback", "", make_plain, RP_TOK_BYTE_FALLBACK},
    {"Fuse", "", make_plain, RP_TOK_FUSE},
    {"Strip", "content|start|stop", make_strip_text, RP_TOK_STRIP_TEXT},
    {"Metaspace", METASPACE_KEYS, make_metaspace_decoder, RP_TOK_REPLACE},
    {NULL, NULL, NULL, RP_TOK_NFC},
};
static const struct {
    const char *key;      /* in tokenizer.json */
    const char *list_key; /* of Sequence */
    const op_row *rows;
} stages[] = {
    [RP_TOK_NORMALIZER] = {"normalizer", "normalizers", normalizer_rows},
    [RP_TOK_PRE_TOKENIZER] = {"pre_tokenizer", "pretokenizers", pre_tokenizer_rows},
    [RP_TOK_DECODER] = {"decoder", "decoders", decoder_rows},
};

static rp_status load_entry(rp_tok_ops *ops, rp_tok_stage stage, const json_t *config, int depth);

static rp_status load_sequence(rp_tok_ops *ops, rp_tok_stage stage, const json_t *config, int depth)
{
    rp_status st = RP_OK;
    const char *key = stages[stage].list_key;
    const json_t *list = json_object_get(config, key);

    RP_TRY(rp_tok_json_check_keys(config, key));
    if (!json_is_array(list) || depth == MAX_DEPTH) {
        st = RP_FAIL(RP_ERR_FORMAT, "\"%s\" is not a list, or lies more than %d deep", key,
                     MAX_DEPTH);
        goto out;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        RP_TRY(load_entry(ops, stage, json_array_get(list, i), depth + 1));
    }
out:
    return st;
}

static rp_status load_entry(rp_tok_ops *ops, rp_tok_stage stage, const json_t *config, int depth)
{
    rp_status st = RP_OK;
    const op_row *row = stages[stage].rows;
    const char *type = NULL;

    RP_TRY(rp_tok_json_text(&type, config, "type"));
    if (strcmp(type, "Sequence") == 0) {
        return load_sequence(ops, stage, config, depth);
    }
    while (row->type != NULL && strcmp(row->type, type) != 0) {
        row++;
    }
    if (row->type == NULL) {
        st = RP_FAIL(RP_ERR_FORMAT, "type \"%s\" is not supported", type);
        goto out;
    }
    st = rp_tok_json_check_keys(config, row->keys);
    if (st == RP_OK) {
        st = row->make(ops, row->kind, config);
    }
    if (st != RP_OK) {
        st = rp_error_prefix(st, "%s", type);
    }
out:
    return st;
}

rp_status rp_tok_ops_load(rp_tok_ops *ops, rp_tok_stage stage, const json_t *config)
{
    rp_status st = RP_OK;

    if (config == NULL || json_is_null(config)) {
        return RP_OK;
    }
    st = load_entry(ops, stage, config, 0);
    return st == RP_OK ? st : rp_error_prefix(st, "%s", stages[stage].key);
}

void rp_tok_ops_clear(rp_tok_ops *ops)
{
    for (size_t i = 0; i < ops->n; i++) {
        rp_tok_pattern_destroy(&ops->items[i].pattern);
        free(ops->items[i].text);
    }
    free(ops->items);
    *ops = (rp_tok_ops){0};
}

/* Ids to text: the contents of the tokens go as a list of strings through the decoders of the
 * file, then they are joined. */
#include "model/tokenizer_parts.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define REPLACEMENT_CHAR 0xfffdu

/* Strings one behind the other; string i ends at ends[i]. */
typedef struct list {
    rp_tok_buf bytes;
    size_t *ends;
    size_t n, capacity;
} list;

typedef struct item {
    const char *text;
    size_t nbytes;
} item;

static item list_get(const list *from, size_t i)
{
    const size_t start = i == 0 ? 0 : from->ends[i - 1];

    return (item){.text = from->bytes.text + start, .nbytes = from->ends[i] - start};
}

/* Ends a string: what was appended to bytes since the last one. */
static rp_status list_end(list *to)
{
    rp_status st = RP_OK;

    RP_TRY(rp_grow(&to->ends, &to->capacity, to->n + 1, sizeof(*to->ends)));
    to->ends[to->n++] = to->bytes.nbytes;
out:
    return st;
}

static rp_status list_add(list *to, item string)
{
    rp_status st = RP_OK;

    RP_TRY(rp_tok_buf_append(&to->bytes, string.text, string.nbytes));
    RP_TRY(list_end(to));
out:
    return st;
}

static void list_clear(list *strings)
{
    free(strings->bytes.text);
    free(strings->ends);
    *strings = (list){0};
}

/* Each broken sequence becomes one U+FFFD. */
static rp_status append_lossy(rp_tok_buf *to, const rp_tok_buf *bytes)
{
    rp_status st = RP_OK;

    for (size_t at = 0; at < bytes->nbytes;) {
        uint32_t c = 0;
        at += rp_tok_char_get(&c, bytes->text + at, bytes->nbytes - at);
        RP_TRY(rp_tok_buf_append_char(to, c == RP_TOK_NO_CHAR ? REPLACEMENT_CHAR : c));
    }
out:
    return st;
}

/* Bytes that the characters of a token stand for; the token itself if one stands for none. */
static rp_status append_bytes(rp_tok_buf *to, item token)
{
    rp_status st = RP_OK;
    const size_t kept = to->nbytes;

    for (size_t at = 0; at < token.nbytes;) {
        uint32_t c = 0;
        char byte = 0;
        at += rp_tok_char_get(&c, token.text + at, token.nbytes - at);
        const int value = rp_tok_char_to_byte(c);
        if (value < 0) {
            to->nbytes = kept;
            RP_TRY(rp_tok_buf_append(to, token.text, token.nbytes));
            break;
        }
        byte = (char)value;
        RP_TRY(rp_tok_buf_append(to, &byte, 1));
    }
out:
    return st;
}

static rp_status decode_byte_level(list *to, const list *from)
{
    rp_status st = RP_OK;
    rp_tok_buf bytes = {0};

    for (size_t i = 0; i < from->n; i++) {
        RP_TRY(append_bytes(&bytes, list_get(from, i)));
    }
    RP_TRY(append_lossy(&to->bytes, &bytes));
    RP_TRY(list_end(to));
out:
    free(bytes.text);
    return st;
}

/* The byte that "<0xHH>" names, or -1. */
static int named_byte(item token)
{
    char digits[3] = {0};

    if (token.nbytes != 6 || memcmp(token.text, "<0x", 3) != 0 || token.text[5] != '>') {
        return -1;
    }
    memcpy(digits, token.text + 3, 2);
    if (strspn(digits, "0123456789abcdefABCDEF") != 2) {
        return -1;
    }
    return (int)strtol(digits, NULL, 16);
}

/* A run of byte tokens: its text, or one U+FFFD a byte when it is not UTF-8. */
static rp_status end_byte_run(list *to, rp_tok_buf *run)
{
    rp_status st = RP_OK;

    if (run->nbytes == 0) {
        goto out;
    }
    if (rp_tok_find_bad_utf8(run->text, run->nbytes) == run->nbytes) {
        RP_TRY(list_add(to, (item){.text = run->text, .nbytes = run->nbytes}));
    } else {
        for (size_t i = 0; i < run->nbytes; i++) {
            RP_TRY(rp_tok_buf_append_char(&to->bytes, REPLACEMENT_CHAR));
            RP_TRY(list_end(to));
        }
    }
    run->nbytes = 0;
out:
    return st;
}

static rp_status decode_byte_fallback(list *to, const list *from)
{
    rp_status st = RP_OK;
    rp_tok_buf run = {0};

    for (size_t i = 0; i < from->n; i++) {
        const item token = list_get(from, i);
        const int byte = named_byte(token);
        if (byte >= 0) {
            const char value = (char)byte;
            RP_TRY(rp_tok_buf_append(&run, &value, 1));
        } else {
            RP_TRY(end_byte_run(to, &run));
            RP_TRY(list_add(to, token));
        }
    }
    RP_TRY(end_byte_run(to, &run));
out:
    free(run.text);
    return st;
}

static rp_status decode_strip(list *to, const rp_tok_op *op, const list *from)
{
    rp_status st = RP_OK;
    const size_t length = strlen(op->text);

    for (size_t i = 0; i < from->n; i++) {
        item token = list_get(from, i);
        for (int64_t k = 0;
             k < op->start && token.nbytes >= length && memcmp(token.text, op->text, length) == 0;
             k++) {
            token.text += length;
            token.nbytes -= length;
        }
        for (int64_t k = 0; k < op->stop && token.nbytes >= length &&
                            memcmp(token.text + token.nbytes - length, op->text, length) == 0;
             k++) {
            token.nbytes -= length;
        }
        RP_TRY(list_add(to, token));
    }
out:
    return st;
}

static rp_status replace_all(rp_tok_buf *to, const rp_tok_op *op, item token, const char *content,
                             void *match_data)
{
    rp_status st = RP_OK;
    rp_tok_scan scan = {.text = token.text, .nbytes = token.nbytes, .match_data = match_data};

    for (;;) {
        rp_tok_part part;
        bool is_part = false;
        RP_TRY(rp_tok_scan_next(&scan, op->pattern, &part, &is_part));
        if (!is_part) {
            break;
        }
        RP_TRY(part.is_match
                   ? rp_tok_buf_append(to, content, strlen(content))
                   : rp_tok_buf_append(to, token.text + part.start, part.end - part.start));
    }
out:
    return st;
}

/* Replace and Metaspace: the latter may drop the character in the first token. */
static rp_status decode_replace(list *to, const rp_tok_op *op, const list *from)
{
    rp_status st = RP_OK;
    void *match_data = NULL;

    RP_TRY(rp_tok_match_data_create(&match_data));
    for (size_t i = 0; i < from->n; i++) {
        const char *content = i == 0 && op->drops_first ? "" : op->text;
        RP_TRY(replace_all(&to->bytes, op, list_get(from, i), content, match_data));
        RP_TRY(list_end(to));
    }
out:
    rp_tok_match_data_destroy(&match_data);
    return st;
}

static rp_status decode_fuse(list *to, const list *from)
{
    return list_add(to, (item){.text = from->bytes.text, .nbytes = from->bytes.nbytes});
}

static rp_status decode_step(list *to, const rp_tok_op *op, const list *from)
{
    switch (op->kind) {
    case RP_TOK_BYTE_LEVEL:
        return decode_byte_level(to, from);
    case RP_TOK_BYTE_FALLBACK:
        return decode_byte_fallback(to, from);
    case RP_TOK_STRIP_TEXT:
        return decode_strip(to, op, from);
    case RP_TOK_REPLACE:
        return decode_replace(to, op, from);
    case RP_TOK_FUSE:
        return decode_fuse(to, from);
    default:
        return RP_FAIL(RP_ERR_INTERNAL, "operation %d does not decode", (int)op->kind);
    }
}

/* Contents of the ids; ids without a token are passed over. */
static rp_status list_tokens(list *to, const rp_tokenizer *tokenizer, const int32_t *ids,
                             int64_t n_ids, bool skip_special)
{
    rp_status st = RP_OK;

    for (int64_t i = 0; i < n_ids; i++) {
        const rp_tok_added *added = rp_tok_added_find(tokenizer, ids[i]);
        const char *content =
            added != NULL ? added->pattern : rp_tokenizer_token(tokenizer, ids[i]);
        if (content == NULL || (skip_special && added != NULL && added->is_skipped)) {
            continue;
        }
        if (!tokenizer->has_decoder && to->n > 0) {
            RP_TRY(rp_tok_buf_append(&to->bytes, " ", 1));
        }
        RP_TRY(list_add(to, (item){.text = content, .nbytes = strlen(content)}));
    }
out:
    return st;
}

rp_status rp_tokenizer_decode(const rp_tokenizer *tokenizer, const int32_t *ids, int64_t n_ids,
                              bool skip_special, char **text)
{
    rp_status st = RP_OK;
    list strings[2] = {{.n = 0}, {.n = 0}};
    size_t now = 0;

    *text = NULL;
    RP_TRY(list_tokens(&strings[now], tokenizer, ids, n_ids, skip_special));
    for (size_t i = 0; i < tokenizer->decoders.n; i++) {
        list *to = &strings[1 - now];
        to->n = 0;
        to->bytes.nbytes = 0;
        RP_TRY(decode_step(to, &tokenizer->decoders.items[i], &strings[now]));
        now = 1 - now;
    }
    RP_TRY(rp_tok_buf_append(&strings[now].bytes, "", 1));
    *text = strings[now].bytes.text;
    strings[now].bytes.text = NULL;
out:
    list_clear(&strings[0]);
    list_clear(&strings[1]);
    return st;
}

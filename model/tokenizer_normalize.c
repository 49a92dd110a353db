/* Operations that make a text of a text: normalizers, and the parts of pre-tokenizers that do not
 * split. Each writes a whole new text; the normalizers use two buffers in turn. */
#include "model/tokenizer_parts.h"

#include "base/mem.h"

#include <string.h>
#include <utf8proc.h>

static rp_status put_code_points(rp_tok_buf *out, const int32_t *code_points, size_t n)
{
    rp_status st = RP_OK;

    for (size_t i = 0; i < n; i++) {
        RP_TRY(rp_tok_buf_append_char(out, (uint32_t)code_points[i]));
    }
out:
    return st;
}

static rp_status normalize_run(rp_tok_work *work, int options, const char *run, size_t nbytes,
                               rp_tok_buf *out)
{
    rp_status st = RP_OK;
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)run;
    utf8proc_ssize_t need = (utf8proc_ssize_t)nbytes;
    utf8proc_ssize_t n = 0;

    do {
        RP_TRY(rp_grow(&work->scratch, &work->scratch_capacity, (size_t)need + 1,
                       sizeof(*work->scratch)));
        n = need;
        need = utf8proc_decompose(bytes, (utf8proc_ssize_t)nbytes, work->scratch, n,
                                  (utf8proc_option_t)options);
    } while (need > n);
    n = need < 0 ? need : utf8proc_normalize_utf32(work->scratch, need, (utf8proc_option_t)options);
    if (n < 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "cannot normalize text: %s", utf8proc_errmsg(n));
        goto out;
    }
    RP_TRY(put_code_points(out, work->scratch, (size_t)n));
out:
    return st;
}

/* Length of the run at the start of `text` that holds no ASCII; a newer character ends it or is a
 * run by itself. */
static size_t find_run(const char *text, size_t nbytes, bool *is_newer)
{
    size_t at = 0;

    *is_newer = false;
    while (at < nbytes && (unsigned char)text[at] >= 0x80) {
        uint32_t c = 0;
        const size_t length = rp_tok_char_get(&c, text + at, nbytes - at);
        if (rp_tok_is_after_unicode_9(c)) {
            *is_newer = at == 0;
            return at == 0 ? length : at;
        }
        at += length;
    }
    return at;
}

/* ASCII is its own normal form and only its last character before a run of others may combine with
 * them, so the runs are done one by one. Newer characters are taken as they are. */
static rp_status normalize_unicode(rp_tok_work *work, int options, const char *text, size_t nbytes,
                                   rp_tok_buf *out)
{
    rp_status st = RP_OK;
    size_t done = 0;

    for (size_t at = 0; at < nbytes;) {
        bool is_newer = false;
        const size_t length = find_run(text + at, nbytes - at, &is_newer);
        const bool has_ascii = at > done && (unsigned char)text[at - 1] < 0x80;
        const size_t start = has_ascii ? at - 1 : at;
        if (length == 0 || is_newer) {
            at += RP_MAX(length, 1);
            continue;
        }
        RP_TRY(rp_tok_buf_append(out, text + done, start - done));
        RP_TRY(normalize_run(work, options, text + start, at - start + length, out));
        at += length;
        done = at;
    }
    RP_TRY(rp_tok_buf_append(out, text + done, nbytes - done));
out:
    return st;
}

static rp_status lowercase(const char *text, size_t nbytes, rp_tok_buf *out)
{
    rp_status st = RP_OK;

    for (size_t at = 0; at < nbytes;) {
        uint32_t c = 0;
        at += rp_tok_char_get(&c, text + at, nbytes - at);
        if (c == 0x130) { /* the one character whose lower case is two */
            RP_TRY(rp_tok_buf_append(out, "i\xcc\x87", 3));
        } else {
            RP_TRY(rp_tok_buf_append_char(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c)));
        }
    }
out:
    return st;
}

static rp_status strip_marks(const char *text, size_t nbytes, rp_tok_buf *out)
{
    rp_status st = RP_OK;

    for (size_t at = 0; at < nbytes;) {
        uint32_t c = 0;
        const size_t length = rp_tok_char_get(&c, text + at, nbytes - at);
        if (!rp_tok_is_mark(c)) {
            RP_TRY(rp_tok_buf_append(out, text + at, length));
        }
        at += length;
    }
out:
    return st;
}

static rp_status strip_space(const rp_tok_op *op, const char *text, size_t nbytes, rp_tok_buf *out)
{
    size_t start = 0;
    size_t stop = nbytes;
    uint32_t c = 0;

    for (size_t at = 0; op->strips_left && at < nbytes; start = at) {
        at += rp_tok_char_get(&c, text + at, nbytes - at);
        if (!rp_tok_is_space(c)) {
            break;
        }
    }
    while (op->strips_right && stop > start) {
        const size_t before = rp_tok_char_before(text, stop);
        (void)rp_tok_char_get(&c, text + before, stop - before);
        if (!rp_tok_is_space(c)) {
            break;
        }
        stop = before;
    }
    return rp_tok_buf_append(out, text + start, stop - start);
}

static rp_status replace(rp_tok_work *work, const rp_tok_op *op, const char *text, size_t nbytes,
                         rp_tok_buf *out)
{
    rp_status st = RP_OK;
    rp_tok_scan scan = {.text = text, .nbytes = nbytes, .match_data = work->match_data};
    const size_t text_bytes = strlen(op->text);

    for (;;) {
        rp_tok_part part;
        bool is_part = false;
        RP_TRY(rp_tok_scan_next(&scan, op->pattern, &part, &is_part));
        if (!is_part) {
            break;
        }
        if (part.is_match) {
            RP_TRY(rp_tok_buf_append(out, op->text, text_bytes));
        } else {
            RP_TRY(rp_tok_buf_append(out, text + part.start, part.end - part.start));
        }
    }
out:
    return st;
}

static rp_status prepend(const rp_tok_op *op, const char *text, size_t nbytes, bool is_wanted,
                         rp_tok_buf *out)
{
    rp_status st = RP_OK;

    if (is_wanted && nbytes > 0) {
        RP_TRY(rp_tok_buf_append(out, op->text, strlen(op->text)));
    }
    RP_TRY(rp_tok_buf_append(out, text, nbytes));
out:
    return st;
}

static bool begins_with(const char *text, size_t nbytes, const char *prefix)
{
    const size_t prefix_bytes = strlen(prefix);

    return nbytes >= prefix_bytes && memcmp(text, prefix, prefix_bytes) == 0;
}

static rp_status bytes_to_chars(const char *text, size_t nbytes, rp_tok_buf *out)
{
    rp_status st = RP_OK;

    for (size_t i = 0; i < nbytes; i++) {
        RP_TRY(rp_tok_buf_append_char(out, rp_tok_byte_to_char((unsigned char)text[i])));
    }
out:
    return st;
}

rp_status rp_tok_apply(rp_tok_work *work, const rp_tok_op *op, const char *text, size_t nbytes,
                       bool is_start, rp_tok_buf *out)
{
    static const int unicode_options[] = {
        [RP_TOK_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [RP_TOK_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [RP_TOK_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [RP_TOK_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };

    out->nbytes = 0;
    switch (op->kind) {
    case RP_TOK_NFC:
    case RP_TOK_NFD:
    case RP_TOK_NFKC:
    case RP_TOK_NFKD:
        return normalize_unicode(work, unicode_options[op->kind], text, nbytes, out);
    case RP_TOK_LOWERCASE:
        return lowercase(text, nbytes, out);
    case RP_TOK_STRIP_MARKS:
        return strip_marks(text, nbytes, out);
    case RP_TOK_STRIP_SPACE:
        return strip_space(op, text, nbytes, out);
    case RP_TOK_REPLACE:
        return replace(work, op, text, nbytes, out);
    case RP_TOK_PREPEND:
        return prepend(op, text, nbytes, true, out);
    case RP_TOK_PREPEND_ONCE:
        return prepend(op, text, nbytes,
                       (is_start || !op->at_start_only) && !begins_with(text, nbytes, op->text),
                       out);
    case RP_TOK_BYTE_LEVEL:
        return bytes_to_chars(text, nbytes, out);
    default:
        return RP_FAIL(RP_ERR_INTERNAL, "operation %d does not make a text", (int)op->kind);
    }
}

rp_status rp_tok_normalize(rp_tok_work *work, const char *text, size_t nbytes, const char **out,
                           size_t *out_bytes)
{
    rp_status st = RP_OK;
    const rp_tok_ops *ops = &work->tokenizer->normalizers;

    *out = text;
    *out_bytes = nbytes;
    for (size_t i = 0; i < ops->n; i++) {
        rp_tok_buf *buf = &work->normal[i % 2];
        RP_TRY(rp_tok_apply(work, &ops->items[i], *out, *out_bytes, true, buf));
        *out = buf->text;
        *out_bytes = buf->nbytes;
    }
out:
    return st;
}

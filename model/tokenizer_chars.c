/* UTF-8 and the character classes that the `tokenizers` package uses: Rust's char methods, \s and
 * \w of its regex crate (UTS 18) and, for punctuation, Unicode 8 tables. Categories come from
 * utf8proc. */
#include "model/tokenizer_parts.h"

#include "base/mem.h"

#include <string.h>
#include <utf8proc.h>

rp_status rp_tok_buf_append(rp_tok_buf *buf, const char *text, size_t nbytes)
{
    rp_status st = RP_OK;

    RP_TRY(rp_grow(&buf->text, &buf->capacity, buf->nbytes + nbytes, 1));
    if (nbytes > 0) {
        memcpy(buf->text + buf->nbytes, text, nbytes);
    }
    buf->nbytes += nbytes;
out:
    return st;
}

rp_status rp_tok_buf_append_char(rp_tok_buf *buf, uint32_t code_point)
{
    char bytes[4];

    return rp_tok_buf_append(buf, bytes, rp_tok_char_put(bytes, code_point));
}

size_t rp_tok_char_get(uint32_t *code_point, const char *text, size_t nbytes)
{
    const unsigned char *s = (const unsigned char *)text;
    const uint32_t lead = s[0];
    const size_t want = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint32_t value = want == 1 ? lead : lead & (0x7fu >> want);

    *code_point = RP_TOK_NO_CHAR;
    if (want == 0 || lead > 0xf4) {
        return 1;
    }
    for (size_t i = 1; i < want; i++) {
        /* The second byte's range keeps out overlong forms, surrogates and values past U+10FFFF. */
        const uint32_t low = i > 1 ? 0x80 : lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        const uint32_t high = i > 1 ? 0xbf : lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        if (i >= nbytes || s[i] < low || s[i] > high) {
            return i;
        }
        value = value << 6 | (s[i] & 0x3fu);
    }
    *code_point = value;
    return want;
}

size_t rp_tok_char_put(char out[4], uint32_t code_point)
{
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)code_point, (utf8proc_uint8_t *)out);
}

size_t rp_tok_char_before(const char *text, size_t end)
{
    do {
        end--;
    } while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80);
    return end;
}

size_t rp_tok_find_bad_utf8(const char *text, size_t nbytes)
{
    size_t at = 0;

    while (at < nbytes) {
        uint32_t code_point = 0;
        const size_t length = rp_tok_char_get(&code_point, text + at, nbytes - at);
        if (code_point == RP_TOK_NO_CHAR) {
            break;
        }
        at += length;
    }
    return at;
}

static utf8proc_category_t category(uint32_t code_point)
{
    return utf8proc_category((utf8proc_int32_t)code_point);
}

bool rp_tok_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

bool rp_tok_is_mark(uint32_t c)
{
    const utf8proc_category_t cat = category(c);

    return cat >= UTF8PROC_CATEGORY_MN && cat <= UTF8PROC_CATEGORY_ME;
}

bool rp_tok_is_word(uint32_t c)
{
    const utf8proc_category_t cat = category(c);
    /* Alphabetic symbols (circled and squared letters) and the two joiners. */
    const bool is_extra = (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
                          (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189) ||
                          c == 0x200c || c == 0x200d;

    return is_extra || (cat >= UTF8PROC_CATEGORY_LU && cat <= UTF8PROC_CATEGORY_NL) ||
           cat == UTF8PROC_CATEGORY_PC;
}

bool rp_tok_is_numeric(uint32_t c)
{
    const utf8proc_category_t cat = category(c);

    return cat >= UTF8PROC_CATEGORY_ND && cat <= UTF8PROC_CATEGORY_NO;
}

bool rp_tok_is_punctuation(uint32_t c)
{
    const utf8proc_category_t cat = category(c);

    if (c < 0x80) {
        return c > 0x20 && c < 0x7f && !(cat <= UTF8PROC_CATEGORY_NO);
    }
    return cat >= UTF8PROC_CATEGORY_PC && cat <= UTF8PROC_CATEGORY_PO;
}

/* Bytes that are printable in Latin-1 stand for themselves; the other 68 follow U+0100 in order. */
static bool is_own_char(uint32_t byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad && byte <= 0xff);
}

uint32_t rp_tok_byte_to_char(unsigned char byte)
{
    const uint32_t b = byte;

    if (is_own_char(b)) {
        return b;
    }
    return 0x100 + (b <= 0x20 ? b : b <= 0xa0 ? b - 0x7f + 0x21 : 0x43);
}

int rp_tok_char_to_byte(uint32_t code_point)
{
    const uint32_t index = code_point - 0x100;

    if (code_point < 0x100) {
        return is_own_char(code_point) ? (int)code_point : -1;
    }
    if (index > 0x43) {
        return -1;
    }
    return index <= 0x20 ? (int)index : index < 0x43 ? (int)(index - 0x21 + 0x7f) : 0xad;
}

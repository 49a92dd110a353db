/* UTF-8 and the character classes that the `tokenizers` package uses: Rust's char methods, \s and
 * \w of its regex crate (UTS 18), and its older tables for normal forms, marks (Unicode 9) and
 * punctuation (Unicode 8). Categories come from utf8proc, which is newer; the differences that
 * matter are tables here. */
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

/* Ranges of characters that Unicode 9 does not have and that are now marks or have a
 * decomposition; what is between them in a range, it does not have either. */
static const uint32_t after_unicode_9[][2] = {
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},
    {0xafa, 0xaff},     {0xb55, 0xb55},     {0xc04, 0xc04},     {0xc3c, 0xc3c},
    {0xcf3, 0xd00},     {0xd3b, 0xd3c},     {0xd81, 0xd81},     {0xeba, 0xeba},
    {0xece, 0xece},     {0x1715, 0x1715},   {0x180f, 0x180f},   {0x1abf, 0x1ace},
    {0x1cf7, 0x1cf7},   {0x1df6, 0x1dfa},   {0x32ff, 0x32ff},   {0xa7f2, 0xa7f4},
    {0xa82c, 0xa82c},   {0xa8ff, 0xa8ff},   {0xab69, 0xab69},   {0x10781, 0x107ba},
    {0x10d24, 0x10d27}, {0x10eab, 0x10f85}, {0x11070, 0x11074}, {0x110c2, 0x110c2},
    {0x11145, 0x11146}, {0x111ce, 0x111cf}, {0x11241, 0x11241}, {0x1133b, 0x1133b},
    {0x1145e, 0x1145e}, {0x1182c, 0x1183a}, {0x11930, 0x11a99}, {0x11d31, 0x11f42},
    {0x13440, 0x13455}, {0x16f4f, 0x16f4f}, {0x16f7f, 0x16f87}, {0x16fe4, 0x16ff1},
    {0x1cf00, 0x1cf46}, {0x1e030, 0x1e4ef}, {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9}};

/* The same for punctuation and Unicode 8. */
static const uint32_t punctuation_after_unicode_8[][2] = {
    {0x61d, 0x61d},     {0x9fd, 0xa76},     {0xc77, 0xc84},     {0x1b7d, 0x1b7e},
    {0x2e43, 0x2e5d},   {0x10ead, 0x10f89}, {0x1144b, 0x1145d}, {0x11660, 0x116b9},
    {0x1183b, 0x11fff}, {0x12ff1, 0x12ff2}, {0x16e97, 0x16fe2}, {0x1e95e, 0x1e95f}};

/* ranges: sorted, [n] of first and last. */
static bool is_in(const uint32_t (*ranges)[2], size_t n, uint32_t c)
{
    size_t low = 0;

    while (n > 0) {
        const size_t half = n / 2;
        if (ranges[low + half][1] < c) {
            low += half + 1;
            n -= half + 1;
        } else if (ranges[low + half][0] <= c) {
            return true;
        } else {
            n = half;
        }
    }
    return false;
}

bool rp_tok_is_after_unicode_9(uint32_t c)
{
    return is_in(after_unicode_9, RP_COUNT(after_unicode_9), c);
}

bool rp_tok_is_mark(uint32_t c)
{
    const utf8proc_category_t cat = category(c);

    if (c == 0x1cf2 || c == 0x1cf3 || c == 0x111c9) { /* changed since Unicode 9 */
        return c != 0x111c9;
    }
    return cat >= UTF8PROC_CATEGORY_MN && cat <= UTF8PROC_CATEGORY_ME &&
           !rp_tok_is_after_unicode_9(c);
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

    if (c < 0x80) { /* ASCII symbols count too */
        return c > 0x20 && c < 0x7f && cat > UTF8PROC_CATEGORY_NO;
    }
    if (c == 0x166d || c == 0x111c9) { /* changed since Unicode 8 */
        return true;
    }
    return cat >= UTF8PROC_CATEGORY_PC && cat <= UTF8PROC_CATEGORY_PO &&
           !is_in(punctuation_after_unicode_8, RP_COUNT(punctuation_after_unicode_8), c);
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

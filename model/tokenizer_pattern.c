/* Patterns: a literal, a class of characters, or a regular expression in the dialect of Oniguruma
 * with Ruby syntax, which tokenizer.json uses, run by PCRE2 with its JIT compiler.
 *
 * What the two engines read differently is rewritten (`\s` is White_Space in one, White_Space and
 * U+180E in the other; `\w` leaves out marks in the other; `\v`, script names) or refused by name.
 */
#include "model/tokenizer_parts.h"

#include "base/mem.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define SPACE_RANGES                                                                               \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"
#define NOT_SPACE_RANGES                                                                           \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}"                   \
    "\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}"                 \
    "\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
#define WORD_RANGES "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
/* Outside brackets Oniguruma takes \w of the first 256 characters from Latin-1, where superscripts
 * and fractions are word characters. */
#define WORD_OUTSIDE WORD_RANGES "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"

struct rp_tok_pattern {
    char *literal; /* NULL when not a literal */
    size_t literal_bytes;
    rp_tok_char_class char_class; /* NULL when not a class */
    pcre2_code *code;             /* NULL when not a regular expression */
    char *source;                 /* of the regular expression */
};

/* ---- Oniguruma to PCRE2 ---- */

/* Escapes whose meaning differs: what to write outside and inside brackets (NULL: not there). */
static const struct {
    char letter;
    const char *outside, *inside;
} rewritten_escapes[] = {
    {'s', "[" SPACE_RANGES "]", SPACE_RANGES},
    {'S', "[^" SPACE_RANGES "]", NOT_SPACE_RANGES},
    {'w', "[" WORD_OUTSIDE "]", WORD_RANGES},
    {'W', "[^" WORD_OUTSIDE "]", NULL},
    {'d', "\\p{Nd}", "\\p{Nd}"},
    {'D', "\\P{Nd}", "\\P{Nd}"},
    {'v', "\\x{b}", "\\x{b}"},
    {'h', "[0-9A-Fa-f]", "0-9A-Fa-f"},
};
static const char kept_escapes[] = "nrtfae"; /* the same in both */

typedef struct translator {
    const char *from; /* next character */
    rp_tok_buf to;
    bool in_brackets;
} translator;

static rp_status put(translator *t, const char *text)
{
    return rp_tok_buf_append(&t->to, text, strlen(text));
}

/* `\p{Name}`: categories and Alphabetic as they are, other names are scripts, to be read as Script
 * (PCRE2's default is Script_Extensions). */
static rp_status put_property(translator *t)
{
    rp_status st = RP_OK;
    const char *close = t->from[1] == '{' ? strchr(t->from, '}') : NULL;
    const char *name = t->from + 2;
    const size_t negation = close != NULL && *name == '^' ? 1 : 0;
    const size_t length = close == NULL ? 0 : (size_t)(close - name) - negation;
    bool is_script = false;

    if (length == 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "\\%c without a property in braces is not supported", *t->from);
        goto out;
    }
    RP_TRY(rp_tok_buf_append(&t->to, "\\", 1));
    RP_TRY(rp_tok_buf_append(&t->to, t->from, 2 + negation));
    is_script = length > 2 && strncmp(name + negation, "Alphabetic}", 11) != 0;
    RP_TRY(put(t, is_script ? "sc:" : ""));
    RP_TRY(rp_tok_buf_append(&t->to, name + negation, length + 1));
    t->from = close + 1;
out:
    return st;
}

static rp_status put_escape(translator *t)
{
    const char letter = *++t->from;

    if (letter == 'p' || letter == 'P') {
        return put_property(t);
    }
    for (size_t i = 0; i < RP_COUNT(rewritten_escapes); i++) {
        const char *text =
            t->in_brackets ? rewritten_escapes[i].inside : rewritten_escapes[i].outside;
        if (rewritten_escapes[i].letter == letter && text != NULL) {
            t->from++;
            return put(t, text);
        }
    }
    if (letter == '\0' || (isalnum((unsigned char)letter) && strchr(kept_escapes, letter) == NULL &&
                           !(letter == 'x' && t->from[1] == '{'))) {
        return RP_FAIL(RP_ERR_FORMAT, "escape \\%c%s is not supported", letter,
                       t->in_brackets ? " in brackets" : "");
    }
    t->from++;
    return rp_tok_buf_append(&t->to, t->from - 2, 2);
}

static rp_status put_bracket(translator *t)
{
    size_t negation = 0;

    if (t->in_brackets) {
        return RP_FAIL(RP_ERR_FORMAT, "brackets in brackets are not supported");
    }
    t->in_brackets = true;
    negation = t->from[1] == '^' ? 1 : 0;
    if (t->from[1 + negation] == ']') {
        return RP_FAIL(RP_ERR_FORMAT, "] right after [ is not supported");
    }
    t->from += 1 + negation;
    return rp_tok_buf_append(&t->to, "[^", 1 + negation);
}

/* `(?i:` around ASCII only. Oniguruma also matches one character for two ("ß" for "ss"), which
 * PCRE2 does not, so the pairs that it does this for are refused. */
static rp_status check_caseless(const char *group)
{
    static const char *const folded_pairs[] = {"ss", "ff", "fi", "fl", "st"};
    const size_t length = strcspn(group, ")");

    for (size_t i = 0; i < length; i++) {
        if (strchr("[\\(", group[i]) != NULL || (unsigned char)group[i] >= 0x80) {
            return RP_FAIL(RP_ERR_FORMAT, "only plain ASCII is supported in (?i:");
        }
        for (size_t k = 0; k < RP_COUNT(folded_pairs); k++) {
            if (strncasecmp(group + i, folded_pairs[k], 2) == 0) {
                return RP_FAIL(RP_ERR_FORMAT, "\"%s\" is not supported in (?i:", folded_pairs[k]);
            }
        }
    }
    return RP_OK;
}

/* Groups and look-around that both engines read alike. */
static rp_status check_group(const translator *t)
{
    static const char *const known[] = {"?:", "?=", "?!", "?<=", "?<!", "?>"};
    const char *kind = t->from + 1;

    if (strncmp(kind, "?i:", 3) == 0) {
        return check_caseless(kind + 3);
    }
    for (size_t i = 0; i < RP_COUNT(known); i++) {
        if (strncmp(kind, known[i], strlen(known[i])) == 0) {
            return RP_OK;
        }
    }
    if (*kind == '?' || *kind == '*') {
        return RP_FAIL(RP_ERR_FORMAT, "group (%.3s is not supported", kind);
    }
    return RP_OK;
}

/* `{,n}` is {0,n} in one and plain text in the other; `{n}+` is greedy in one, possessive in the
 * other. */
static rp_status check_repeat(const translator *t)
{
    if (t->from[0] == '{' && t->from[1] == ',') {
        return RP_FAIL(RP_ERR_FORMAT, "{, is not supported");
    }
    if (t->from[0] == '}' && t->from[1] == '+') {
        return RP_FAIL(RP_ERR_FORMAT, "}+ is not supported");
    }
    return RP_OK;
}

static rp_status put_one(translator *t)
{
    rp_status st = RP_OK;
    const char c = *t->from;

    if (c == '\\') {
        return put_escape(t);
    }
    if (c == '[') {
        return put_bracket(t);
    }
    if (t->in_brackets && c == '&' && t->from[1] == '&') {
        return RP_FAIL(RP_ERR_FORMAT, "&& in brackets is not supported");
    }
    if (!t->in_brackets && c == '(') {
        RP_TRY(check_group(t));
    } else if (!t->in_brackets) {
        RP_TRY(check_repeat(t));
    }
    t->in_brackets = t->in_brackets && c != ']';
    RP_TRY(rp_tok_buf_append(&t->to, t->from, 1));
    t->from++;
out:
    return st;
}

/* ---- making ---- */

static rp_status create(rp_tok_pattern **out)
{
    return rp_calloc(out, 1, sizeof(**out));
}

rp_status rp_tok_pattern_literal(rp_tok_pattern **out, const char *text)
{
    rp_status st = RP_OK;

    *out = NULL;
    if (*text == '\0') {
        st = RP_FAIL(RP_ERR_FORMAT, "an empty pattern is not supported");
        goto out;
    }
    RP_TRY(create(out));
    RP_TRY(rp_strdup(&(*out)->literal, text));
    (*out)->literal_bytes = strlen(text);
out:
    if (st != RP_OK) {
        rp_tok_pattern_destroy(out);
    }
    return st;
}

rp_status rp_tok_pattern_class(rp_tok_pattern **out, rp_tok_char_class char_class)
{
    rp_status st = RP_OK;

    RP_TRY(create(out));
    (*out)->char_class = char_class;
out:
    return st;
}

rp_status rp_tok_pattern_regex(rp_tok_pattern **out, const char *regex)
{
    rp_status st = RP_OK;
    translator t = {.from = regex};
    PCRE2_UCHAR why[128] = "";
    PCRE2_SIZE where = 0;
    int code = 0;

    *out = NULL;
    while (*t.from != '\0') {
        RP_TRY(put_one(&t));
    }
    RP_TRY(create(out));
    RP_TRY(rp_strdup(&(*out)->source, regex));
    /* Ruby: ^ and $ are at lines, $ is not before a final newline alone. */
    (*out)->code = pcre2_compile((PCRE2_SPTR)t.to.text, t.to.nbytes,
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code, &where, NULL);
    if ((*out)->code == NULL) {
        (void)pcre2_get_error_message(code, why, sizeof(why));
        st = RP_FAIL(RP_ERR_FORMAT, "%s", (const char *)why);
        goto out;
    }
    (void)pcre2_jit_compile((*out)->code, PCRE2_JIT_COMPLETE); /* without it: slower only */
out:
    if (st != RP_OK) {
        st = rp_error_prefix(st, "regular expression \"%.200s\"", regex);
        rp_tok_pattern_destroy(out);
    }
    free(t.to.text);
    return st;
}

void rp_tok_pattern_destroy(rp_tok_pattern **pattern)
{
    if (*pattern != NULL) {
        pcre2_code_free((*pattern)->code);
        free((*pattern)->literal);
        free((*pattern)->source);
        free(*pattern);
        *pattern = NULL;
    }
}

const char *rp_tok_pattern_source(const rp_tok_pattern *pattern)
{
    return pattern->source;
}

rp_tok_char_class rp_tok_pattern_char_class(const rp_tok_pattern *pattern)
{
    return pattern->char_class;
}

/* ---- searching ---- */

static rp_status find_regex(rp_tok_scan *scan, const rp_tok_pattern *pattern)
{
    pcre2_match_data *data = scan->match_data;
    const int count = pcre2_match(pattern->code, (PCRE2_SPTR)scan->text, scan->nbytes, scan->from,
                                  PCRE2_NO_UTF_CHECK, data, NULL);

    scan->has_match = count >= 0;
    if (scan->has_match) {
        scan->match = pcre2_get_ovector_pointer(data)[0];
        scan->match_end = pcre2_get_ovector_pointer(data)[1];
    } else if (count != PCRE2_ERROR_NOMATCH) {
        PCRE2_UCHAR why[128] = "";
        (void)pcre2_get_error_message(count, why, sizeof(why));
        return RP_FAIL(RP_ERR_FORMAT, "regular expression of the tokenizer failed: %s",
                       (const char *)why);
    }
    return RP_OK;
}

static void find_literal(rp_tok_scan *scan, const rp_tok_pattern *pattern)
{
    const char *at = memmem(scan->text + scan->from, scan->nbytes - scan->from, pattern->literal,
                            pattern->literal_bytes);

    scan->has_match = at != NULL;
    if (at != NULL) {
        scan->match = (size_t)(at - scan->text);
        scan->match_end = scan->match + pattern->literal_bytes;
    }
}

static void find_class(rp_tok_scan *scan, const rp_tok_pattern *pattern)
{
    scan->has_match = false;
    for (size_t at = scan->from; at < scan->nbytes && !scan->has_match;) {
        uint32_t code_point = 0;
        const size_t length = rp_tok_char_get(&code_point, scan->text + at, scan->nbytes - at);
        if (pattern->char_class(code_point)) {
            scan->has_match = true;
            scan->match = at;
            scan->match_end = at + length;
        }
        at += length;
    }
}

/* An empty match right behind the last match does not count: the search goes on one character
 * later. */
static rp_status find(rp_tok_scan *scan, const rp_tok_pattern *pattern)
{
    rp_status st = RP_OK;

    for (;;) {
        uint32_t code_point = 0;
        if (pattern->literal != NULL) {
            find_literal(scan, pattern);
        } else if (pattern->char_class != NULL) {
            find_class(scan, pattern);
        } else {
            RP_TRY(find_regex(scan, pattern));
        }
        if (!scan->has_match || scan->match_end > scan->match || scan->match_end != scan->from ||
            !scan->has_last) {
            break;
        }
        if (scan->from == scan->nbytes) {
            scan->has_match = false;
            break;
        }
        scan->from +=
            rp_tok_char_get(&code_point, scan->text + scan->from, scan->nbytes - scan->from);
        scan->has_last = false;
    }
    scan->is_exhausted = !scan->has_match;
    if (scan->has_match) {
        scan->from = scan->match_end;
        scan->has_last = true;
    }
out:
    return st;
}

rp_status rp_tok_scan_next(rp_tok_scan *scan, const rp_tok_pattern *pattern, rp_tok_part *part,
                           bool *is_part)
{
    rp_status st = RP_OK;

    if (!scan->has_match && !scan->is_exhausted) {
        RP_TRY(find(scan, pattern));
    }
    part->start = scan->done;
    part->is_match = scan->has_match && scan->done == scan->match;
    part->end = !scan->has_match ? scan->nbytes : part->is_match ? scan->match_end : scan->match;
    scan->has_match = scan->has_match && !part->is_match;
    scan->done = part->end;
    *is_part = part->is_match || part->end > part->start;
out:
    return st;
}

rp_status rp_tok_match_data_create(void **out)
{
    *out = pcre2_match_data_create(1, NULL);
    return *out != NULL ? RP_OK : RP_FAIL(RP_ERR_MEMORY, "no memory for a match");
}

void rp_tok_match_data_destroy(void **match_data)
{
    pcre2_match_data_free(*match_data);
    *match_data = NULL;
}

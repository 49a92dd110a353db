/* Added tokens: leftmost-longest search, then the token's own conditions. Tokens are grouped by
 * first byte and tried longest first; texts have few places where any token can begin. */
#include "model/tokenizer_parts.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static int compare_patterns(const void *a, const void *b)
{
    const rp_tok_added *x = *(const rp_tok_added *const *)a;
    const rp_tok_added *y = *(const rp_tok_added *const *)b;
    const int first_x = (unsigned char)x->pattern[0];
    const int first_y = (unsigned char)y->pattern[0];

    if (first_x != first_y) {
        return first_x - first_y;
    }
    if (x->pattern_bytes != y->pattern_bytes) {
        return x->pattern_bytes > y->pattern_bytes ? -1 : 1;
    }
    return memcmp(x->pattern, y->pattern, x->pattern_bytes);
}

rp_status rp_tok_matcher_init(rp_tok_matcher *matcher, const rp_tok_added *tokens, size_t n,
                              bool normalized)
{
    rp_status st = RP_OK;

    RP_TRY(rp_calloc(&matcher->tokens, n, sizeof(const rp_tok_added *)));
    for (size_t i = 0; i < n; i++) {
        if (tokens[i].is_normalized == normalized) {
            matcher->tokens[matcher->n++] = &tokens[i];
        }
    }
    qsort(matcher->tokens, matcher->n, sizeof(const rp_tok_added *), compare_patterns);
    for (size_t i = 0; i < matcher->n; i++) {
        const rp_tok_added *token = matcher->tokens[i];
        if (token->pattern_bytes == 0) {
            st = RP_FAIL(RP_ERR_FORMAT, "added token \"%s\" is empty after the normalizer",
                         token->content);
            goto out;
        }
        if (i > 0 && compare_patterns(&matcher->tokens[i - 1], &matcher->tokens[i]) == 0) {
            st = RP_FAIL(RP_ERR_FORMAT, "added tokens \"%s\" and \"%s\" are the same",
                         matcher->tokens[i - 1]->content, token->content);
            goto out;
        }
        matcher->first[(unsigned char)token->pattern[0] + 1] = i + 1;
    }
    for (size_t b = 1; b < RP_COUNT(matcher->first); b++) {
        matcher->first[b] = RP_MAX(matcher->first[b], matcher->first[b - 1]);
    }
out:
    return st;
}

void rp_tok_matcher_clear(rp_tok_matcher *matcher)
{
    free(matcher->tokens);
    *matcher = (rp_tok_matcher){0};
}

/* Longest token at `at`, or NULL. */
static const rp_tok_added *token_at(const rp_tok_matcher *matcher, const char *text, size_t nbytes,
                                    size_t at)
{
    const size_t byte = (unsigned char)text[at];

    for (size_t i = matcher->first[byte]; i < matcher->first[byte + 1]; i++) {
        const rp_tok_added *token = matcher->tokens[i];
        if (token->pattern_bytes <= nbytes - at &&
            memcmp(token->pattern, text + at, token->pattern_bytes) == 0) {
            return token;
        }
    }
    return NULL;
}

static bool is_word_before(const char *text, size_t at)
{
    uint32_t code_point = 0;
    size_t before = 0;

    if (at == 0) {
        return false;
    }
    before = rp_tok_char_before(text, at);
    (void)rp_tok_char_get(&code_point, text + before, at - before);
    return rp_tok_is_word(code_point);
}

static bool is_word_after(const char *text, size_t nbytes, size_t at)
{
    uint32_t code_point = 0;

    if (at == nbytes) {
        return false;
    }
    (void)rp_tok_char_get(&code_point, text + at, nbytes - at);
    return rp_tok_is_word(code_point);
}

static size_t skip_space_left(const char *text, size_t at, size_t limit)
{
    while (at > limit) {
        const size_t before = rp_tok_char_before(text, at);
        uint32_t code_point = 0;
        (void)rp_tok_char_get(&code_point, text + before, at - before);
        if (!rp_tok_is_space(code_point)) {
            break;
        }
        at = before;
    }
    return at;
}

static size_t skip_space_right(const char *text, size_t nbytes, size_t at)
{
    while (at < nbytes) {
        uint32_t code_point = 0;
        const size_t length = rp_tok_char_get(&code_point, text + at, nbytes - at);
        if (!rp_tok_is_space(code_point)) {
            break;
        }
        at += length;
    }
    return at;
}

rp_status rp_tok_match_added(rp_tok_work *work, const rp_tok_matcher *matcher, const char *text,
                             size_t nbytes, bool is_start, rp_tok_gap_fn on_gap)
{
    rp_status st = RP_OK;
    size_t done = 0; /* may lie behind `at` after a token that strips right; the reference's way */

    for (size_t at = 0; at < nbytes && matcher->n > 0;) {
        const rp_tok_added *token = token_at(matcher, text, nbytes, at);
        size_t start = at;
        size_t stop = 0;
        if (token == NULL) {
            at++;
            continue;
        }
        at += token->pattern_bytes;
        stop = at;
        if (token->is_single_word &&
            (is_word_before(text, start) || is_word_after(text, nbytes, stop))) {
            continue;
        }
        if (token->strips_left) {
            start = RP_MAX(skip_space_left(text, start, 0), done);
        }
        if (token->strips_right) {
            stop = skip_space_right(text, nbytes, stop);
        }
        if (done < start) {
            RP_TRY(on_gap(work, text + done, start - done, is_start && done == 0));
        }
        RP_TRY(rp_tok_emit(work, token->id));
        done = stop;
    }
    if (done != nbytes) {
        RP_TRY(on_gap(work, text + done, nbytes - done, is_start && done == 0));
    }
out:
    return st;
}

/* Pre-tokenizers, depth first: every piece goes through the rest of the list before the next piece
 * is cut off. */
#include "model/tokenizer_parts.h"

/* Whether a part becomes one piece with the part before it. */
static bool is_joined(rp_tok_behavior behavior, bool was_match, bool is_match)
{
    switch (behavior) {
    case RP_TOK_MERGED_WITH_PREVIOUS:
        return !was_match && is_match;
    case RP_TOK_MERGED_WITH_NEXT:
        return was_match && !is_match;
    case RP_TOK_CONTIGUOUS:
        return was_match == is_match;
    default:
        return false;
    }
}

static rp_status split(rp_tok_work *work, size_t step, const char *text, size_t nbytes,
                       bool is_start)
{
    rp_status st = RP_OK;
    const rp_tok_op *op = &work->tokenizer->pre_tokenizers.items[step];
    rp_tok_scan scan = {.text = text, .nbytes = nbytes, .match_data = work->match_data};
    rp_tok_part piece = {0}; /* not yet passed on: the next part may join it */
    bool has_piece = false;

    for (;;) {
        rp_tok_part part;
        bool is_part = false;
        RP_TRY(rp_tok_scan_next(&scan, op->pattern, &part, &is_part));
        part.is_match = part.is_match != op->is_inverted;
        if (is_part && has_piece && is_joined(op->behavior, piece.is_match, part.is_match)) {
            piece.end = part.end;
            piece.is_match = part.is_match;
            continue;
        }
        if (has_piece && !(piece.is_match && op->behavior == RP_TOK_REMOVED)) {
            RP_TRY(rp_tok_pretokenize(work, step + 1, text + piece.start, piece.end - piece.start,
                                      is_start && piece.start == 0));
        }
        if (!is_part) {
            break;
        }
        piece = part;
        has_piece = true;
    }
out:
    return st;
}

rp_status rp_tok_pretokenize(rp_tok_work *work, size_t step, const char *text, size_t nbytes,
                             bool is_start)
{
    rp_status st = RP_OK;
    const rp_tok_ops *ops = &work->tokenizer->pre_tokenizers;
    rp_tok_buf *changed = NULL;

    if (nbytes == 0) {
        return RP_OK;
    }
    if (step == ops->n) {
        return rp_tok_bpe_encode(work, text, nbytes);
    }
    if (ops->items[step].kind == RP_TOK_SPLIT) {
        return split(work, step, text, nbytes, is_start);
    }
    changed = &work->step[step];
    RP_TRY(rp_tok_apply(work, &ops->items[step], text, nbytes, is_start, changed));
    RP_TRY(rp_tok_pretokenize(work, step + 1, changed->text, changed->nbytes, is_start));
out:
    return st;
}

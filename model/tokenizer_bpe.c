/* BPE of one pre-token: the neighbouring pair with the lowest rank is merged first, of equal pairs
 * the leftmost, until no pair has a rank. A binary heap of candidates makes it O(n log n); a
 * candidate whose symbols have changed since is passed over when it comes up.
 *
 * Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016). The
 * pre-token is cut into units first where no merge can reach across (tokenizer_vocab.c).
 */
#include "model/tokenizer_parts.h"

#include "base/mem.h"

#include <string.h>

static rp_status heap_push(rp_tok_work *work, rp_tok_candidate candidate)
{
    rp_status st = RP_OK;
    size_t at = work->n_heap;

    RP_TRY(rp_grow(&work->heap, &work->heap_capacity, at + 1, sizeof(*work->heap)));
    for (; at > 0 && work->heap[(at - 1) / 2].order > candidate.order; at = (at - 1) / 2) {
        work->heap[at] = work->heap[(at - 1) / 2];
    }
    work->heap[at] = candidate;
    work->n_heap++;
out:
    return st;
}

static rp_tok_candidate heap_pop(rp_tok_work *work)
{
    rp_tok_candidate *heap = work->heap;
    const rp_tok_candidate top = heap[0];
    const rp_tok_candidate last = heap[--work->n_heap];
    size_t at = 0;

    for (size_t child = 1; child < work->n_heap; child = 2 * at + 1) {
        if (child + 1 < work->n_heap && heap[child + 1].order < heap[child].order) {
            child++;
        }
        if (heap[child].order >= last.order) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

/* Candidate of the symbol at `left` and the one after it, if a merge has the pair. */
static rp_status push_pair(rp_tok_work *work, int32_t left)
{
    const rp_tok_symbol *symbols = work->symbols;
    const int32_t right = left < 0 ? -1 : symbols[left].next;
    const rp_tok_pair_slot *merge = NULL;

    if (right < 0) {
        return RP_OK;
    }
    merge = rp_tok_pair_find(&work->tokenizer->bpe.ranks, symbols[left].id, symbols[right].id);
    if (merge == NULL) {
        return RP_OK;
    }
    return heap_push(work, (rp_tok_candidate){.order = (uint64_t)merge->rank << 32 | (uint32_t)left,
                                              .id = merge->id});
}

static rp_status merge_pair(rp_tok_work *work, rp_tok_candidate candidate)
{
    rp_status st = RP_OK;
    rp_tok_symbol *symbols = work->symbols;
    const int32_t left = (int32_t)(candidate.order & UINT32_MAX);
    const int32_t right = symbols[left].id < 0 ? -1 : symbols[left].next;
    const rp_tok_pair_slot *merge = NULL;

    if (right < 0) {
        return RP_OK;
    }
    merge = rp_tok_pair_find(&work->tokenizer->bpe.ranks, symbols[left].id, symbols[right].id);
    if (merge == NULL || merge->id != candidate.id) {
        return RP_OK;
    }
    symbols[left].id = merge->id;
    symbols[left].next = symbols[right].next;
    symbols[right].id = -1;
    if (symbols[left].next >= 0) {
        symbols[symbols[left].next].prev = left;
    }
    RP_TRY(push_pair(work, symbols[left].prev));
    RP_TRY(push_pair(work, left));
out:
    return st;
}

/* Merges the symbols of the unit and emits what is left. */
static rp_status finish_unit(rp_tok_work *work)
{
    rp_status st = RP_OK;
    const size_t n = work->n_symbols;

    if (n > 1) {
        work->symbols[n - 1].next = -1;
        for (size_t i = 0; i + 1 < n; i++) {
            RP_TRY(push_pair(work, (int32_t)i));
        }
        while (work->n_heap > 0) {
            RP_TRY(merge_pair(work, heap_pop(work)));
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (work->symbols[i].id >= 0) {
            RP_TRY(rp_tok_emit(work, work->symbols[i].id));
        }
    }
    work->n_symbols = 0;
out:
    return st;
}

static rp_status push_symbol(rp_tok_work *work, int32_t id)
{
    rp_status st = RP_OK;
    const rp_tok_bpe *bpe = &work->tokenizer->bpe;
    const size_t n = work->n_symbols;

    if (n > 0 && bpe->knows_joinable &&
        rp_tok_pair_find(&bpe->joinable, work->symbols[n - 1].id, id) == NULL) {
        RP_TRY(finish_unit(work));
    }
    if (work->n_symbols >= INT32_MAX - 1) {
        st = RP_FAIL(RP_ERR_FORMAT, "a word of more than %d characters", INT32_MAX - 1);
        goto out;
    }
    RP_TRY(rp_grow(&work->symbols, &work->symbols_capacity, work->n_symbols + 1,
                   sizeof(*work->symbols)));
    work->symbols[work->n_symbols] = (rp_tok_symbol){
        .id = id, .prev = (int32_t)work->n_symbols - 1, .next = (int32_t)work->n_symbols + 1};
    work->n_symbols++;
out:
    return st;
}

static bool has_byte_tokens(const rp_tok_bpe *bpe, const char *bytes, size_t nbytes)
{
    bool has_all = bpe->has_byte_fallback;

    for (size_t i = 0; i < nbytes; i++) {
        has_all = has_all && bpe->byte_ids[(unsigned char)bytes[i]] >= 0;
    }
    return has_all;
}

/* A character that is no token: its bytes, or the unknown token. The reference holds an unknown
 * token back until the next known character or the end, past byte tokens. */
static rp_status push_unknown(rp_tok_work *work, const char *bytes, size_t nbytes,
                              bool *has_unknown)
{
    rp_status st = RP_OK;
    const rp_tok_bpe *bpe = &work->tokenizer->bpe;

    if (has_byte_tokens(bpe, bytes, nbytes)) {
        for (size_t i = 0; i < nbytes; i++) {
            RP_TRY(push_symbol(work, bpe->byte_ids[(unsigned char)bytes[i]]));
        }
    } else if (bpe->unk_id >= 0) {
        if (*has_unknown && !bpe->fuses_unk) {
            RP_TRY(push_symbol(work, bpe->unk_id));
        }
        *has_unknown = true;
    }
out:
    return st;
}

rp_status rp_tok_bpe_encode(rp_tok_work *work, const char *text, size_t nbytes)
{
    rp_status st = RP_OK;
    const rp_tok_vocab *vocab = &work->tokenizer->vocab;
    const rp_tok_bpe *bpe = &work->tokenizer->bpe;
    const int32_t whole = bpe->ignores_merges ? rp_tok_vocab_find(vocab, text, nbytes) : -1;
    bool has_unknown = false;

    if (whole >= 0) {
        return rp_tok_emit(work, whole);
    }
    for (size_t at = 0; at < nbytes;) {
        uint32_t code_point = 0;
        const size_t length = rp_tok_char_get(&code_point, text + at, nbytes - at);
        const int32_t id = rp_tok_vocab_find_char(vocab, code_point);
        if (id < 0) {
            RP_TRY(push_unknown(work, text + at, length, &has_unknown));
        } else {
            if (has_unknown) {
                RP_TRY(push_symbol(work, bpe->unk_id));
                has_unknown = false;
            }
            RP_TRY(push_symbol(work, id));
        }
        at += length;
    }
    if (has_unknown) {
        RP_TRY(push_symbol(work, bpe->unk_id));
    }
    RP_TRY(finish_unit(work));
out:
    return st;
}

/* Vocabulary and merges: hash tables with open addressing, filled once and then only read.
 *
 * `joinable` holds what makes a long text cheap. BPE can join two neighbouring symbols of the text
 * only if some merge has, at the place where its halves meet, the same two symbols. Where the text
 * has a pair that no merge has (in llama-style vocabularies: almost any character before the "▁"
 * of the next word) the merges on the left and on the right cannot touch each other, so each side
 * is done by itself: the result is the same and the heap stays as small as a word.
 */
#include "model/tokenizer_parts.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Half full at most. */
static rp_status table_size(size_t *n_slots, size_t n_entries)
{
    rp_status st = RP_OK;
    size_t want = 16;

    while (want / 2 < n_entries) {
        RP_TRY(rp_mul_size(&want, want, 2));
    }
    *n_slots = want;
out:
    return st;
}

/* ---- vocabulary ---- */

rp_status rp_tok_vocab_init(rp_tok_vocab *vocab, int64_t size, size_t n_tokens)
{
    rp_status st = RP_OK;
    size_t n_slots = 0;

    RP_TRY(table_size(&n_slots, n_tokens));
    RP_TRY(rp_calloc(&vocab->tokens, (size_t)size, sizeof(*vocab->tokens)));
    RP_TRY(rp_calloc(&vocab->lengths, (size_t)size, sizeof(*vocab->lengths)));
    RP_TRY(rp_alloc_array(&vocab->slots, n_slots, sizeof(*vocab->slots)));
    RP_TRY(rp_alloc_array(&vocab->char_ids, RP_TOK_CHAR_IDS, sizeof(*vocab->char_ids)));
    memset(vocab->slots, 0xff, n_slots * sizeof(*vocab->slots));
    memset(vocab->char_ids, 0xff, RP_TOK_CHAR_IDS * sizeof(*vocab->char_ids));
    vocab->size = size;
    vocab->mask = n_slots - 1;
out:
    return st;
}

/* Slot that holds the content, or the empty one where it belongs. */
static size_t vocab_slot(const rp_tok_vocab *vocab, const char *content, size_t nbytes)
{
    size_t at = (size_t)XXH3_64bits(content, nbytes) & vocab->mask;

    while (vocab->slots[at] >= 0) {
        const int32_t id = vocab->slots[at];
        if (vocab->lengths[id] == nbytes && memcmp(vocab->tokens[id], content, nbytes) == 0) {
            break;
        }
        at = (at + 1) & vocab->mask;
    }
    return at;
}

rp_status rp_tok_vocab_add(rp_tok_vocab *vocab, const char *content, int32_t id)
{
    rp_status st = RP_OK;
    const size_t nbytes = strlen(content);
    const size_t slot = vocab_slot(vocab, content, nbytes);
    uint32_t code_point = RP_TOK_NO_CHAR;

    if (vocab->tokens[id] != NULL) {
        st = RP_FAIL(RP_ERR_FORMAT, "id %d is given to \"%s\" and to \"%s\"", id, vocab->tokens[id],
                     content);
        goto out;
    }
    RP_TRY(rp_strdup(&vocab->tokens[id], content));
    vocab->lengths[id] = (uint32_t)nbytes;
    vocab->slots[slot] = id;
    vocab->max_token_bytes = RP_MAX(vocab->max_token_bytes, nbytes);
    if (nbytes > 0 && rp_tok_char_get(&code_point, content, nbytes) == nbytes &&
        code_point < RP_TOK_CHAR_IDS) {
        vocab->char_ids[code_point] = id;
    }
out:
    return st;
}

int32_t rp_tok_vocab_find(const rp_tok_vocab *vocab, const char *content, size_t nbytes)
{
    return nbytes > vocab->max_token_bytes ? -1 : vocab->slots[vocab_slot(vocab, content, nbytes)];
}

int32_t rp_tok_vocab_find_char(const rp_tok_vocab *vocab, uint32_t code_point)
{
    char bytes[4];

    if (code_point < RP_TOK_CHAR_IDS) {
        return vocab->char_ids[code_point];
    }
    return rp_tok_vocab_find(vocab, bytes, rp_tok_char_put(bytes, code_point));
}

void rp_tok_vocab_clear(rp_tok_vocab *vocab)
{
    for (int64_t id = 0; vocab->tokens != NULL && id < vocab->size; id++) {
        free(vocab->tokens[id]);
    }
    free(vocab->tokens);
    free(vocab->lengths);
    free(vocab->slots);
    free(vocab->char_ids);
    *vocab = (rp_tok_vocab){0};
}

/* ---- pairs ---- */

static uint64_t pair_key(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static size_t pair_slot(const rp_tok_pair_map *map, uint64_t key)
{
    /* Fibonacci hashing: the high bits of the product are well mixed. */
    size_t at = (size_t)((key ^ key >> 29) * 0x9e3779b97f4a7c15u >> 20) & map->mask;

    while (map->slots[at].key != key && map->slots[at].key != RP_TOK_NO_PAIR) {
        at = (at + 1) & map->mask;
    }
    return at;
}

static rp_status pair_map_init(rp_tok_pair_map *map, size_t n_entries)
{
    rp_status st = RP_OK;
    size_t n_slots = 0;

    RP_TRY(table_size(&n_slots, n_entries));
    RP_TRY(rp_alloc_array(&map->slots, n_slots, sizeof(*map->slots)));
    memset(map->slots, 0xff, n_slots * sizeof(*map->slots));
    map->mask = n_slots - 1;
out:
    return st;
}

static void pair_map_set(rp_tok_pair_map *map, int32_t left, int32_t right, int32_t rank,
                         int32_t id)
{
    const uint64_t key = pair_key(left, right);

    map->slots[pair_slot(map, key)] = (rp_tok_pair_slot){.key = key, .rank = rank, .id = id};
}

const rp_tok_pair_slot *rp_tok_pair_find(const rp_tok_pair_map *map, int32_t left, int32_t right)
{
    const rp_tok_pair_slot *slot = &map->slots[pair_slot(map, pair_key(left, right))];

    return slot->key == RP_TOK_NO_PAIR ? NULL : slot;
}

/* ---- merges ---- */

static void find_byte_ids(rp_tok_bpe *bpe, const rp_tok_vocab *vocab)
{
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        const int length = snprintf(name, sizeof(name), "<0x%02X>", byte);
        bpe->byte_ids[byte] = rp_tok_vocab_find(vocab, name, (size_t)length);
    }
}

/* Symbols that are not the characters of their content: unknown and byte tokens. */
static bool is_opaque(const rp_tok_bpe *bpe, const rp_tok_vocab *vocab, int32_t id)
{
    const char *content = vocab->tokens[id];

    return id == bpe->unk_id || (bpe->has_byte_fallback && vocab->lengths[id] == 6 &&
                                 strncmp(content, "<0x", 3) == 0 && content[5] == '>');
}

static int32_t edge_symbol(const rp_tok_vocab *vocab, int32_t id, bool last)
{
    const char *content = vocab->tokens[id];
    const size_t nbytes = vocab->lengths[id];
    const size_t at = last ? rp_tok_char_before(content, nbytes) : 0;
    uint32_t code_point = 0;

    (void)rp_tok_char_get(&code_point, content + at, nbytes - at);
    return code_point == RP_TOK_NO_CHAR ? -1 : rp_tok_vocab_find_char(vocab, code_point);
}

/* knows_joinable stays false when a merge has a part whose symbols do not follow from its
 * content; then nothing is cut. */
static void find_joinable(rp_tok_bpe *bpe, const rp_tok_vocab *vocab)
{
    for (int64_t i = 0; i < bpe->n_merges; i++) {
        const rp_tok_merge *merge = &bpe->merges[i];
        if (is_opaque(bpe, vocab, merge->left) || is_opaque(bpe, vocab, merge->right) ||
            vocab->lengths[merge->left] == 0 || vocab->lengths[merge->right] == 0) {
            return;
        }
        pair_map_set(&bpe->joinable, edge_symbol(vocab, merge->left, true),
                     edge_symbol(vocab, merge->right, false), 0, 0);
    }
    bpe->knows_joinable = true;
}

rp_status rp_tok_bpe_prepare(rp_tok_bpe *bpe, const rp_tok_vocab *vocab)
{
    rp_status st = RP_OK;

    RP_TRY(pair_map_init(&bpe->ranks, (size_t)bpe->n_merges));
    RP_TRY(pair_map_init(&bpe->joinable, (size_t)bpe->n_merges));
    for (int64_t i = 0; i < bpe->n_merges; i++) {
        const rp_tok_merge *merge = &bpe->merges[i];
        pair_map_set(&bpe->ranks, merge->left, merge->right, (int32_t)i, merge->id);
    }
    find_byte_ids(bpe, vocab);
    find_joinable(bpe, vocab);
out:
    return st;
}

void rp_tok_bpe_clear(rp_tok_bpe *bpe)
{
    free(bpe->merges);
    free(bpe->ranks.slots);
    free(bpe->joinable.slots);
    *bpe = (rp_tok_bpe){0};
}

/* What the tokenizer_*.c files share; nothing outside them includes it.
 *
 * A text goes through the stages depth first: each stage hands every piece it makes to the next
 * one at once, so no stage keeps a list of pieces and the memory needed beside the ids is that of
 * the longest piece:
 *
 *   text -> added tokens (raw) -> normalizer -> added tokens (normalized) -> pre-tokenizers -> BPE
 */
#ifndef RP_MODEL_TOKENIZER_PARTS_H
#define RP_MODEL_TOKENIZER_PARTS_H

#include "model/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- growing byte string; `text` has no NUL ---- */
typedef struct rp_tok_buf {
    char *text;
    size_t nbytes;
    size_t capacity;
} rp_tok_buf;
RP_CHECKED rp_status rp_tok_buf_append(rp_tok_buf *buf, const char *text, size_t nbytes);
RP_CHECKED rp_status rp_tok_buf_append_char(rp_tok_buf *buf, uint32_t code_point);

/* ---- characters (tokenizer_chars.c) ---- */
/* Local. Bytes of the character that `text` begins with, RP_TOK_NO_CHAR in *code_point and the
 * length of the broken sequence (>= 1) when it is not UTF-8. nbytes >= 1. */
#define RP_TOK_NO_CHAR UINT32_MAX
size_t rp_tok_char_get(uint32_t *code_point, const char *text, size_t nbytes);
/* Local. Writes 1 to 4 bytes, returns how many. */
size_t rp_tok_char_put(char out[4], uint32_t code_point);
/* Local. Start of the character that ends at `end` (> 0) in valid UTF-8. */
size_t rp_tok_char_before(const char *text, size_t end);
/* Local. Offset of the first byte that is not UTF-8, nbytes if there is none. */
size_t rp_tok_find_bad_utf8(const char *text, size_t nbytes);
typedef bool (*rp_tok_char_class)(uint32_t code_point);
bool rp_tok_is_space(uint32_t code_point);       /* White_Space */
bool rp_tok_is_word(uint32_t code_point);        /* \w of Unicode's regular expressions (UTS 18) */
bool rp_tok_is_numeric(uint32_t code_point);     /* Nd, Nl, No */
bool rp_tok_is_punctuation(uint32_t code_point); /* as the reference: P of Unicode 8, ASCII signs */
bool rp_tok_is_mark(uint32_t code_point);        /* Mn, Mc, Me of Unicode 9 */
/* Local. Characters that the reference's normal forms leave alone and never move or join. */
bool rp_tok_is_after_unicode_9(uint32_t code_point);
/* Local. Byte <-> character of byte-level vocabularies; -1 for a character that stands for none. */
uint32_t rp_tok_byte_to_char(unsigned char byte);
int rp_tok_char_to_byte(uint32_t code_point);

/* ---- patterns (tokenizer_pattern.c): a literal, a regular expression or a class of characters */
typedef struct rp_tok_pattern rp_tok_pattern;
/* Local. The regular expression as given, NULL for the other two. Borrowed. */
const char *rp_tok_pattern_source(const rp_tok_pattern *pattern);
rp_tok_char_class rp_tok_pattern_char_class(const rp_tok_pattern *pattern);
RP_CHECKED rp_status rp_tok_pattern_literal(rp_tok_pattern **out, const char *text);
RP_CHECKED rp_status rp_tok_pattern_regex(rp_tok_pattern **out, const char *regex);
RP_CHECKED rp_status rp_tok_pattern_class(rp_tok_pattern **out, rp_tok_char_class char_class);
void rp_tok_pattern_destroy(rp_tok_pattern **pattern);
/* Local. Room for the result of one search; the same for all patterns. */
RP_CHECKED rp_status rp_tok_match_data_create(void **out);
void rp_tok_match_data_destroy(void **match_data);
/* Walks over a text as parts that are matches or lie between matches. The caller sets the first
 * three fields, the rest is 0. */
typedef struct rp_tok_scan {
    const char *text;
    size_t nbytes;
    void *match_data;
    size_t done;             /* parts were given up to here */
    size_t from;             /* next search */
    size_t match, match_end; /* the match not yet given, when has_match */
    bool has_match, is_exhausted;
    bool has_last; /* `from` is where the last match ended */
} rp_tok_scan;
typedef struct rp_tok_part {
    size_t start, end;
    bool is_match;
} rp_tok_part;
/* Local. *is_part is false at the end; a part is empty only as an empty match. */
RP_CHECKED rp_status rp_tok_scan_next(rp_tok_scan *scan, const rp_tok_pattern *pattern,
                                      rp_tok_part *part, bool *is_part);

/* ---- operations of the three configurable stages (tokenizer_ops.c) ----
 * A stage of the file becomes a flat list of these; one entry of the file may make several. */
typedef enum rp_tok_op_kind {
    /* text -> text: normalizers and pre-tokenizers (tokenizer_normalize.c) */
    RP_TOK_NFC,
    RP_TOK_NFD,
    RP_TOK_NFKC,
    RP_TOK_NFKD,
    RP_TOK_LOWERCASE,
    RP_TOK_STRIP_MARKS,
    RP_TOK_STRIP_SPACE,  /* strips_left, strips_right */
    RP_TOK_REPLACE,      /* `pattern` by `text`; decoder: drops_first, nothing in the first token */
    RP_TOK_PREPEND,      /* `text` */
    RP_TOK_PREPEND_ONCE, /* `text`, unless the piece begins with it; at_start_only */
    RP_TOK_BYTE_LEVEL,   /* bytes to characters; as a decoder the other way */
    /* text -> pieces: pre-tokenizers (tokenizer_pretok.c) */
    RP_TOK_SPLIT, /* at `pattern`; behavior, is_inverted */
    /* tokens -> tokens: decoders (tokenizer_decode.c) */
    RP_TOK_BYTE_FALLBACK,
    RP_TOK_FUSE,
    RP_TOK_STRIP_TEXT, /* at most `start` and `stop` copies of `text` at the ends of each token */
} rp_tok_op_kind;
typedef enum rp_tok_behavior {
    RP_TOK_REMOVED,
    RP_TOK_ISOLATED,
    RP_TOK_MERGED_WITH_PREVIOUS,
    RP_TOK_MERGED_WITH_NEXT,
    RP_TOK_CONTIGUOUS
} rp_tok_behavior;
typedef struct rp_tok_op {
    rp_tok_op_kind kind;
    rp_tok_pattern *pattern;
    char *text;
    rp_tok_behavior behavior;
    bool is_inverted, at_start_only, strips_left, strips_right, drops_first;
    int64_t start, stop;
} rp_tok_op;
typedef struct rp_tok_ops {
    rp_tok_op *items;
    size_t n, capacity;
} rp_tok_ops;
typedef enum rp_tok_stage { RP_TOK_NORMALIZER, RP_TOK_PRE_TOKENIZER, RP_TOK_DECODER } rp_tok_stage;
/* Local. Appends what `config` (an object with "type", or null) says. */
RP_CHECKED rp_status rp_tok_ops_load(rp_tok_ops *ops, rp_tok_stage stage, const json_t *config);
void rp_tok_ops_clear(rp_tok_ops *ops);
extern const char rp_tok_gpt2_regex[];

/* ---- reading JSON (tokenizer_load.c) ---- */
/* Local. Fails on a key of object that `keys` ("type|pattern|...") does not name. */
RP_CHECKED rp_status rp_tok_json_check_keys(const json_t *object, const char *keys);
/* Local. A flag; `fallback` when absent or null: 0, 1, or RP_TOK_REQUIRED. */
#define RP_TOK_REQUIRED (-1)
RP_CHECKED rp_status rp_tok_json_flag(bool *out, const json_t *object, const char *key,
                                      int fallback);
/* Local. A string, borrowed. */
RP_CHECKED rp_status rp_tok_json_text(const char **out, const json_t *object, const char *key);
RP_CHECKED rp_status rp_tok_json_count(int64_t *out, const json_t *object, const char *key,
                                       int64_t max);
/* Local. Fills a zeroed tokenizer from tokenizer.json. */
RP_CHECKED rp_status rp_tok_load(rp_tokenizer *tokenizer, const json_t *root);

/* ---- vocabulary and merges (tokenizer_vocab.c) ---- */
/* Map from a pair of 32-bit numbers to a pair of 32-bit numbers; open addressing. */
typedef struct rp_tok_pair_slot {
    uint64_t key; /* left << 32 | right; RP_TOK_NO_PAIR when empty */
    int32_t rank, id;
} rp_tok_pair_slot;
#define RP_TOK_NO_PAIR UINT64_MAX
typedef struct rp_tok_pair_map {
    rp_tok_pair_slot *slots;
    size_t mask; /* number of slots - 1 */
} rp_tok_pair_map;
typedef struct rp_tok_merge {
    int32_t left, right, id;
} rp_tok_merge;
typedef struct rp_tok_vocab {
    char **tokens;     /* [size] content by id, NULL where no token has the id */
    uint32_t *lengths; /* [size] bytes */
    int64_t size;
    int32_t *slots; /* id by hash of content, -1 when empty */
    size_t mask;
    size_t max_token_bytes;
    int32_t *char_ids; /* [RP_TOK_CHAR_IDS] id of the token that is this one character, or -1 */
} rp_tok_vocab;
#define RP_TOK_CHAR_IDS 65536
#define RP_TOK_MAX_ID ((1 << 24) - 1)
typedef struct rp_tok_bpe {
    rp_tok_merge *merges; /* [n_merges] by rank */
    int64_t n_merges;
    rp_tok_pair_map ranks;    /* (left, right) -> (rank, id) */
    rp_tok_pair_map joinable; /* (last symbol, first symbol) pairs inside the result of a merge */
    bool knows_joinable;
    int32_t unk_id; /* -1: none */
    int32_t byte_ids[256];
    bool fuses_unk, has_byte_fallback, ignores_merges;
} rp_tok_bpe;
RP_CHECKED rp_status rp_tok_vocab_init(rp_tok_vocab *vocab, int64_t size, size_t n_tokens);
/* Local. Copies content. The id must be below size and free. */
RP_CHECKED rp_status rp_tok_vocab_add(rp_tok_vocab *vocab, const char *content, int32_t id);
int32_t rp_tok_vocab_find(const rp_tok_vocab *vocab, const char *content, size_t nbytes);
/* Local. Id of a one-character token, or -1. */
int32_t rp_tok_vocab_find_char(const rp_tok_vocab *vocab, uint32_t code_point);
void rp_tok_vocab_clear(rp_tok_vocab *vocab);
/* Local. From merges and the flags, which are set: the two maps and byte_ids. */
RP_CHECKED rp_status rp_tok_bpe_prepare(rp_tok_bpe *bpe, const rp_tok_vocab *vocab);
void rp_tok_bpe_clear(rp_tok_bpe *bpe);
/* Local. NULL when absent. */
const rp_tok_pair_slot *rp_tok_pair_find(const rp_tok_pair_map *map, int32_t left, int32_t right);

/* ---- added tokens (tokenizer_added.c) ---- */
typedef struct rp_tok_added {
    char *content;
    char *pattern; /* what is looked for: content, normalized for the second phase */
    size_t pattern_bytes;
    int32_t id;
    bool is_single_word, strips_left, strips_right, is_normalized, is_special;
    bool is_skipped; /* by decode with skip_special */
} rp_tok_added;
typedef struct rp_tok_matcher {
    const rp_tok_added **tokens; /* by first byte, longest first */
    size_t n;
    size_t first[257]; /* tokens that begin with byte b: [first[b], first[b + 1]) */
} rp_tok_matcher;
/* Local. Over the tokens whose is_normalized is `normalized`; borrows them. */
RP_CHECKED rp_status rp_tok_matcher_init(rp_tok_matcher *matcher, const rp_tok_added *tokens,
                                         size_t n, bool normalized);
void rp_tok_matcher_clear(rp_tok_matcher *matcher);

struct rp_tokenizer {
    char *origin;
    rp_tok_vocab vocab;
    rp_tok_bpe bpe;
    rp_tok_added *added; /* [n_added] by id */
    size_t n_added;
    rp_tok_matcher raw, normalized;
    rp_tok_ops normalizers, pre_tokenizers, decoders;
    bool has_decoder;
    int32_t *around; /* [n_around] ids of the post-processor: n_before of them, text, the rest */
    size_t n_before, n_around;
};
/* Local. Added token of an id, or NULL. */
const rp_tok_added *rp_tok_added_find(const rp_tokenizer *tokenizer, int32_t id);

/* ---- one call of encode ---- */
typedef struct rp_tok_symbol {
    int32_t id; /* -1: was merged into the one before it */
    int32_t prev, next;
} rp_tok_symbol;
typedef struct rp_tok_candidate {
    uint64_t order; /* rank << 32 | position of the left symbol: the least is merged first */
    int32_t id;
} rp_tok_candidate;
typedef struct rp_tok_work {
    const rp_tokenizer *tokenizer;
    int32_t *ids;
    size_t n_ids, ids_capacity;
    void *match_data;
    rp_tok_buf normal[2]; /* normalizer's text, before and after an operation */
    rp_tok_buf *step;     /* [pre_tokenizers.n] text that a pre-tokenizer changed */
    int32_t *scratch;     /* code points of a run that NFC and its like work on */
    size_t scratch_capacity;
    rp_tok_symbol *symbols; /* of the unit that BPE works on */
    size_t n_symbols, symbols_capacity;
    rp_tok_candidate *heap;
    size_t n_heap, heap_capacity;
} rp_tok_work;
RP_CHECKED rp_status rp_tok_emit(rp_tok_work *work, int32_t id);
/* Local. Calls on_gap for text between added tokens and emits the ids of the tokens. is_start: text
 * is at the start of the input. */
typedef rp_status (*rp_tok_gap_fn)(rp_tok_work *work, const char *text, size_t nbytes,
                                   bool is_start);
RP_CHECKED rp_status rp_tok_match_added(rp_tok_work *work, const rp_tok_matcher *matcher,
                                        const char *text, size_t nbytes, bool is_start,
                                        rp_tok_gap_fn on_gap);
RP_CHECKED rp_status rp_tok_work_init(rp_tok_work *work, const rp_tokenizer *tokenizer);
void rp_tok_work_clear(rp_tok_work *work);
/* Local. One text -> text operation; `out` is overwritten. */
RP_CHECKED rp_status rp_tok_apply(rp_tok_work *work, const rp_tok_op *op, const char *text,
                                  size_t nbytes, bool is_start, rp_tok_buf *out);
/* Local. All normalizers. *out: borrowed, in work or the text itself; valid until the next call. */
RP_CHECKED rp_status rp_tok_normalize(rp_tok_work *work, const char *text, size_t nbytes,
                                      const char **out, size_t *out_bytes);
/* Local. Pre-tokenizers from `step` on, then BPE. */
RP_CHECKED rp_status rp_tok_pretokenize(rp_tok_work *work, size_t step, const char *text,
                                        size_t nbytes, bool is_start);
/* Local. Ids of one pre-token. */
RP_CHECKED rp_status rp_tok_bpe_encode(rp_tok_work *work, const char *text, size_t nbytes);

/* ---- llama.cpp's names of pre-tokenizers (tokenizer_gguf.c) ---- */
/* Local. The pre_tokenizer of tokenizer.json that such a name stands for (new reference) and the
 * model's ignore_merges; NULL when the name is not known. */
json_t *rp_tok_gguf_pre_json(const char *pre, bool *ignores_merges);

#ifdef __cplusplus
}
#endif
#endif

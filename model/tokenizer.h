/* Text to token ids, as the `tokenizers` package does it from the same file. */
#ifndef RP_MODEL_TOKENIZER_H
#define RP_MODEL_TOKENIZER_H

#include <jansson.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_tokenizer rp_tokenizer; /* immutable; encode may be called from several threads */

/* Local. dir: folder with tokenizer.json, or with vocab.json and merges.txt. RP_ERR_FORMAT names
 * what is missing or not supported in the file. */
RP_CHECKED rp_status rp_tokenizer_open(rp_tokenizer **out, const char *dir);
/* Local. From a parsed tokenizer.json (borrowed); `origin` names it in messages. */
RP_CHECKED rp_status rp_tokenizer_from_json(rp_tokenizer **out, const json_t *root,
                                            const char *origin);
void rp_tokenizer_destroy(rp_tokenizer **tokenizer);
/* Local. text: UTF-8, any bytes count as given (invalid UTF-8 is RP_ERR_FORMAT with the byte
 * offset). *ids: caller frees. add_special: apply the post-processor (BOS ...). */
RP_CHECKED rp_status rp_tokenizer_encode(const rp_tokenizer *tokenizer, const char *text,
                                         size_t nbytes, bool add_special, int32_t **ids,
                                         int64_t *n_ids);
/* Local. Number of ids: largest id + 1, added tokens included. */
int64_t rp_tokenizer_size(const rp_tokenizer *tokenizer);
/* Local. Content of an id as the file has it ("▁the", "Ġthe"), or NULL. Borrowed. */
const char *rp_tokenizer_token(const rp_tokenizer *tokenizer, int32_t id);
/* Local. Id of a content, or -1. */
int32_t rp_tokenizer_find(const rp_tokenizer *tokenizer, const char *content);
/* Local. Text of ids, as the decoder of the file says; *text is NUL-terminated, caller frees. */
RP_CHECKED rp_status rp_tokenizer_decode(const rp_tokenizer *tokenizer, const int32_t *ids,
                                         int64_t n_ids, bool skip_special, char **text);
/* Local. Facts that a GGUF writer needs. */
typedef enum rp_tokenizer_kind {
    RP_TOKENIZER_BYTE_LEVEL = 0,
    RP_TOKENIZER_BYTE_FALLBACK
} rp_tokenizer_kind;
rp_tokenizer_kind rp_tokenizer_kind_of(const rp_tokenizer *tokenizer);
int64_t rp_tokenizer_n_merges(const rp_tokenizer *tokenizer);
/* Local. Rank `index`'s pieces, borrowed. */
void rp_tokenizer_merge(const rp_tokenizer *tokenizer, int64_t index, const char **left,
                        const char **right);
/* Local. Is id an added token; special when *is_special. */
bool rp_tokenizer_is_added(const rp_tokenizer *tokenizer, int32_t id, bool *is_special);
/* Local. "gpt-2", "llama-bpe", "qwen2", "smollm" ...: llama.cpp's name of the pre-tokenizer, NULL
 * when none fits. */
const char *rp_tokenizer_gguf_pre(const rp_tokenizer *tokenizer);

#ifdef __cplusplus
}
#endif
#endif

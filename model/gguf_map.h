/* A model in GGUF's terms and back: keys of the model and of its tokenizer, tensor names, the order
 * of Q and K rows, the tensor of rope frequencies. Meaning of the keys: llama.cpp's loader. */
#ifndef RP_MODEL_GGUF_MAP_H
#define RP_MODEL_GGUF_MAP_H

#include "formats/gguf.h"
#include "model/config.h"
#include "model/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_GGUF_ROPE_FREQS "rope_freqs.weight"

/* ---- Tensor names ---- */

/* Local. GGUF's name of a Hugging Face tensor, and the other way; false when it has none. */
bool rp_gguf_name_from_hf(char out[RP_GGUF_NAME_BYTES], const char *hf_name);
bool rp_gguf_name_to_hf(char *out, size_t out_bytes, const char *gguf_name);

/* ---- Row order ---- */

/* GGUF stores the rows of Q and K of some families for rotation of neighbouring pairs: of each
 * head, row 2 i + s of the file is row s * (head_rows / 2) + i. */
typedef struct rp_gguf_row_order {
    int64_t head_rows; /* 0: the order is Hugging Face's */
} rp_gguf_row_order;
rp_gguf_row_order rp_gguf_row_order_of(const rp_model_config *config, const char *hf_name);
/* Local. The Hugging Face row at a row of the GGUF tensor, and the inverse. */
int64_t rp_gguf_row_to_hf(rp_gguf_row_order order, int64_t gguf_row);
int64_t rp_gguf_row_from_hf(rp_gguf_row_order order, int64_t hf_row);

/* ---- Keys of the model ---- */

/* Local. Values of the tensor RP_GGUF_ROPE_FREQS (divisors of the frequencies) into out
 * [RP_ROPE_MAX_FACTORS]; their number, 0 when the model needs no such tensor. */
int64_t rp_gguf_rope_freqs(const rp_model_config *config, float *out);
/* Local. general.* and <arch>.* keys; file_type is llama.cpp's number. RP_ERR_CONFIG when GGUF
 * cannot say what config says. */
RP_CHECKED rp_status rp_gguf_put_model(rp_gguf_writer *writer, const rp_model_config *config,
                                       const char *name, int32_t file_type);
/* Local. The config of a GGUF file: keys, and what the presence of tensors tells (tied embeddings,
 * biases). Explicit rope frequencies become RP_ROPE_LONGROPE with equal short and long factors.
 * RP_ERR_FORMAT naming the key. */
RP_CHECKED rp_status rp_gguf_read_config(rp_model_config *out, const rp_gguf *gguf);

/* ---- Keys of the tokenizer (gguf_tokenizer.c, gguf_tokenizer_read.c) ---- */

#define RP_GGUF_SPACE_MARK "\xe2\x96\x81" /* U+2581, a space in llama-style pieces */

/* llama.cpp's kinds of tokens, tokenizer.ggml.token_type. */
typedef enum rp_gguf_token_type {
    RP_GGUF_TOKEN_NORMAL = 1,
    RP_GGUF_TOKEN_UNKNOWN,
    RP_GGUF_TOKEN_CONTROL,
    RP_GGUF_TOKEN_USER_DEFINED,
    RP_GGUF_TOKEN_UNUSED,
    RP_GGUF_TOKEN_BYTE
} rp_gguf_token_type;

/* Local. tokenizer_config.json of a folder, with chat templates of other files and config.json's
 * ids of special tokens folded in; an empty object when there is none (gguf_folder.c). New
 * reference. */
RP_CHECKED rp_status rp_gguf_load_tokenizer_config(json_t **out, const char *dir);
/* Local. tokenizer.* keys; the token list is padded to config's embedding rows. RP_ERR_CONFIG when
 * llama.cpp has no equal pre-tokenizer. */
RP_CHECKED rp_status rp_gguf_put_tokenizer(rp_gguf_writer *writer, const rp_model_config *config,
                                           const rp_tokenizer *tokenizer,
                                           const json_t *tokenizer_config);
/* Local. What tokenizer.json would say of the file's tokenizer (new reference), for
 * rp_tokenizer_from_json. RP_ERR_FORMAT when the file has none, or one that is not supported. */
RP_CHECKED rp_status rp_gguf_tokenizer_json(json_t **out, const rp_gguf *gguf);

/* ---- Hugging Face's other files (gguf_hf.c) ---- */

/* Local. What config.json, tokenizer_config.json and generation_config.json would say of the file.
 * New references. RP_ERR_FORMAT naming the key. */
RP_CHECKED rp_status rp_gguf_config_json(json_t **out, const rp_gguf *gguf);
RP_CHECKED rp_status rp_gguf_tokenizer_config_json(json_t **out, const rp_gguf *gguf);
RP_CHECKED rp_status rp_gguf_generation_config_json(json_t **out, const rp_gguf *gguf);

#ifdef __cplusplus
}
#endif
#endif

/* The tokenizer that belongs to a model, wherever the model keeps it. */
#ifndef RP_JOBS_TOKENIZER_OF_H
#define RP_JOBS_TOKENIZER_OF_H

#include "model/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. path: a folder with tokenizer files, or a GGUF file. Caller destroys. */
RP_CHECKED rp_status rp_tokenizer_of(rp_tokenizer **out, const char *path);
/* Local. Ids of a text file, no special tokens; RP_ERR_FORMAT when one is not below vocab_size.
 * Caller frees. */
RP_CHECKED rp_status rp_tokenize_file(int32_t **ids, int64_t *n_ids, const rp_tokenizer *tokenizer,
                                      const char *path, int64_t vocab_size);

#ifdef __cplusplus
}
#endif
#endif

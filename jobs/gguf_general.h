/* general.* keys of a GGUF made from a Hugging Face folder: what llama.cpp's converter takes from
 * the model card, generation_config.json and the folder's name. */
#ifndef RP_JOBS_GGUF_GENERAL_H
#define RP_JOBS_GGUF_GENERAL_H

#include <jansson.h>

#include "formats/gguf.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. general.name: the card's, or a title made of config.json's _name_or_path or of the
 * folder's name. Caller frees. */
RP_CHECKED rp_status rp_gguf_general_name(char **out, const char *dir, const json_t *config);
/* Local. The other general.* keys that the folder's files give; n_params makes the size label. */
RP_CHECKED rp_status rp_gguf_put_general(rp_gguf_writer *writer, const char *dir, int64_t n_params);

#ifdef __cplusplus
}
#endif
#endif

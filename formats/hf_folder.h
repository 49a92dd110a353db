/* The safetensors files of a Hugging Face folder as one set of tensors: model.safetensors, or the
 * shards that model.safetensors.index.json names. */
#ifndef RP_FORMATS_HF_FOLDER_H
#define RP_FORMATS_HF_FOLDER_H

#include "formats/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_hf_folder rp_hf_folder; /* immutable */

typedef struct rp_hf_tensor {
    const rp_safetensors *file;
    const rp_safetensors_entry *entry;
} rp_hf_tensor;

/* Local. Opens and checks every file. RP_ERR_FORMAT when there is none, when a shard's name is not
 * a plain file name, and when index and shards do not hold the same tensors, each once. */
RP_CHECKED rp_status rp_hf_folder_open(rp_hf_folder **out, const char *dir);
void rp_hf_folder_close(rp_hf_folder **folder);
/* Local. Number of tensors, and the i-th in name order; find gives NULL when absent. Borrowed. */
int64_t rp_hf_folder_count(const rp_hf_folder *folder);
const rp_hf_tensor *rp_hf_folder_at(const rp_hf_folder *folder, int64_t index);
const rp_hf_tensor *rp_hf_folder_find(const rp_hf_folder *folder, const char *name);
/* Local. Safetensors files: how many, and the bytes of all. */
int64_t rp_hf_folder_n_files(const rp_hf_folder *folder);
size_t rp_hf_folder_file_bytes(const rp_hf_folder *folder);

#ifdef __cplusplus
}
#endif
#endif

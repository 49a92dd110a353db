/* One view of any model file set: a Hugging Face folder (dense, GPTQ or compressed-tensors) or a
 * GGUF file, as named f32 matrices in Hugging Face names, shapes and row order. Reads with pread;
 * opens files once. */
#ifndef RP_MODEL_WEIGHTS_H
#define RP_MODEL_WEIGHTS_H

#include "kernels/dtype.h"
#include "model/config.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_weights rp_weights;

typedef struct rp_weight_info {
    const char *name; /* borrowed from the rp_weights: "model.layers.0.self_attn.q_proj.weight" */
    int ndim;
    int64_t shape[4]; /* [rows, cols] or [n] */
    rp_dtype dtype; /* how rows travel: the file's own type when dense float, else F32 (decoded) */
    bool is_dense;  /* stored as F32, F16 or BF16 */
    const char *stored_as;                  /* "BF16", "gptq int4", "Q4_0" */
    size_t stored_bytes;                    /* all parts in the file */
    const struct rp_gguf_block_type *block; /* of a tensor of a GGUF file, else NULL */
} rp_weight_info;

/* Local. path: a folder with config.json, or a .gguf file (any part of a split model). Validates
 * every file of the set and the tensors' shapes against config. RP_ERR_FORMAT with file and tensor
 * named. */
RP_CHECKED rp_status rp_weights_open(rp_weights **out, const char *path);
/* What a view changes of its base's matrices: rows row0 .. row0 + nrows - 1 of `values`, in place.
 */
typedef struct rp_weights_filter {
    rp_status (*fn)(void *ctx, const rp_weight_info *info, int64_t row0, int64_t nrows,
                    float *values);
    void *ctx;
} rp_weights_filter;
/* Local. The model of `base`, all in F32, as its matrices come out of the filter. Borrows base and
 * what the filter points to. Reads are as thread-safe as the filter. */
RP_CHECKED rp_status rp_weights_open_view(rp_weights **out, const rp_weights *base,
                                          const rp_weights_filter *filter);
void rp_weights_close(rp_weights **weights);
const rp_model_config *rp_weights_config(const rp_weights *weights);
/* Local. The parsed config.json, or what it would say of a GGUF file. Borrowed. */
const json_t *rp_weights_config_json(const rp_weights *weights);
/* Local. Path given to open. */
const char *rp_weights_path(const rp_weights *weights);
/* Local. Number of tensors and the i-th in name order; find gives NULL when absent. */
int64_t rp_weights_count(const rp_weights *weights);
const rp_weight_info *rp_weights_at(const rp_weights *weights, int64_t index);
const rp_weight_info *rp_weights_find(const rp_weights *weights, const char *name);
/* Local, thread-safe. Rows row0 .. row0 + nrows - 1 (of a vector: elements) as info->dtype into
 * dst. */
RP_CHECKED rp_status rp_weights_read_rows(const rp_weights *weights, const rp_weight_info *info,
                                          int64_t row0, int64_t nrows, void *dst);
/* Local, thread-safe. Rows of a GGUF file's tensor as they lie there: blocks of info->block, in the
 * file's own order of rows. */
RP_CHECKED rp_status rp_weights_read_stored(const rp_weights *weights, const rp_weight_info *info,
                                            int64_t row0, int64_t nrows, void *dst);
/* Local, thread-safe. Rows as f32 in Hugging Face's order; non-finite values are RP_ERR_FORMAT
 * naming file, tensor and index. */
RP_CHECKED rp_status rp_weights_read_f32(const rp_weights *weights, const rp_weight_info *info,
                                         int64_t row0, int64_t nrows, float *dst);
/* Local. Elements of all tensors. */
int64_t rp_weights_elems(const rp_weights *weights);
/* Local. Sum of the sizes of all files of the set, bytes. */
size_t rp_weights_file_bytes(const rp_weights *weights);
/* Local. Identity of the inputs for the job hash: XXH3-128 over names, shapes, types, sizes and
 * config. */
void rp_weights_fingerprint(const rp_weights *weights, uint64_t out[2]);

#ifdef __cplusplus
}
#endif
#endif

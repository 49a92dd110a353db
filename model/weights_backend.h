/* Private to model/: what each kind of model file does for weights.c.
 *
 * A back end opens its files, makes the config and lists tensors under Hugging Face names, shapes
 * and row order. weights.c sorts them, checks them against the config and answers look-ups; names
 * that Hugging Face files may hold but no model uses (rotary_emb.inv_freq, lm_head.weight when
 * tied) are dropped there. One row of the table in weights.c a back end. */
#ifndef RP_MODEL_WEIGHTS_BACKEND_H
#define RP_MODEL_WEIGHTS_BACKEND_H

#include "base/hash.h"
#include "model/weights.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_weights_backend {
    const char *name; /* "Hugging Face folder" */
    /* Local. Whether this back end opens such a path. */
    bool (*claims)(const char *path);
    /* Local. Opens and checks the files; fills *config. On failure *state is NULL. */
    rp_status (*open)(void **state, const char *path, rp_model_config *config);
    void (*close)(void *state); /* accepts NULL */
    /* Local. Tensors in any order; strings in *out are borrowed from state. */
    int64_t (*count)(const void *state);
    void (*info)(const void *state, int64_t index, rp_weight_info *out);
    /* Local. File that holds tensor `index`, for messages. */
    const char *(*file_of)(const void *state, int64_t index);
    /* Local, thread-safe. Rows (of a vector: elements) as info.dtype into dst. */
    rp_status (*read_rows)(const void *state, int64_t index, int64_t row0, int64_t nrows,
                           void *dst);
    /* Local, thread-safe. Rows as they lie in the file; NULL where info.block is NULL always. */
    rp_status (*read_stored)(const void *state, int64_t index, int64_t row0, int64_t nrows,
                             void *dst);
    /* Local. config.json, parsed or made; sum of the sizes of all files; hash of all that the
     * config was made from. */
    const json_t *(*config_json)(const void *state);
    size_t (*file_bytes)(const void *state);
    rp_hash (*hash_config)(const void *state);
} rp_weights_backend;

extern const rp_weights_backend rp_weights_backend_hf, rp_weights_backend_gguf;
/* Of views, which no path names. */
extern const rp_weights_backend rp_weights_backend_view;
RP_CHECKED rp_status rp_weights_view_create(void **state, const rp_weights *base,
                                            const rp_weights_filter *filter);

#ifdef __cplusplus
}
#endif
#endif

/* Where a layer's f32 weights come from: this process's own reads of a model, or a loader that
 * shares the reading among ranks. They lie in the place. */
#ifndef RP_MODEL_LAYER_SOURCE_H
#define RP_MODEL_LAYER_SOURCE_H

#include "kernels/place.h"
#include "model/executor.h"
#include "model/weights.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_layer_source {
    void *ctx;
    /* Weights of `layer`, valid until release. One layer at a time. */
    rp_status (*load)(void *ctx, int64_t layer, rp_layer_weights *out);
    void (*release)(void *ctx, int64_t layer);
} rp_layer_source;

typedef struct rp_layer_reader rp_layer_reader;
/* Local. Reads layers into one buffer. For a GPU it reads a layer whole on the host, by all
 * threads, before the first of it goes there: the GPU computes the layer before meanwhile. Borrows
 * all. */
RP_CHECKED rp_status rp_layer_reader_create(rp_layer_reader **out, const rp_weights *weights,
                                            const rp_kernel_ops *ops, const rp_exec *exec);
void rp_layer_reader_destroy(rp_layer_reader **reader);
/* Local. The reader as a source; borrows it. */
rp_layer_source rp_layer_reader_source(rp_layer_reader *reader);
/* Local. At most. */
rp_place_bytes rp_layer_reader_bytes(const rp_model_config *config, bool has_gpu);

#ifdef __cplusplus
}
#endif
#endif

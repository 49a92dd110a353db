/* The local layer source: every slot of a layer read as f32 into one buffer, one slot behind the
 * other in slot order. */
#include "model/layer_source.h"

#include <stdlib.h>

#include "base/mem.h"
#include "kernels/place.h"
#include "model/place_rows.h"

#define NAME_BYTES 128

struct rp_layer_reader {
    const rp_weights *weights;
    const rp_kernel_ops *ops;
    const rp_exec *exec;
    float *values; /* [place] [sum of the slots' elements] */
};

static size_t slot_elems(const rp_model_config *config, rp_slot slot)
{
    int64_t rows = 0;
    int64_t cols = 0;

    if (!rp_model_has_slot(config, slot)) {
        return 0;
    }
    rp_model_slot_shape(config, slot, &rows, &cols);
    return (size_t)(rows * RP_MAX(cols, 1));
}

size_t rp_layer_reader_bytes(const rp_model_config *config)
{
    size_t elems = 0;

    for (int slot = 0; slot < RP_SLOT_COUNT; slot++) {
        elems += slot_elems(config, (rp_slot)slot);
    }
    return elems * sizeof(float);
}

rp_status rp_layer_reader_create(rp_layer_reader **out, const rp_weights *weights,
                                 const rp_kernel_ops *ops, const rp_exec *exec)
{
    rp_status st = RP_OK;
    rp_layer_reader *made = NULL;

    *out = NULL;
    RP_TRY(rp_calloc(&made, 1, sizeof(*made)));
    made->weights = weights;
    made->ops = ops;
    made->exec = exec;
    RP_TRY(
        rp_place_alloc(exec, &made->values, rp_layer_reader_bytes(rp_weights_config(weights)), 1));
    *out = made;
    made = NULL;
out:
    rp_layer_reader_destroy(&made);
    return st;
}

void rp_layer_reader_destroy(rp_layer_reader **reader)
{
    if (*reader != NULL) {
        rp_place_free((*reader)->exec, (*reader)->values);
        free(*reader);
        *reader = NULL;
    }
}

static rp_status reader_load(void *ctx, int64_t layer, rp_layer_weights *out)
{
    const rp_layer_reader *reader = ctx;
    const rp_model_config *config = rp_weights_config(reader->weights);
    rp_status st = RP_OK;
    float *at = reader->values;

    *out = (rp_layer_weights){.slot = {NULL}};
    for (int i = 0; i < RP_SLOT_COUNT; i++) {
        const rp_slot slot = (rp_slot)i;
        char name[NAME_BYTES];
        if (!rp_model_has_slot(config, slot)) {
            continue;
        }
        rp_model_slot_name(name, sizeof(name), layer, slot);
        const rp_weight_info *info = rp_weights_find(reader->weights, name);
        if (info == NULL) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s is missing",
                         rp_weights_path(reader->weights), name);
            goto out;
        }
        RP_TRY(rp_place_rows_read(reader->weights, info, 0, info->shape[0], reader->ops,
                                  reader->exec, at));
        out->slot[slot] = at;
        at += slot_elems(config, slot);
    }
out:
    return st;
}

static void reader_release(void *ctx, int64_t layer)
{
    (void)ctx; /* the next load reuses the buffer */
    (void)layer;
}

rp_layer_source rp_layer_reader_source(rp_layer_reader *reader)
{
    return (rp_layer_source){.ctx = reader, .load = reader_load, .release = reader_release};
}

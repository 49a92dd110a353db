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
    char *stored;  /* a GPU's: the largest layer in the types that it is read in */
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

static size_t layer_elems(const rp_model_config *config)
{
    size_t elems = 0;

    for (int slot = 0; slot < RP_SLOT_COUNT; slot++) {
        elems += slot_elems(config, (rp_slot)slot);
    }
    return elems;
}

rp_place_bytes rp_layer_reader_bytes(const rp_model_config *config, bool has_gpu)
{
    const size_t nbytes = layer_elems(config) * sizeof(float);

    return (rp_place_bytes){.host = has_gpu ? nbytes : 0, .place = nbytes};
}

/* The tensor of a slot that the model has. */
static rp_status find_slot(const rp_weight_info **out, const rp_weights *weights, int64_t layer,
                           rp_slot slot)
{
    char name[NAME_BYTES];

    rp_model_slot_name(name, sizeof(name), layer, slot);
    *out = rp_weights_find(weights, name);
    return *out != NULL
               ? RP_OK
               : RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s is missing", rp_weights_path(weights), name);
}

static size_t stored_bytes(const rp_model_config *config, const rp_weight_info *info, rp_slot slot)
{
    return slot_elems(config, slot) * rp_dtype_bytes(info->dtype);
}

/* Of the largest layer; missing tensors are said when they are read. */
static size_t most_stored_bytes(const rp_weights *weights)
{
    const rp_model_config *config = rp_weights_config(weights);
    size_t most = 0;

    for (int64_t layer = 0; layer < config->n_layers; layer++) {
        size_t nbytes = 0;
        for (int slot = 0; slot < RP_SLOT_COUNT; slot++) {
            char name[NAME_BYTES];
            rp_model_slot_name(name, sizeof(name), layer, (rp_slot)slot);
            const rp_weight_info *info = rp_weights_find(weights, name);
            nbytes += info == NULL ? 0 : stored_bytes(config, info, (rp_slot)slot);
        }
        most = RP_MAX(most, nbytes);
    }
    return most;
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
    if (!rp_place_is_host(exec)) {
        RP_TRY(rp_alloc(&made->stored, most_stored_bytes(weights)));
    }
    RP_TRY(rp_place_alloc(exec, &made->values, layer_elems(rp_weights_config(weights)),
                          sizeof(float)));
    *out = made;
    made = NULL;
out:
    rp_layer_reader_destroy(&made);
    return st;
}

void rp_layer_reader_destroy(rp_layer_reader **reader)
{
    if (*reader != NULL) {
        free((*reader)->stored);
        rp_place_free((*reader)->exec, (*reader)->values);
        free(*reader);
        *reader = NULL;
    }
}

/* The layer on the host. */
static rp_status fetch_layer(const rp_layer_reader *reader, int64_t layer)
{
    const rp_model_config *config = rp_weights_config(reader->weights);
    rp_status st = RP_OK;
    char *at = reader->stored;

    for (int i = 0; i < RP_SLOT_COUNT; i++) {
        const rp_weight_info *info = NULL;
        if (rp_model_has_slot(config, (rp_slot)i)) {
            RP_TRY(find_slot(&info, reader->weights, layer, (rp_slot)i));
            RP_TRY(rp_place_rows_fetch(reader->weights, info, 0, info->shape[0], reader->exec, at));
            at += stored_bytes(config, info, (rp_slot)i);
        }
    }
out:
    return st;
}

/* One slot into its place, from `stored` where the layer was fetched. */
static rp_status load_slot(const rp_layer_reader *reader, const rp_weight_info *info,
                           const char *stored, float *out)
{
    return reader->stored == NULL ? rp_place_rows_read(reader->weights, info, 0, info->shape[0],
                                                       reader->ops, reader->exec, out)
                                  : rp_place_rows_widen(reader->weights, info, 0, info->shape[0],
                                                        reader->ops, reader->exec, stored, out);
}

static rp_status reader_load(void *ctx, int64_t layer, rp_layer_weights *out)
{
    const rp_layer_reader *reader = ctx;
    const rp_model_config *config = rp_weights_config(reader->weights);
    rp_status st = RP_OK;
    float *at = reader->values;
    const char *stored = reader->stored;

    *out = (rp_layer_weights){.slot = {NULL}};
    if (reader->stored != NULL) {
        RP_TRY(fetch_layer(reader, layer));
    }
    for (int i = 0; i < RP_SLOT_COUNT; i++) {
        const rp_slot slot = (rp_slot)i;
        const rp_weight_info *info = NULL;
        if (!rp_model_has_slot(config, slot)) {
            continue;
        }
        RP_TRY(find_slot(&info, reader->weights, layer, slot));
        RP_TRY(load_slot(reader, info, stored, at));
        out->slot[slot] = at;
        at += slot_elems(config, slot);
        stored += stored == NULL ? 0 : stored_bytes(config, info, slot);
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

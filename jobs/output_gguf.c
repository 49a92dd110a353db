/* Layout of a GGUF file: keys of the model and its tokenizer, tensors in llama-quantize's
 * order. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/gguf.h"
#include "jobs/output.h"

/* The tensor of rope frequencies is not of the source: its values stand in the layout. */
static rp_status set_extra(rp_store_file *file, const rp_gguf_tensor *tensor, const float *values)
{
    rp_status st = RP_OK;

    RP_TRY(rp_alloc(&file->extra, tensor->nbytes));
    memcpy(file->extra, values, tensor->nbytes);
    file->extra_offset = tensor->offset;
    file->extra_bytes = tensor->nbytes;
out:
    return st;
}

static rp_status take_header(rp_store_file *file, const rp_gguf_writer *writer, int part)
{
    rp_status st = RP_OK;
    const uint8_t *header = rp_gguf_writer_header(writer, part, &file->header_bytes);

    RP_TRY(rp_alloc(&file->header, file->header_bytes));
    memcpy(file->header, header, file->header_bytes);
    file->total_bytes = rp_gguf_writer_part_bytes(writer, part);
out:
    return st;
}

/* Without its .gguf. Caller frees. */
static rp_status prefix_of(char **out, const char *path)
{
    const size_t tail = rp_ends_with(path, ".gguf") ? strlen(".gguf") : 0;

    return rp_strprintf(out, "%.*s", (int)(strlen(path) - tail), path);
}

/* One file under the output's name, or parts of it; then the output's path is the first part's. */
static rp_status take_files(rp_store *store, const rp_gguf_writer *writer)
{
    rp_status st = RP_OK;
    const int n = rp_gguf_writer_part_count(writer);
    char *prefix = NULL;

    RP_TRY(prefix_of(&prefix, store->path));
    RP_TRY(rp_calloc(&store->files, (size_t)n, sizeof(*store->files)));
    store->n_files = n;
    for (int part = 0; part < n; part++) {
        rp_store_file *file = &store->files[part];
        RP_TRY(n == 1 ? rp_strdup(&file->path, store->path)
                      : rp_gguf_split_path(&file->path, prefix, part, n));
        RP_TRY(take_header(file, writer, part));
    }
    free(store->path);
    free(store->work_path);
    store->path = NULL;
    store->work_path = NULL;
    RP_TRY(rp_strdup(&store->path, store->files[0].path));
    RP_TRY(rp_strdup(&store->work_path, store->files[0].path));
out:
    free(prefix);
    return st;
}

static void fill_item(rp_store_item *item, const rp_store *store, const rp_session *s,
                      const rp_gguf_mix_tensor *t)
{
    item->info = rp_weights_at(s->weights, t->index);
    item->linear = rp_linears_find(&s->linears, item->info->name);
    item->form = item->linear == NULL ? RP_FORM_NONE : item->linear->form_of_output[store->index];
    item->order = rp_gguf_row_order_of(s->config, item->info->name);
    item->block = t->type;
    item->n_parts = 1;
    item->is_copy = item->form == RP_FORM_NONE && item->info->block == item->block;
    if (item->is_copy) { /* rows too are in the order of the file */
        item->order = (rp_gguf_row_order){0};
    }
}

static rp_status place_tensors(rp_store *store, const rp_session *s, const rp_gguf_types *types,
                               const rp_gguf_writer *writer)
{
    rp_status st = RP_OK;
    float freqs[RP_ROPE_MAX_FACTORS];

    RP_TRY(rp_calloc(&store->items, (size_t)types->n, sizeof(*store->items)));
    for (int64_t i = 0; i < types->n; i++) {
        const rp_gguf_tensor *tensor = rp_gguf_writer_tensor(writer, i);
        rp_store_item *item = &store->items[store->n_items];
        if (types->items[i].index == RP_GGUF_NOT_A_WEIGHT) {
            (void)rp_gguf_rope_freqs(s->config, freqs);
            RP_TRY(set_extra(&store->files[tensor->part], tensor, freqs));
            continue;
        }
        fill_item(item, store, s, &types->items[i]);
        item->places[0] = (rp_store_place){tensor->part, tensor->offset, tensor->nbytes};
        store->n_items++;
    }
out:
    return st;
}

rp_status rp_store_lay_out_gguf(rp_store *store, const rp_session *session)
{
    rp_status st = RP_OK;
    const rp_gguf_types *types = &session->linears.types[store->index];
    rp_gguf_writer *writer = NULL;
    const uint8_t *header = NULL;
    size_t header_bytes = 0;

    RP_TRY(rp_gguf_writer_create(&writer));
    RP_TRY(rp_store_put_gguf_keys(writer, session, types->mix->file_type));
    for (int64_t i = 0; i < types->n; i++) {
        const rp_gguf_mix_tensor *t = &types->items[i];
        RP_TRY(rp_gguf_add_tensor(writer, t->name, t->type, t->ndim, t->ne));
    }
    rp_gguf_writer_split(writer, (size_t)store->format->max_shard_bytes);
    RP_TRY(rp_gguf_writer_finish(writer, &header, &header_bytes));
    RP_TRY(take_files(store, writer));
    RP_TRY(place_tensors(store, session, types, writer));
out:
    rp_gguf_writer_destroy(&writer);
    return st;
}

/* Layout of a GGUF file: keys of the model and its tokenizer, tensors in llama-quantize's
 * order. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/gguf.h"
#include "jobs/importance.h"
#include "jobs/output.h"

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL || slash[1] == '\0' ? path : slash + 1;
}

/* Where the importance of columns came from, as llama-quantize says it. */
static rp_status put_imatrix_keys(rp_gguf_writer *writer, const rp_session *s)
{
    rp_status st = RP_OK;
    const char *path = NULL;
    const rp_imatrix *file = rp_importance_file(s->importance, &path);

    if (file == NULL) {
        return RP_OK;
    }
    RP_TRY(rp_gguf_put_string(writer, "quantize.imatrix.file", base_name(path)));
    if (file->n_datasets > 0) {
        RP_TRY(rp_gguf_put_string(writer, "quantize.imatrix.dataset", file->datasets[0]));
    }
    RP_TRY(rp_gguf_put_u32(writer, "quantize.imatrix.entries_count", (uint32_t)file->n));
    RP_TRY(rp_gguf_put_u32(writer, "quantize.imatrix.chunks_count", (uint32_t)file->chunk_count));
out:
    return st;
}

static rp_status put_keys(rp_gguf_writer *writer, const rp_session *s, int32_t file_type)
{
    rp_status st = RP_OK;
    const char *dir = rp_weights_path(s->weights);
    rp_tokenizer *tokenizer = NULL;
    json_t *tokenizer_config = NULL;

    RP_TRY(rp_gguf_put_model(writer, s->config, base_name(dir), file_type));
    RP_TRY(rp_tokenizer_open(&tokenizer, dir));
    RP_TRY(rp_gguf_load_tokenizer_config(&tokenizer_config, dir));
    RP_TRY(rp_gguf_put_tokenizer(writer, s->config, tokenizer, tokenizer_config));
    RP_TRY(put_imatrix_keys(writer, s));
out:
    json_decref(tokenizer_config);
    rp_tokenizer_destroy(&tokenizer);
    return st;
}

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

static rp_status take_header(rp_store *store, rp_gguf_writer *writer)
{
    rp_status st = RP_OK;
    rp_store_file *file = NULL;
    const uint8_t *header = NULL;

    RP_TRY(rp_calloc(&store->files, 1, sizeof(*store->files)));
    store->n_files = 1;
    file = &store->files[0];
    RP_TRY(rp_gguf_writer_finish(writer, &header, &file->header_bytes));
    RP_TRY(rp_strdup(&file->path, store->path));
    RP_TRY(rp_alloc(&file->header, file->header_bytes));
    memcpy(file->header, header, file->header_bytes);
    file->total_bytes = rp_gguf_writer_file_bytes(writer);
out:
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
            RP_TRY(set_extra(&store->files[0], tensor, freqs));
            continue;
        }
        fill_item(item, store, s, &types->items[i]);
        item->places[0] = (rp_store_place){0, tensor->offset, tensor->nbytes};
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

    RP_TRY(rp_gguf_writer_create(&writer));
    RP_TRY(put_keys(writer, session, types->mix->file_type));
    for (int64_t i = 0; i < types->n; i++) {
        const rp_gguf_mix_tensor *t = &types->items[i];
        RP_TRY(rp_gguf_add_tensor(writer, t->name, t->type, t->ndim, t->ne));
    }
    RP_TRY(take_header(store, writer));
    RP_TRY(place_tensors(store, session, types, writer));
out:
    rp_gguf_writer_destroy(&writer);
    return st;
}

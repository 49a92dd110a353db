/* Layout of a GGUF file: keys of the model and its tokenizer, tensors in the source's name order.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/gguf.h"
#include "jobs/output.h"

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL || slash[1] == '\0' ? path : slash + 1;
}

static rp_status put_keys(rp_gguf_writer *writer, const rp_store *store, const rp_session *s,
                          const rp_gguf_block_type *file_type)
{
    rp_status st = RP_OK;
    const char *dir = rp_weights_path(s->weights);
    rp_tokenizer *tokenizer = NULL;
    json_t *tokenizer_config = NULL;

    (void)store;
    RP_TRY(rp_gguf_put_model(writer, s->config, base_name(dir), file_type));
    RP_TRY(rp_tokenizer_open(&tokenizer, dir));
    RP_TRY(rp_gguf_load_tokenizer_config(&tokenizer_config, dir));
    RP_TRY(rp_gguf_put_tokenizer(writer, s->config, tokenizer, tokenizer_config));
out:
    json_decref(tokenizer_config);
    rp_tokenizer_destroy(&tokenizer);
    return st;
}

/* The type of a tensor: the form's own, or what llama.cpp keeps beside it. */
static const rp_gguf_block_type *type_of(const rp_store_item *item,
                                         const rp_gguf_block_type *file_type)
{
    const rp_weight_info *info = item->info;

    if (info->ndim < 2) {
        return rp_gguf_block_type_find("F32");
    }
    if (item->linear == NULL) {
        return rp_gguf_tensor_type(file_type, info->name, info->shape[1]);
    }
    if (item->form == RP_FORM_NONE && !file_type->is_float) {
        return rp_gguf_block_type_find("F16");
    }
    return file_type;
}

static rp_status add_tensor(rp_gguf_writer *writer, rp_store_item *item,
                            const rp_gguf_block_type *file_type)
{
    const rp_weight_info *info = item->info;
    char name[RP_GGUF_NAME_BYTES];
    int64_t ne[2] = {info->shape[0], 1};

    if (!rp_gguf_name_from_hf(name, info->name)) {
        return RP_FAIL(RP_ERR_CONFIG, "%s has no name in GGUF", info->name);
    }
    if (info->ndim > 1) {
        ne[0] = info->shape[1];
        ne[1] = info->shape[0];
    }
    item->block = type_of(item, file_type);
    return rp_gguf_add_tensor(writer, name, item->block, info->ndim, ne);
}

/* The frequencies' tensor comes first: its bytes stand behind the header. */
static rp_status take_header(rp_store *store, rp_gguf_writer *writer, const float *freqs,
                             int64_t n_freqs, const char *path)
{
    rp_status st = RP_OK;
    rp_store_file *file = NULL;
    const uint8_t *header = NULL;
    size_t header_bytes = 0;
    const size_t freq_bytes = (size_t)n_freqs * sizeof(*freqs);

    RP_TRY(rp_gguf_writer_finish(writer, &header, &header_bytes));
    RP_TRY(rp_calloc(&store->files, 1, sizeof(*store->files)));
    store->n_files = 1;
    file = &store->files[0];
    RP_TRY(rp_strdup(&file->path, path));
    RP_TRY(rp_alloc(&file->header, header_bytes + freq_bytes));
    memcpy(file->header, header, header_bytes);
    memcpy((char *)file->header + header_bytes, freqs, freq_bytes);
    file->header_bytes = header_bytes + freq_bytes;
    file->total_bytes = rp_gguf_writer_file_bytes(writer);
out:
    return st;
}

rp_status rp_store_lay_out_gguf(rp_store *store, const rp_session *session)
{
    rp_status st = RP_OK;
    const rp_gguf_block_type *file_type = rp_gguf_block_type_find(store->format->gguf_type);
    const int64_t n = rp_weights_count(session->weights);
    rp_gguf_writer *writer = NULL;
    float freqs[RP_ROPE_MAX_FACTORS];
    const int64_t n_freqs = rp_gguf_rope_freqs(session->config, freqs);

    if (file_type == NULL) {
        return RP_FAIL(RP_ERR_CONFIG, "output.formats: unknown GGUF type %s",
                       store->format->gguf_type);
    }
    RP_TRY(rp_calloc(&store->items, (size_t)n, sizeof(*store->items)));
    RP_TRY(rp_gguf_writer_create(&writer));
    RP_TRY(put_keys(writer, store, session, file_type));
    if (n_freqs > 0) {
        RP_TRY(rp_gguf_add_tensor(writer, RP_GGUF_ROPE_FREQS, rp_gguf_block_type_find("F32"), 1,
                                  &n_freqs));
    }
    for (int64_t i = 0; i < n; i++) {
        rp_store_item *item = &store->items[i];
        item->info = rp_weights_at(session->weights, i);
        item->linear = rp_linears_find(&session->linears, item->info->name);
        item->form =
            item->linear == NULL ? RP_FORM_NONE : item->linear->form_of_output[store->index];
        item->order = rp_gguf_row_order_of(session->config, item->info->name);
        item->n_parts = 1;
        RP_TRY(add_tensor(writer, item, file_type));
        store->n_items++;
    }
    RP_TRY(take_header(store, writer, freqs, n_freqs, store->path));
    for (int64_t i = 0; i < n; i++) {
        const rp_gguf_tensor *tensor = rp_gguf_writer_tensor(writer, i + (n_freqs > 0));
        store->items[i].places[0] = (rp_store_place){0, tensor->offset, tensor->nbytes};
    }
out:
    rp_gguf_writer_destroy(&writer);
    return st;
}

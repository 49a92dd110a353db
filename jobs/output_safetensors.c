/* Layout of safetensors folders (plain, GPTQ, compressed-tensors) and the JSON files beside the
 * tensors. */
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "formats/json.h"
#include "formats/safetensors.h"
#include "jobs/output.h"

/* Copied as they are when the source has them. */
static const char *const copied_files[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "added_tokens.json",
    "chat_template.jinja",
};
#define MAX_COPIED_BYTES ((size_t)1 << 30)

static rp_status dense_part(rp_part *part, const rp_weight_info *info, rp_dtype dtype)
{
    memset(part, 0, sizeof(*part));
    memcpy(part->name, info->name, RP_MIN(strlen(info->name) + 1, sizeof(part->name) - 1));
    part->dtype = dtype;
    part->ndim = info->ndim;
    part->nbytes = rp_dtype_bytes(dtype);
    for (int d = 0; d < info->ndim; d++) {
        part->shape[d] = info->shape[d];
        if (__builtin_mul_overflow(part->nbytes, (size_t)info->shape[d], &part->nbytes)) {
            return RP_FAIL(RP_ERR_FORMAT, "%s: too large", info->name);
        }
    }
    return RP_OK;
}

/* One item and its parts; *n_parts parts are appended. */
static rp_status add_item(rp_store *store, const rp_session *s, const rp_weight_info *info,
                          rp_part *parts, int64_t *n_parts)
{
    rp_status st = RP_OK;
    rp_store_item *item = &store->items[store->n_items++];

    item->info = info;
    item->linear = rp_linears_find(&s->linears, info->name);
    item->form = item->linear == NULL ? RP_FORM_NONE : item->linear->form_of_output[store->index];
    item->dtype = rp_output_dense_type(store->format, info->is_dense ? info->dtype : RP_BF16);
    item->n_parts = 1;
    item->is_container = store->container != NULL && item->form != RP_FORM_NONE;
    if (item->is_container) {
        RP_TRY(store->container->parts(&store->container_opts, item->linear->module,
                                       &item->linear->grid[item->form], item->linear->rows,
                                       item->linear->cols, parts + *n_parts, &item->n_parts));
    } else {
        RP_TRY(dense_part(parts + *n_parts, info, item->dtype));
    }
    *n_parts += item->n_parts;
out:
    return st;
}

static rp_status take_layout(rp_store *store, const rp_part *parts, rp_safetensors_layout *layout)
{
    rp_status st = RP_OK;
    int64_t at = 0;

    RP_TRY(rp_calloc(&store->files, (size_t)layout->n_files, sizeof(*store->files)));
    for (int64_t f = 0; f < layout->n_files; f++) {
        rp_store_file *file = &store->files[store->n_files++];
        RP_TRY(rp_fs_join(&file->path, store->work_path, layout->files[f].name));
        file->header = layout->files[f].header;
        layout->files[f].header = NULL;
        file->header_bytes = layout->files[f].header_bytes;
        file->total_bytes = layout->files[f].total_bytes;
    }
    for (int64_t i = 0; i < store->n_items; i++) {
        rp_store_item *item = &store->items[i];
        for (int p = 0; p < item->n_parts; p++, at++) {
            item->places[p] = (rp_store_place){layout->places[at].file,
                                               layout->places[at].offset_bytes, parts[at].nbytes};
        }
    }
    store->index_json = layout->index;
    layout->index = NULL;
out:
    return st;
}

rp_status rp_store_lay_out_safetensors(rp_store *store, const rp_session *session)
{
    rp_status st = RP_OK;
    const int64_t n = rp_weights_count(session->weights);
    rp_safetensors_layout layout = {0};
    rp_part *parts = NULL;
    int64_t n_parts = 0;

    if (store->format->kind != RP_FORMAT_SAFETENSORS) {
        store->container = rp_container_find(rp_format_kind_name(store->format->kind));
        store->container_opts.v2 = store->format->is_v2;
        store->container_opts.dense_type = rp_output_dense_type(
            store->format, rp_weights_find(session->weights, "model.embed_tokens.weight")->dtype);
    }
    RP_TRY(rp_calloc(&store->items, (size_t)n, sizeof(*store->items)));
    RP_TRY(rp_calloc(&parts, (size_t)n * RP_MAX_PARTS, sizeof(*parts)));
    for (int64_t i = 0; i < n; i++) {
        RP_TRY(add_item(store, session, rp_weights_at(session->weights, i), parts, &n_parts));
    }
    RP_TRY(rp_safetensors_layout_create(&layout, parts, n_parts,
                                        (size_t)store->format->max_shard_bytes));
    RP_TRY(take_layout(store, parts, &layout));
out:
    rp_safetensors_layout_destroy(&layout);
    free(parts);
    return st;
}

static rp_status copy_file(const char *from_dir, const char *to_dir, const char *name)
{
    rp_status st = RP_OK;
    char *from = NULL;
    char *to = NULL;
    char *data = NULL;
    size_t nbytes = 0;

    RP_TRY(rp_fs_join(&from, from_dir, name));
    RP_TRY(rp_fs_join(&to, to_dir, name));
    if (rp_fs_exists(from)) {
        RP_TRY(rp_fs_read_file(&data, &nbytes, from, MAX_COPIED_BYTES));
        RP_TRY(rp_fs_write_file(to, data, nbytes));
    }
out:
    free(data);
    free(to);
    free(from);
    return st;
}

static rp_status write_json(const char *dir, const char *name, const json_t *value)
{
    rp_status st = RP_OK;
    char *path = NULL;
    char *text = NULL;

    RP_TRY(rp_json_dump(&text, value, JSON_INDENT(2) | JSON_REAL_PRECISION(16)));
    RP_TRY(rp_fs_join(&path, dir, name));
    RP_TRY(rp_fs_write_file(path, text, strlen(text)));
out:
    free(path);
    free(text);
    return st;
}

/* The same facts from the keys of a GGUF source. */
static rp_status write_made_files(const char *gguf_path, const char *to_dir)
{
    static const struct {
        const char *name;
        rp_status (*make)(json_t **out, const rp_gguf *gguf);
    } files[] = {
        {"tokenizer.json", rp_gguf_tokenizer_json},
        {"tokenizer_config.json", rp_gguf_tokenizer_config_json},
        {"generation_config.json", rp_gguf_generation_config_json},
    };
    rp_status st = RP_OK;
    rp_gguf *gguf = NULL;
    json_t *root = NULL;

    RP_TRY(rp_gguf_open(&gguf, gguf_path));
    for (size_t i = 0; i < RP_COUNT(files); i++) {
        json_decref(root);
        root = NULL;
        RP_TRY(files[i].make(&root, gguf));
        RP_TRY(write_json(to_dir, files[i].name, root));
    }
out:
    json_decref(root);
    rp_gguf_close(&gguf);
    return st;
}

static rp_status write_tokenizer_files(const char *model, const char *to_dir)
{
    rp_status st = RP_OK;

    if (!rp_fs_is_dir(model)) {
        return write_made_files(model, to_dir);
    }
    for (size_t i = 0; i < RP_COUNT(copied_files); i++) {
        RP_TRY(copy_file(model, to_dir, copied_files[i]));
    }
out:
    return st;
}

/* The container's quantization_config for this output; NULL for plain. */
static rp_status quantization_config(json_t **out, const rp_store *store, const rp_session *s)
{
    rp_status st = RP_OK;
    rp_module_scheme *modules = NULL;
    double dampening_frac = 0;

    *out = NULL;
    if (store->container == NULL) {
        return RP_OK;
    }
    RP_TRY(rp_calloc(&modules, (size_t)s->linears.n, sizeof(*modules)));
    for (int64_t i = 0; i < s->linears.n; i++) {
        const rp_linear *linear = &s->linears.items[i];
        const int form = linear->form_of_output[store->index];
        modules[i].module = linear->module;
        modules[i].is_quantised = form != RP_FORM_NONE;
        if (modules[i].is_quantised) {
            modules[i].grid = linear->grid[form];
            modules[i].is_actorder = linear->choice.actorder == RP_ACTORDER_STATIC;
            dampening_frac = linear->choice.dampening_frac;
        }
    }
    RP_TRY(store->container->config(out, &store->container_opts, modules, s->linears.n,
                                    dampening_frac));
out:
    free(modules);
    return st;
}

/* "bfloat16", "float16", "float32" under the key that the source uses. */
static void set_torch_dtype(json_t *config, rp_dtype dtype)
{
    static const char *const names[] = {
        [RP_F32] = "float32", [RP_F16] = "float16", [RP_BF16] = "bfloat16"};
    const char *key = json_object_get(config, "dtype") != NULL ? "dtype" : "torch_dtype";

    (void)json_object_set_new(config, key, json_string(names[dtype]));
}

rp_status rp_store_write_sidecars(const rp_store *store, const rp_session *session)
{
    rp_status st = RP_OK;
    json_t *config = NULL;
    json_t *quantization = NULL;
    char *index_path = NULL;
    const rp_weight_info *embedding =
        rp_weights_find(session->weights, "model.embed_tokens.weight");

    RP_TRY(write_tokenizer_files(rp_weights_path(session->weights), store->work_path));
    if (store->index_json != NULL) {
        RP_TRY(rp_fs_join(&index_path, store->work_path, "model.safetensors.index.json"));
        RP_TRY(rp_fs_write_file(index_path, store->index_json, strlen(store->index_json)));
    }
    RP_TRY(quantization_config(&quantization, store, session));
    config = json_deep_copy(rp_weights_config_json(session->weights));
    if (config == NULL) {
        st = RP_FAIL(RP_ERR_MEMORY, "no memory for config.json");
        goto out;
    }
    (void)json_object_del(config, "quantization_config");
    set_torch_dtype(config, rp_output_dense_type(store->format,
                                                 embedding->is_dense ? embedding->dtype : RP_BF16));
    if (quantization != NULL) {
        (void)json_object_set(config, "quantization_config", quantization);
        if (store->format->kind == RP_FORMAT_GPTQ) {
            RP_TRY(write_json(store->work_path, "quantize_config.json", quantization));
        }
    }
    RP_TRY(write_json(store->work_path, "config.json", config));
out:
    free(index_path);
    json_decref(config);
    json_decref(quantization);
    return st;
}

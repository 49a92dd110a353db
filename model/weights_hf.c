/* Weights of a Hugging Face folder: config.json and safetensors files, dense or packed as its
 * quantization_config says. A packed linear is listed as the one matrix "<module>.weight". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "formats/hf_folder.h"
#include "formats/json.h"
#include "formats/packed.h"
#include "model/weights_backend.h"

#define MAX_DIMS ((int)RP_COUNT(((rp_weight_info *)0)->shape))

typedef struct hf_weight {
    const rp_hf_tensor *tensor; /* dense; of a packed linear its codes */
    rp_packed_linear packed;    /* reader NULL: dense */
    char *name;                 /* of a packed linear */
    char stored_as[48];
} hf_weight;

typedef struct hf_weights {
    json_t *config;
    const json_t *quant; /* quantization_config, borrowed; NULL: none */
    const rp_packed_reader *reader;
    rp_hash config_hash;
    rp_hf_folder *folder;
    hf_weight *weights; /* [n] */
    int64_t n;
} hf_weights;

static bool claims(const char *path)
{
    return rp_fs_is_dir(path);
}

static void close_hf(void *state)
{
    hf_weights *w = state;

    if (w == NULL) {
        return;
    }
    for (int64_t i = 0; i < w->n; i++) {
        free(w->weights[i].name);
    }
    free(w->weights);
    rp_hf_folder_close(&w->folder);
    json_decref(w->config);
    free(w);
}

static rp_status load_config(hf_weights *w, const char *dir, rp_model_config *config)
{
    rp_status st = RP_OK;
    char *path = NULL;
    char *text = NULL;
    const char *method = NULL;

    RP_TRY(rp_fs_join(&path, dir, "config.json"));
    RP_TRY(rp_json_load(&w->config, path));
    st = rp_model_config_parse(config, w->config);
    w->quant = json_object_get(w->config, "quantization_config");
    if (st == RP_OK && w->quant != NULL && !json_is_null(w->quant)) {
        method = json_string_value(json_object_get(w->quant, "quant_method"));
        w->reader = method == NULL ? NULL : rp_packed_reader_find(method);
        st = w->reader != NULL ? w->reader->check_config(w->quant)
                               : RP_FAIL(RP_ERR_FORMAT,
                                         "quantization_config.quant_method \"%s\" is not supported",
                                         method == NULL ? "" : method);
    }
    if (st != RP_OK) {
        st = rp_error_prefix(st, "%s", path);
        goto out;
    }
    text = json_dumps(w->config, JSON_COMPACT | JSON_SORT_KEYS);
    if (text == NULL) {
        st = RP_FAIL(RP_ERR_MEMORY, "%s: no memory for its text", path);
        goto out;
    }
    w->config_hash = rp_hash_bytes(text, strlen(text));
out:
    free(text);
    free(path);
    return st;
}

/* Whether a tensor belongs to a packed linear and is not its codes. */
static rp_status is_side_tensor(bool *out, const hf_weights *w, const char *name)
{
    rp_status st = RP_OK;
    char *codes = NULL;

    *out = false;
    for (const char *const *suffix = w->reader->suffixes; *suffix != NULL && !*out; suffix++) {
        if (rp_ends_with(name, *suffix) && strcmp(*suffix, w->reader->codes_suffix) != 0) {
            free(codes);
            RP_TRY(rp_strprintf(&codes, "%.*s%s", (int)(strlen(name) - strlen(*suffix)), name,
                                w->reader->codes_suffix));
            *out = rp_hf_folder_find(w->folder, codes) != NULL;
        }
    }
out:
    free(codes);
    return st;
}

static rp_status add_packed(hf_weights *w, const rp_hf_tensor *codes)
{
    rp_status st = RP_OK;
    hf_weight *weight = &w->weights[w->n];
    const char *name = codes->entry->name;
    const int n_module = (int)(strlen(name) - strlen(w->reader->codes_suffix));
    char *module = NULL;

    RP_TRY(rp_strprintf(&module, "%.*s", n_module, name));
    RP_TRY(w->reader->bind(&weight->packed, w->folder, module, w->quant));
    RP_TRY(rp_strprintf(&weight->name, "%s.weight", module));
    weight->tensor = codes;
    (void)snprintf(weight->stored_as, sizeof(weight->stored_as), "%s int%d",
                   w->reader->quant_method, weight->packed.bits);
    w->n++;
out:
    free(module);
    return st;
}

static rp_status add_dense(hf_weights *w, const rp_hf_tensor *tensor)
{
    const rp_safetensors_entry *entry = tensor->entry;
    const char *path = rp_safetensors_path(tensor->file);
    hf_weight *weight = &w->weights[w->n];

    if (!rp_dtype_is_float(entry->dtype)) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: type %s, want F32, F16 or BF16", path,
                       entry->name, entry->dtype_name);
    }
    if (entry->ndim < 1 || entry->ndim > MAX_DIMS || entry->nbytes == 0) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: %d dimensions and %zu bytes are no weight",
                       path, entry->name, entry->ndim, entry->nbytes);
    }
    weight->tensor = tensor;
    (void)snprintf(weight->stored_as, sizeof(weight->stored_as), "%s", entry->dtype_name);
    w->n++;
    return RP_OK;
}

static rp_status add_tensors(hf_weights *w)
{
    rp_status st = RP_OK;
    const int64_t count = rp_hf_folder_count(w->folder);

    RP_TRY(rp_calloc(&w->weights, (size_t)count, sizeof(*w->weights)));
    for (int64_t i = 0; i < count; i++) {
        const rp_hf_tensor *tensor = rp_hf_folder_at(w->folder, i);
        const char *name = tensor->entry->name;
        bool is_side = false;
        if (w->reader != NULL && rp_ends_with(name, w->reader->codes_suffix)) {
            RP_TRY(add_packed(w, tensor));
            continue;
        }
        if (w->reader != NULL) {
            RP_TRY(is_side_tensor(&is_side, w, name));
        }
        if (!is_side) {
            RP_TRY(add_dense(w, tensor));
        }
    }
out:
    return st;
}

static rp_status open_hf(void **state, const char *path, rp_model_config *config)
{
    rp_status st = RP_OK;
    hf_weights *w = NULL;

    *state = NULL;
    RP_TRY(rp_calloc(&w, 1, sizeof(*w)));
    RP_TRY(load_config(w, path, config));
    RP_TRY(rp_hf_folder_open(&w->folder, path));
    RP_TRY(add_tensors(w));
    *state = w;
    w = NULL;
out:
    close_hf(w);
    return st;
}

static int64_t count_hf(const void *state)
{
    const hf_weights *w = state;

    return w->n;
}

static void info_hf(const void *state, int64_t index, rp_weight_info *out)
{
    const hf_weights *w = state;
    const hf_weight *weight = &w->weights[index];
    const rp_safetensors_entry *entry = weight->tensor->entry;

    if (weight->packed.reader != NULL) {
        *out = (rp_weight_info){
            .name = weight->name,
            .ndim = 2,
            .shape = {weight->packed.rows, weight->packed.cols},
            .dtype = RP_F32,
            .stored_as = weight->stored_as,
            .stored_bytes = weight->packed.stored_bytes,
        };
        return;
    }
    *out = (rp_weight_info){
        .name = entry->name,
        .ndim = entry->ndim,
        .dtype = entry->dtype,
        .is_dense = true,
        .stored_as = weight->stored_as,
        .stored_bytes = entry->nbytes,
    };
    memcpy(out->shape, entry->shape, (size_t)entry->ndim * sizeof(out->shape[0]));
}

static const char *file_of(const void *state, int64_t index)
{
    const hf_weights *w = state;

    return rp_safetensors_path(w->weights[index].tensor->file);
}

static rp_status read_rows(const void *state, int64_t index, int64_t row0, int64_t nrows, void *dst)
{
    const hf_weights *w = state;
    const hf_weight *weight = &w->weights[index];
    const rp_safetensors_entry *entry = weight->tensor->entry;

    if (weight->packed.reader != NULL) {
        return weight->packed.reader->read_rows(&weight->packed, row0, nrows, dst);
    }
    const size_t row_bytes = entry->nbytes / (size_t)entry->shape[0];
    return rp_safetensors_read(weight->tensor->file, entry, (size_t)row0 * row_bytes,
                               (size_t)nrows * row_bytes, dst);
}

static const json_t *config_json(const void *state)
{
    const hf_weights *w = state;

    return w->config;
}

static size_t file_bytes(const void *state)
{
    const hf_weights *w = state;

    return rp_hf_folder_file_bytes(w->folder);
}

static rp_hash hash_config(const void *state)
{
    const hf_weights *w = state;

    return w->config_hash;
}

const rp_weights_backend rp_weights_backend_hf = {
    .name = "Hugging Face folder",
    .claims = claims,
    .open = open_hf,
    .close = close_hf,
    .count = count_hf,
    .info = info_hf,
    .file_of = file_of,
    .read_rows = read_rows,
    .config_json = config_json,
    .file_bytes = file_bytes,
    .hash_config = hash_config,
};

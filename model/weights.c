/* One view of any model files: the back end that claims the path lists tensors, this file sorts
 * them and holds them against the config: every tensor that the model needs, with its shape, and no
 * other. */
#include "model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "model/weights_backend.h"

#define MAX_NAME_BYTES 256
#define CHUNK_ELEMS (1 << 18) /* of a conversion to f32 */

static const rp_weights_backend *const backends[] = {
    &rp_weights_backend_hf,
    &rp_weights_backend_gguf,
};

typedef struct weight {
    rp_weight_info info; /* first: rp_weights_read_rows gets a pointer to it */
    int64_t index;       /* in the back end */
    bool is_expected;
} weight;

struct rp_weights {
    char *path;
    const rp_weights_backend *backend;
    void *state;
    rp_model_config config;
    int64_t n;
    weight *list; /* [n] by name */
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const weight *)a)->info.name, ((const weight *)b)->info.name);
}

static weight *find(const rp_weights *w, const char *name)
{
    const weight key = {.info = {.name = name}};

    return w->n == 0 ? NULL : bsearch(&key, w->list, (size_t)w->n, sizeof(*w->list), by_name);
}

/* Buffers of old checkpoints, and a head that is the embedding again. */
static bool is_ignored(const rp_weights *w, const char *name)
{
    return (w->config.tie_embeddings && strcmp(name, "lm_head.weight") == 0) ||
           rp_ends_with(name, "rotary_emb.inv_freq");
}

static rp_status list_weights(rp_weights *w)
{
    rp_status st = RP_OK;
    const int64_t count = w->backend->count(w->state);

    RP_TRY(rp_calloc(&w->list, (size_t)count, sizeof(*w->list)));
    for (int64_t i = 0; i < count; i++) {
        weight *entry = &w->list[w->n];
        w->backend->info(w->state, i, &entry->info);
        entry->index = i;
        w->n += is_ignored(w, entry->info.name) ? 0 : 1;
    }
    qsort(w->list, (size_t)w->n, sizeof(*w->list), by_name);
    for (int64_t i = 1; i < w->n; i++) {
        if (by_name(&w->list[i - 1], &w->list[i]) == 0) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s is there twice",
                         w->backend->file_of(w->state, w->list[i].index), w->list[i].info.name);
            goto out;
        }
    }
out:
    return st;
}

static void show_shape(char out[64], int ndim, const int64_t *shape)
{
    size_t used = (size_t)snprintf(out, 64, "[");

    for (int i = 0; i < ndim && used < 60; i++) {
        used += (size_t)snprintf(out + used, 64 - used, "%s%lld", i == 0 ? "" : ", ",
                                 (long long)shape[i]);
    }
    if (used < 63) {
        (void)snprintf(out + used, 64 - used, "]");
    }
}

/* cols 0: a vector. */
static rp_status expect(rp_weights *w, const char *name, int64_t rows, int64_t cols)
{
    const int64_t shape[2] = {rows, cols};
    const int ndim = cols == 0 ? 1 : 2;
    weight *entry = find(w, name);
    char want[64];
    char found[64];

    if (entry == NULL) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s is missing", w->path, name);
    }
    if (entry->info.ndim != ndim || memcmp(entry->info.shape, shape, (size_t)ndim * 8) != 0) {
        show_shape(want, ndim, shape);
        show_shape(found, entry->info.ndim, entry->info.shape);
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: shape %s, but the model's config asks for %s",
                       w->backend->file_of(w->state, entry->index), name, found, want);
    }
    entry->is_expected = true;
    return RP_OK;
}

static rp_status expect_all(rp_weights *w)
{
    rp_status st = RP_OK;
    const rp_model_config *config = &w->config;

    RP_TRY(expect(w, "model.embed_tokens.weight", config->vocab_size, config->hidden_size));
    RP_TRY(expect(w, "model.norm.weight", config->hidden_size, 0));
    if (!config->tie_embeddings) {
        RP_TRY(expect(w, "lm_head.weight", config->vocab_size, config->hidden_size));
    }
    for (int64_t layer = 0; layer < config->n_layers; layer++) {
        for (int slot = 0; slot < RP_SLOT_COUNT; slot++) {
            char name[MAX_NAME_BYTES];
            int64_t rows = 0;
            int64_t cols = 0;
            if (rp_model_has_slot(config, (rp_slot)slot)) {
                rp_model_slot_name(name, sizeof(name), layer, (rp_slot)slot);
                rp_model_slot_shape(config, (rp_slot)slot, &rows, &cols);
                RP_TRY(expect(w, name, rows, cols));
            }
        }
    }
    for (int64_t i = 0; i < w->n; i++) {
        if (!w->list[i].is_expected) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s is no part of a %s model of %lld layers",
                         w->backend->file_of(w->state, w->list[i].index), w->list[i].info.name,
                         config->arch->model_type, (long long)config->n_layers);
            goto out;
        }
    }
out:
    return st;
}

static const rp_weights_backend *find_backend(const char *path)
{
    for (size_t i = 0; i < RP_COUNT(backends); i++) {
        if (backends[i]->claims(path)) {
            return backends[i];
        }
    }
    return NULL;
}

rp_status rp_weights_open(rp_weights **out, const char *path)
{
    rp_status st = RP_OK;
    rp_weights *w = NULL;

    *out = NULL;
    RP_TRY(rp_calloc(&w, 1, sizeof(*w)));
    RP_TRY(rp_strdup(&w->path, path));
    w->backend = find_backend(path);
    if (w->backend == NULL) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: %s", path,
                     rp_fs_exists(path) ? "neither a model folder nor a .gguf file"
                                        : "no such file or folder");
        goto out;
    }
    RP_TRY(w->backend->open(&w->state, path, &w->config));
    RP_TRY(list_weights(w));
    RP_TRY(expect_all(w));
    *out = w;
    w = NULL;
out:
    rp_weights_close(&w);
    return st;
}

rp_status rp_weights_open_view(rp_weights **out, const rp_weights *base,
                               const rp_weights_filter *filter)
{
    rp_status st = RP_OK;
    rp_weights *w = NULL;

    *out = NULL;
    RP_TRY(rp_calloc(&w, 1, sizeof(*w)));
    RP_TRY(rp_strdup(&w->path, base->path));
    w->config = base->config;
    RP_TRY(rp_weights_view_create(&w->state, base, filter));
    w->backend = &rp_weights_backend_view;
    RP_TRY(list_weights(w));
    *out = w;
    w = NULL;
out:
    rp_weights_close(&w);
    return st;
}

void rp_weights_close(rp_weights **weights)
{
    rp_weights *w = *weights;

    if (w == NULL) {
        return;
    }
    if (w->backend != NULL) {
        w->backend->close(w->state);
    }
    free(w->list);
    free(w->path);
    free(w);
    *weights = NULL;
}

const rp_model_config *rp_weights_config(const rp_weights *weights)
{
    return &weights->config;
}

const json_t *rp_weights_config_json(const rp_weights *weights)
{
    return weights->backend->config_json(weights->state);
}

const char *rp_weights_path(const rp_weights *weights)
{
    return weights->path;
}

int64_t rp_weights_count(const rp_weights *weights)
{
    return weights->n;
}

const rp_weight_info *rp_weights_at(const rp_weights *weights, int64_t index)
{
    return &weights->list[index].info;
}

const rp_weight_info *rp_weights_find(const rp_weights *weights, const char *name)
{
    const weight *entry = find(weights, name);

    return entry == NULL ? NULL : &entry->info;
}

static rp_status check_rows(const rp_weight_info *info, int64_t row0, int64_t nrows)
{
    if (row0 < 0 || nrows < 0 || nrows > info->shape[0] - row0) {
        return RP_FAIL(RP_ERR_INTERNAL, "tensor %s: rows %lld + %lld of %lld", info->name,
                       (long long)row0, (long long)nrows, (long long)info->shape[0]);
    }
    return RP_OK;
}

rp_status rp_weights_read_rows(const rp_weights *weights, const rp_weight_info *info, int64_t row0,
                               int64_t nrows, void *dst)
{
    rp_status st = RP_OK;
    const weight *entry = (const weight *)info;

    RP_TRY(check_rows(info, row0, nrows));
    st = weights->backend->read_rows(weights->state, entry->index, row0, nrows, dst);
out:
    return st;
}

rp_status rp_weights_read_stored(const rp_weights *weights, const rp_weight_info *info,
                                 int64_t row0, int64_t nrows, void *dst)
{
    rp_status st = RP_OK;
    const weight *entry = (const weight *)info;

    RP_TRY(check_rows(info, row0, nrows));
    if (info->block == NULL) {
        st = RP_FAIL(RP_ERR_INTERNAL, "tensor %s: not of a GGUF file", info->name);
        goto out;
    }
    st = weights->backend->read_stored(weights->state, entry->index, row0, nrows, dst);
out:
    return st;
}

rp_status rp_weights_read_f32(const rp_weights *weights, const rp_weight_info *info, int64_t row0,
                              int64_t nrows, float *dst)
{
    rp_status st = RP_OK;
    const int64_t cols = info->ndim == 1 ? 1 : info->shape[1];
    const int64_t step = info->dtype == RP_F32 ? nrows : RP_MAX(1, CHUNK_ELEMS / cols);
    void *raw = NULL;
    int64_t bad = -1;

    if (info->dtype == RP_F32) {
        RP_TRY(rp_weights_read_rows(weights, info, row0, nrows, dst));
    } else {
        RP_TRY(rp_alloc_array(&raw, (size_t)(RP_MIN(step, nrows) * cols),
                              rp_dtype_bytes(info->dtype)));
    }
    for (int64_t row = 0; raw != NULL && row < nrows; row += step) {
        const int64_t n = RP_MIN(step, nrows - row);
        RP_TRY(rp_weights_read_rows(weights, info, row0 + row, n, raw));
        rp_to_f32(dst + row * cols, raw, info->dtype, n * cols);
    }
    bad = rp_find_non_finite(dst, nrows * cols);
    if (bad >= 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: value %lld is %g",
                     weights->backend->file_of(weights->state, ((const weight *)info)->index),
                     info->name, (long long)(row0 * cols + bad), (double)dst[bad]);
    }
out:
    free(raw);
    return st;
}

int64_t rp_weights_elems(const rp_weights *weights)
{
    int64_t n = 0;

    for (int64_t i = 0; i < weights->n; i++) {
        const rp_weight_info *info = &weights->list[i].info;
        int64_t elems = 1;
        for (int d = 0; d < info->ndim; d++) {
            elems *= info->shape[d];
        }
        n += elems;
    }
    return n;
}

size_t rp_weights_file_bytes(const rp_weights *weights)
{
    return weights->backend->file_bytes(weights->state);
}

void rp_weights_fingerprint(const rp_weights *weights, uint64_t out[2])
{
    rp_hash hash = weights->backend->hash_config(weights->state);

    for (int64_t i = 0; i < weights->n; i++) {
        const rp_weight_info *info = &weights->list[i].info;
        hash = rp_hash_chain(hash, info->name, strlen(info->name) + 1);
        hash = rp_hash_chain(hash, info->stored_as, strlen(info->stored_as) + 1);
        hash = rp_hash_chain(hash, info->shape, sizeof(info->shape));
        hash = rp_hash_chain(hash, &info->stored_bytes, sizeof(info->stored_bytes));
    }
    out[0] = hash.hi;
    out[1] = hash.lo;
}

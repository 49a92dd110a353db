/* Weights of a GGUF file under Hugging Face names, shapes and row order.
 *
 * Shapes are turned round (ne[0], the fastest, is the last), rows of Q and K are put back into the
 * order of rotate-half, blocks are decoded to f32. The tensor of rope frequencies is part of the
 * config and not listed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/gguf_map.h"
#include "model/weights_backend.h"

typedef struct gguf_weight {
    const rp_gguf_tensor *tensor;
    char name[128]; /* Hugging Face's */
    rp_gguf_row_order order;
} gguf_weight;

typedef struct gguf_weights {
    rp_gguf *gguf;
    json_t *config_json;
    gguf_weight *weights; /* [n_weights] */
    int64_t n_weights;
} gguf_weights;

static bool claims(const char *path)
{
    return rp_ends_with(path, ".gguf");
}

static void close_gguf(void *state)
{
    gguf_weights *w = state;

    if (w != NULL) {
        rp_gguf_close(&w->gguf);
        json_decref(w->config_json);
        free(w->weights);
        free(w);
    }
}

/* Rows and elements of a row; a vector is a column. */
static int64_t rows_of(const rp_gguf_tensor *t)
{
    return t->ndim == 1 ? t->ne[0] : t->ne[1];
}

static int64_t cols_of(const rp_gguf_tensor *t)
{
    return t->ndim == 1 ? 1 : t->ne[0];
}

static rp_status add_weight(gguf_weights *w, const rp_gguf_tensor *t, const rp_model_config *config)
{
    gguf_weight *weight = &w->weights[w->n_weights];
    const char *path = rp_gguf_part_path(w->gguf, t->part);

    if (strcmp(t->name, RP_GGUF_ROPE_FREQS) == 0) {
        return RP_OK;
    }
    if (!rp_gguf_name_to_hf(weight->name, sizeof(weight->name), t->name)) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: no part of a %s model", path, t->name,
                       config->arch->gguf_arch);
    }
    if (t->ndim < 1 || t->ndim > 2) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: %d dimensions, want 1 or 2", path, t->name,
                       t->ndim);
    }
    if (!rp_gguf_can_decode(t->type) || (t->ndim == 1 && !t->type->is_float)) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: cannot decode type %s here", path, t->name,
                       t->type->name);
    }
    weight->tensor = t;
    weight->order = rp_gguf_row_order_of(config, weight->name);
    if (weight->order.head_rows != 0 && rows_of(t) % weight->order.head_rows != 0) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: %lld rows are no whole heads of %lld", path,
                       t->name, (long long)rows_of(t), (long long)weight->order.head_rows);
    }
    w->n_weights++;
    return RP_OK;
}

static rp_status open_gguf(void **state, const char *path, rp_model_config *config)
{
    rp_status st = RP_OK;
    gguf_weights *w = NULL;
    int64_t n_tensors = 0;

    *state = NULL;
    RP_TRY(rp_calloc(&w, 1, sizeof(*w)));
    RP_TRY(rp_gguf_open(&w->gguf, path));
    RP_TRY(rp_gguf_read_config(config, w->gguf));
    RP_TRY(rp_gguf_config_json(&w->config_json, w->gguf));
    n_tensors = rp_gguf_tensor_count(w->gguf);
    RP_TRY(rp_calloc(&w->weights, (size_t)n_tensors, sizeof(*w->weights)));
    for (int64_t i = 0; i < n_tensors; i++) {
        RP_TRY(add_weight(w, rp_gguf_tensor_at(w->gguf, i), config));
    }
    *state = w;
    w = NULL;
out:
    close_gguf(w);
    return st;
}

static int64_t count(const void *state)
{
    const gguf_weights *w = state;

    return w->n_weights;
}

static void info(const void *state, int64_t index, rp_weight_info *out)
{
    const gguf_weights *w = state;
    const gguf_weight *weight = &w->weights[index];
    const rp_gguf_tensor *t = weight->tensor;

    *out = (rp_weight_info){
        .name = weight->name,
        .ndim = t->ndim,
        .dtype = t->type->is_float ? t->type->dtype : RP_F32,
        .is_dense = t->type->is_float,
        .stored_as = t->type->name,
        .stored_bytes = t->nbytes,
        .block = t->type,
    };
    for (int i = 0; i < t->ndim; i++) {
        out->shape[i] = t->ne[t->ndim - 1 - i];
    }
}

static const char *file_of(const void *state, int64_t index)
{
    const gguf_weights *w = state;

    return rp_gguf_part_path(w->gguf, w->weights[index].tensor->part);
}

/* Rows as they lie in the file, decoded; `scratch` holds their bytes when they need decoding. */
static rp_status read_file_rows(const gguf_weights *w, const rp_gguf_tensor *t, int64_t row,
                                int64_t nrows, void *scratch, void *dst)
{
    rp_status st = RP_OK;
    const int64_t cols = cols_of(t);
    const size_t row_bytes = rp_gguf_row_bytes(t->type, cols);
    void *raw = t->type->is_float ? dst : scratch;

    RP_TRY(rp_gguf_read(w->gguf, t, (size_t)row * row_bytes, (size_t)nrows * row_bytes, raw));
    if (!t->type->is_float) {
        rp_gguf_decode_rows(t->type, raw, nrows, cols, dst);
    }
out:
    return st;
}

/* One head's rows of the answer, read at once and put into order. */
static rp_status read_head(const gguf_weights *w, const gguf_weight *weight, int64_t row0,
                           int64_t nrows, uint8_t *head, void *scratch, uint8_t *dst,
                           size_t row_bytes)
{
    rp_status st = RP_OK;
    const int64_t first = row0 - row0 % weight->order.head_rows;

    RP_TRY(read_file_rows(w, weight->tensor, first, weight->order.head_rows, scratch, head));
    for (int64_t i = 0; i < nrows; i++) {
        const int64_t from = rp_gguf_row_from_hf(weight->order, row0 + i) - first;
        memcpy(dst + (size_t)i * row_bytes, head + (size_t)from * row_bytes, row_bytes);
    }
out:
    return st;
}

static rp_status read_rows(const void *state, int64_t index, int64_t row0, int64_t nrows, void *dst)
{
    rp_status st = RP_OK;
    const gguf_weights *w = state;
    const gguf_weight *weight = &w->weights[index];
    const rp_gguf_tensor *t = weight->tensor;
    const int64_t head_rows = weight->order.head_rows;
    const rp_dtype dtype = t->type->is_float ? t->type->dtype : RP_F32;
    const size_t row_bytes = (size_t)cols_of(t) * rp_dtype_bytes(dtype);
    const int64_t at_once = head_rows == 0 ? nrows : head_rows;
    uint8_t *to = dst;
    void *scratch = NULL;
    uint8_t *head = NULL;

    if (!t->type->is_float) {
        RP_TRY(rp_alloc_array(&scratch, (size_t)at_once, rp_gguf_row_bytes(t->type, cols_of(t))));
    }
    if (head_rows == 0) {
        RP_TRY(read_file_rows(w, t, row0, nrows, scratch, dst));
        goto out;
    }
    RP_TRY(rp_alloc_array(&head, (size_t)head_rows, row_bytes));
    for (int64_t done = 0; done < nrows;) {
        const int64_t row = row0 + done;
        const int64_t n = RP_MIN(nrows - done, head_rows - row % head_rows);
        RP_TRY(read_head(w, weight, row, n, head, scratch, to, row_bytes));
        to += (size_t)n * row_bytes;
        done += n;
    }
out:
    free(scratch);
    free(head);
    return st;
}

static rp_status read_stored(const void *state, int64_t index, int64_t row0, int64_t nrows,
                             void *dst)
{
    const gguf_weights *w = state;
    const rp_gguf_tensor *t = w->weights[index].tensor;
    const size_t row_bytes = rp_gguf_row_bytes(t->type, cols_of(t));

    return rp_gguf_read(w->gguf, t, (size_t)row0 * row_bytes, (size_t)nrows * row_bytes, dst);
}

static const json_t *config_json(const void *state)
{
    const gguf_weights *w = state;

    return w->config_json;
}

static size_t file_bytes(const void *state)
{
    const gguf_weights *w = state;

    return rp_gguf_file_bytes(w->gguf);
}

static rp_hash hash_config(const void *state)
{
    const gguf_weights *w = state;
    size_t nbytes = 0;
    const uint8_t *header = rp_gguf_header(w->gguf, &nbytes);

    return rp_hash_bytes(header, nbytes);
}

const rp_weights_backend rp_weights_backend_gguf = {
    .name = "GGUF file",
    .claims = claims,
    .open = open_gguf,
    .close = close_gguf,
    .count = count,
    .info = info,
    .file_of = file_of,
    .read_rows = read_rows,
    .read_stored = read_stored,
    .config_json = config_json,
    .file_bytes = file_bytes,
    .hash_config = hash_config,
};

/* Writer of GGUF headers: keys are packed into one growing buffer as they come, tensor infos are
 * packed at the end, when each one's offset is known. The layout is drawn in gguf.c. */
#include "formats/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define GGUF_VERSION 3

typedef struct bytes {
    uint8_t *data;
    size_t nbytes, capacity;
} bytes;

/* One file: a run of the tensors, and after finish its header. */
typedef struct part {
    size_t first, n; /* tensors */
    bytes header;
    size_t file_bytes;
} part;

struct rp_gguf_writer {
    bytes keys; /* packed key-value pairs */
    int64_t n_keys;
    int64_t strings_left; /* of the array of strings that is open */
    rp_gguf_tensor *tensors;
    size_t n_tensors, tensor_capacity;
    size_t max_part_bytes; /* of tensor data; 0: one file */
    part *parts;           /* after finish */
    size_t n_parts, part_capacity;
};

static rp_status append(bytes *to, const void *data, size_t nbytes)
{
    rp_status st = RP_OK;
    size_t need = 0;

    RP_TRY(rp_add_size(&need, to->nbytes, nbytes));
    RP_TRY(rp_grow(&to->data, &to->capacity, need, 1));
    if (nbytes > 0) {
        memcpy(to->data + to->nbytes, data, nbytes);
    }
    to->nbytes = need;
out:
    return st;
}

static rp_status append_u32(bytes *to, uint32_t value)
{
    return append(to, &value, sizeof(value));
}

static rp_status append_u64(bytes *to, uint64_t value)
{
    return append(to, &value, sizeof(value));
}

static rp_status append_string(bytes *to, const char *text)
{
    rp_status st = RP_OK;

    RP_TRY(append_u64(to, strlen(text)));
    RP_TRY(append(to, text, strlen(text)));
out:
    return st;
}

static size_t padded(size_t nbytes)
{
    return (nbytes + RP_GGUF_ALIGNMENT - 1) / RP_GGUF_ALIGNMENT * RP_GGUF_ALIGNMENT;
}

/* Zeros up to the next multiple of the alignment. */
static rp_status append_padding(bytes *to)
{
    const uint8_t zeros[RP_GGUF_ALIGNMENT] = {0};

    return append(to, zeros, padded(to->nbytes) - to->nbytes);
}

rp_status rp_gguf_writer_create(rp_gguf_writer **out)
{
    return rp_calloc(out, 1, sizeof(**out));
}

void rp_gguf_writer_destroy(rp_gguf_writer **writer)
{
    rp_gguf_writer *w = *writer;

    *writer = NULL;
    if (w == NULL) {
        return;
    }
    for (size_t i = 0; i < w->n_parts; i++) {
        free(w->parts[i].header.data);
    }
    free(w->parts);
    free(w->keys.data);
    free(w->tensors);
    free(w);
}

/* ---- Keys ---- */

static rp_status begin_key(rp_gguf_writer *w, const char *key, rp_gguf_value_type type)
{
    rp_status st = RP_OK;

    RP_ASSERT(w->strings_left == 0);
    RP_TRY(append_string(&w->keys, key));
    RP_TRY(append_u32(&w->keys, type));
    w->n_keys++;
out:
    return st;
}

static rp_status begin_array(rp_gguf_writer *w, const char *key, rp_gguf_value_type elem_type,
                             int64_t n)
{
    rp_status st = RP_OK;

    RP_TRY(begin_key(w, key, RP_GGUF_ARRAY));
    RP_TRY(append_u32(&w->keys, elem_type));
    RP_TRY(append_u64(&w->keys, (uint64_t)n));
out:
    return st;
}

rp_status rp_gguf_put_u32(rp_gguf_writer *writer, const char *key, uint32_t value)
{
    rp_status st = RP_OK;

    RP_TRY(begin_key(writer, key, RP_GGUF_U32));
    RP_TRY(append_u32(&writer->keys, value));
out:
    return st;
}

rp_status rp_gguf_put_i32(rp_gguf_writer *writer, const char *key, int32_t value)
{
    rp_status st = RP_OK;

    RP_TRY(begin_key(writer, key, RP_GGUF_I32));
    RP_TRY(append(&writer->keys, &value, sizeof(value)));
out:
    return st;
}

rp_status rp_gguf_put_f32(rp_gguf_writer *writer, const char *key, float value)
{
    rp_status st = RP_OK;

    RP_TRY(begin_key(writer, key, RP_GGUF_F32));
    RP_TRY(append(&writer->keys, &value, sizeof(value)));
out:
    return st;
}

rp_status rp_gguf_put_bool(rp_gguf_writer *writer, const char *key, bool value)
{
    rp_status st = RP_OK;
    const uint8_t byte = value ? 1 : 0;

    RP_TRY(begin_key(writer, key, RP_GGUF_BOOL));
    RP_TRY(append(&writer->keys, &byte, sizeof(byte)));
out:
    return st;
}

rp_status rp_gguf_put_string(rp_gguf_writer *writer, const char *key, const char *value)
{
    rp_status st = RP_OK;

    RP_TRY(begin_key(writer, key, RP_GGUF_STRING));
    RP_TRY(append_string(&writer->keys, value));
out:
    return st;
}

rp_status rp_gguf_put_kv(rp_gguf_writer *writer, const rp_gguf_kv *kv)
{
    rp_status st = RP_OK;

    if (kv->type == RP_GGUF_ARRAY) {
        RP_TRY(begin_array(writer, kv->key, kv->elem_type, kv->count));
    } else {
        RP_TRY(begin_key(writer, kv->key, kv->type));
    }
    RP_TRY(append(&writer->keys, kv->data, kv->nbytes));
out:
    return st;
}

rp_status rp_gguf_put_i32s(rp_gguf_writer *writer, const char *key, const int32_t *values,
                           int64_t n)
{
    rp_status st = RP_OK;

    RP_TRY(begin_array(writer, key, RP_GGUF_I32, n));
    RP_TRY(append(&writer->keys, values, (size_t)n * sizeof(*values)));
out:
    return st;
}

rp_status rp_gguf_put_f32s(rp_gguf_writer *writer, const char *key, const float *values, int64_t n)
{
    rp_status st = RP_OK;

    RP_TRY(begin_array(writer, key, RP_GGUF_F32, n));
    RP_TRY(append(&writer->keys, values, (size_t)n * sizeof(*values)));
out:
    return st;
}

rp_status rp_gguf_put_strings(rp_gguf_writer *writer, const char *key, int64_t n)
{
    rp_status st = RP_OK;

    RP_TRY(begin_array(writer, key, RP_GGUF_STRING, n));
    writer->strings_left = n;
out:
    return st;
}

rp_status rp_gguf_add_string(rp_gguf_writer *writer, const char *value)
{
    RP_ASSERT(writer->strings_left > 0);
    writer->strings_left--;
    return append_string(&writer->keys, value);
}

/* ---- Tensors and the whole header ---- */

rp_status rp_gguf_add_tensor(rp_gguf_writer *writer, const char *name,
                             const rp_gguf_block_type *type, int ndim, const int64_t *ne)
{
    rp_status st = RP_OK;
    rp_gguf_tensor t = {.ndim = ndim, .ne = {1, 1, 1, 1}, .type = type};
    size_t padded_bytes = 0; /* must fit, too */

    RP_ASSERT(ndim >= 1 && ndim <= RP_GGUF_MAX_DIMS);
    if (strlen(name) >= sizeof(t.name)) {
        st = RP_FAIL(RP_ERR_CONFIG, "tensor %s: GGUF names have at most %zu bytes", name,
                     sizeof(t.name) - 1);
        goto out;
    }
    if (ne[0] % type->block_elems != 0) {
        st = RP_FAIL(RP_ERR_CONFIG, "tensor %s: rows of %lld do not fill %s blocks of %lld", name,
                     (long long)ne[0], type->name, (long long)type->block_elems);
        goto out;
    }
    memcpy(t.name, name, strlen(name) + 1);
    t.nbytes = rp_gguf_row_bytes(type, ne[0]);
    for (int i = 0; i < ndim; i++) {
        t.ne[i] = ne[i];
        if (i > 0) {
            RP_TRY(rp_mul_size(&t.nbytes, t.nbytes, (size_t)ne[i]));
        }
    }
    RP_TRY(rp_add_size(&padded_bytes, t.nbytes, RP_GGUF_ALIGNMENT));
    RP_TRY(rp_grow(&writer->tensors, &writer->tensor_capacity, writer->n_tensors + 1, sizeof(t)));
    writer->tensors[writer->n_tensors++] = t;
out:
    return st;
}

static rp_status append_tensor(bytes *to, const rp_gguf_tensor *t)
{
    rp_status st = RP_OK;

    RP_TRY(append_string(to, t->name));
    RP_TRY(append_u32(to, (uint32_t)t->ndim));
    for (int i = 0; i < t->ndim; i++) {
        RP_TRY(append_u64(to, (uint64_t)t->ne[i]));
    }
    RP_TRY(append_u32(to, t->type->id));
    RP_TRY(append_u64(to, t->offset));
out:
    return st;
}

/* Tensors in their order, into parts of at most max_part_bytes of padded data; a tensor that is
 * larger has a part of its own (llama-gguf-split's rule). */
static rp_status deal_tensors(rp_gguf_writer *w)
{
    rp_status st = RP_OK;
    part *p = NULL;

    for (size_t i = 0; i < w->n_tensors || p == NULL; i++) { /* one part without tensors, too */
        rp_gguf_tensor *t = i < w->n_tensors ? &w->tensors[i] : NULL;
        const size_t nbytes = t != NULL ? padded(t->nbytes) : 0;
        size_t end = 0;
        RP_TRY(rp_add_size(&end, p == NULL ? 0 : p->file_bytes, nbytes));
        if (p == NULL || (w->max_part_bytes > 0 && end > w->max_part_bytes && p->n > 0)) {
            RP_TRY(rp_grow(&w->parts, &w->part_capacity, w->n_parts + 1, sizeof(*w->parts)));
            p = &w->parts[w->n_parts++];
            *p = (part){.first = i};
            end = nbytes;
        }
        if (t != NULL) {
            t->part = (int)w->n_parts - 1;
            t->offset = p->file_bytes;
            p->file_bytes = end;
            p->n++;
        }
    }
    if (w->n_parts > UINT16_MAX) {
        st = RP_FAIL(RP_ERR_CONFIG, "a model split into %zu files, more than %d", w->n_parts,
                     UINT16_MAX);
    }
out:
    return st;
}

static rp_status append_u16_key(bytes *to, const char *key, size_t value)
{
    rp_status st = RP_OK;
    const uint16_t half = (uint16_t)value;

    RP_TRY(append_string(to, key));
    RP_TRY(append_u32(to, RP_GGUF_U16));
    RP_TRY(append(to, &half, sizeof(half)));
out:
    return st;
}

/* In the order and of the types that llama-gguf-split gives them. */
static rp_status append_split_keys(bytes *to, const rp_gguf_writer *w, size_t index)
{
    rp_status st = RP_OK;

    RP_TRY(append_u16_key(to, "split.no", index));
    RP_TRY(append_u16_key(to, "split.count", w->n_parts));
    RP_TRY(append_string(to, "split.tensors.count"));
    RP_TRY(append_u32(to, RP_GGUF_I32));
    RP_TRY(append_u32(to, (uint32_t)w->n_tensors));
out:
    return st;
}

static rp_status finish_part(rp_gguf_writer *w, size_t index)
{
    rp_status st = RP_OK;
    part *p = &w->parts[index];
    bytes *to = &p->header;
    const int64_t n_split_keys = w->n_parts > 1 ? 3 : 0;

    RP_TRY(append(to, "GGUF", 4));
    RP_TRY(append_u32(to, GGUF_VERSION));
    RP_TRY(append_u64(to, p->n));
    RP_TRY(append_u64(to, (uint64_t)((index == 0 ? w->n_keys : 0) + n_split_keys)));
    if (index == 0) {
        RP_TRY(append(to, w->keys.data, w->keys.nbytes));
    }
    if (n_split_keys > 0) {
        RP_TRY(append_split_keys(to, w, index));
    }
    for (size_t i = p->first; i < p->first + p->n; i++) {
        RP_TRY(append_tensor(to, &w->tensors[i]));
    }
    RP_TRY(append_padding(to));
    for (size_t i = p->first; i < p->first + p->n; i++) {
        w->tensors[i].offset += to->nbytes;
    }
    RP_TRY(rp_add_size(&p->file_bytes, p->file_bytes, to->nbytes));
out:
    return st;
}

rp_status rp_gguf_writer_finish(rp_gguf_writer *writer, const uint8_t **header,
                                size_t *header_bytes)
{
    rp_status st = RP_OK;

    RP_ASSERT(writer->strings_left == 0 && writer->n_parts == 0);
    RP_TRY(deal_tensors(writer));
    for (size_t i = 0; i < writer->n_parts; i++) {
        RP_TRY(finish_part(writer, i));
    }
    *header = rp_gguf_writer_header(writer, 0, header_bytes);
out:
    return st;
}

void rp_gguf_writer_split(rp_gguf_writer *writer, size_t max_part_bytes)
{
    writer->max_part_bytes = max_part_bytes;
}

const rp_gguf_tensor *rp_gguf_writer_tensor(const rp_gguf_writer *writer, int64_t index)
{
    return &writer->tensors[index];
}

size_t rp_gguf_writer_file_bytes(const rp_gguf_writer *writer)
{
    return writer->parts[0].file_bytes;
}

int rp_gguf_writer_part_count(const rp_gguf_writer *writer)
{
    return (int)writer->n_parts;
}

const uint8_t *rp_gguf_writer_header(const rp_gguf_writer *writer, int index, size_t *header_bytes)
{
    *header_bytes = writer->parts[index].header.nbytes;
    return writer->parts[index].header.data;
}

size_t rp_gguf_writer_part_bytes(const rp_gguf_writer *writer, int index)
{
    return writer->parts[index].file_bytes;
}

/* Reader of GGUF headers.
 *
 *   "GGUF" | version u32 | n_tensors u64 | n_kv u64
 *   n_kv      x  key str | value type i32 | value         str: u64 bytes, bytes; array: type, u64 n
 *   n_tensors x  name str | n_dims u32 | ne i64 [n_dims] | ggml type i32 | offset u64
 *   zeros up to the alignment | tensor data
 *
 * The header's length is not known before it is parsed, so a cursor reads ahead in growing steps
 * and values are noted as offsets until the buffer has its last address. Rules and limits are those
 * of ggml's src/gguf.cpp: among them, tensors lie in the order of their infos, with no gaps but
 * padding. */
#include "formats/gguf_private.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"

#define MAX_STRING_BYTES ((uint64_t)1 << 30)
#define MAX_ARRAY_ELEMS ((uint64_t)1 << 30)
#define MIN_KV_BYTES 14     /* u64 length, one character, type, one byte of value */
#define MIN_TENSOR_BYTES 25 /* u64 length, one character, no dims, type, offset */
#define FIRST_READ_BYTES ((size_t)1 << 16)

typedef struct cursor {
    rp_gguf *gguf;
    size_t pos;
    const char *item; /* key or tensor being read, for messages */
    size_t *value_at; /* [n_kvs] offset of each value in the file */
    size_t kv_capacity, value_capacity, tensor_capacity;
    int64_t n_kvs, n_tensors; /* what the head says */
} cursor;

static const struct {
    const char *name;
    size_t nbytes; /* 0: not of fixed size */
} value_types[RP_GGUF_VALUE_TYPE_COUNT] = {
    [RP_GGUF_U8] = {"u8", 1},       [RP_GGUF_I8] = {"i8", 1},     [RP_GGUF_U16] = {"u16", 2},
    [RP_GGUF_I16] = {"i16", 2},     [RP_GGUF_U32] = {"u32", 4},   [RP_GGUF_I32] = {"i32", 4},
    [RP_GGUF_F32] = {"f32", 4},     [RP_GGUF_BOOL] = {"bool", 1}, [RP_GGUF_STRING] = {"str", 0},
    [RP_GGUF_ARRAY] = {"array", 0}, [RP_GGUF_U64] = {"u64", 8},   [RP_GGUF_I64] = {"i64", 8},
    [RP_GGUF_F64] = {"f64", 8},
};

const char *rp_gguf_value_type_name(rp_gguf_value_type type)
{
    return value_types[type].name;
}

static int compare_keys(const void *a, const void *b)
{
    const rp_gguf_kv *const *left = a;
    const rp_gguf_kv *const *right = b;

    return strcmp((*left)->key, (*right)->key);
}

static int compare_names(const void *a, const void *b)
{
    const rp_gguf_tensor *const *left = a;
    const rp_gguf_tensor *const *right = b;

    return strcmp((*left)->name, (*right)->name);
}

/* alignment is a power of two; value is at most a file's size away from overflow. */
static size_t round_up(size_t value, size_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

/* ---- Cursor ---- */

/* Makes nbytes at the cursor readable. */
static rp_status need(cursor *c, size_t nbytes)
{
    rp_status st = RP_OK;
    rp_gguf *g = c->gguf;
    const size_t left = g->file_bytes - c->pos;

    if (nbytes > left) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: %s: cut header: want %zu bytes at %zu, %zu are left",
                     g->path, c->item, nbytes, c->pos, left);
        goto out;
    }
    if (c->pos + nbytes > g->loaded) {
        const size_t ahead = RP_MAX(2 * g->loaded, FIRST_READ_BYTES);
        const size_t want = RP_MIN(RP_MAX(c->pos + nbytes, ahead), g->file_bytes);
        RP_TRY(rp_grow(&g->header, &g->capacity, want, 1));
        RP_TRY(rp_fs_pread(g->fd, g->path, g->header + g->loaded, want - g->loaded, g->loaded));
        g->loaded = want;
    }
out:
    return st;
}

static rp_status take_bytes(cursor *c, size_t nbytes, size_t *at)
{
    rp_status st = RP_OK;

    RP_TRY(need(c, nbytes));
    *at = c->pos;
    c->pos += nbytes;
out:
    return st;
}

static rp_status take_u32(cursor *c, uint32_t *out)
{
    rp_status st = RP_OK;
    size_t at = 0;

    RP_TRY(take_bytes(c, sizeof(*out), &at));
    memcpy(out, c->gguf->header + at, sizeof(*out));
out:
    return st;
}

static rp_status take_u64(cursor *c, uint64_t *out)
{
    rp_status st = RP_OK;
    size_t at = 0;

    RP_TRY(take_bytes(c, sizeof(*out), &at));
    memcpy(out, c->gguf->header + at, sizeof(*out));
out:
    return st;
}

/* Offset and length of a string's bytes. */
static rp_status take_string(cursor *c, size_t *at, size_t *nbytes)
{
    rp_status st = RP_OK;
    uint64_t length = 0;

    RP_TRY(take_u64(c, &length));
    if (length > MAX_STRING_BYTES) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: %s: string of %llu bytes at %zu, more than 2^30",
                     c->gguf->path, c->item, (unsigned long long)length, c->pos);
        goto out;
    }
    RP_TRY(take_bytes(c, (size_t)length, at));
    *nbytes = (size_t)length;
out:
    return st;
}

/* A key or tensor name; messages print it, so control characters are refused. Caller frees. */
static rp_status take_name(cursor *c, const char *what, int64_t index, size_t max_bytes, char **out)
{
    rp_status st = RP_OK;
    const char *path = c->gguf->path;
    size_t at = 0;
    size_t nbytes = 0;
    char *name = NULL;

    RP_TRY(take_string(c, &at, &nbytes));
    if (nbytes == 0 || nbytes > max_bytes) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: %s %lld has %zu bytes, want 1 to %zu", path, what,
                     (long long)index, nbytes, max_bytes);
        goto out;
    }
    for (size_t i = 0; i < nbytes; i++) {
        if (c->gguf->header[at + i] < 0x20 || c->gguf->header[at + i] == 0x7f) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: %s %lld holds a control character", path, what,
                         (long long)index);
            goto out;
        }
    }
    RP_TRY(rp_alloc(&name, nbytes + 1));
    memcpy(name, c->gguf->header + at, nbytes);
    name[nbytes] = '\0';
    *out = name;
out:
    return st;
}

/* ---- Key-value pairs ---- */

static rp_status take_value_type(cursor *c, const char *key, rp_gguf_value_type *out)
{
    rp_status st = RP_OK;
    uint32_t type = 0;

    RP_TRY(take_u32(c, &type));
    if (type >= RP_GGUF_VALUE_TYPE_COUNT) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key %s: unknown value type %u", c->gguf->path, key, type);
        goto out;
    }
    *out = (rp_gguf_value_type)type;
out:
    return st;
}

static rp_status take_strings(cursor *c, rp_gguf_kv *kv)
{
    rp_status st = RP_OK;
    const size_t start = c->pos;
    const size_t left = c->gguf->file_bytes - c->pos;
    size_t *offset = NULL;
    size_t *nbytes = NULL;

    if ((size_t)kv->count > left / sizeof(uint64_t)) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key %s: %lld strings do not fit into %zu bytes",
                     c->gguf->path, kv->key, (long long)kv->count, left);
        goto out;
    }
    RP_TRY(rp_alloc_array(&offset, (size_t)kv->count, sizeof(*offset)));
    RP_TRY(rp_alloc_array(&nbytes, (size_t)kv->count, sizeof(*nbytes)));
    for (int64_t i = 0; i < kv->count; i++) {
        RP_TRY(take_string(c, &offset[i], &nbytes[i]));
        offset[i] -= start;
    }
out:
    kv->string_offset = offset; /* owned by kv from here on, also after a failure */
    kv->string_bytes = nbytes;
    return st;
}

static rp_status take_value(cursor *c, rp_gguf_kv *kv, size_t *value_at)
{
    rp_status st = RP_OK;
    uint64_t count = 1;
    size_t at = 0;

    RP_TRY(take_value_type(c, kv->key, &kv->type));
    kv->elem_type = kv->type;
    if (kv->type == RP_GGUF_ARRAY) {
        RP_TRY(take_value_type(c, kv->key, &kv->elem_type));
        RP_TRY(take_u64(c, &count));
        if (kv->elem_type == RP_GGUF_ARRAY || count > MAX_ARRAY_ELEMS) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: key %s: array of %llu elements of type %s",
                         c->gguf->path, kv->key, (unsigned long long)count,
                         rp_gguf_value_type_name(kv->elem_type));
            goto out;
        }
    }
    kv->count = (int64_t)count;
    *value_at = c->pos;
    if (kv->elem_type == RP_GGUF_STRING) {
        RP_TRY(take_strings(c, kv));
    } else { /* at most 2^30 elements of 8 bytes: no overflow */
        RP_TRY(take_bytes(c, (size_t)count * value_types[kv->elem_type].nbytes, &at));
    }
    kv->nbytes = c->pos - *value_at;
out:
    return st;
}

/* The table grows with what is read: a count that lies costs no memory. */
static rp_status take_kv(cursor *c)
{
    rp_status st = RP_OK;
    rp_gguf *g = c->gguf;
    const size_t n = (size_t)g->n_kvs + 1;
    rp_gguf_kv *kv = NULL;

    RP_TRY(rp_grow(&g->kvs, &c->kv_capacity, n, sizeof(*g->kvs)));
    RP_TRY(rp_grow(&c->value_at, &c->value_capacity, n, sizeof(*c->value_at)));
    kv = &g->kvs[g->n_kvs];
    memset(kv, 0, sizeof(*kv));
    g->n_kvs++;
    c->item = "keys";
    RP_TRY(take_name(c, "key", g->n_kvs - 1, MAX_STRING_BYTES, &kv->key));
    c->item = kv->key;
    RP_TRY(take_value(c, kv, &c->value_at[g->n_kvs - 1]));
out:
    return st;
}

static rp_status take_kvs(cursor *c)
{
    rp_status st = RP_OK;
    rp_gguf *g = c->gguf;

    while (g->n_kvs < c->n_kvs) {
        RP_TRY(take_kv(c));
    }
    RP_TRY(rp_alloc_array(&g->by_key, (size_t)g->n_kvs, sizeof(*g->by_key)));
    for (int64_t i = 0; i < g->n_kvs; i++) {
        g->by_key[i] = &g->kvs[i];
    }
    qsort(g->by_key, (size_t)g->n_kvs, sizeof(*g->by_key), compare_keys);
    for (int64_t i = 1; i < g->n_kvs; i++) {
        if (compare_keys(&g->by_key[i - 1], &g->by_key[i]) == 0) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: key %s: occurs twice", g->path, g->by_key[i]->key);
            goto out;
        }
    }
out:
    return st;
}

static rp_status read_alignment(rp_gguf *g)
{
    rp_status st = RP_OK;
    int64_t alignment = RP_GGUF_ALIGNMENT;
    const rp_gguf_kv *kv = rp_gguf_kv_find(g, "general.alignment");

    if (kv != NULL && kv->type != RP_GGUF_U32) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key general.alignment: want u32, found %s", g->path,
                     rp_gguf_value_type_name(kv->type));
        goto out;
    }
    RP_TRY(rp_gguf_get_int(&alignment, g, "general.alignment", false));
    if (alignment <= 0 || (alignment & (alignment - 1)) != 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key general.alignment: %lld is no power of two", g->path,
                     (long long)alignment);
        goto out;
    }
    g->alignment = (size_t)alignment;
out:
    return st;
}

/* ---- Tensor infos ---- */

static rp_status take_shape(cursor *c, rp_gguf_tensor *t)
{
    rp_status st = RP_OK;
    uint32_t ndim = 0;
    int64_t elems = 1;

    RP_TRY(take_u32(c, &ndim));
    if (ndim > RP_GGUF_MAX_DIMS) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: %u dimensions, more than %d", c->gguf->path,
                     t->name, ndim, RP_GGUF_MAX_DIMS);
        goto out;
    }
    t->ndim = (int)ndim;
    for (int i = 0; i < RP_GGUF_MAX_DIMS; i++) {
        t->ne[i] = 1;
    }
    for (int i = 0; i < t->ndim; i++) {
        uint64_t ne = 0;
        RP_TRY(take_u64(c, &ne));
        if (ne < 1 || ne > INT64_MAX || __builtin_mul_overflow(elems, (int64_t)ne, &elems)) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: dimension %d of %llu is out of range",
                         c->gguf->path, t->name, i, (unsigned long long)ne);
            goto out;
        }
        t->ne[i] = (int64_t)ne;
    }
out:
    return st;
}

static rp_status take_type(cursor *c, rp_gguf_tensor *t)
{
    rp_status st = RP_OK;
    const char *path = c->gguf->path;
    uint32_t id = 0;
    size_t blocks = 0;

    RP_TRY(take_u32(c, &id));
    t->type = rp_gguf_block_type_of(id);
    if (t->type == NULL) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: unknown type %u", path, t->name, id);
        goto out;
    }
    if (t->ne[0] % t->type->block_elems != 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: rows of %lld do not fill %s blocks of %lld",
                     path, t->name, (long long)t->ne[0], t->type->name,
                     (long long)t->type->block_elems);
        goto out;
    }
    blocks = (size_t)(t->ne[0] / t->type->block_elems) * (size_t)t->ne[1] * (size_t)t->ne[2] *
             (size_t)t->ne[3]; /* no more than the elements, which fit into 63 bits */
    if (__builtin_mul_overflow(blocks, t->type->block_bytes, &t->nbytes) ||
        t->nbytes > c->gguf->file_bytes) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: larger than the file of %zu bytes", path,
                     t->name, c->gguf->file_bytes);
        goto out;
    }
out:
    return st;
}

static rp_status take_tensor(cursor *c, int64_t index, rp_gguf_tensor *t, size_t expected_offset)
{
    rp_status st = RP_OK;
    char *name = NULL;
    uint64_t offset = 0;

    c->item = "tensors";
    RP_TRY(take_name(c, "tensor name", index, sizeof(t->name) - 1, &name));
    memcpy(t->name, name, strlen(name) + 1);
    c->item = t->name;
    RP_TRY(take_shape(c, t));
    RP_TRY(take_type(c, t));
    RP_TRY(take_u64(c, &offset));
    if (offset != expected_offset) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: offset %llu, want %zu behind the one before",
                     c->gguf->path, t->name, (unsigned long long)offset, expected_offset);
        goto out;
    }
    t->offset = (size_t)offset;
out:
    free(name);
    return st;
}

rp_status rp_gguf_index_tensors(rp_gguf *g)
{
    rp_status st = RP_OK;

    free(g->by_name);
    g->by_name = NULL;
    RP_TRY(rp_alloc_array(&g->by_name, (size_t)g->n_tensors, sizeof(*g->by_name)));
    for (int64_t i = 0; i < g->n_tensors; i++) {
        g->by_name[i] = &g->tensors[i];
    }
    qsort(g->by_name, (size_t)g->n_tensors, sizeof(*g->by_name), compare_names);
    for (int64_t i = 1; i < g->n_tensors; i++) {
        if (compare_names(&g->by_name[i - 1], &g->by_name[i]) == 0) {
            st =
                RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: occurs twice", g->path, g->by_name[i]->name);
            goto out;
        }
    }
out:
    return st;
}

/* Offsets become those in the file; all data must be there (padding behind the last need not). */
static rp_status place_tensors(cursor *c)
{
    rp_status st = RP_OK;
    rp_gguf *g = c->gguf;
    const size_t data_start = round_up(c->pos, g->alignment);

    for (int64_t i = 0; i < g->n_tensors; i++) {
        rp_gguf_tensor *t = &g->tensors[i];
        if (data_start > g->file_bytes || t->offset > g->file_bytes - data_start ||
            t->nbytes > g->file_bytes - data_start - t->offset) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: cut file: %zu bytes end behind byte %zu",
                         g->path, t->name, t->nbytes, g->file_bytes);
            goto out;
        }
        t->offset += data_start;
    }
    RP_TRY(rp_gguf_index_tensors(g));
out:
    return st;
}

static rp_status take_tensors(cursor *c)
{
    rp_status st = RP_OK;
    rp_gguf *g = c->gguf;
    size_t end = 0;

    while (g->n_tensors < c->n_tensors) {
        rp_gguf_tensor *t = NULL;
        RP_TRY(rp_grow(&g->tensors, &c->tensor_capacity, (size_t)g->n_tensors + 1,
                       sizeof(*g->tensors)));
        t = &g->tensors[g->n_tensors];
        memset(t, 0, sizeof(*t));
        RP_TRY(take_tensor(c, g->n_tensors, t, end));
        g->n_tensors++;
        /* both terms are below 2^63, and the sum is compared with the next offset */
        end = round_up(end + t->nbytes, g->alignment);
        if (end > g->file_bytes + g->alignment) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: cut file: data ends behind byte %zu",
                         g->path, t->name, g->file_bytes);
            goto out;
        }
    }
    RP_TRY(place_tensors(c));
out:
    return st;
}

/* ---- The whole ---- */

static rp_status take_count(cursor *c, const char *what, size_t min_bytes, int64_t *out)
{
    rp_status st = RP_OK;
    uint64_t count = 0;

    RP_TRY(take_u64(c, &count));
    if (count > (c->gguf->file_bytes - c->pos) / min_bytes) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: %llu %s do not fit into %zu bytes", c->gguf->path,
                     (unsigned long long)count, what, c->gguf->file_bytes);
        goto out;
    }
    *out = (int64_t)count;
out:
    return st;
}

static rp_status take_head(cursor *c)
{
    rp_status st = RP_OK;
    rp_gguf *g = c->gguf;
    size_t at = 0;

    RP_TRY(take_bytes(c, 4, &at));
    if (memcmp(g->header, "GGUF", 4) != 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: not a GGUF file: no GGUF at its start", g->path);
        goto out;
    }
    RP_TRY(take_u32(c, &g->version));
    if (g->version != 2 && g->version != 3) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: GGUF version %u%s, want 2 or 3", g->path, g->version,
                     (g->version & 0xffffu) == 0 ? " (a big-endian file)" : "");
        goto out;
    }
    RP_TRY(take_count(c, "tensors", MIN_TENSOR_BYTES, &c->n_tensors));
    RP_TRY(take_count(c, "keys", MIN_KV_BYTES, &c->n_kvs));
out:
    return st;
}

static rp_status parse(rp_gguf *g)
{
    rp_status st = RP_OK;
    cursor c = {.gguf = g, .item = "header"};

    RP_TRY(take_head(&c));
    RP_TRY(take_kvs(&c));
    for (int64_t i = 0; i < g->n_kvs; i++) {
        g->kvs[i].data = g->header + c.value_at[i];
    }
    RP_TRY(read_alignment(g));
    RP_TRY(take_tensors(&c));
    for (int64_t i = 0; i < g->n_kvs; i++) { /* the buffer has its last address now */
        g->kvs[i].data = g->header + c.value_at[i];
    }
    g->header_bytes = c.pos;
out:
    free(c.value_at);
    return st;
}

rp_status rp_gguf_open_file(rp_gguf **out, const char *path)
{
    rp_status st = RP_OK;
    rp_gguf *g = NULL;

    *out = NULL;
    RP_TRY(rp_calloc(&g, 1, sizeof(*g)));
    g->fd = -1;
    RP_TRY(rp_strdup(&g->path, path));
    RP_TRY(rp_fs_open_read(&g->fd, path));
    RP_TRY(rp_fs_size(&g->file_bytes, g->fd, path));
    RP_TRY(parse(g));
    *out = g;
    g = NULL;
out:
    rp_gguf_close(&g);
    return st;
}

rp_status rp_gguf_parse(rp_gguf **out, const void *data, size_t nbytes, const char *origin)
{
    rp_status st = RP_OK;
    rp_gguf *g = NULL;

    *out = NULL;
    RP_TRY(rp_calloc(&g, 1, sizeof(*g)));
    g->fd = -1;
    RP_TRY(rp_strdup(&g->path, origin));
    RP_TRY(rp_alloc(&g->header, nbytes));
    if (nbytes > 0) {
        memcpy(g->header, data, nbytes);
    }
    g->file_bytes = nbytes;
    g->loaded = nbytes;
    g->capacity = nbytes;
    RP_TRY(parse(g));
    *out = g;
    g = NULL;
out:
    rp_gguf_close(&g);
    return st;
}

void rp_gguf_close(rp_gguf **gguf)
{
    rp_gguf *g = *gguf;

    *gguf = NULL;
    if (g == NULL) {
        return;
    }
    for (int i = 0; i < g->n_more; i++) {
        rp_gguf_close(&g->more[i]);
    }
    free(g->more);
    for (int64_t i = 0; i < g->n_kvs; i++) {
        free(g->kvs[i].key);
        free(g->kvs[i].string_offset);
        free(g->kvs[i].string_bytes);
    }
    free(g->kvs);
    free(g->by_key);
    free(g->tensors);
    free(g->by_name);
    free(g->header);
    free(g->path);
    if (g->fd >= 0) {
        (void)close(g->fd);
    }
    free(g);
}

const char *rp_gguf_path(const rp_gguf *gguf)
{
    return gguf->path;
}

size_t rp_gguf_file_bytes(const rp_gguf *gguf)
{
    size_t nbytes = gguf->file_bytes;

    for (int i = 0; i < gguf->n_more; i++) {
        nbytes += gguf->more[i]->file_bytes;
    }
    return nbytes;
}

const uint8_t *rp_gguf_header(const rp_gguf *gguf, size_t *nbytes)
{
    *nbytes = gguf->header_bytes;
    return gguf->header;
}

uint32_t rp_gguf_version(const rp_gguf *gguf)
{
    return gguf->version;
}

int64_t rp_gguf_kv_count(const rp_gguf *gguf)
{
    return gguf->n_kvs;
}

const rp_gguf_kv *rp_gguf_kv_at(const rp_gguf *gguf, int64_t index)
{
    return &gguf->kvs[index];
}

static int compare_key(const void *key, const void *item)
{
    return strcmp(key, (*(const rp_gguf_kv *const *)item)->key);
}

const rp_gguf_kv *rp_gguf_kv_find(const rp_gguf *gguf, const char *key)
{
    const rp_gguf_kv *const *found =
        bsearch(key, gguf->by_key, (size_t)gguf->n_kvs, sizeof(const rp_gguf_kv *), compare_key);

    return found == NULL ? NULL : *found;
}

int64_t rp_gguf_tensor_count(const rp_gguf *gguf)
{
    return gguf->n_tensors;
}

const rp_gguf_tensor *rp_gguf_tensor_at(const rp_gguf *gguf, int64_t index)
{
    return &gguf->tensors[index];
}

static int compare_name(const void *name, const void *item)
{
    return strcmp(name, (*(const rp_gguf_tensor *const *)item)->name);
}

const rp_gguf_tensor *rp_gguf_tensor_find(const rp_gguf *gguf, const char *name)
{
    const rp_gguf_tensor *const *found = bsearch(name, gguf->by_name, (size_t)gguf->n_tensors,
                                                 sizeof(const rp_gguf_tensor *), compare_name);

    return found == NULL ? NULL : *found;
}

rp_status rp_gguf_read(const rp_gguf *gguf, const rp_gguf_tensor *tensor, size_t offset,
                       size_t nbytes, void *dst)
{
    RP_ASSERT(offset <= tensor->nbytes && nbytes <= tensor->nbytes - offset);
    if (tensor->part > 0) {
        gguf = gguf->more[tensor->part - 1];
    }
    if (gguf->fd < 0) { /* the whole file is in memory */
        memcpy(dst, gguf->header + tensor->offset + offset, nbytes);
        return RP_OK;
    }
    return rp_fs_pread(gguf->fd, gguf->path, dst, nbytes, tensor->offset + offset);
}

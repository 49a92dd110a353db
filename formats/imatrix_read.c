/* Readers of importance matrices. No length is trusted: what an entry wants must be in the file. */
#include "formats/imatrix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "formats/gguf.h"

#define SUMS_SUFFIX ".in_sum2"
#define COUNTS_SUFFIX ".counts"
#define MAX_TOKENS 9007199254740992.0 /* 2^53 */
#define MIN_DAT_ENTRY_BYTES 17        /* three numbers, a character, a value */

static rp_status check_sums(const rp_imatrix_entry *entry, const char *path)
{
    for (int64_t i = 0; i < entry->n_values; i++) {
        if (!isfinite(entry->sums[i]) || entry->sums[i] < 0) {
            return RP_FAIL(RP_ERR_FORMAT, "%s: entry %s: value %lld is %g, no sum of squares", path,
                           entry->name, (long long)i, (double)entry->sums[i]);
        }
    }
    return RP_OK;
}

/* ---- GGUF ---- */

/* The weight's name in front of a suffix; false when the tensor's name does not end in it. */
static bool weight_name(char out[RP_GGUF_NAME_BYTES], const char *tensor, const char *suffix)
{
    const size_t length = strlen(tensor) - strlen(suffix);

    if (!rp_ends_with(tensor, suffix)) {
        return false;
    }
    memcpy(out, tensor, length);
    out[length] = '\0';
    return true;
}

/* The tensor of the same weight with the other suffix. */
static rp_status find_partner(const rp_gguf_tensor **out, const rp_gguf *gguf, const char *weight,
                              const char *suffix)
{
    char name[RP_GGUF_NAME_BYTES + 16];
    const size_t length = strlen(weight);

    memcpy(name, weight, length);
    memcpy(name + length, suffix, strlen(suffix) + 1);
    *out = rp_gguf_tensor_find(gguf, name);
    if (*out == NULL) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: entry %s: no tensor %s", rp_gguf_path(gguf), weight,
                       name);
    }
    if (strcmp((*out)->type->name, "F32") != 0) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: want F32, found %s", rp_gguf_path(gguf), name,
                       (*out)->type->name);
    }
    return RP_OK;
}

static rp_status read_counts(rp_imatrix_entry *entry, const rp_gguf *gguf,
                             const rp_gguf_tensor *tensor)
{
    rp_status st = RP_OK;
    float *counts = NULL;

    RP_TRY(rp_alloc(&counts, tensor->nbytes));
    RP_TRY(rp_gguf_read(gguf, tensor, 0, tensor->nbytes, counts));
    for (int64_t i = 0; i < entry->n_mats; i++) {
        if (!(counts[i] >= 0) || (double)counts[i] > MAX_TOKENS) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: entry %s: count %lld is %g, no number of tokens",
                         rp_gguf_path(gguf), entry->name, (long long)i, (double)counts[i]);
            goto out;
        }
        entry->counts[i] = llroundf(counts[i]);
    }
out:
    free(counts);
    return st;
}

static rp_status read_gguf_entry(rp_imatrix *m, const rp_gguf *gguf, const char *weight)
{
    rp_status st = RP_OK;
    const char *path = rp_gguf_path(gguf);
    const rp_gguf_tensor *sums = NULL;
    const rp_gguf_tensor *counts = NULL;
    rp_imatrix_entry *entry = NULL;
    int64_t n_values = 0;
    int64_t n_mats = 0;

    RP_TRY(find_partner(&sums, gguf, weight, SUMS_SUFFIX));
    RP_TRY(find_partner(&counts, gguf, weight, COUNTS_SUFFIX));
    n_values = (int64_t)(sums->nbytes / sizeof(float));
    n_mats = (int64_t)(counts->nbytes / sizeof(float));
    if (n_values % n_mats != 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: entry %s: %lld values do not share %lld counts", path,
                     weight, (long long)n_values, (long long)n_mats);
        goto out;
    }
    RP_TRY(rp_imatrix_add(&entry, m, weight, n_values, n_mats));
    RP_TRY(rp_gguf_read(gguf, sums, 0, sums->nbytes, entry->sums));
    RP_TRY(check_sums(entry, path));
    RP_TRY(read_counts(entry, gguf, counts));
out:
    return st;
}

static rp_status read_u32(int64_t *out, const rp_gguf *gguf, const char *key)
{
    rp_status st = RP_OK;

    RP_TRY(rp_gguf_get_int(out, gguf, key, true));
    if (*out < 0 || *out > UINT32_MAX) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key %s: %lld is out of range", rp_gguf_path(gguf), key,
                     (long long)*out);
    }
out:
    return st;
}

static rp_status read_keys(rp_imatrix *m, const rp_gguf *gguf)
{
    rp_status st = RP_OK;
    const rp_gguf_kv *datasets = NULL;
    char *name = NULL;

    RP_TRY(read_u32(&m->chunk_count, gguf, "imatrix.chunk_count"));
    RP_TRY(read_u32(&m->chunk_size, gguf, "imatrix.chunk_size"));
    RP_TRY(rp_gguf_get_array(&datasets, gguf, "imatrix.datasets", RP_GGUF_STRING, true));
    for (int64_t i = 0; i < datasets->count; i++) {
        const rp_gguf_string text = rp_gguf_kv_string(datasets, i);
        RP_TRY(rp_strprintf(&name, "%.*s", (int)text.nbytes, text.data));
        RP_TRY(rp_imatrix_add_dataset(m, name));
        free(name);
        name = NULL;
    }
out:
    free(name);
    return st;
}

static rp_status read_gguf(rp_imatrix *m, const rp_gguf *gguf)
{
    rp_status st = RP_OK;
    char weight[RP_GGUF_NAME_BYTES];

    for (int64_t i = 0; i < rp_gguf_tensor_count(gguf); i++) {
        const char *name = rp_gguf_tensor_at(gguf, i)->name;
        const rp_gguf_tensor *partner = NULL;
        if (weight_name(weight, name, SUMS_SUFFIX)) {
            RP_TRY(read_gguf_entry(m, gguf, weight));
        } else if (weight_name(weight, name, COUNTS_SUFFIX)) {
            RP_TRY(find_partner(&partner, gguf, weight, SUMS_SUFFIX));
        }
    }
    if (m->n == 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: not an importance matrix: no tensor ends in %s",
                     rp_gguf_path(gguf), SUMS_SUFFIX);
        goto out;
    }
    RP_TRY(read_keys(m, gguf));
out:
    return st;
}

/* ---- The older kind ---- */

typedef struct dat_cursor {
    const char *path;
    const uint8_t *data;
    size_t nbytes, pos;
} dat_cursor;

static rp_status take_i32(dat_cursor *c, const char *what, int32_t *out)
{
    if (c->nbytes - c->pos < sizeof(*out)) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: cut file: no %s at %zu", c->path, what, c->pos);
    }
    memcpy(out, c->data + c->pos, sizeof(*out));
    c->pos += sizeof(*out);
    return RP_OK;
}

/* A text of a length that stands before it; caller frees. */
static rp_status take_text(dat_cursor *c, const char *what, int32_t min, int32_t max, char **out)
{
    rp_status st = RP_OK;
    int32_t length = 0;
    char *text = NULL;

    RP_TRY(take_i32(c, what, &length));
    if (length < min || length > max || (size_t)length > c->nbytes - c->pos) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: %s of %d bytes at %zu, want %d to %lld", c->path, what,
                     (int)length, c->pos, (int)min,
                     (long long)RP_MIN((size_t)max, c->nbytes - c->pos));
        goto out;
    }
    RP_TRY(rp_alloc(&text, (size_t)length + 1));
    memcpy(text, c->data + c->pos, (size_t)length);
    text[length] = '\0';
    for (int32_t i = 0; i < length; i++) {
        if ((uint8_t)text[i] < 0x20 || text[i] == 0x7f) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: %s at %zu holds a control character", c->path, what,
                         c->pos);
            goto out;
        }
    }
    c->pos += (size_t)length;
    *out = text;
    text = NULL;
out:
    free(text);
    return st;
}

static rp_status take_dat_entry(dat_cursor *c, rp_imatrix *m)
{
    rp_status st = RP_OK;
    char *name = NULL;
    int32_t n_chunks = 0;
    int32_t n_values = 0;
    rp_imatrix_entry *entry = NULL;

    RP_TRY(take_text(c, "entry's name", 1, RP_GGUF_NAME_BYTES - 1, &name));
    RP_TRY(take_i32(c, "number of chunks", &n_chunks));
    RP_TRY(take_i32(c, "number of values", &n_values));
    if (n_chunks < 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: entry %s: %d chunks", c->path, name, (int)n_chunks);
        goto out;
    }
    if (n_values < 1 || (size_t)n_values > (c->nbytes - c->pos) / sizeof(float)) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: entry %s: %d values do not fit into the %zu bytes left",
                     c->path, name, (int)n_values, c->nbytes - c->pos);
        goto out;
    }
    RP_TRY(rp_imatrix_add(&entry, m, name, n_values, 1));
    memcpy(entry->sums, c->data + c->pos, (size_t)n_values * sizeof(float));
    c->pos += (size_t)n_values * sizeof(float);
    for (int32_t i = 0; i < n_values; i++) {
        entry->sums[i] *= RP_IMATRIX_DAT_CHUNK;
    }
    /* Values of no chunks are taken as they stand. */
    entry->counts[0] = RP_MAX((int64_t)n_chunks, 1) * RP_IMATRIX_DAT_CHUNK;
    RP_TRY(check_sums(entry, c->path));
out:
    free(name);
    return st;
}

/* Chunks and data set stand at the end, or nothing, or the chunks alone. */
static rp_status take_dat_trailer(dat_cursor *c, rp_imatrix *m)
{
    rp_status st = RP_OK;
    int32_t n_chunks = 0;
    char *dataset = NULL;

    if (c->pos == c->nbytes) {
        return RP_OK;
    }
    RP_TRY(take_i32(c, "number of chunks", &n_chunks));
    if (n_chunks < 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: %d chunks", c->path, (int)n_chunks);
        goto out;
    }
    m->chunk_count = n_chunks;
    if (c->pos == c->nbytes) {
        return RP_OK;
    }
    RP_TRY(take_text(c, "name of a data set", 0, INT32_MAX, &dataset));
    if (*dataset != '\0') {
        RP_TRY(rp_imatrix_add_dataset(m, dataset));
    }
    if (c->pos != c->nbytes) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: %zu bytes behind its end", c->path, c->nbytes - c->pos);
    }
out:
    free(dataset);
    return st;
}

static rp_status read_dat(rp_imatrix *m, const void *data, size_t nbytes, const char *path)
{
    rp_status st = RP_OK;
    dat_cursor c = {.path = path, .data = data, .nbytes = nbytes};
    int32_t n = 0;

    m->is_dat = true;
    RP_TRY(take_i32(&c, "number of entries", &n));
    if (n < 1 || (size_t)n > (nbytes - c.pos) / MIN_DAT_ENTRY_BYTES) {
        st = RP_FAIL(RP_ERR_FORMAT,
                     "%s: not an importance matrix: no GGUF at its start, and %d entries do not "
                     "fit into %zu bytes",
                     path, (int)n, nbytes);
        goto out;
    }
    for (int32_t i = 0; i < n; i++) {
        RP_TRY(take_dat_entry(&c, m));
    }
    RP_TRY(take_dat_trailer(&c, m));
out:
    return st;
}

/* ---- Either ---- */

/* Exactly one of gguf and data is given. */
static rp_status read_any(rp_imatrix **out, const rp_gguf *gguf, const void *data, size_t nbytes,
                          const char *path)
{
    rp_status st = RP_OK;
    rp_imatrix *m = NULL;

    RP_TRY(rp_imatrix_create(&m));
    if (gguf != NULL) {
        RP_TRY(read_gguf(m, gguf));
    } else {
        RP_TRY(read_dat(m, data, nbytes, path));
    }
    st = rp_imatrix_seal(m);
    if (st != RP_OK) {
        st = rp_error_prefix(st, "%s", path);
        goto out;
    }
    *out = m;
    m = NULL;
out:
    rp_imatrix_destroy(&m);
    return st;
}

static bool is_gguf(const void *data, size_t nbytes)
{
    return nbytes >= 4 && memcmp(data, "GGUF", 4) == 0;
}

rp_status rp_imatrix_parse(rp_imatrix **out, const void *data, size_t nbytes, const char *origin)
{
    rp_status st = RP_OK;
    rp_gguf *gguf = NULL;

    *out = NULL;
    if (is_gguf(data, nbytes)) {
        RP_TRY(rp_gguf_parse(&gguf, data, nbytes, origin));
    }
    RP_TRY(read_any(out, gguf, data, nbytes, origin));
out:
    rp_gguf_close(&gguf);
    return st;
}

rp_status rp_imatrix_open(rp_imatrix **out, const char *path)
{
    rp_status st = RP_OK;
    int fd = -1;
    char magic[4] = "";
    rp_gguf *gguf = NULL;
    char *data = NULL;
    size_t nbytes = 0;

    *out = NULL;
    RP_TRY(rp_fs_open_read(&fd, path));
    if (!RP_FAULT("read") && read(fd, magic, sizeof(magic)) == (ssize_t)sizeof(magic) &&
        is_gguf(magic, sizeof(magic))) {
        RP_TRY(rp_gguf_open(&gguf, path));
    } else {
        RP_TRY(rp_fs_read_file(&data, &nbytes, path, SIZE_MAX - 1));
    }
    RP_TRY(read_any(out, gguf, data, nbytes, path));
out:
    if (fd >= 0) {
        (void)close(fd);
    }
    rp_gguf_close(&gguf);
    free(data);
    return st;
}

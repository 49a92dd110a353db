/* Writers of importance matrices: a file is made in memory and put in place as a whole. */
#include "formats/imatrix.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "formats/gguf.h"

/* ---- GGUF ---- */

static rp_status put_keys(rp_gguf_writer *w, const rp_imatrix *m)
{
    rp_status st = RP_OK;

    RP_TRY(rp_gguf_put_string(w, "general.type", "imatrix"));
    RP_TRY(rp_gguf_put_strings(w, "imatrix.datasets", (int64_t)m->n_datasets));
    for (size_t i = 0; i < m->n_datasets; i++) {
        RP_TRY(rp_gguf_add_string(w, m->datasets[i]));
    }
    RP_TRY(rp_gguf_put_u32(w, "imatrix.chunk_count", (uint32_t)m->chunk_count));
    RP_TRY(rp_gguf_put_u32(w, "imatrix.chunk_size", (uint32_t)m->chunk_size));
out:
    return st;
}

static rp_status add_entry_tensors(rp_gguf_writer *w, const rp_imatrix_entry *entry)
{
    rp_status st = RP_OK;
    const rp_gguf_block_type *f32 = rp_gguf_block_type_find("F32");
    const int64_t sums_shape[2] = {entry->n_values / entry->n_mats, entry->n_mats};
    const int64_t counts_shape[2] = {1, entry->n_mats};
    const int ndim = entry->n_mats > 1 ? 2 : 1; /* trailing dimensions of 1 are not stored */
    char *name = NULL;

    RP_TRY(rp_strprintf(&name, "%s.in_sum2", entry->name));
    RP_TRY(rp_gguf_add_tensor(w, name, f32, ndim, sums_shape));
    free(name);
    name = NULL;
    RP_TRY(rp_strprintf(&name, "%s.counts", entry->name));
    RP_TRY(rp_gguf_add_tensor(w, name, f32, ndim, counts_shape));
out:
    free(name);
    return st;
}

/* Tensors 2 i and 2 i + 1 of the writer are entry i's. */
static void fill_tensors(uint8_t *file, const rp_gguf_writer *w, const rp_imatrix *m)
{
    for (size_t i = 0; i < m->n; i++) {
        const rp_imatrix_entry *entry = &m->entries[i];
        const rp_gguf_tensor *sums = rp_gguf_writer_tensor(w, 2 * (int64_t)i);
        const rp_gguf_tensor *counts = rp_gguf_writer_tensor(w, 2 * (int64_t)i + 1);
        memcpy(file + sums->offset, entry->sums, sums->nbytes);
        for (int64_t k = 0; k < entry->n_mats; k++) {
            const float count = (float)entry->counts[k];
            memcpy(file + counts->offset + (size_t)k * sizeof(count), &count, sizeof(count));
        }
    }
}

static rp_status make_gguf(uint8_t **out, size_t *nbytes, const rp_imatrix *m)
{
    rp_status st = RP_OK;
    rp_gguf_writer *w = NULL;
    const uint8_t *header = NULL;
    size_t header_bytes = 0;

    RP_TRY(rp_gguf_writer_create(&w));
    RP_TRY(put_keys(w, m));
    for (size_t i = 0; i < m->n; i++) {
        RP_TRY(add_entry_tensors(w, &m->entries[i]));
    }
    RP_TRY(rp_gguf_writer_finish(w, &header, &header_bytes));
    *nbytes = rp_gguf_writer_file_bytes(w);
    RP_TRY(rp_calloc(out, *nbytes, 1));
    memcpy(*out, header, header_bytes);
    fill_tensors(*out, w, m);
out:
    rp_gguf_writer_destroy(&w);
    return st;
}

/* ---- The older kind ---- */

typedef struct dat_file {
    uint8_t *data;
    size_t nbytes, capacity;
} dat_file;

static rp_status append(dat_file *to, const void *data, size_t nbytes)
{
    rp_status st = RP_OK;

    RP_TRY(rp_grow(&to->data, &to->capacity, to->nbytes + nbytes, 1));
    memcpy(to->data + to->nbytes, data, nbytes);
    to->nbytes += nbytes;
out:
    return st;
}

static rp_status append_i32(dat_file *to, const char *what, int64_t value)
{
    const int32_t narrow = (int32_t)value;

    if (value > INT32_MAX) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: %lld does not fit into a .dat file", what,
                       (long long)value);
    }
    return append(to, &narrow, sizeof(narrow));
}

static rp_status append_text(dat_file *to, const char *text)
{
    rp_status st = RP_OK;

    RP_TRY(append_i32(to, text, (int64_t)strlen(text)));
    RP_TRY(append(to, text, strlen(text)));
out:
    return st;
}

static int64_t most_tokens(const rp_imatrix_entry *entry)
{
    int64_t most = 0;

    for (int64_t i = 0; i < entry->n_mats; i++) {
        most = RP_MAX(most, entry->counts[i]);
    }
    return most;
}

/* Mean squares times a number of chunks, rounded up so that it is never zero. */
static rp_status append_entry(dat_file *to, const rp_imatrix_entry *entry, int64_t chunk_size)
{
    rp_status st = RP_OK;
    const int64_t n_chunks = RP_DIV_UP(most_tokens(entry), chunk_size);
    float *values = NULL;

    RP_TRY(append_text(to, entry->name));
    RP_TRY(append_i32(to, entry->name, n_chunks));
    RP_TRY(append_i32(to, entry->name, entry->n_values));
    RP_TRY(rp_alloc_array(&values, (size_t)entry->n_values, sizeof(*values)));
    rp_imatrix_importance(entry, values);
    for (int64_t i = 0; i < entry->n_values; i++) {
        values[i] *= (float)n_chunks;
    }
    RP_TRY(append(to, values, (size_t)entry->n_values * sizeof(*values)));
out:
    free(values);
    return st;
}

static rp_status make_dat(dat_file *to, const rp_imatrix *m)
{
    rp_status st = RP_OK;
    int64_t n = 0;

    for (size_t i = 0; i < m->n; i++) {
        n += most_tokens(&m->entries[i]) > 0;
    }
    RP_TRY(append_i32(to, "entries", n));
    for (size_t i = 0; i < m->n; i++) {
        if (most_tokens(&m->entries[i]) > 0) {
            RP_TRY(append_entry(to, &m->entries[i], RP_MAX(m->chunk_size, 1)));
        }
    }
    RP_TRY(append_i32(to, "chunks", m->chunk_count));
    RP_TRY(append_text(to, m->n_datasets > 0 ? m->datasets[m->n_datasets - 1] : ""));
out:
    return st;
}

/* ---- Either ---- */

rp_status rp_imatrix_write(const rp_imatrix *imatrix, const char *path)
{
    rp_status st = RP_OK;
    dat_file file = {0};

    if (rp_ends_with(path, ".dat")) {
        st = make_dat(&file, imatrix);
    } else {
        st = make_gguf(&file.data, &file.nbytes, imatrix);
    }
    if (st != RP_OK) {
        st = rp_error_prefix(st, "%s", path);
        goto out;
    }
    RP_TRY(rp_fs_write_file(path, file.data, file.nbytes));
out:
    free(file.data);
    return st;
}

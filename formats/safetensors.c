/* Reader of safetensors files: every rule of the format is checked when the file is opened, so that
 * later reads can trust names, shapes and ranges. Source: the format's README and reference reader.
 *
 * Order of checks: length prefix against the file, JSON (duplicates and big numbers are refused by
 * the parser), each entry by itself, then all entries sorted by offset: they must cover the data
 * area without hole or overlap. */
#include "formats/safetensors.h"

#include "base/fs.h"
#include "base/mem.h"
#include "formats/json.h"
#include "formats/safetensors_dtypes.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PREFIX_BYTES 8

struct rp_safetensors {
    char *path;
    int fd;
    size_t file_bytes;
    json_t *header; /* owns the names */
    int64_t n_entries;
    rp_safetensors_entry *entries; /* [n_entries] by name */
};

/* In the reference's order, which the writer sorts by. */
const rp_safetensors_dtype rp_safetensors_dtypes[] = {
    {"BOOL", 8, RP_DTYPE_COUNT},
    {"F4", 4, RP_DTYPE_COUNT},
    {"F6_E2M3", 6, RP_DTYPE_COUNT},
    {"F6_E3M2", 6, RP_DTYPE_COUNT},
    {"U8", 8, RP_U8},
    {"I8", 8, RP_I8},
    {"F8_E5M2", 8, RP_DTYPE_COUNT},
    {"F8_E4M3", 8, RP_DTYPE_COUNT},
    {"F8_E8M0", 8, RP_DTYPE_COUNT},
    {"F8_E4M3FNUZ", 8, RP_DTYPE_COUNT},
    {"F8_E5M2FNUZ", 8, RP_DTYPE_COUNT},
    {"I16", 16, RP_I16},
    {"U16", 16, RP_DTYPE_COUNT},
    {"F16", 16, RP_F16},
    {"BF16", 16, RP_BF16},
    {"I32", 32, RP_I32},
    {"U32", 32, RP_DTYPE_COUNT},
    {"F32", 32, RP_F32},
    {"C64", 64, RP_DTYPE_COUNT},
    {"F64", 64, RP_F64},
    {"I64", 64, RP_I64},
    {"U64", 64, RP_DTYPE_COUNT},
};

int rp_safetensors_dtype_rank(const char *name)
{
    for (size_t i = 0; i < RP_COUNT(rp_safetensors_dtypes); i++) {
        if (strcmp(rp_safetensors_dtypes[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static rp_status read_shape(rp_safetensors_entry *entry, const json_t *shape, const char *path)
{
    entry->ndim = (int)RP_MIN(json_array_size(shape), RP_SAFETENSORS_MAX_DIMS + 1);
    if (!json_is_array(shape) || entry->ndim > RP_SAFETENSORS_MAX_DIMS) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: \"shape\" must be a list of at most %d sizes",
                       path, entry->name, RP_SAFETENSORS_MAX_DIMS);
    }
    for (int i = 0; i < entry->ndim; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        if (!json_is_integer(size) || json_integer_value(size) < 0) {
            return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: shape[%d] is not a whole number >= 0",
                           path, entry->name, i);
        }
        entry->shape[i] = json_integer_value(size);
    }
    return RP_OK;
}

/* Offsets relative to the data area, checked against its size. */
static rp_status read_offsets(rp_safetensors_entry *entry, const json_t *offsets, size_t data_bytes,
                              const char *path)
{
    const json_t *begin = json_array_get(offsets, 0);
    const json_t *end = json_array_get(offsets, 1);

    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !json_is_integer(begin) ||
        !json_is_integer(end) || json_integer_value(begin) < 0 ||
        json_integer_value(end) < json_integer_value(begin)) {
        return RP_FAIL(RP_ERR_FORMAT,
                       "%s: tensor %s: \"data_offsets\" must be [begin, end] with 0 <= begin <= "
                       "end",
                       path, entry->name);
    }
    if ((size_t)json_integer_value(end) > data_bytes) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: ends at byte %lld of %zu in the data area",
                       path, entry->name, (long long)json_integer_value(end), data_bytes);
    }
    entry->offset_bytes = (size_t)json_integer_value(begin);
    entry->nbytes = (size_t)(json_integer_value(end) - json_integer_value(begin));
    return RP_OK;
}

static rp_status check_entry_size(const rp_safetensors_entry *entry, int bits, const char *path)
{
    size_t total_bits = 1;

    for (int i = 0; i < entry->ndim; i++) {
        if (__builtin_mul_overflow(total_bits, (size_t)entry->shape[i], &total_bits)) {
            return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: shape overflows", path, entry->name);
        }
    }
    if (__builtin_mul_overflow(total_bits, (size_t)bits, &total_bits)) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: shape overflows", path, entry->name);
    }
    if (total_bits % 8 != 0) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: %zu bits of %s are no whole bytes", path,
                       entry->name, total_bits, entry->dtype_name);
    }
    if (total_bits / 8 != entry->nbytes) {
        return RP_FAIL(RP_ERR_FORMAT,
                       "%s: tensor %s: shape and %s need %zu bytes, offsets give "
                       "%zu",
                       path, entry->name, entry->dtype_name, total_bits / 8, entry->nbytes);
    }
    return RP_OK;
}

static rp_status read_entry(rp_safetensors_entry *entry, const char *name, const json_t *value,
                            size_t data_bytes, const char *path)
{
    rp_status st = RP_OK;
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    const int type = dtype == NULL ? -1 : rp_safetensors_dtype_rank(dtype);

    if (!json_is_object(value) || json_object_size(value) != 3) {
        st = RP_FAIL(RP_ERR_FORMAT,
                     "%s: tensor %s: want an object of dtype, shape and data_offsets", path, name);
        goto out;
    }
    if (type < 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: unknown dtype \"%s\"", path, name,
                     dtype == NULL ? "" : dtype);
        goto out;
    }
    entry->name = name;
    entry->dtype_name = rp_safetensors_dtypes[type].name;
    entry->dtype = rp_safetensors_dtypes[type].dtype;
    RP_TRY(read_shape(entry, json_object_get(value, "shape"), path));
    RP_TRY(read_offsets(entry, json_object_get(value, "data_offsets"), data_bytes, path));
    RP_TRY(check_entry_size(entry, rp_safetensors_dtypes[type].bits, path));
out:
    return st;
}

static rp_status check_metadata(const json_t *metadata, const char *path)
{
    const char *key = NULL;
    json_t *value = NULL;

    if (!json_is_object(metadata)) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: __metadata__ is not an object", path);
    }
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value)) {
            return RP_FAIL(RP_ERR_FORMAT, "%s: __metadata__.%s is not a string", path, key);
        }
    }
    return RP_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const rp_safetensors_entry *)a)->name, ((const rp_safetensors_entry *)b)->name);
}

static int by_offset(const void *a, const void *b)
{
    const rp_safetensors_entry *x = a;
    const rp_safetensors_entry *y = b;
    const size_t x_end = x->offset_bytes + x->nbytes;
    const size_t y_end = y->offset_bytes + y->nbytes;

    if (x->offset_bytes != y->offset_bytes) {
        return x->offset_bytes < y->offset_bytes ? -1 : 1;
    }
    return x_end < y_end ? -1 : x_end > y_end;
}

/* Sorts by offset; the entries must follow each other from 0 to the end of the data area. */
static rp_status check_cover(rp_safetensors *file, size_t data_bytes)
{
    size_t end_bytes = 0;

    qsort(file->entries, (size_t)file->n_entries, sizeof(*file->entries), by_offset);
    for (int64_t i = 0; i < file->n_entries; i++) {
        const rp_safetensors_entry *entry = &file->entries[i];
        if (entry->offset_bytes != end_bytes) {
            return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: begins at byte %zu, %s at %zu",
                           file->path, entry->name, entry->offset_bytes,
                           entry->offset_bytes < end_bytes ? "overlapping the one that ends"
                                                           : "leaving a hole after the one that "
                                                             "ends",
                           end_bytes);
        }
        end_bytes += entry->nbytes;
    }
    if (end_bytes != data_bytes) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensors cover %zu of %zu bytes of data", file->path,
                       end_bytes, data_bytes);
    }
    return RP_OK;
}

static rp_status read_entries(rp_safetensors *file, size_t data_offset)
{
    rp_status st = RP_OK;
    const size_t data_bytes = file->file_bytes - data_offset;
    const char *name = NULL;
    json_t *value = NULL;

    RP_TRY(rp_calloc(&file->entries, json_object_size(file->header), sizeof(*file->entries)));
    json_object_foreach(file->header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0) {
            RP_TRY(check_metadata(value, file->path));
            continue;
        }
        RP_TRY(read_entry(&file->entries[file->n_entries], name, value, data_bytes, file->path));
        file->n_entries++;
    }
    RP_TRY(check_cover(file, data_bytes));
    qsort(file->entries, (size_t)file->n_entries, sizeof(*file->entries), by_name);
    for (int64_t i = 0; i < file->n_entries; i++) {
        file->entries[i].offset_bytes += data_offset;
    }
out:
    return st;
}

/* The JSON text of the header, and where the data begins. */
static rp_status read_header(rp_safetensors *file, char **text, size_t *text_bytes)
{
    rp_status st = RP_OK;
    unsigned char prefix[PREFIX_BYTES];
    uint64_t nbytes = 0;
    size_t last = 0;

    if (file->file_bytes < PREFIX_BYTES) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: %zu bytes, too small for a safetensors header", file->path,
                     file->file_bytes);
        goto out;
    }
    RP_TRY(rp_fs_pread(file->fd, file->path, prefix, sizeof(prefix), 0));
    for (int i = PREFIX_BYTES - 1; i >= 0; i--) {
        nbytes = nbytes << 8 | prefix[i];
    }
    if (nbytes > RP_SAFETENSORS_MAX_HEADER_BYTES) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: header of %llu bytes, more than the %d allowed",
                     file->path, (unsigned long long)nbytes, RP_SAFETENSORS_MAX_HEADER_BYTES);
        goto out;
    }
    if (nbytes > file->file_bytes - PREFIX_BYTES) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: cut file: header of %llu bytes in a file of %zu",
                     file->path, (unsigned long long)nbytes, file->file_bytes);
        goto out;
    }
    RP_TRY(rp_alloc(text, (size_t)nbytes));
    RP_TRY(rp_fs_pread(file->fd, file->path, *text, (size_t)nbytes, PREFIX_BYTES));
    for (last = (size_t)nbytes; last > 0 && (*text)[last - 1] == ' '; last--) {
    }
    if (last < 2 || (*text)[0] != '{' || (*text)[last - 1] != '}') {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: header is not a JSON object padded with spaces",
                     file->path);
        goto out;
    }
    *text_bytes = (size_t)nbytes;
out:
    return st;
}

rp_status rp_safetensors_open(rp_safetensors **out, const char *path)
{
    rp_status st = RP_OK;
    rp_safetensors *file = NULL;
    char *text = NULL;
    size_t text_bytes = 0;

    *out = NULL;
    RP_TRY(rp_calloc(&file, 1, sizeof(*file)));
    file->fd = -1;
    RP_TRY(rp_strdup(&file->path, path));
    RP_TRY(rp_fs_open_read(&file->fd, path));
    RP_TRY(rp_fs_size(&file->file_bytes, file->fd, path));
    RP_TRY(read_header(file, &text, &text_bytes));
    RP_TRY(rp_json_parse(&file->header, text, text_bytes, path));
    RP_TRY(read_entries(file, PREFIX_BYTES + text_bytes));
    *out = file;
    file = NULL;
out:
    free(text);
    rp_safetensors_close(&file);
    return st;
}

void rp_safetensors_close(rp_safetensors **file)
{
    if (*file == NULL) {
        return;
    }
    if ((*file)->fd >= 0) {
        (void)close((*file)->fd);
    }
    json_decref((*file)->header);
    free((*file)->entries);
    free((*file)->path);
    free(*file);
    *file = NULL;
}

const char *rp_safetensors_path(const rp_safetensors *file)
{
    return file->path;
}

size_t rp_safetensors_file_bytes(const rp_safetensors *file)
{
    return file->file_bytes;
}

int64_t rp_safetensors_count(const rp_safetensors *file)
{
    return file->n_entries;
}

const rp_safetensors_entry *rp_safetensors_at(const rp_safetensors *file, int64_t index)
{
    return &file->entries[index];
}

const rp_safetensors_entry *rp_safetensors_find(const rp_safetensors *file, const char *name)
{
    const rp_safetensors_entry key = {.name = name};

    return file->n_entries == 0 ? NULL
                                : bsearch(&key, file->entries, (size_t)file->n_entries,
                                          sizeof(*file->entries), by_name);
}

rp_status rp_safetensors_read(const rp_safetensors *file, const rp_safetensors_entry *entry,
                              size_t offset_bytes, size_t nbytes, void *dst)
{
    if (offset_bytes > entry->nbytes || nbytes > entry->nbytes - offset_bytes) {
        return RP_FAIL(RP_ERR_INTERNAL, "%s: tensor %s: read of %zu bytes at %zu of %zu",
                       file->path, entry->name, nbytes, offset_bytes, entry->nbytes);
    }
    return rp_fs_pread(file->fd, file->path, dst, nbytes, entry->offset_bytes + offset_bytes);
}

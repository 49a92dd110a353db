/* Layout of the safetensors files of one model: which part goes where, and the header bytes.
 *
 * Splitting follows huggingface_hub (greedy in the order given; a tensor above the limit gets a
 * shard of its own without closing the current one), order and header text follow the reference
 * writer, so that the files are those that it would write for the same tensors. */
#include "formats/safetensors.h"

#include "base/mem.h"
#include "formats/json.h"
#include "formats/safetensors_dtypes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX_BYTES 8

/* One part with what the order depends on. */
typedef struct placed {
    const rp_part *part;
    int64_t index; /* in the caller's list */
    int64_t file;
    int dtype_rank;
} placed;

static int by_file_type_name(const void *a, const void *b)
{
    const placed *x = a;
    const placed *y = b;

    if (x->file != y->file) {
        return x->file < y->file ? -1 : 1;
    }
    if (x->dtype_rank != y->dtype_rank) {
        return x->dtype_rank > y->dtype_rank ? -1 : 1;
    }
    return strcmp(x->part->name, y->part->name);
}

/* Gives number `file` to the parts before `end` that have none; returns whether there were any. */
static bool close_shard(placed *list, int64_t end, int64_t file)
{
    bool is_used = false;

    for (int64_t i = 0; i < end; i++) {
        if (list[i].file < 0) {
            list[i].file = file;
            is_used = true;
        }
    }
    return is_used;
}

/* Sets each part's file; returns the number of files. */
static int64_t split(placed *list, int64_t n_parts, size_t max_shard_bytes)
{
    const size_t limit_bytes = max_shard_bytes == 0 ? SIZE_MAX : max_shard_bytes;
    int64_t n_files = 0;
    size_t used_bytes = 0;

    for (int64_t i = 0; i < n_parts; i++) {
        const size_t nbytes = list[i].part->nbytes;
        list[i].file = -1;
        if (nbytes > limit_bytes) {
            list[i].file = n_files++;
            continue;
        }
        if (used_bytes > limit_bytes - nbytes) {
            (void)close_shard(list, i, n_files++);
            used_bytes = 0;
        }
        used_bytes += nbytes;
    }
    return close_shard(list, n_parts, n_files) || n_files == 0 ? n_files + 1 : n_files;
}

static rp_status make_entry(json_t *header, const rp_part *part, size_t begin_bytes)
{
    json_t *shape = json_array();
    int failed = shape == NULL;

    if (json_object_get(header, part->name) != NULL) {
        json_decref(shape);
        return RP_FAIL(RP_ERR_INTERNAL, "tensor %s is written twice", part->name);
    }
    for (int i = 0; i < part->ndim; i++) {
        failed |= json_array_append_new(shape, json_integer(part->shape[i]));
    }
    failed |=
        json_object_set_new(header, part->name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", rp_dtype_name(part->dtype),
                                      "shape", shape, "data_offsets", (json_int_t)begin_bytes,
                                      (json_int_t)(begin_bytes + part->nbytes)));
    return failed ? RP_FAIL(RP_ERR_MEMORY, "no memory for the header of %s", part->name) : RP_OK;
}

/* Length prefix, JSON and padding from the header object. */
static rp_status make_header(rp_safetensors_file_plan *file, const json_t *header)
{
    rp_status st = RP_OK;
    char *text = NULL;
    size_t json_bytes = 0;
    size_t padded_bytes = 0;

    RP_TRY(rp_json_dump(&text, header, JSON_COMPACT));
    json_bytes = strlen(text);
    padded_bytes = RP_DIV_UP(json_bytes, 8) * 8;
    if (padded_bytes > RP_SAFETENSORS_MAX_HEADER_BYTES) {
        st = RP_FAIL(RP_ERR_CONFIG,
                     "%s: header of %zu bytes, more than the %d that readers allow: use smaller "
                     "shards",
                     file->name, padded_bytes, RP_SAFETENSORS_MAX_HEADER_BYTES);
        goto out;
    }
    file->header_bytes = PREFIX_BYTES + padded_bytes;
    RP_TRY(rp_alloc(&file->header, file->header_bytes));
    memset(file->header, ' ', file->header_bytes);
    for (int i = 0; i < PREFIX_BYTES; i++) {
        file->header[i] = (char)(padded_bytes >> (8 * i) & 0xff);
    }
    memcpy(file->header + PREFIX_BYTES, text, json_bytes);
out:
    free(text);
    return st;
}

/* Parts list[0 .. n-1] of file `index`, sorted: header, sizes, places. */
static rp_status lay_out_file(rp_safetensors_layout *layout, int64_t index, const placed *list,
                              int64_t n)
{
    rp_status st = RP_OK;
    rp_safetensors_file_plan *file = &layout->files[index];
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    size_t data_bytes = 0;

    if (header == NULL) {
        st = RP_FAIL(RP_ERR_MEMORY, "no memory for a safetensors header");
        goto out;
    }
    if (layout->n_files == 1) {
        RP_TRY(rp_strdup(&file->name, "model.safetensors"));
    } else {
        RP_TRY(rp_strprintf(&file->name, "model-%05lld-of-%05lld.safetensors", (long long)index + 1,
                            (long long)layout->n_files));
    }
    for (int64_t i = 0; i < n; i++) {
        RP_TRY(make_entry(header, list[i].part, data_bytes));
        layout->places[list[i].index].file = index;
        layout->places[list[i].index].offset_bytes = data_bytes;
        RP_TRY(rp_add_size(&data_bytes, data_bytes, list[i].part->nbytes));
    }
    RP_TRY(make_header(file, header));
    for (int64_t i = 0; i < n; i++) {
        layout->places[list[i].index].offset_bytes += file->header_bytes;
    }
    RP_TRY(rp_add_size(&file->total_bytes, file->header_bytes, data_bytes));
out:
    json_decref(header);
    return st;
}

static rp_status make_index(rp_safetensors_layout *layout, const rp_part *parts)
{
    rp_status st = RP_OK;
    json_t *map = json_object();
    json_t *index = NULL;
    size_t total_bytes = 0;
    char *text = NULL;

    for (int64_t i = 0; i < layout->n_parts; i++) {
        const char *file = layout->files[layout->places[i].file].name;
        total_bytes += parts[i].nbytes;
        if (json_object_get(map, parts[i].name) != NULL) {
            st = RP_FAIL(RP_ERR_INTERNAL, "tensor %s is written twice", parts[i].name);
            goto out;
        }
        if (json_object_set_new(map, parts[i].name, json_string(file)) != 0) {
            st = RP_FAIL(RP_ERR_MEMORY, "no memory for the shard index");
            goto out;
        }
    }
    index = json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)total_bytes,
                      "weight_map", map);
    RP_TRY(rp_json_dump(&text, index, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENSURE_ASCII));
    RP_TRY(rp_strprintf(&layout->index, "%s\n", text));
out:
    free(text);
    json_decref(index);
    json_decref(map);
    return st;
}

rp_status rp_safetensors_layout_create(rp_safetensors_layout *out, const rp_part *parts,
                                       int64_t n_parts, size_t max_shard_bytes)
{
    rp_status st = RP_OK;
    rp_safetensors_layout layout = {.n_parts = n_parts};
    placed *list = NULL;
    int64_t first = 0;

    memset(out, 0, sizeof(*out));
    RP_TRY(rp_alloc_array(&list, (size_t)n_parts, sizeof(*list)));
    RP_TRY(rp_calloc(&layout.places, (size_t)n_parts, sizeof(*layout.places)));
    for (int64_t i = 0; i < n_parts; i++) {
        list[i].part = &parts[i];
        list[i].index = i;
        list[i].dtype_rank = rp_safetensors_dtype_rank(rp_dtype_name(parts[i].dtype));
    }
    const int64_t n_files = split(list, n_parts, max_shard_bytes);
    RP_TRY(rp_calloc(&layout.files, (size_t)n_files, sizeof(*layout.files)));
    layout.n_files = n_files;
    qsort(list, (size_t)n_parts, sizeof(*list), by_file_type_name);
    for (int64_t f = 0; f < n_files; f++) {
        int64_t end = first;
        while (end < n_parts && list[end].file == f) {
            end++;
        }
        RP_TRY(lay_out_file(&layout, f, list + first, end - first));
        first = end;
    }
    if (n_files > 1) {
        RP_TRY(make_index(&layout, parts));
    }
    *out = layout;
    memset(&layout, 0, sizeof(layout));
out:
    free(list);
    rp_safetensors_layout_destroy(&layout);
    return st;
}

void rp_safetensors_layout_destroy(rp_safetensors_layout *layout)
{
    for (int64_t i = 0; i < layout->n_files; i++) {
        free(layout->files[i].name);
        free(layout->files[i].header);
    }
    free(layout->files);
    free(layout->places);
    free(layout->index);
    memset(layout, 0, sizeof(*layout));
}

/* rankpress inspect: what is in a file, as one JSON object; the text for people is made from it. */
#include "jobs/cmd.h"

#include "base/fs.h"
#include "base/mem.h"
#include "formats/gguf.h"
#include "formats/hf_folder.h"
#include "formats/json.h"
#include "jobs/checkpoint_inspect.h"
#include "jobs/job_folder.h"
#include "jobs/print.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Longer arrays of a GGUF file (its vocabulary) are named, not listed. */
#define MAX_ARRAY_ELEMS 16

static rp_status add_tensor(json_t *list, const char *name, const char *type,
                            const json_int_t *dims, int ndim, size_t nbytes)
{
    rp_status st = RP_OK;
    json_t *shape = json_array();
    json_t *tensor = NULL;

    for (int i = 0; i < ndim; i++) {
        if (json_array_append_new(shape, json_integer(dims[i])) != 0) {
            RP_TRY(rp_json_made(NULL));
        }
    }
    tensor = json_pack("{s:s, s:s, s:O, s:I}", "name", name, "type", type, "shape", shape, "bytes",
                       (json_int_t)nbytes);
    RP_TRY(rp_json_made(tensor));
    if (json_array_append(list, tensor) != 0) {
        RP_TRY(rp_json_made(NULL));
    }
out:
    json_decref(tensor);
    json_decref(shape);
    return st;
}

static rp_status make_root(json_t **out, json_t **tensors, const char *format, size_t nbytes)
{
    rp_status st = RP_OK;

    *out = json_pack("{s:s, s:I, s:[]}", "format", format, "bytes", (json_int_t)nbytes, "tensors");
    RP_TRY(rp_json_made(*out));
    *tensors = json_object_get(*out, "tensors");
out:
    return st;
}

/* ---- safetensors ---- */

static rp_status add_entry(json_t *tensors, const rp_safetensors_entry *entry)
{
    json_int_t dims[RP_SAFETENSORS_MAX_DIMS];

    for (int i = 0; i < entry->ndim; i++) {
        dims[i] = entry->shape[i];
    }
    return add_tensor(tensors, entry->name, entry->dtype_name, dims, entry->ndim, entry->nbytes);
}

static rp_status inspect_safetensors(json_t **out, const char *path)
{
    rp_status st = RP_OK;
    rp_safetensors *file = NULL;
    json_t *tensors = NULL;

    RP_TRY(rp_safetensors_open(&file, path));
    RP_TRY(make_root(out, &tensors, "safetensors", rp_safetensors_file_bytes(file)));
    for (int64_t i = 0; i < rp_safetensors_count(file); i++) {
        RP_TRY(add_entry(tensors, rp_safetensors_at(file, i)));
    }
out:
    rp_safetensors_close(&file);
    return st;
}

static rp_status inspect_folder(json_t **out, const char *path)
{
    rp_status st = RP_OK;
    rp_hf_folder *folder = NULL;
    json_t *tensors = NULL;

    RP_TRY(rp_hf_folder_open(&folder, path));
    RP_TRY(make_root(out, &tensors, "safetensors", rp_hf_folder_file_bytes(folder)));
    (void)json_object_set_new(*out, "files", json_integer(rp_hf_folder_n_files(folder)));
    for (int64_t i = 0; i < rp_hf_folder_count(folder); i++) {
        RP_TRY(add_entry(tensors, rp_hf_folder_at(folder, i)->entry));
    }
out:
    rp_hf_folder_close(&folder);
    return st;
}

/* ---- gguf ---- */

static json_t *gguf_element(const rp_gguf_kv *kv, int64_t index)
{
    rp_gguf_string text;

    switch (kv->elem_type) {
    case RP_GGUF_STRING:
        text = rp_gguf_kv_string(kv, index);
        return json_stringn(text.data, text.nbytes);
    case RP_GGUF_BOOL:
        return json_boolean(rp_gguf_kv_int(kv, index) != 0);
    case RP_GGUF_F32:
    case RP_GGUF_F64:
        return json_real(rp_gguf_kv_float(kv, index));
    default:
        return json_integer(rp_gguf_kv_int(kv, index));
    }
}

static json_t *gguf_value(const rp_gguf_kv *kv)
{
    json_t *list = NULL;

    if (kv->type != RP_GGUF_ARRAY) {
        return gguf_element(kv, 0);
    }
    if (kv->count > MAX_ARRAY_ELEMS || kv->elem_type == RP_GGUF_ARRAY) {
        return json_pack("{s:s, s:I}", "array_of", rp_gguf_value_type_name(kv->elem_type), "count",
                         (json_int_t)kv->count);
    }
    list = json_array();
    for (int64_t i = 0; i < kv->count; i++) {
        (void)json_array_append_new(list, gguf_element(kv, i));
    }
    return list;
}

/* Shapes are turned to rows first, as everywhere else in the program. */
static rp_status add_gguf_tensors(json_t *tensors, const rp_gguf *gguf)
{
    rp_status st = RP_OK;

    for (int64_t i = 0; i < rp_gguf_tensor_count(gguf); i++) {
        const rp_gguf_tensor *t = rp_gguf_tensor_at(gguf, i);
        json_int_t dims[RP_GGUF_MAX_DIMS];
        for (int d = 0; d < t->ndim; d++) {
            dims[d] = t->ne[t->ndim - 1 - d];
        }
        RP_TRY(add_tensor(tensors, t->name, t->type->name, dims, t->ndim, t->nbytes));
    }
out:
    return st;
}

static rp_status inspect_gguf(json_t **out, const char *path)
{
    rp_status st = RP_OK;
    rp_gguf *gguf = NULL;
    json_t *tensors = NULL;
    json_t *metadata = json_object();

    RP_TRY(rp_gguf_open(&gguf, path));
    RP_TRY(make_root(out, &tensors, "gguf", rp_gguf_file_bytes(gguf)));
    for (int64_t i = 0; i < rp_gguf_kv_count(gguf); i++) {
        const rp_gguf_kv *kv = rp_gguf_kv_at(gguf, i);
        json_t *value = gguf_value(kv);
        /* A string that is not UTF-8 has no JSON form. */
        (void)json_object_set_new_nocheck(metadata, kv->key, value != NULL ? value : json_null());
    }
    (void)json_object_set(*out, "metadata", metadata);
    (void)json_object_set_new(*out, "version", json_integer(rp_gguf_version(gguf)));
    RP_TRY(add_gguf_tensors(tensors, gguf));
out:
    json_decref(metadata);
    rp_gguf_close(&gguf);
    return st;
}

/* ---- text ---- */

static void print_value(const json_t *value)
{
    char *text = NULL;

    if (json_is_string(value)) {
        (void)fputs(json_string_value(value), stdout);
        return;
    }
    text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    (void)fputs(text != NULL ? text : "?", stdout);
    free(text);
}

static void print_metadata(const json_t *metadata)
{
    const char *key = NULL;
    json_t *value = NULL;

    json_object_foreach((json_t *)metadata, key, value)
    {
        const char *elem = json_string_value(json_object_get(value, "array_of"));
        (void)printf("  %s = ", key);
        if (elem != NULL) {
            (void)printf("%" JSON_INTEGER_FORMAT " %s",
                         json_integer_value(json_object_get(value, "count")), elem);
        } else {
            print_value(value);
        }
        (void)putchar('\n');
    }
}

static void print_tensors(const json_t *tensors)
{
    size_t index = 0;
    json_t *tensor = NULL;
    int width = 8;
    char size[RP_SIZE_TEXT_BYTES];

    json_array_foreach((json_t *)tensors, index, tensor)
    {
        width = RP_MAX(width, (int)json_string_length(json_object_get(tensor, "name")));
    }
    json_array_foreach((json_t *)tensors, index, tensor)
    {
        char *shape = json_dumps(json_object_get(tensor, "shape"), 0);
        (void)printf("  %-*s  %-5s %9s  %s\n", width,
                     json_string_value(json_object_get(tensor, "name")),
                     json_string_value(json_object_get(tensor, "type")),
                     rp_print_size(size, json_number_value(json_object_get(tensor, "bytes"))),
                     shape != NULL ? shape : "?");
        free(shape);
    }
}

/* Units of a checkpoint: every field but the name, on one line each. */
static void print_units(const json_t *units)
{
    size_t index = 0;
    json_t *unit = NULL;

    json_array_foreach((json_t *)units, index, unit)
    {
        const char *key = NULL;
        json_t *value = NULL;
        (void)putchar(' ');
        json_object_foreach(unit, key, value)
        {
            (void)printf(" %s%s", strcmp(key, "unit") == 0 ? "" : key,
                         strcmp(key, "unit") == 0 ? "" : "=");
            print_value(value);
        }
        (void)putchar('\n');
    }
}

/* Whatever has no form of its own: one line a key, or one a member of a list. */
static void print_others(const json_t *root)
{
    static const char *const shown[] = {"format", "bytes", "metadata", "tensors", "units"};
    const char *key = NULL;
    json_t *value = NULL;

    json_object_foreach((json_t *)root, key, value)
    {
        bool is_shown = false;
        size_t index = 0;
        json_t *member = NULL;
        for (size_t i = 0; i < RP_COUNT(shown); i++) {
            is_shown = is_shown || strcmp(key, shown[i]) == 0;
        }
        if (is_shown) {
            continue;
        }
        (void)printf("  %s:", key);
        if (!json_is_array(value)) {
            (void)putchar(' ');
            print_value(value);
        }
        (void)putchar('\n');
        json_array_foreach(value, index, member)
        {
            (void)printf("    ");
            print_value(member);
            (void)putchar('\n');
        }
    }
}

static void print_text(const char *path, const json_t *root)
{
    const json_t *tensors = json_object_get(root, "tensors");
    const json_t *bytes = json_object_get(root, "bytes");
    char size[RP_SIZE_TEXT_BYTES];

    (void)printf("%s: %s", path, json_string_value(json_object_get(root, "format")));
    if (bytes != NULL) {
        (void)printf(", %s", rp_print_size(size, json_number_value(bytes)));
    }
    if (tensors != NULL) {
        (void)printf(", %zu tensors", json_array_size(tensors));
    }
    (void)putchar('\n');
    print_others(root);
    print_metadata(json_object_get(root, "metadata"));
    print_tensors(tensors);
    print_units(json_object_get(root, "units"));
}

/* By its first bytes; a file of that name without them is a broken one. */
static rp_status is_gguf(bool *out, const char *path)
{
    rp_status st = RP_OK;
    int fd = -1;
    char magic[4] = "";

    RP_TRY(rp_fs_open_read(&fd, path));
    *out = (read(fd, magic, sizeof(magic)) == (ssize_t)sizeof(magic) &&
            memcmp(magic, "GGUF", sizeof(magic)) == 0) ||
           rp_ends_with(path, ".gguf");
out:
    if (fd >= 0) {
        (void)close(fd);
    }
    return st;
}

rp_status rp_cmd_inspect(const rp_cli *cli)
{
    rp_status st = RP_OK;
    const char *path = cli->args[0];
    json_t *root = NULL;
    bool gguf = false;

    if (rp_fs_is_dir(path)) {
        RP_TRY(rp_job_folder_refuse(path));
        RP_TRY(inspect_folder(&root, path));
    } else {
        RP_TRY(is_gguf(&gguf, path));
        if (gguf) {
            RP_TRY(inspect_gguf(&root, path));
        } else if (rp_checkpoint_is_file(path)) {
            RP_TRY(rp_checkpoint_inspect(&root, path));
        } else {
            st = inspect_safetensors(&root, path);
            if (st == RP_ERR_FORMAT && !rp_ends_with(path, ".safetensors")) {
                st = RP_FAIL(st, "%s: no safetensors, GGUF or checkpoint file", path);
            }
            RP_TRY(st);
        }
    }
    if (cli->is_json) {
        RP_TRY(rp_print_json(root));
    } else {
        print_text(path, root);
    }
out:
    json_decref(root);
    return st;
}

/* Opens the files that hold a model's tensors and merges their lists. As in transformers a single
 * model.safetensors goes before an index. */
#include "formats/hf_folder.h"

#include "base/fs.h"
#include "base/mem.h"
#include "formats/json.h"

#include <stdlib.h>
#include <string.h>

#define SINGLE_NAME "model.safetensors"
#define INDEX_NAME "model.safetensors.index.json"

struct rp_hf_folder {
    int64_t n_files;
    rp_safetensors **files; /* [n_files] */
    int64_t n_tensors;
    rp_hf_tensor *tensors; /* [n_tensors] by name */
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const rp_hf_tensor *)a)->entry->name, ((const rp_hf_tensor *)b)->entry->name);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_plain_name(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL && strchr(name, '\\') == NULL &&
           strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* The shards' names, sorted, each once. *names [*n] borrowed from map. */
static rp_status list_shards(const json_t *map, const char *path, const char ***names, int64_t *n)
{
    rp_status st = RP_OK;
    const char *key = NULL;
    json_t *value = NULL;
    int64_t n_all = 0;

    *n = 0;
    RP_TRY(rp_alloc_array(names, json_object_size(map), sizeof(**names)));
    json_object_foreach((json_t *)map, key, value)
    {
        const char *name = json_string_value(value);
        if (name == NULL || !is_plain_name(name)) {
            st = RP_FAIL(RP_ERR_FORMAT,
                         "%s: weight_map of %s: \"%s\" is not the name of a file in this folder",
                         path, key, name == NULL ? "" : name);
            goto out;
        }
        (*names)[n_all++] = name;
    }
    qsort(*names, (size_t)n_all, sizeof(**names), by_text);
    for (int64_t i = 0; i < n_all; i++) {
        if (i == 0 || strcmp((*names)[i], (*names)[*n - 1]) != 0) {
            (*names)[(*n)++] = (*names)[i];
        }
    }
out:
    return st;
}

static rp_status open_files(rp_hf_folder *folder, const char *dir, const char *const *names,
                            int64_t n)
{
    rp_status st = RP_OK;
    char *path = NULL;

    RP_TRY(rp_calloc(&folder->files, (size_t)n, sizeof(*folder->files)));
    folder->n_files = n;
    for (int64_t i = 0; i < n; i++) {
        free(path);
        RP_TRY(rp_fs_join(&path, dir, names[i]));
        RP_TRY(rp_safetensors_open(&folder->files[i], path));
        folder->n_tensors += rp_safetensors_count(folder->files[i]);
    }
out:
    free(path);
    return st;
}

static rp_status merge_tensors(rp_hf_folder *folder)
{
    rp_status st = RP_OK;
    int64_t n = 0;

    RP_TRY(rp_alloc_array(&folder->tensors, (size_t)folder->n_tensors, sizeof(*folder->tensors)));
    for (int64_t f = 0; f < folder->n_files; f++) {
        for (int64_t i = 0; i < rp_safetensors_count(folder->files[f]); i++) {
            folder->tensors[n].file = folder->files[f];
            folder->tensors[n++].entry = rp_safetensors_at(folder->files[f], i);
        }
    }
    qsort(folder->tensors, (size_t)n, sizeof(*folder->tensors), by_name);
    for (int64_t i = 1; i < n; i++) {
        if (by_name(&folder->tensors[i - 1], &folder->tensors[i]) == 0) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s is in %s too",
                         rp_safetensors_path(folder->tensors[i].file),
                         folder->tensors[i].entry->name,
                         rp_safetensors_path(folder->tensors[i - 1].file));
            goto out;
        }
    }
out:
    return st;
}

/* Each tensor of the map is in the shard that it names, and no shard holds another. */
static rp_status check_map(const rp_hf_folder *folder, const json_t *map, const char *index_path)
{
    const char *name = NULL;
    json_t *value = NULL;

    json_object_foreach((json_t *)map, name, value)
    {
        const rp_hf_tensor *tensor = rp_hf_folder_find(folder, name);
        const char *path = tensor == NULL ? "" : rp_safetensors_path(tensor->file);
        const char *slash = strrchr(path, '/');
        if (slash == NULL || strcmp(slash + 1, json_string_value(value)) != 0) {
            return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s is not in %s", index_path, name,
                           json_string_value(value));
        }
    }
    for (int64_t i = 0; i < folder->n_tensors; i++) {
        const rp_hf_tensor *tensor = &folder->tensors[i];
        if (json_object_get(map, tensor->entry->name) == NULL) {
            return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s is not in " INDEX_NAME,
                           rp_safetensors_path(tensor->file), tensor->entry->name);
        }
    }
    return RP_OK;
}

static rp_status open_sharded(rp_hf_folder *folder, const char *dir, const char *index_path)
{
    rp_status st = RP_OK;
    json_t *index = NULL;
    const json_t *map = NULL;
    const char **names = NULL;
    int64_t n = 0;

    RP_TRY(rp_json_load(&index, index_path));
    map = json_object_get(index, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: want an object \"weight_map\" of tensors and file names",
                     index_path);
        goto out;
    }
    RP_TRY(list_shards(map, index_path, &names, &n));
    RP_TRY(open_files(folder, dir, names, n));
    RP_TRY(merge_tensors(folder));
    RP_TRY(check_map(folder, map, index_path));
out:
    free(names);
    json_decref(index);
    return st;
}

rp_status rp_hf_folder_open(rp_hf_folder **out, const char *dir)
{
    static const char *const single[] = {SINGLE_NAME};
    rp_status st = RP_OK;
    rp_hf_folder *folder = NULL;
    char *single_path = NULL;
    char *index_path = NULL;

    *out = NULL;
    RP_TRY(rp_calloc(&folder, 1, sizeof(*folder)));
    RP_TRY(rp_fs_join(&single_path, dir, SINGLE_NAME));
    RP_TRY(rp_fs_join(&index_path, dir, INDEX_NAME));
    if (rp_fs_exists(single_path)) {
        RP_TRY(open_files(folder, dir, single, 1));
        RP_TRY(merge_tensors(folder));
    } else if (rp_fs_exists(index_path)) {
        RP_TRY(open_sharded(folder, dir, index_path));
    } else {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: neither " SINGLE_NAME " nor " INDEX_NAME " is there", dir);
        goto out;
    }
    *out = folder;
    folder = NULL;
out:
    free(single_path);
    free(index_path);
    rp_hf_folder_close(&folder);
    return st;
}

void rp_hf_folder_close(rp_hf_folder **folder)
{
    if (*folder == NULL) {
        return;
    }
    for (int64_t i = 0; i < (*folder)->n_files; i++) {
        rp_safetensors_close(&(*folder)->files[i]);
    }
    free((*folder)->files);
    free((*folder)->tensors);
    free(*folder);
    *folder = NULL;
}

int64_t rp_hf_folder_count(const rp_hf_folder *folder)
{
    return folder->n_tensors;
}

const rp_hf_tensor *rp_hf_folder_at(const rp_hf_folder *folder, int64_t index)
{
    return &folder->tensors[index];
}

const rp_hf_tensor *rp_hf_folder_find(const rp_hf_folder *folder, const char *name)
{
    const rp_safetensors_entry entry = {.name = name};
    const rp_hf_tensor key = {.entry = &entry};

    return folder->n_tensors == 0 ? NULL
                                  : bsearch(&key, folder->tensors, (size_t)folder->n_tensors,
                                            sizeof(*folder->tensors), by_name);
}

int64_t rp_hf_folder_n_files(const rp_hf_folder *folder)
{
    return folder->n_files;
}

size_t rp_hf_folder_file_bytes(const rp_hf_folder *folder)
{
    size_t total_bytes = 0;

    for (int64_t i = 0; i < folder->n_files; i++) {
        total_bytes += rp_safetensors_file_bytes(folder->files[i]);
    }
    return total_bytes;
}

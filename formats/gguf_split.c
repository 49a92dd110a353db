/* Models split over several GGUF files, as llama.cpp names and reads them: NAME-00001-of-0000N.gguf
 * and so on, each with split.no (from 0), split.count and split.tensors.count; the model's own keys
 * are those of the first. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "formats/gguf_private.h"

#define SUFFIX_BYTES 20 /* "-00001-of-00002.gguf" */
#define MAX_PARTS 99999

rp_status rp_gguf_split_path(char **out, const char *prefix, int part, int n)
{
    return rp_strprintf(out, "%s-%05d-of-%05d.gguf", prefix, part + 1, n);
}

/* Takes "PREFIX-00002-of-00003.gguf" apart; NULL in *prefix when the path is not of that form. */
static rp_status split_name(char **prefix, int *n, const char *path)
{
    rp_status st = RP_OK;
    const size_t length = strlen(path);
    char *again = NULL;
    int part = 0;

    *prefix = NULL;
    if (length <= SUFFIX_BYTES ||
        sscanf(path + length - SUFFIX_BYTES, "-%5d-of-%5d.gguf", &part, n) != 2) {
        goto out;
    }
    RP_TRY(rp_strdup(prefix, path));
    (*prefix)[length - SUFFIX_BYTES] = '\0';
    RP_TRY(rp_gguf_split_path(&again, *prefix, part - 1, *n));
    if (strcmp(again, path) != 0) {
        free(*prefix);
        *prefix = NULL;
    }
out:
    free(again);
    return st;
}

rp_status rp_gguf_find_written(char **out, const char *path)
{
    static const char end[] = ".gguf";
    rp_status st = RP_OK;
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    char *dir = NULL;
    char *prefix = NULL;
    DIR *stream = NULL;
    const struct dirent *entry = NULL;

    *out = NULL;
    if (rp_fs_exists(path) || !rp_ends_with(path, end)) {
        return rp_fs_exists(path) ? rp_strdup(out, path) : RP_OK;
    }
    RP_TRY(rp_strprintf(&prefix, "%.*s-00001-of-", (int)(strlen(name) - sizeof(end) + 1), name));
    RP_TRY(rp_strprintf(&dir, "%.*s", (int)(name - path), path));
    stream = RP_FAULT("opendir") ? NULL : opendir(*dir == '\0' ? "." : dir);
    while (stream != NULL && *out == NULL && (entry = readdir(stream)) != NULL) {
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 &&
            strlen(entry->d_name) == strlen(prefix) + 5 + sizeof(end) - 1) {
            RP_TRY(rp_strprintf(out, "%s%s", dir, entry->d_name));
        }
    }
out:
    if (stream != NULL) {
        (void)closedir(stream);
    }
    free(prefix);
    free(dir);
    return st;
}

/* ---- Joining ---- */

static rp_status check_key(const rp_gguf *gguf, const char *key, int64_t want)
{
    rp_status st = RP_OK;
    int64_t found = 0;

    RP_TRY(rp_gguf_get_int(&found, gguf, key, true));
    if (found != want) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key %s: want %lld, found %lld", gguf->path, key,
                     (long long)want, (long long)found);
    }
out:
    return st;
}

static rp_status check_parts(rp_gguf *const *parts, int n, int64_t *n_tensors)
{
    rp_status st = RP_OK;

    *n_tensors = 0;
    for (int i = 0; i < n; i++) {
        RP_TRY(check_key(parts[i], "split.no", i));
        RP_TRY(check_key(parts[i], "split.count", n));
        *n_tensors += parts[i]->n_tensors;
    }
    RP_TRY(check_key(parts[0], "split.tensors.count", *n_tensors));
out:
    return st;
}

/* A tensor that two parts hold; named with the later one's path. */
static rp_status check_twins(rp_gguf *const *parts, int n)
{
    for (int i = 1; i < n; i++) {
        for (int64_t k = 0; k < parts[i]->n_tensors; k++) {
            const char *name = parts[i]->tensors[k].name;
            for (int before = 0; before < i; before++) {
                if (rp_gguf_tensor_find(parts[before], name) != NULL) {
                    return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: occurs in %s too", parts[i]->path,
                                   name, parts[before]->path);
                }
            }
        }
    }
    return RP_OK;
}

rp_status rp_gguf_join(rp_gguf **out, rp_gguf **parts, int n)
{
    rp_status st = RP_OK;
    rp_gguf *first = NULL;
    rp_gguf_tensor *all = NULL;
    int64_t n_all = 0;
    int64_t at = 0;

    *out = NULL;
    RP_ASSERT(n > 0);
    first = parts[0];
    RP_TRY(check_parts(parts, n, &n_all));
    RP_TRY(check_twins(parts, n));
    RP_TRY(rp_alloc_array(&all, (size_t)n_all, sizeof(*all)));
    RP_TRY(rp_alloc_array(&first->more, (size_t)n - 1, sizeof(rp_gguf *)));
    for (int i = 0; i < n; i++) {
        for (int64_t k = 0; k < parts[i]->n_tensors; k++) {
            all[at] = parts[i]->tensors[k];
            all[at++].part = i;
        }
    }
    free(first->tensors);
    first->tensors = all;
    first->n_tensors = n_all;
    all = NULL;
    for (int i = 1; i < n; i++) {
        first->more[first->n_more++] = parts[i];
        parts[i] = NULL;
    }
    RP_TRY(rp_gguf_index_tensors(first));
    *out = first;
    parts[0] = NULL;
out:
    free(all);
    for (int i = 0; i < n; i++) {
        rp_gguf_close(&parts[i]);
    }
    return st;
}

/* ---- Opening ---- */

static rp_status open_part(rp_gguf **out, const char *prefix, int part, int n)
{
    rp_status st = RP_OK;
    char *path = NULL;

    RP_TRY(rp_gguf_split_path(&path, prefix, part, n));
    if (!rp_fs_exists(path)) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: part %d of %d of a split model is missing", path, part + 1,
                     n);
        goto out;
    }
    RP_TRY(rp_gguf_open_file(out, path));
out:
    free(path);
    return st;
}

static rp_status open_split(rp_gguf **out, const char *path, int64_t count)
{
    rp_status st = RP_OK;
    rp_gguf **parts = NULL;
    size_t capacity = 0;
    char *prefix = NULL;
    int n = 0;
    int n_open = 0;

    RP_TRY(split_name(&prefix, &n, path));
    if (prefix == NULL || n != count) {
        st = RP_FAIL(RP_ERR_FORMAT,
                     "%s: one of %lld parts of a split model, but its name does not end in "
                     "-NUMBER-of-%05lld.gguf",
                     path, (long long)count, (long long)count);
        goto out;
    }
    while (n_open < n) { /* the table grows with the parts that are there */
        RP_TRY(rp_grow(&parts, &capacity, (size_t)n_open + 1, sizeof(*parts)));
        RP_TRY(open_part(&parts[n_open], prefix, n_open, n));
        n_open++;
    }
    n_open = 0; /* taken */
    RP_TRY(rp_gguf_join(out, parts, n));
out:
    while (n_open > 0) {
        rp_gguf_close(&parts[--n_open]);
    }
    free(parts);
    free(prefix);
    return st;
}

rp_status rp_gguf_open(rp_gguf **out, const char *path)
{
    rp_status st = RP_OK;
    rp_gguf *file = NULL;
    int64_t count = 1;

    *out = NULL;
    RP_TRY(rp_gguf_open_file(&file, path));
    RP_TRY(rp_gguf_get_int(&count, file, "split.count", false));
    if (count < 0 || count > MAX_PARTS) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: key split.count: %lld is out of range", path,
                     (long long)count);
        goto out;
    }
    if (count > 1) {
        RP_TRY(open_split(out, path, count));
        goto out;
    }
    *out = file;
    file = NULL;
out:
    rp_gguf_close(&file);
    return st;
}

int rp_gguf_part_count(const rp_gguf *gguf)
{
    return 1 + gguf->n_more;
}

const char *rp_gguf_part_path(const rp_gguf *gguf, int part)
{
    return part == 0 ? gguf->path : gguf->more[part - 1]->path;
}

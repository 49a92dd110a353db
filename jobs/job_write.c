/* From a job back to a tree: the resolved job as YAML, the hash, the differences of two jobs. */
#include "jobs/job.h"

#include "base/mem.h"
#include "jobs/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct writer {
    rp_owner *owner;
    bool is_hash; /* leave out local keys */
} writer;

typedef struct any_list {
    const char *items;
    int64_t n;
} any_list;

static rp_status add_rows(const writer *w, rp_yaml *parent, const rp_option *rows,
                          const void *object);

/* Paths are written absolute, so that a job can be resumed from any folder. */
static rp_status add_scalar(const writer *w, rp_yaml *parent, const rp_option *row,
                            const void *object)
{
    rp_status st = RP_OK;
    char *text = NULL;
    char *full = NULL;
    char *folder = NULL;
    rp_yaml *node = NULL;

    RP_TRY(rp_option_format(&text, row, object));
    if (text == NULL) {
        goto out;
    }
    if (row->type == RP_OPTION_PATH && *text != '/') {
        folder = getcwd(NULL, 0);
        if (folder == NULL) {
            st = RP_FAIL(RP_ERR_IO, "cannot find the working folder");
            goto out;
        }
        RP_TRY(rp_strprintf(&full, "%s/%s", folder, text));
    }
    RP_TRY(rp_yaml_add(&node, w->owner, parent, RP_YAML_SCALAR, row->name,
                       full != NULL ? full : text));
out:
    free(folder);
    free(full);
    free(text);
    return st;
}

static rp_status add_strings(const writer *w, rp_yaml *parent, const rp_option *row,
                             const void *object)
{
    rp_status st = RP_OK;
    rp_string_list list;
    rp_yaml *node = NULL;
    rp_yaml *child = NULL;

    memcpy(&list, (const char *)object + row->offset, sizeof(list));
    RP_TRY(rp_yaml_add(&node, w->owner, parent, RP_YAML_LIST, row->name, NULL));
    for (int64_t i = 0; i < list.n; i++) {
        RP_TRY(rp_yaml_add(&child, w->owner, node, RP_YAML_SCALAR, NULL, list.items[i]));
    }
out:
    return st;
}

/* One entry of a list; "gate: 1.05" where the variant has one key. */
static rp_status add_item(const writer *w, rp_yaml *list, const rp_option *row, const char *item)
{
    rp_status st = RP_OK;
    rp_yaml *entry = NULL;
    rp_yaml *section = NULL;
    const rp_option *variant = NULL;
    int64_t index = 0;

    RP_TRY(rp_yaml_add(&entry, w->owner, list, RP_YAML_MAP, NULL, NULL));
    if (row->type == RP_OPTION_ITEMS) {
        RP_TRY(add_rows(w, entry, row->rows, item));
        goto out;
    }
    memcpy(&index, item, sizeof(index));
    variant = &row->rows[index];
    if (variant->rows[1].name == NULL && variant->rows[0].is_required) {
        rp_option only = variant->rows[0];
        only.name = variant->name;
        RP_TRY(add_scalar(w, entry, &only, item));
    } else {
        RP_TRY(rp_yaml_add(&section, w->owner, entry, RP_YAML_MAP, variant->name, NULL));
        RP_TRY(add_rows(w, section, variant->rows, item));
    }
out:
    return st;
}

static rp_status add_list(const writer *w, rp_yaml *parent, const rp_option *row,
                          const void *object)
{
    rp_status st = RP_OK;
    any_list list;
    rp_yaml *node = NULL;

    memcpy(&list, (const char *)object + row->offset, sizeof(list));
    RP_TRY(rp_yaml_add(&node, w->owner, parent, RP_YAML_LIST, row->name, NULL));
    for (int64_t i = 0; i < list.n; i++) {
        RP_TRY(add_item(w, node, row, list.items + (size_t)i * row->item_bytes));
    }
out:
    return st;
}

static rp_status add_rows(const writer *w, rp_yaml *parent, const rp_option *rows,
                          const void *object)
{
    rp_status st = RP_OK;
    rp_yaml *section = NULL;

    for (const rp_option *row = rows; row->name != NULL; row++) {
        if (w->is_hash && row->is_local) {
            continue;
        }
        switch (row->type) {
        case RP_OPTION_SECTION:
            RP_TRY(rp_yaml_add(&section, w->owner, parent, RP_YAML_MAP, row->name, NULL));
            RP_TRY(add_rows(w, section, row->rows, (const char *)object + row->offset));
            break;
        case RP_OPTION_ITEMS:
        case RP_OPTION_VARIANTS:
            RP_TRY(add_list(w, parent, row, object));
            break;
        case RP_OPTION_STRINGS:
            RP_TRY(add_strings(w, parent, row, object));
            break;
        default:
            RP_TRY(add_scalar(w, parent, row, object));
            break;
        }
    }
out:
    return st;
}

static rp_status make_tree(rp_yaml **out, rp_owner *owner, const rp_job *job, bool is_hash)
{
    rp_status st = RP_OK;
    const writer w = {.owner = owner, .is_hash = is_hash};

    RP_TRY(rp_yaml_add(out, owner, NULL, RP_YAML_MAP, NULL, NULL));
    RP_TRY(add_rows(&w, *out, rp_job_keys(), job));
out:
    return st;
}

static rp_status write_job(char **out, const rp_job *job, bool is_hash)
{
    rp_status st = RP_OK;
    rp_owner owner = {0};
    rp_yaml *root = NULL;

    *out = NULL;
    RP_TRY(make_tree(&root, &owner, job, is_hash));
    RP_TRY(rp_yaml_write(out, root));
out:
    rp_owner_destroy(&owner);
    return st;
}

rp_status rp_job_to_yaml(char **out, const rp_job *job)
{
    return write_job(out, job, false);
}

rp_status rp_job_hash(rp_hash *out, const rp_job *job)
{
    rp_status st = RP_OK;
    char *text = NULL;

    RP_TRY(write_job(&text, job, true));
    *out = rp_hash_bytes(text, strlen(text));
out:
    free(text);
    return st;
}

/* ---- differences ---- */

#define PATH_CHARS 256

static void note_difference(FILE *f, const char *path, const rp_yaml *before, const rp_yaml *after)
{
    const rp_yaml *const sides[] = {before, after};

    (void)fprintf(f, "%s%s: ", ftell(f) > 0 ? "; " : "", path);
    for (int i = 0; i < 2; i++) {
        const char *text = sides[i] == NULL                   ? "nothing"
                           : sides[i]->kind != RP_YAML_SCALAR ? rp_yaml_kind_name(sides[i]->kind)
                                                              : sides[i]->text;
        (void)fprintf(f, "%s%s", text, i == 0 ? " -> " : "");
    }
}

/* The child of `other` that stands for child number `index` of its twin. */
static const rp_yaml *twin_of(const rp_yaml *other, const rp_yaml *child, int index)
{
    const rp_yaml *twin = other->first;

    if (child->key != NULL) {
        return rp_yaml_find(other, child->key);
    }
    while (twin != NULL && index-- > 0) {
        twin = twin->next;
    }
    return twin;
}

static void compare(FILE *f, const char *path, const rp_yaml *before, const rp_yaml *after);

static void compare_children(FILE *f, const char *path, const rp_yaml *before, const rp_yaml *after)
{
    const rp_yaml *const sides[] = {before, after};
    char below[PATH_CHARS];

    for (int s = 0; s < 2; s++) {
        int index = 0;
        for (const rp_yaml *child = sides[s]->first; child != NULL; child = child->next, index++) {
            const rp_yaml *twin = twin_of(sides[1 - s], child, index);
            if (s == 1 && twin != NULL) {
                continue;
            }
            if (child->key != NULL) {
                (void)snprintf(below, sizeof(below), "%.120s%s%.120s", path,
                               *path != '\0' ? "." : "", child->key);
            } else {
                (void)snprintf(below, sizeof(below), "%.120s.%d", path, index);
            }
            compare(f, below, s == 0 ? child : twin, s == 0 ? twin : child);
        }
    }
}

static void compare(FILE *f, const char *path, const rp_yaml *before, const rp_yaml *after)
{
    if (before == NULL || after == NULL || before->kind != after->kind) {
        note_difference(f, path, before, after);
    } else if (before->kind != RP_YAML_SCALAR) {
        compare_children(f, path, before, after);
    } else if (strcmp(before->text, after->text) != 0) {
        note_difference(f, path, before, after);
    }
}

rp_status rp_job_differences(char **out, const rp_job *before, const rp_job *after)
{
    rp_status st = RP_OK;
    rp_owner owner = {0};
    rp_yaml *trees[2] = {NULL, NULL};
    FILE *f = NULL;
    size_t nbytes = 0;

    *out = NULL;
    RP_TRY(make_tree(&trees[0], &owner, before, true));
    RP_TRY(make_tree(&trees[1], &owner, after, true));
    f = open_memstream(out, &nbytes);
    if (f == NULL) {
        st = RP_FAIL(RP_ERR_MEMORY, "no memory to compare jobs");
        goto out;
    }
    compare(f, "", trees[0], trees[1]);
    if (fclose(f) != 0) {
        st = RP_FAIL(RP_ERR_MEMORY, "no memory to compare jobs");
    }
out:
    rp_owner_destroy(&owner);
    return st;
}

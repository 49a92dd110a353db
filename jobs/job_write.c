/* From a job back to a tree: the resolved job as YAML, and the keys that make its hash. */
#include "jobs/job.h"

#include "base/fault.h"
#include "base/mem.h"
#include "jobs/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_CHARS 256

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
    if (row->type == RP_OPTION_PATH && *text != '/' && !rp_option_is_word(row, text)) {
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

rp_status rp_job_to_yaml(char **out, const rp_job *job)
{
    rp_status st = RP_OK;
    rp_owner owner = {0};
    rp_yaml *root = NULL;

    *out = NULL;
    RP_TRY(make_tree(&root, &owner, job, false));
    RP_TRY(rp_yaml_write(out, root));
out:
    rp_owner_destroy(&owner);
    return st;
}

/* Lines of the leaves below node; `path` is its own. */
static void write_lines(FILE *f, const char *path, const rp_yaml *node)
{
    char below[PATH_CHARS];
    int index = 0;

    if (node->kind == RP_YAML_SCALAR) {
        (void)fprintf(f, "%s=%s\n", path, node->text);
    }
    for (const rp_yaml *child = node->first; child != NULL; child = child->next, index++) {
        const char *dot = *path != '\0' ? "." : "";
        if (child->key != NULL) {
            (void)snprintf(below, sizeof(below), "%.120s%s%.120s", path, dot, child->key);
        } else {
            (void)snprintf(below, sizeof(below), "%.120s%s%d", path, dot, index);
        }
        write_lines(f, below, child);
    }
}

rp_status rp_job_lines(char **out, const rp_job *job)
{
    rp_status st = RP_OK;
    rp_owner owner = {0};
    rp_yaml *root = NULL;
    FILE *f = NULL;
    size_t nbytes = 0;

    *out = NULL;
    RP_TRY(make_tree(&root, &owner, job, true));
    f = RP_FAULT("alloc") ? NULL : open_memstream(out, &nbytes);
    if (f == NULL) {
        st = RP_FAIL(RP_ERR_MEMORY, "no memory to list the keys of a job");
        goto out;
    }
    write_lines(f, "", root);
    if (fclose(f) != 0) {
        free(*out);
        *out = NULL;
        st = RP_FAIL(RP_ERR_MEMORY, "no memory to list the keys of a job");
    }
out:
    rp_owner_destroy(&owner);
    return st;
}

rp_status rp_job_hash(rp_hash *out, const rp_job *job)
{
    rp_status st = RP_OK;
    char *lines = NULL;

    RP_TRY(rp_job_lines(&lines, job));
    *out = rp_hash_bytes(lines, strlen(lines));
out:
    free(lines);
    return st;
}

/* The checkpoint's folder: one and the same for all ranks, the newest good manifest, and no file
 * that nobody names. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "jobs/checkpoint_private.h"

#define TOKEN_PREFIX "token."

static rp_status write_token(const char *path, char hex[RP_HASH_HEX_BYTES])
{
    return rp_fs_write_file(path, hex, RP_HASH_HEX_BYTES);
}

static rp_status read_token(const char *path, const char *want)
{
    rp_status st = RP_OK;
    char *got = NULL;
    size_t nbytes = 0;

    RP_TRY(rp_fs_read_file(&got, &nbytes, path, RP_HASH_HEX_BYTES));
    if (nbytes != RP_HASH_HEX_BYTES || memcmp(got, want, RP_HASH_HEX_BYTES) != 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: has not rank 0's content", path);
    }
out:
    free(got);
    return st;
}

rp_status rp_checkpoint_prove_shared(rp_checkpoint *checkpoint)
{
    rp_status st = RP_OK;
    rp_status local = RP_OK;
    rp_hash token = {0, 0};
    char hex[RP_HASH_HEX_BYTES] = "";
    char *path = NULL;
    const bool is_root = rp_comm_rank(checkpoint->comm) == 0;

    if (is_root && getrandom(&token, sizeof(token), 0) != (ssize_t)sizeof(token)) {
        local = RP_FAIL(RP_ERR_INTERNAL, "no random number for a token: %s", strerror(errno));
    }
    rp_hash_hex(hex, token);
    rp_comm_bcast(checkpoint->comm, hex, sizeof(hex), 0);
    if (local == RP_OK) {
        local = rp_strprintf(&path, "%s/" TOKEN_PREFIX "%s", checkpoint->dir, hex);
    }
    if (local == RP_OK && is_root) {
        local = write_token(path, hex);
    }
    RP_TRY(rp_agree(checkpoint->comm, local));
    local = read_token(path, hex);
    if (local == RP_ERR_FORMAT) {
        local =
            rp_error_prefix(RP_ERR_IO, "%s is not the same folder on all ranks", checkpoint->dir);
    }
    RP_TRY(rp_agree(checkpoint->comm, local));
out:
    if (is_root && path != NULL) {
        (void)unlink(path);
    }
    free(path);
    return st;
}

/* Puts an older manifest in the place of a damaged newest one. */
static rp_status restore_newest(const rp_checkpoint *checkpoint, const rp_manifest *manifest)
{
    rp_status st = RP_OK;
    char *text = NULL;
    size_t nbytes = 0;

    RP_TRY(rp_manifest_format(&text, &nbytes, manifest));
    RP_TRY(rp_manifest_publish(checkpoint->dir, text, nbytes, 1));
out:
    free(text);
    return st;
}

rp_status rp_checkpoint_load_newest(rp_checkpoint *checkpoint, rp_manifest *out)
{
    rp_status st = RP_OK;
    char name[RP_MANIFEST_NAME_BYTES];
    char *path = NULL;
    bool is_found = false;
    int age = 0;

    memset(out, 0, sizeof(*out));
    for (; age < RP_CHECKPOINT_MAX_KEEP && !is_found; age++) {
        free(path);
        path = NULL;
        rp_manifest_name(name, age);
        RP_TRY(rp_fs_join(&path, checkpoint->dir, name));
        if (!rp_fs_exists(path)) {
            continue;
        }
        st = rp_manifest_read(out, checkpoint->dir, age);
        is_found = st == RP_OK;
        if (st == RP_ERR_FORMAT) {
            rp_checkpoint_warn(checkpoint, "%s; looking for an older one", rp_error_message());
        } else if (st != RP_OK) {
            goto out;
        }
    }
    st = RP_OK;
    if (is_found && age > 1) {
        rp_checkpoint_warn(checkpoint, "%s: going on from generation %lld of %s", checkpoint->dir,
                           (long long)out->generation, name);
        RP_TRY(restore_newest(checkpoint, out));
    }
out:
    free(path);
    return st;
}

/* Names of all files that kept manifests name, sorted. */
typedef struct name_list {
    char **items;
    size_t n, capacity;
    bool is_all; /* false: a manifest that is there could not be read */
} name_list;

static void clear_names(name_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free(list->items[i]);
    }
    free(list->items);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static rp_status add_names(name_list *list, const rp_manifest *manifest)
{
    rp_status st = RP_OK;

    RP_TRY(
        rp_grow(&list->items, &list->capacity, list->n + manifest->n_files, sizeof(*list->items)));
    for (size_t f = 0; f < manifest->n_files; f++) {
        RP_TRY(rp_strdup(&list->items[list->n], manifest->files[f].name));
        list->n++;
    }
out:
    return st;
}

/* Those of the manifest in memory, too: it may be the only one that can be read. */
static rp_status list_kept(name_list *out, const rp_checkpoint *checkpoint)
{
    rp_status st = RP_OK;

    out->is_all = true;
    RP_TRY(add_names(out, &checkpoint->manifest));
    for (int age = 0; age < checkpoint->opts.keep; age++) {
        rp_manifest manifest = {0};
        char name[RP_MANIFEST_NAME_BYTES];
        char *path = NULL;
        rp_manifest_name(name, age);
        RP_TRY(rp_fs_join(&path, checkpoint->dir, name));
        if (rp_manifest_read(&manifest, checkpoint->dir, age) == RP_OK) {
            st = add_names(out, &manifest);
        } else {
            out->is_all &= !rp_fs_exists(path);
        }
        free(path);
        rp_manifest_clear(&manifest);
        RP_TRY(st);
    }
    if (out->n > 1) {
        qsort(out->items, out->n, sizeof(*out->items), compare_names);
    }
out:
    return st;
}

/* True for names that only this module makes. */
static bool is_ours(const char *name)
{
    return rp_ends_with(name, ".h5") || rp_ends_with(name, ".h5.part") ||
           strncmp(name, TOKEN_PREFIX, strlen(TOKEN_PREFIX)) == 0 ||
           (strncmp(name, "manifest.", strlen("manifest.")) == 0 &&
            (rp_ends_with(name, ".json") || rp_ends_with(name, ".json.tmp")));
}

/* True for a file that a rank may be writing now. */
static bool is_in_the_making(const rp_checkpoint *checkpoint, const char *name)
{
    long long generation = 0;

    return sscanf(name, "g%lld-r", &generation) == 1 && generation >= checkpoint->next_generation;
}

static bool is_kept(const rp_checkpoint *checkpoint, const name_list *kept, const char *name)
{
    char manifest[RP_MANIFEST_NAME_BYTES];

    for (int age = 0; age < checkpoint->opts.keep; age++) {
        rp_manifest_name(manifest, age);
        if (strcmp(name, manifest) == 0) {
            return true;
        }
    }
    if (is_in_the_making(checkpoint, name) || (!kept->is_all && rp_ends_with(name, ".h5"))) {
        return true;
    }
    return kept->n > 0 &&
           bsearch(&name, kept->items, kept->n, sizeof(*kept->items), compare_names) != NULL;
}

/* Unlinks our files in the folder, those that are kept apart (NULL: none is). */
static void unlink_ours(const rp_checkpoint *checkpoint, const name_list *kept)
{
    DIR *dir = RP_FAULT("opendir") ? NULL : opendir(checkpoint->dir);
    const struct dirent *entry = NULL;

    if (dir == NULL) {
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        if (is_ours(entry->d_name) && (kept == NULL || !is_kept(checkpoint, kept, entry->d_name))) {
            (void)!(RP_FAULT("unlink") || unlinkat(dirfd(dir), entry->d_name, 0) != 0);
        }
    }
    (void)closedir(dir);
}

void rp_checkpoint_remove_orphans(rp_checkpoint *checkpoint)
{
    name_list kept = {0};

    if (list_kept(&kept, checkpoint) == RP_OK) {
        unlink_ours(checkpoint, &kept);
    }
    clear_names(&kept);
}

rp_status rp_checkpoint_remove_files(rp_checkpoint *checkpoint)
{
    rp_status st = RP_OK;
    char *path = NULL;

    /* Manifests first, the oldest before the newest: what is left after a kill is whole or nothing.
     */
    for (int age = RP_CHECKPOINT_MAX_KEEP - 1; age >= 0; age--) {
        char name[RP_MANIFEST_NAME_BYTES];
        rp_manifest_name(name, age);
        RP_TRY(rp_fs_join(&path, checkpoint->dir, name));
        if ((RP_FAULT("unlink") || unlink(path) != 0) && errno != ENOENT) {
            st = RP_FAIL(rp_status_from_errno(errno), "%s: cannot remove: %s", path,
                         strerror(errno));
            goto out;
        }
        free(path);
        path = NULL;
    }
    unlink_ours(checkpoint, NULL);
    if ((RP_FAULT("rmdir") || rmdir(checkpoint->dir) != 0) && errno != ENOTEMPTY &&
        errno != EEXIST) {
        st = RP_FAIL(rp_status_from_errno(errno), "%s: cannot remove: %s", checkpoint->dir,
                     strerror(errno));
    }
out:
    free(path);
    return st;
}

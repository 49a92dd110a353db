/* Manifests in memory: pieces sorted by unit and row, looked up by bisection; and as files of a
 * folder. The text form is in manifest_json.c. */
#include "jobs/manifest.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"

/* More than the largest manifest that a job can need; a reader's bound on memory. */
#define MAX_MANIFEST_BYTES ((size_t)1 << 30)
#define MAX_SHOWN_DIFFERENCES 4

void rp_manifest_clear(rp_manifest *manifest)
{
    for (size_t i = 0; i < manifest->n_files; i++) {
        free(manifest->files[i].name);
    }
    for (size_t i = 0; i < manifest->n_pieces; i++) {
        free(manifest->pieces[i].unit);
    }
    free(manifest->files);
    free(manifest->pieces);
    free(manifest->job_text);
    memset(manifest, 0, sizeof(*manifest));
}

rp_status rp_manifest_add_file(rp_manifest *manifest, const char *name, size_t nbytes,
                               int64_t generation, size_t *index)
{
    rp_status st = RP_OK;
    rp_manifest_file *file = NULL;

    RP_TRY(rp_grow(&manifest->files, &manifest->files_capacity, manifest->n_files + 1,
                   sizeof(*manifest->files)));
    file = &manifest->files[manifest->n_files];
    RP_TRY(rp_strdup(&file->name, name));
    file->nbytes = nbytes;
    file->generation = generation;
    if (index != NULL) {
        *index = manifest->n_files;
    }
    manifest->n_files++;
out:
    return st;
}

rp_status rp_manifest_add_piece(rp_manifest *manifest, const rp_manifest_piece *piece)
{
    rp_status st = RP_OK;
    char *unit = NULL;

    RP_TRY(rp_grow(&manifest->pieces, &manifest->pieces_capacity, manifest->n_pieces + 1,
                   sizeof(*manifest->pieces)));
    RP_TRY(rp_strdup(&unit, piece->unit));
    manifest->pieces[manifest->n_pieces] = *piece;
    manifest->pieces[manifest->n_pieces].unit = unit;
    manifest->n_pieces++;
out:
    return st;
}

static int compare_pieces(const void *va, const void *vb)
{
    const rp_manifest_piece *a = va;
    const rp_manifest_piece *b = vb;
    const int by_unit = strcmp(a->unit, b->unit);

    return by_unit != 0 ? by_unit : (a->row0 > b->row0) - (a->row0 < b->row0);
}

void rp_manifest_sort(rp_manifest *manifest)
{
    if (manifest->n_pieces > 1) {
        qsort(manifest->pieces, manifest->n_pieces, sizeof(*manifest->pieces), compare_pieces);
    }
}

size_t rp_manifest_find(const rp_manifest *manifest, const char *unit, size_t *n)
{
    size_t low = 0;
    size_t high = manifest->n_pieces;
    size_t end = 0;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(manifest->pieces[middle].unit, unit) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    end = low;
    while (end < manifest->n_pieces && strcmp(manifest->pieces[end].unit, unit) == 0) {
        end++;
    }
    *n = end - low;
    return low;
}

bool rp_manifest_is_complete(const rp_manifest_piece *pieces, size_t n)
{
    int64_t next_row = 0;

    for (size_t i = 0; i < n; i++) {
        if (pieces[i].row0 != next_row || pieces[i].total_rows != pieces[0].total_rows) {
            return false;
        }
        next_row += pieces[i].rows;
    }
    return n > 0 && next_row == pieces[0].total_rows;
}

rp_status rp_manifest_append(rp_manifest *dst, const rp_manifest *src, rp_manifest_takes_fn takes,
                             const void *ctx)
{
    rp_status st = RP_OK;
    size_t *new_index = NULL; /* of each file of src in dst; SIZE_MAX: not there yet */

    RP_TRY(rp_alloc_array(&new_index, src->n_files, sizeof(*new_index)));
    for (size_t f = 0; f < src->n_files; f++) {
        new_index[f] = SIZE_MAX;
    }
    for (size_t p = 0; p < src->n_pieces; p++) {
        rp_manifest_piece piece = src->pieces[p];
        const rp_manifest_file *file = &src->files[piece.file];
        if (takes != NULL && !takes(ctx, p)) {
            continue;
        }
        if (new_index[piece.file] == SIZE_MAX) {
            RP_TRY(rp_manifest_add_file(dst, file->name, file->nbytes, file->generation,
                                        &new_index[piece.file]));
        }
        piece.file = new_index[piece.file];
        RP_TRY(rp_manifest_add_piece(dst, &piece));
    }
out:
    free(new_index);
    return st;
}

static bool is_part_valid(const char *part, size_t length)
{
    if (length == 0 || part[0] == '@' || (length <= 2 && strncmp(part, "..", length) == 0)) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (!isgraph((unsigned char)part[i])) {
            return false;
        }
    }
    return true;
}

rp_status rp_manifest_check_unit(const char *unit)
{
    const char *part = unit;
    bool is_valid = strlen(unit) <= RP_UNIT_NAME_MAX_BYTES;

    while (is_valid) {
        const size_t length = strcspn(part, "/");
        is_valid = is_part_valid(part, length);
        if (part[length] == '\0') {
            break;
        }
        part += length + 1;
    }
    return is_valid ? RP_OK : RP_FAIL(RP_ERR_INTERNAL, "\"%s\" cannot name a unit", unit);
}

void rp_manifest_name(char out[RP_MANIFEST_NAME_BYTES], int age)
{
    if (age == 0) {
        (void)snprintf(out, RP_MANIFEST_NAME_BYTES, "manifest.json");
    } else {
        (void)snprintf(out, RP_MANIFEST_NAME_BYTES, "manifest.%d.json", age);
    }
}

static rp_status manifest_path(char **out, const char *dir, int age)
{
    char name[RP_MANIFEST_NAME_BYTES];

    rp_manifest_name(name, age);
    return rp_fs_join(out, dir, name);
}

rp_status rp_manifest_read(rp_manifest *out, const char *dir, int age)
{
    rp_status st = RP_OK;
    char *path = NULL;
    char *text = NULL;
    size_t nbytes = 0;

    memset(out, 0, sizeof(*out));
    RP_TRY(manifest_path(&path, dir, age));
    RP_TRY(rp_fs_read_file(&text, &nbytes, path, MAX_MANIFEST_BYTES));
    RP_TRY(rp_manifest_parse(out, text, nbytes, path));
out:
    free(text);
    free(path);
    return st;
}

/* manifest.json becomes manifest.1.json by copying, so that manifest.json is there all the time;
 * older ones move by renaming. */
static rp_status move_one(const char *from, const char *to, bool is_newest)
{
    rp_status st = RP_OK;
    char *text = NULL;
    size_t nbytes = 0;

    if (!rp_fs_exists(from)) {
        return RP_OK;
    }
    if (is_newest) {
        RP_TRY(rp_fs_read_file(&text, &nbytes, from, MAX_MANIFEST_BYTES));
        RP_TRY(rp_fs_write_file(to, text, nbytes));
    } else if (RP_FAULT("rename") || rename(from, to) != 0) {
        st = RP_FAIL(rp_status_from_errno(errno), "%s: cannot rename to %s: %s", from, to,
                     strerror(errno));
    }
out:
    free(text);
    return st;
}

rp_status rp_manifest_publish(const char *dir, const char *text, size_t nbytes, int keep)
{
    rp_status st = RP_OK;
    char *from = NULL;
    char *to = NULL;

    for (int age = keep - 1; age >= 1; age--) {
        RP_TRY(manifest_path(&from, dir, age - 1));
        RP_TRY(manifest_path(&to, dir, age));
        RP_TRY(move_one(from, to, age == 1));
        free(from);
        free(to);
        from = NULL;
        to = NULL;
    }
    RP_TRY(manifest_path(&to, dir, 0));
    RP_TRY(rp_fs_write_file(to, text, nbytes));
out:
    free(from);
    free(to);
    return st;
}

/* The value of a line "key=value" of text whose key is that of `line`; NULL when there is none. */
static const char *find_value(const char *text, const char *line, size_t key_bytes)
{
    while (text != NULL && *text != '\0') {
        if (strncmp(text, line, key_bytes + 1) == 0) {
            return text + key_bytes + 1;
        }
        text = strchr(text, '\n');
        text = text == NULL ? NULL : text + 1;
    }
    return NULL;
}

typedef struct difference_list {
    char text[RP_MESSAGE_BYTES / 2];
    size_t length;
    int n;
} difference_list;

static void add_difference(difference_list *list, const char *key, int key_bytes, const char *old,
                           const char *now)
{
    static const char *const nothing = "(none)";
    const char *from = old == NULL ? nothing : old;
    const char *to = now == NULL ? nothing : now;
    int written = 0;

    if (list->n++ >= MAX_SHOWN_DIFFERENCES) {
        return;
    }
    written = snprintf(list->text + list->length, sizeof(list->text) - list->length,
                       "%s%.*s: %.*s -> %.*s", list->n > 1 ? "; " : "", key_bytes, key,
                       (int)RP_MIN(strcspn(from, "\n"), 80), from,
                       (int)RP_MIN(strcspn(to, "\n"), 80), to);
    list->length = RP_MIN(list->length + (size_t)RP_MAX(written, 0), sizeof(list->text) - 1);
}

/* Lines of `mine` against `other`: changed and missing keys, or the missing ones alone. */
static void compare_lines(difference_list *list, const char *mine, const char *other,
                          bool only_missing)
{
    while (*mine != '\0') {
        const size_t line_bytes = strcspn(mine, "\n");
        const char *equals = memchr(mine, '=', line_bytes);
        const size_t key_bytes = equals == NULL ? line_bytes : (size_t)(equals - mine);
        const char *value = equals == NULL ? mine + line_bytes : equals + 1;
        const char *theirs = find_value(other, mine, key_bytes);
        const size_t value_bytes = strcspn(value, "\n");
        const bool is_equal = theirs != NULL && strcspn(theirs, "\n") == value_bytes &&
                              strncmp(theirs, value, value_bytes) == 0;

        if (line_bytes > 0 && only_missing && theirs == NULL) {
            add_difference(list, mine, (int)key_bytes, NULL, value);
        } else if (line_bytes > 0 && !only_missing && !is_equal) {
            add_difference(list, mine, (int)key_bytes, value, theirs);
        }
        mine += line_bytes + (mine[line_bytes] != '\0');
    }
}

rp_status rp_manifest_job_differences(char **out, const char *before, const char *after)
{
    difference_list list = {.n = 0};

    compare_lines(&list, before, after, false);
    compare_lines(&list, after, before, true);
    if (list.n > MAX_SHOWN_DIFFERENCES) {
        return rp_strprintf(out, "%s; and %d more", list.text, list.n - MAX_SHOWN_DIFFERENCES);
    }
    return rp_strdup(out, list.text);
}

/* The text after its next line, which is left out if it is the key's; *line: the line, "" at the
 * end. */
static const char *next_line(const char *text, const char *key, const char **line, size_t *nbytes)
{
    const size_t key_bytes = strlen(key);

    do {
        *line = text;
        *nbytes = strcspn(text, "\n");
        text += *nbytes + (text[*nbytes] != '\0');
    } while (*nbytes > key_bytes && strncmp(*line, key, key_bytes) == 0 &&
             (*line)[key_bytes] == '=');
    return text;
}

bool rp_manifest_job_differs_only_in(const char *before, const char *after, const char *key)
{
    const char *old = "";
    const char *now = "";
    size_t old_bytes = 0;
    size_t now_bytes = 0;

    do {
        before = next_line(before, key, &old, &old_bytes);
        after = next_line(after, key, &now, &now_bytes);
        if (old_bytes != now_bytes || strncmp(old, now, old_bytes) != 0) {
            return false;
        }
    } while (old_bytes > 0 || *before != '\0' || *after != '\0');
    return true;
}

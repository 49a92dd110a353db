/* Manifest of a checkpoint: which row pieces of which units lie in which files.
 *
 * manifest.json is the newest, manifest.1.json the one before ...; the format, with its own hash,
 * is in docs/formats/checkpoint.md. The same text carries a rank's new pieces to the others. */
#ifndef RP_JOBS_MANIFEST_H
#define RP_JOBS_MANIFEST_H

#include "base/hash.h"
#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_UNIT_NAME_MAX_BYTES 240
#define RP_MANIFEST_NAME_BYTES 32

typedef struct rp_manifest_file {
    char *name; /* "g000007-r0003.h5", in the manifest's folder */
    size_t nbytes;
    int64_t generation; /* that wrote it */
} rp_manifest_file;

/* Rows row0 .. row0 + rows - 1 of a unit of total_rows. */
typedef struct rp_manifest_piece {
    char *unit;
    int64_t row0, rows, total_rows;
    size_t file;   /* index */
    size_t nbytes; /* of data */
    rp_hash hash;  /* of the piece: docs/formats/checkpoint.md */
} rp_manifest_piece;

/* Start with {0}. */
typedef struct rp_manifest {
    int64_t generation;
    rp_hash job_hash;
    char *job_text; /* lines "key=value"; NULL: none */
    rp_manifest_file *files;
    size_t n_files, files_capacity;
    rp_manifest_piece *pieces; /* after rp_manifest_sort: by unit, then row0 */
    size_t n_pieces, pieces_capacity;
} rp_manifest;

/* Local. Releases the content; the struct itself is the caller's. */
void rp_manifest_clear(rp_manifest *manifest);
/* Local. index may be NULL. The strings are copied. */
RP_CHECKED rp_status rp_manifest_add_file(rp_manifest *manifest, const char *name, size_t nbytes,
                                          int64_t generation, size_t *index);
/* Local. piece->unit is copied. */
RP_CHECKED rp_status rp_manifest_add_piece(rp_manifest *manifest, const rp_manifest_piece *piece);
void rp_manifest_sort(rp_manifest *manifest);
/* Local. The pieces of a unit in a sorted manifest: index of the first, and how many. */
size_t rp_manifest_find(const rp_manifest *manifest, const char *unit, size_t *n);
/* Local. True when pieces [n] of one unit, sorted, cover all its rows once. */
bool rp_manifest_is_complete(const rp_manifest_piece *pieces, size_t n);
/* Local. Adds those pieces of src that `takes` accepts (NULL: all), and the files they lie in. */
typedef bool (*rp_manifest_takes_fn)(const void *ctx, size_t piece);
RP_CHECKED rp_status rp_manifest_append(rp_manifest *dst, const rp_manifest *src,
                                        rp_manifest_takes_fn takes, const void *ctx);

/* Local. RP_ERR_INTERNAL unless unit can name a unit: parts of visible ASCII between single
 * slashes, none of them "." or "..", none beginning with '@'. */
RP_CHECKED rp_status rp_manifest_check_unit(const char *unit);

/* Local. The text of a sorted manifest, and a manifest from text; origin names it in messages.
 * Parsing gives RP_ERR_FORMAT. Caller frees *out; clears *out. */
RP_CHECKED rp_status rp_manifest_format(char **out, size_t *nbytes, const rp_manifest *manifest);
RP_CHECKED rp_status rp_manifest_parse(rp_manifest *out, const char *text, size_t nbytes,
                                       const char *origin);

/* Local. "manifest.json" for age 0, "manifest.1.json" ... */
void rp_manifest_name(char out[RP_MANIFEST_NAME_BYTES], int age);
/* Local. Reads dir's manifest of this age. */
RP_CHECKED rp_status rp_manifest_read(rp_manifest *out, const char *dir, int age);
/* Local. Makes text the newest manifest of dir, durably; earlier ones move one on, `keep` remain
 * (1 .. ). At every moment dir has a whole newest or second newest one. */
RP_CHECKED rp_status rp_manifest_publish(const char *dir, const char *text, size_t nbytes,
                                         int keep);

/* Local. How two job texts differ: "key: old -> new; ..." with at most a few keys; "" when not at
 * all. Caller frees. */
RP_CHECKED rp_status rp_manifest_job_differences(char **out, const char *before, const char *after);
/* Local. Are they equal but for the line of this key. */
bool rp_manifest_job_differs_only_in(const char *before, const char *after, const char *key);

#ifdef __cplusplus
}
#endif
#endif

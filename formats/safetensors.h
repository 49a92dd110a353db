/* safetensors files: a validating reader, and the layout of files that many ranks write together.
 *
 *     u64 little-endian N | N bytes of JSON, padded with spaces | tensor bytes without holes
 */
#ifndef RP_FORMATS_SAFETENSORS_H
#define RP_FORMATS_SAFETENSORS_H

#include "formats/container.h"
#include "kernels/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_SAFETENSORS_MAX_DIMS 8
#define RP_SAFETENSORS_MAX_HEADER_BYTES 100000000

typedef struct rp_safetensors rp_safetensors; /* an open file; immutable */

typedef struct rp_safetensors_entry {
    const char *name;       /* borrowed from the rp_safetensors */
    const char *dtype_name; /* "BF16", "F8_E4M3" ... */
    rp_dtype dtype;         /* RP_DTYPE_COUNT: a type that we do not compute with */
    int ndim;
    int64_t shape[RP_SAFETENSORS_MAX_DIMS];
    size_t offset_bytes; /* in the file */
    size_t nbytes;
} rp_safetensors_entry;

/* Local. Opens and checks all of spec's rules: header, offsets, sizes. RP_ERR_FORMAT names file,
 * tensor and rule. */
RP_CHECKED rp_status rp_safetensors_open(rp_safetensors **out, const char *path);
void rp_safetensors_close(rp_safetensors **file);
/* Local. Path given to open; size of the file. */
const char *rp_safetensors_path(const rp_safetensors *file);
size_t rp_safetensors_file_bytes(const rp_safetensors *file);
/* Local. Number of tensors, and the i-th in name order; find gives NULL when absent. */
int64_t rp_safetensors_count(const rp_safetensors *file);
const rp_safetensors_entry *rp_safetensors_at(const rp_safetensors *file, int64_t index);
const rp_safetensors_entry *rp_safetensors_find(const rp_safetensors *file, const char *name);
/* Local, thread-safe. Bytes offset .. offset + nbytes - 1 of the tensor. */
RP_CHECKED rp_status rp_safetensors_read(const rp_safetensors *file,
                                         const rp_safetensors_entry *entry, size_t offset_bytes,
                                         size_t nbytes, void *dst);

/* ---- Writing: who writes what is the caller's affair; this says where ---- */

typedef struct rp_safetensors_file_plan {
    char *name;          /* "model.safetensors" or "model-00001-of-00003.safetensors" */
    char *header;        /* [header_bytes] the first bytes of the file */
    size_t header_bytes; /* multiple of 8 */
    size_t total_bytes;
} rp_safetensors_file_plan;

typedef struct rp_safetensors_place {
    int64_t file;
    size_t offset_bytes; /* in that file */
} rp_safetensors_place;

typedef struct rp_safetensors_layout {
    int64_t n_files;
    rp_safetensors_file_plan *files;
    int64_t n_parts;
    rp_safetensors_place *places; /* [n_parts] in the order of the parts given */
    char *index;                  /* text of "model.safetensors.index.json"; NULL with one file */
} rp_safetensors_layout;

/* Local. Places every part. Shards are filled greedily in the order of `parts` up to
 * max_shard_bytes of data (0: one file); a larger tensor gets its own. Inside a file the order is
 * the reference writer's: type (wide first), then name. Caller destroys. RP_ERR_INTERNAL on a name
 * given twice. */
RP_CHECKED rp_status rp_safetensors_layout_create(rp_safetensors_layout *out, const rp_part *parts,
                                                  int64_t n_parts, size_t max_shard_bytes);
void rp_safetensors_layout_destroy(rp_safetensors_layout *layout);

#ifdef __cplusplus
}
#endif
#endif

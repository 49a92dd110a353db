/* Importance matrices: for each weight the sums of squares of its inputs over calibration tokens, a
 * value a column, as llama-imatrix writes and llama-quantize reads them.
 *
 * Two kinds of file. GGUF: for each weight W the tensors "W.in_sum2" F32 [columns, matrices] and
 * "W.counts" F32 [1, matrices], and the keys general.type = "imatrix", imatrix.datasets,
 * imatrix.chunk_count, imatrix.chunk_size. The older one (.dat), without a magic:
 *
 *   n i32, then n x  name length i32 | name | chunks i32 | n_values i32 | f32 [n_values]
 *   and maybe        chunks i32 | length i32 | data set's name
 *
 * with mean square times chunks as value. It does not say how many tokens a chunk had:
 * RP_IMATRIX_DAT_CHUNK is taken, llama-imatrix's default, a power of two that leaves the means as
 * they are, bit for bit. */
#ifndef RP_FORMATS_IMATRIX_H
#define RP_FORMATS_IMATRIX_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_IMATRIX_DAT_CHUNK 512 /* tokens */

typedef struct rp_imatrix_entry {
    char *name;       /* of the weight in GGUF: "blk.0.attn_q.weight" */
    int64_t n_values; /* columns times n_mats */
    int64_t n_mats;   /* matrices with a count of their own: experts, else 1 */
    float *sums;      /* [n_mats, n_values / n_mats] sums of squares; finite, >= 0 */
    int64_t *counts;  /* [n_mats] tokens; >= 0 */
} rp_imatrix_entry;

typedef struct rp_imatrix {
    rp_imatrix_entry *entries; /* [n]; sorted by name once sealed */
    size_t n, capacity;
    char **datasets; /* [n_datasets] names of calibration texts */
    size_t n_datasets, dataset_capacity;
    int64_t chunk_count, chunk_size; /* tokens of a chunk; both fit in u32 */
    bool is_dat;                     /* read from the older kind of file */
} rp_imatrix;

/* Local. An empty one to be filled. Caller destroys. */
RP_CHECKED rp_status rp_imatrix_create(rp_imatrix **out);
void rp_imatrix_destroy(rp_imatrix **imatrix);
/* Local. Adds an entry of zeros; *entry is borrowed until the next is added. */
RP_CHECKED rp_status rp_imatrix_add(rp_imatrix_entry **entry, rp_imatrix *imatrix, const char *name,
                                    int64_t n_values, int64_t n_mats);
RP_CHECKED rp_status rp_imatrix_add_dataset(rp_imatrix *imatrix, const char *name);
/* Local. Sorts the entries after the last was added. RP_ERR_FORMAT when a name is there twice. */
RP_CHECKED rp_status rp_imatrix_seal(rp_imatrix *imatrix);

/* Local. Reads either kind; sealed. RP_ERR_FORMAT names path, entry, cause. */
RP_CHECKED rp_status rp_imatrix_open(rp_imatrix **out, const char *path);
/* Local. The same from a whole file in memory; `origin` stands for the path. */
RP_CHECKED rp_status rp_imatrix_parse(rp_imatrix **out, const void *data, size_t nbytes,
                                      const char *origin);

/* Local. By the weight's GGUF name, or NULL. Sealed ones alone. */
const rp_imatrix_entry *rp_imatrix_find(const rp_imatrix *imatrix, const char *name);
/* Local. Mean squares, what quantisers weigh columns with, into out [n_values]; a matrix that saw
 * no token has ones. */
void rp_imatrix_importance(const rp_imatrix_entry *entry, float *out);

/* Local. Adds the sums and counts of `from` to `into`; both sealed, `into` keeps its chunk size and
 * stays sealed. A single count meets several by standing for each. RP_ERR_FORMAT when an entry has
 * another number of values; `into` is then of no use. */
RP_CHECKED rp_status rp_imatrix_merge(rp_imatrix *into, const rp_imatrix *from);

/* Local. Durable replacement of the file at path, of the older kind when the name ends in ".dat";
 * sealed ones alone. An entry without a token is left out of a .dat, which cannot hold it. */
RP_CHECKED rp_status rp_imatrix_write(const rp_imatrix *imatrix, const char *path);

#ifdef __cplusplus
}
#endif
#endif

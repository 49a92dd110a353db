/* Checkpoint: finished units of work of all ranks in a folder of HDF5 files and one manifest
 * (docs/formats/checkpoint.md).
 *
 * A unit has a name ("layer/3/self_attn.q_proj/grid0") and consists of row pieces that any ranks
 * may hold. A commit is a generation: each rank's new pieces go to a new file, never an old one;
 * rank 0 publishes the manifest when every file is on disk. All pieces of a unit belong to one
 * generation: putting it again replaces it as a whole. Files are written in a thread beside the
 * caller's; all calls from one thread. */
#ifndef RP_JOBS_CHECKPOINT_H
#define RP_JOBS_CHECKPOINT_H

#include "base/hash.h"
#include "base/pool.h"
#include "kernels/form.h"
#include "mpi/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_checkpoint rp_checkpoint;

/* Units below this name will be dropped again before long: each rank keeps them in files of their
 * own, so that their space is free once they are dropped. */
#define RP_UNIT_PASSING "passing/"

/* One line without a newline. Called on any rank, during rp_checkpoint_open alone. */
typedef void (*rp_warn_fn)(void *ctx, const char *text);

typedef struct rp_checkpoint_opts {
    int keep;           /* manifests kept, the newest counted: 1 to 16 */
    size_t queue_bytes; /* of pieces that wait to be written */
    rp_pool *pool;      /* borrowed; packs codes; NULL: the caller's thread */
    rp_warn_fn warn;    /* NULL: silent */
    void *warn_ctx;
    /* Asked before a file is made and, on rank 0, before each commit. RP_ERR_LOCKED: the folder is
     * another job's by now, and no file in it is touched any more. NULL: always. */
    rp_status (*may_write)(void *ctx);
    void *may_write_ctx;
    /* A manifest whose job differs in this key alone is gone on with, after a warning, without the
     * units below RP_UNIT_PASSING. NULL: no such key. */
    const char *loose_key;
} rp_checkpoint_opts;
rp_checkpoint_opts rp_checkpoint_opts_default(void);

typedef struct rp_checkpoint_counts {
    int64_t commits, written_bytes; /* this rank's files, and the manifests on rank 0 */
    double write_seconds;           /* of writing and publishing, in whatever thread */
    int64_t read_bytes;
    double read_seconds;
} rp_checkpoint_counts;

/* Collective on comm. Makes the folder when it is not there; refuses ranks whose job_text is not
 * rank 0's (RP_ERR_CONFIG with the keys); proves that all ranks see the same
 * one; reads the newest good manifest (an older one with a warning); drops, with a warning each,
 * units with a missing, cut or damaged piece (the ranks share the reading); removes files that no
 * kept manifest names. job_text: lines "key=value" that job_hash stands for. A manifest of another
 * job is RP_ERR_CONFIG "... was made by another job: key: old -> new". opts NULL: the defaults. */
RP_CHECKED rp_status rp_checkpoint_open(rp_checkpoint **out, rp_comm *comm, const char *dir,
                                        rp_hash job_hash, const char *job_text,
                                        const rp_checkpoint_opts *opts);
/* Local. Pending pieces are lost; the folder stays. Accepts NULL. */
void rp_checkpoint_close(rp_checkpoint **checkpoint);
/* Collective. Deletes the checkpoint's files and its folder; only close may follow. */
RP_CHECKED rp_status rp_checkpoint_remove(rp_checkpoint *checkpoint);

/* Local. Starts a generation; forgets pieces put but not committed. */
RP_CHECKED rp_status rp_checkpoint_begin(rp_checkpoint *checkpoint);
/* Local. Rows row0 .. row0 + rows->rows - 1 of total_rows; the data are on their way to this rank's
 * file on return. A piece of no rows is left out. A failure may be that of an earlier piece. */
RP_CHECKED rp_status rp_checkpoint_put_form(rp_checkpoint *checkpoint, const char *unit,
                                            int64_t row0, int64_t total_rows, const rp_form *rows);
/* Local. data [n], held as one piece: by one rank. n may be 0. */
RP_CHECKED rp_status rp_checkpoint_put_array(rp_checkpoint *checkpoint, const char *unit,
                                             rp_dtype dtype, const void *data, int64_t n);
RP_CHECKED rp_status rp_checkpoint_put_text(rp_checkpoint *checkpoint, const char *unit,
                                            const char *text);
/* Logically collective. The unit is left out of the manifest from the next commit on; fine when it
 * is not there. */
RP_CHECKED rp_status rp_checkpoint_drop(rp_checkpoint *checkpoint, const char *unit);
/* Logically collective. The same for every unit whose name begins with prefix and not with kept
 * (NULL: all of them). */
RP_CHECKED rp_status rp_checkpoint_drop_below(rp_checkpoint *checkpoint, const char *prefix,
                                              const char *kept);
/* Local. Was anything put or dropped on this rank since begin. */
bool rp_checkpoint_is_dirty(const rp_checkpoint *checkpoint);
/* Collective. `local`: this rank's outcome since begin. All ranks' pieces become part of the
 * checkpoint, or none and a failure on all. The next generation begins. */
RP_CHECKED rp_status rp_checkpoint_commit(rp_checkpoint *checkpoint, rp_status local);
/* Collective. The first half of a commit: the files are finished while the caller goes on, and the
 * next generation begins. A generation that was sealed before is settled. */
RP_CHECKED rp_status rp_checkpoint_seal(rp_checkpoint *checkpoint, rp_status local);
/* Collective. The second half, if a generation is sealed and its files are finished on all ranks,
 * for which it can wait. Commit and seal do it first. */
RP_CHECKED rp_status rp_checkpoint_settle(rp_checkpoint *checkpoint, bool waits);

/* Local; the same answer on all ranks. True when good pieces cover the whole unit. */
bool rp_checkpoint_has(const rp_checkpoint *checkpoint, const char *unit);
/* Local. Committed units in the order of their names; the name is borrowed until the next commit.
 */
int64_t rp_checkpoint_n_units(const rp_checkpoint *checkpoint);
const char *rp_checkpoint_unit_name(const rp_checkpoint *checkpoint, int64_t index);
/* Local. Manifests published so far by this job, earlier runs counted; 0: none. */
int64_t rp_checkpoint_generation(const rp_checkpoint *checkpoint);

/* Local. Rows row0 .. row0 + nrows - 1 from whatever files hold them. Caller destroys *out. */
RP_CHECKED rp_status rp_checkpoint_get_form(rp_checkpoint *checkpoint, const char *unit,
                                            int64_t row0, int64_t nrows, rp_form *out);
/* Local. The same with codes still packed, for another thread to unpack: rp_piece_unpack_codes(out,
 * *packed). Caller frees *packed, which is NULL for a form without codes. */
RP_CHECKED rp_status rp_checkpoint_get_packed_form(rp_checkpoint *checkpoint, const char *unit,
                                                   int64_t row0, int64_t nrows, rp_form *out,
                                                   void **packed);
/* Local. The whole array, which must be of dtype. `out`: address of a pointer; caller frees. */
RP_CHECKED rp_status rp_checkpoint_get_array(rp_checkpoint *checkpoint, const char *unit,
                                             rp_dtype dtype, void *out, int64_t *n);
/* Local. Caller frees. */
RP_CHECKED rp_status rp_checkpoint_get_text(rp_checkpoint *checkpoint, const char *unit,
                                            char **out);

/* Local. How long this rank is likely to take to write so much, by the rate so far. */
double rp_checkpoint_write_seconds(const rp_checkpoint *checkpoint, double bytes);
/* Local. This rank's counts. */
rp_checkpoint_counts rp_checkpoint_counts_get(const rp_checkpoint *checkpoint);

#ifdef __cplusplus
}
#endif
#endif

/* What the checkpoint's files share: the handle, the folder's house-keeping, the readers. */
#ifndef RP_JOBS_CHECKPOINT_PRIVATE_H
#define RP_JOBS_CHECKPOINT_PRIVATE_H

#include "jobs/checkpoint.h"
#include "jobs/checkpoint_writer.h"

#define RP_CHECKPOINT_MAX_KEEP 16
#define RP_CHECKPOINT_READERS 16

/* An open file, kept for the next read. */
typedef struct rp_checkpoint_reader {
    char *name;
    rp_piece_file *file;
    int64_t last_use;
} rp_checkpoint_reader;

/* A generation in the making: this rank's pieces, and units that go. */
typedef struct rp_making {
    rp_generation own;
    rp_manifest drops; /* units alone */
    bool has_pieces;
} rp_making;

struct rp_checkpoint {
    rp_comm *comm;
    char *dir, *job_text;
    rp_hash job_hash;
    rp_checkpoint_opts opts;
    rp_checkpoint_counts counts;
    rp_manifest manifest; /* committed, good units; equal on all ranks */
    size_t *sizes;        /* [nranks], scratch of the exchange */

    /* Two generations: one that takes pieces, and the one before it while it is sealed. A number is
     * used once: a manifest whose publication failed may be on disk all the same. */
    rp_writer *writer;
    int64_t next_generation;
    rp_making makings[2];
    int making; /* index of the one that takes pieces */
    bool has_sealed;
    bool is_anothers; /* the folder: another job has taken it over */

    rp_checkpoint_reader readers[RP_CHECKPOINT_READERS];
    int64_t reader_clock;
};

void rp_checkpoint_warn(const rp_checkpoint *checkpoint, const char *fmt, ...) RP_PRINTF(2, 3);
/* Local. An open reader of a file of the manifest, borrowed. */
rp_status rp_checkpoint_reader_open(rp_piece_file **out, rp_checkpoint *checkpoint, size_t file);
void rp_checkpoint_readers_close(rp_checkpoint *checkpoint);

/* Collective. Proves that all ranks see rank 0's folder. */
rp_status rp_checkpoint_prove_shared(rp_checkpoint *checkpoint);
/* Local, rank 0. The newest good manifest; an empty one when there is none. */
rp_status rp_checkpoint_load_newest(rp_checkpoint *checkpoint, rp_manifest *out);
/* Local, rank 0. Removes what no kept manifest names, files of next_generation and later apart:
 * other ranks may be writing them. What cannot be removed stays. */
void rp_checkpoint_remove_orphans(rp_checkpoint *checkpoint);
/* Local, rank 0. Removes every file of the checkpoint, manifests first, and the folder. */
rp_status rp_checkpoint_remove_files(rp_checkpoint *checkpoint);

#endif

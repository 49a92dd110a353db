/* Writes a rank's part of generations in a thread of its own, while the rank computes on.
 *
 * What is asked of it is done in the order of asking. A generation keeps its first failure; what
 * else was asked for it is then left out. HDF5 is not thread-safe: while the writer is at work
 * nobody else calls it (rp_writer_wait_idle). */
#ifndef RP_JOBS_CHECKPOINT_WRITER_H
#define RP_JOBS_CHECKPOINT_WRITER_H

#include "jobs/manifest.h"
#include "jobs/piece_file.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a generation consists of on one rank: pieces that stay lie apart from those that a later
 * generation drops, whose file can then go. */
typedef enum rp_file_kind { RP_LASTING = 0, RP_PASSING, RP_FILE_KINDS } rp_file_kind;

/* A file in the making; its pieces are those of the fragment with its index. */
typedef struct rp_pending_file {
    rp_piece_file *file; /* NULL: not made yet, or finished */
    char *part_path, *final_path, *name;
    size_t index; /* in the fragment's files */
} rp_pending_file;

/* This rank's part of a generation. Apart from number and the names of pending, which are there
 * before the first piece, the writer's until rp_writer_wait. */
typedef struct rp_generation {
    int64_t number;
    rp_pending_file pending[RP_FILE_KINDS];
    rp_manifest fragment; /* the files made and the pieces written so far */
    int64_t n_asked;      /* pieces and finishing not done yet */
    double seconds;       /* of work on it */
    rp_status status;     /* the first failure, and its message */
    char message[RP_MESSAGE_BYTES];
} rp_generation;

typedef struct rp_writer rp_writer;

/* Local. queue_bytes: of copied data that wait. */
RP_CHECKED rp_status rp_writer_create(rp_writer **out, size_t queue_bytes);
/* Local. What has not begun is left out. Accepts NULL. */
void rp_writer_destroy(rp_writer **writer);

/* Local. A piece for the generation's file of that kind. data: one array a part, the caller's again
 * on return. Waits for room in the queue; a piece that is larger than the queue is written before
 * it returns. Fails when the generation has. */
RP_CHECKED rp_status rp_writer_put(rp_writer *writer, rp_generation *generation, rp_file_kind kind,
                                   const char *unit, const rp_piece *piece,
                                   const void *const *data);
/* Local. The generation's files are flushed, read back and compared, synced and renamed. */
RP_CHECKED rp_status rp_writer_finish(rp_writer *writer, rp_generation *generation);
/* Local. Is everything done that was asked for the generation, or left out? */
bool rp_writer_is_done(rp_writer *writer, const rp_generation *generation);
/* Local. Waits for that; the generation's failure. */
RP_CHECKED rp_status rp_writer_wait(rp_writer *writer, const rp_generation *generation);
/* Local. Waits until nothing is left to do for any generation. */
void rp_writer_wait_idle(rp_writer *writer);
/* Local. The same, and what has not begun is left out: generations are good for nothing then. */
void rp_writer_cancel(rp_writer *writer);

#ifdef __cplusplus
}
#endif
#endif

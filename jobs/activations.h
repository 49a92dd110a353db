/* The residual stream of this rank's calibration blocks between layers, in memory and in the
 * checkpoint. */
#ifndef RP_JOBS_ACTIVATIONS_H
#define RP_JOBS_ACTIVATIONS_H

#include "jobs/session.h"
#include "kernels/window.h"
#include "sharding/partition.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Streams of activations through the same text. */
typedef enum rp_stream_kind {
    RP_STREAM_COMPRESSED = 0,
    RP_STREAM_FULL, /* of the uncompressed model; only where drift is corrected */
    RP_STREAM_COUNT
} rp_stream_kind;

typedef struct rp_stream {
    rp_window *h;   /* [local rows, hidden] residual stream; NULL: not carried */
    rp_window *buf; /* [local rows, ld] input of the site in hand */
} rp_stream;

/* Where the streams stand: before a site is solved, its input in `buf`; or before a layer. */
typedef struct rp_cursor {
    int64_t layer;
    int site; /* RP_BEFORE_LAYER: only h counts */
} rp_cursor;
#define RP_BEFORE_LAYER (-1)

typedef struct rp_activations {
    const rp_model_config *config; /* borrowed */
    const rp_exec *exec;           /* borrowed */
    rp_blocks blocks;
    rp_range mine;
    int64_t hidden;
    int n_streams;
    rp_stream stream[RP_STREAM_COUNT];
    rp_cursor saved; /* what is in the checkpoint; layer 0 before the layer: nothing */
} rp_activations;

/* Whose activations, and where they are kept. */
typedef struct rp_activations_opts {
    int n_streams;
    int nranks, rank;
    bool is_streamed; /* on the host, a GPU sees them block by block (kernels/window.h) */
} rp_activations_opts;

/* Local. Borrows config and exec. */
RP_CHECKED rp_status rp_activations_create(rp_activations *out, const rp_model_config *config,
                                           const rp_exec *exec, const rp_blocks *blocks,
                                           const rp_activations_opts *opts);
void rp_activations_destroy(rp_activations *activations);
/* Local. Those of the rank that has most; opts->rank has no meaning. */
rp_place_bytes rp_activations_bytes(const rp_model_config *config, const rp_blocks *blocks,
                                    const rp_activations_opts *opts);
/* Local. h of every stream := rows of the embedding. ids [n_seqs * seq_len] of all blocks. */
RP_CHECKED rp_status rp_activations_embed(rp_activations *activations, const rp_weights *weights,
                                          const int32_t *ids);

/* Logically collective. The latest cursor, not behind `limit`, whose streams are whole in the
 * checkpoint; that before layer 0 when none is. */
rp_cursor rp_activations_find_saved(const rp_activations *activations, const rp_session *session,
                                    rp_cursor limit);
/* Local. The streams := the saved ones. */
RP_CHECKED rp_status rp_activations_load(rp_activations *activations, rp_session *session,
                                         rp_cursor at);
/* Local. What saving them here would write. */
double rp_activations_save_bytes(const rp_activations *activations, int site);
/* Local. Puts the streams into the open generation, and drops those saved before; a resumed run
 * then goes on from here instead of forwarding again. The inputs of a site are of no use
 * afterwards. */
RP_CHECKED rp_status rp_activations_save(rp_activations *activations, rp_session *session,
                                         rp_cursor at);

#ifdef __cplusplus
}
#endif
#endif

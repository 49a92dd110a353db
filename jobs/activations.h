/* The residual stream of this rank's calibration blocks between layers, in memory and in the
 * checkpoint. */
#ifndef RP_JOBS_ACTIVATIONS_H
#define RP_JOBS_ACTIVATIONS_H

#include "jobs/session.h"
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
    float *h;   /* [local rows, hidden] residual stream; NULL: not carried */
    float *buf; /* [local rows, ld] input of the site in hand */
} rp_stream;

typedef struct rp_activations {
    rp_blocks blocks;
    rp_range mine;
    int64_t hidden, ld; /* ld: widest site input */
    int n_streams;
    rp_stream stream[RP_STREAM_COUNT];
    int64_t saved_border; /* layer border whose h is in the checkpoint, -1: none */
    double saved_at;      /* clock of the last save, or of the start */
} rp_activations;

RP_CHECKED rp_status rp_activations_create(rp_activations *out, const rp_model_config *config,
                                           const rp_blocks *blocks, int n_streams, int nranks,
                                           int rank);
void rp_activations_destroy(rp_activations *activations);
size_t rp_activations_bytes(const rp_model_config *config, const rp_blocks *blocks, int n_streams,
                            int nranks);
/* Local. First row of a block and its rows. */
int64_t rp_activations_row(const rp_activations *activations, int64_t block);
/* Local. h of every stream := rows of the embedding. ids [n_seqs * seq_len] of all blocks. */
RP_CHECKED rp_status rp_activations_embed(rp_activations *activations, const rp_weights *weights,
                                          const int32_t *ids);

/* Logically collective. The latest border (<= limit) whose streams are whole in the checkpoint, -1:
 * none.
 */
int64_t rp_activations_find_saved(const rp_activations *activations, const rp_session *session,
                                  int64_t limit);
/* Local. The streams := the saved ones. */
RP_CHECKED rp_status rp_activations_load(rp_activations *activations, rp_session *session,
                                         int64_t border);
/* Collective. Puts the streams into the open generation, and drops the older border, when writing
 * it is likely to take at most 5 % of the time since the last save; a resumed run then goes on from
 * here instead of forwarding again. */
RP_CHECKED rp_status rp_activations_save_if_cheap(rp_activations *activations, rp_session *session,
                                                  int64_t border);

#ifdef __cplusplus
}
#endif
#endif

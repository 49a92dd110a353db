/* How much the model's predictions suffer when one matrix is rounded: KL divergence from the
 * model as it is, over a few sequences, for each matrix alone.
 *
 * A copy of the sequences is made for each matrix where it stands and goes through the layers
 * behind it, so the model is read once. */
#ifndef RP_JOBS_TYPE_PROBES_H
#define RP_JOBS_TYPE_PROBES_H

#include "jobs/type_losses.h"
#include "model/lm.h"
#include "sharding/partition.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_type_probes {
    rp_session *s;
    rp_type_losses *losses;
    rp_lm *lm;
    int64_t seq_len;
    int64_t n_seqs, n_mine; /* of all ranks, of this one: numbers rank, rank + R, ... */
    int32_t *ids;           /* [n_mine, seq_len] */
    float *base;            /* [n_mine, seq_len, hidden] the model as it is */
    float *copies;          /* [linears.n] the same of each copy */
    int64_t n_copies;
    float *rounded; /* the matrix in hand */
} rp_type_probes;

/* Local. ids: of all calibration blocks; sequences kept aside are not taken. Borrows session and
 * losses. Caller destroys in any case. */
RP_CHECKED rp_status rp_type_probes_create(rp_type_probes *out, rp_session *session,
                                           rp_type_losses *losses, const rp_blocks *blocks,
                                           const int32_t *ids);
void rp_type_probes_destroy(rp_type_probes *probes);
size_t rp_type_probes_bytes(const rp_session *session, int nranks, int nthreads);
/* Local. FLOP of all forward steps, all ranks. */
double rp_type_probes_flop(const rp_session *session);
/* Local. Takes all sequences through a layer, for whose matrices losses and importance are known;
 * slots: its weights. */
RP_CHECKED rp_status rp_type_probes_layer(rp_type_probes *probes, int64_t layer,
                                          float *const slots[RP_SLOT_COUNT]);
/* Collective. Behind the last layer: probe_kl of all matrices. */
RP_CHECKED rp_status rp_type_probes_finish(rp_type_probes *probes);

#ifdef __cplusplus
}
#endif
#endif

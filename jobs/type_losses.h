/* What rounding does to each matrix of the model, type by type: tr(dW H dW^T) with the Gram matrix
 * H of the matrix' inputs, and how much a change of that size hurts the model's predictions. */
#ifndef RP_JOBS_TYPE_LOSSES_H
#define RP_JOBS_TYPE_LOSSES_H

#include "formats/gguf_blocks.h"
#include "jobs/session.h"
#include "jobs/type_choice.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_type_tensor {
    const rp_weight_info *info;
    const rp_linear *linear; /* NULL: the output matrix */
    int n_types;             /* candidates for its columns, by size */
    const rp_gguf_block_type *types[RP_MAX_CHOICES];
    double loss[RP_MAX_CHOICES]; /* a token */
    float *importance; /* [cols] what rounding is weighted with, as the job's own will be; NULL */
    int probe;         /* the type whose effect was measured */
    double probe_kl;   /* nats a token, of the whole model with this matrix so rounded */
} rp_type_tensor;

typedef struct rp_type_losses {
    rp_session *s;
    rp_type_tensor *items; /* the linears of rp_linears, then the output matrix */
    int64_t n;
    char *scratch; /* [nthreads][scratch_each] */
    size_t scratch_each;
} rp_type_losses;

/* Local. The types that a size target chooses from for matrices of so many columns: their number.
 */
int rp_type_candidates(const rp_gguf_block_type *out[RP_MAX_CHOICES], int64_t cols);
/* Local. Is it one for columns that fill its blocks; else it is there in place of such a type. */
bool rp_type_is_candidate(const rp_gguf_block_type *type);
/* Local. Nothing is measured yet. Borrows the session. Caller destroys in any case. */
RP_CHECKED rp_status rp_type_losses_create(rp_type_losses *out, rp_session *session);
void rp_type_losses_destroy(rp_type_losses *losses);
size_t rp_type_losses_bytes(const rp_session *session, int nthreads);
/* Local. The matrix with this Hugging Face name, or NULL. */
rp_type_tensor *rp_type_losses_find(const rp_type_losses *losses, const char *name);
/* Local. Its own, and the output matrix. */
rp_type_tensor *rp_type_losses_of_linear(const rp_type_losses *losses, const rp_linear *linear);
rp_type_tensor *rp_type_losses_output(const rp_type_losses *losses);
/* Local. Index of a type among the candidates, -1 when it is none. */
int rp_type_index(const rp_type_tensor *tensor, const rp_gguf_block_type *type);

/* Collective. Losses of `n` matrices that share their input: gram [cols, cols] is its mean
 * product, the same on all ranks; w [n]: their values, NULL: read from the model. The ranks share
 * the rows; the same bits for any number of them. */
RP_CHECKED rp_status rp_type_losses_measure(rp_type_losses *losses, rp_type_tensor *const *tensors,
                                            const float *const *w, int n, const float *gram);

#ifdef __cplusplus
}
#endif
#endif

/* Losses of token predictions from logits that come in vocabulary tiles, so that no row of the
 * whole vocabulary is ever held: a running log-sum-exp (Milakov and Gimelshein, arXiv:1805.02867)
 * in double precision, and a running Kullback-Leibler sum between two models. */
#ifndef RP_KERNELS_LOSS_H
#define RP_KERNELS_LOSS_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One predicted token under one model. */
typedef struct rp_loss {
    double sum;   /* of exp(logit - max) so far */
    double cross; /* base model: sum of exp(logit - max) (logit - other's logit) */
    float max;    /* largest logit so far */
    float target; /* logit of the target token */
    int64_t best; /* id of the largest logit; the lowest id of equal ones */
} rp_loss;

/* Local. Before the first tile. */
rp_loss rp_loss_start(void);
/* Local. Adds logits[n] of ids first .. first + n - 1. other: the same ids' logits of the model
 * that is compared with this one, or NULL. */
void rp_loss_add(rp_loss *loss, const float *logits, const float *other, int64_t first, int64_t n,
                 int64_t target);
/* Local. After the last tile: -log p(target), and KL(base || model) where base's cross sum was made
 * against model; both in nats. */
double rp_loss_nll(const rp_loss *loss);
double rp_loss_kl(const rp_loss *base, const rp_loss *model);

#ifdef __cplusplus
}
#endif
#endif

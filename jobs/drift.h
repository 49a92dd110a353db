/* The drift-corrected target of a linear: the matrix that makes the compressed model's output, from
 * the inputs that earlier compression has changed, nearest to the uncompressed model's output.
 *
 *   W* = W - [sum over tokens of a x^T] (H + lambda I)^-1 / n,   a = W (x - x_f) + (h - h_f)
 *
 * with x the input in the compressed model, x_f in the uncompressed one, h and h_f their residual
 * streams, for linears that write to it (`full`; left out with `asymmetric` and for others). The
 * first part is GPTAQ's idea (arXiv 2504.02692). Any solver can be asked for W* in place of W.
 *
 * Without the second part W* = W - W D, D = [sum of (x - x_f) x^T] (H + lambda I)^-1 / n, and D is
 * the same for all linears of a site: it is found once where their rows together are more than half
 * as many as the columns, which is less work than W (x - x_f) of every token.
 *
 * A part of the calibration blocks is kept aside (rp_blocks_is_kept_aside): a linear keeps W where
 * the error sum |W* x - (W x_f + h_f - h)|^2 over them is not below that of W. */
#ifndef RP_JOBS_DRIFT_H
#define RP_JOBS_DRIFT_H

#include "jobs/session.h"
#include "jobs/site_input.h"
#include "kernels/place.h"
#include "sharding/gram.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_drift rp_drift;

/* What became of one linear. */
typedef struct rp_drift_result {
    bool is_measured;     /* the streams differ and there are blocks kept aside */
    bool is_taken;        /* W* is the target */
    double before, after; /* squared error on the blocks kept aside, a token */
} rp_drift_result;

/* Local. For the session's linears; NULL in *out when none asks for it. */
RP_CHECKED rp_status rp_drift_create(rp_drift **out, rp_session *session);
void rp_drift_destroy(rp_drift **drift);
rp_place_bytes rp_drift_bytes(const rp_session *session, int nranks);
/* Local. Is anything compressed before this site: streams that do not differ yet need no work. */
bool rp_drift_is_expected(const rp_linears *linears, int64_t layer, rp_site site);
/* Collective. Starts a site: how far the streams are apart, and what its n linears share. gram: the
 * site's, with its exponents; borrowed. RP_ERR_STOPPED between two blocks: nothing is kept. */
RP_CHECKED rp_status rp_drift_begin_site(rp_drift *drift, const rp_site_input *input,
                                         const rp_gram *gram, const rp_linear *const linears[],
                                         int n);
/* Local. The factor of the linears that come next; borrowed. */
void rp_drift_begin_factor(rp_drift *drift, const rp_ldl *ldl);
/* Collective. target [place] [rows, cols] := W*, or W where the result says that it is not taken.
 * w [place]: the linear's weights. RP_ERR_STOPPED between two blocks: nothing is kept. What a GPU
 * failed at comes out of the next rp_place_check. */
RP_CHECKED rp_status rp_drift_target(rp_drift *drift, const rp_linear *linear, const float *w,
                                     float *target, rp_drift_result *result);
/* FLOP of all ranks together. */
typedef struct rp_drift_work {
    double sum_flop, solve_flop; /* token by token; of the rows */
} rp_drift_work;
/* Local. Of a site's n linears where the streams differ. */
rp_drift_work rp_drift_work_of(const rp_linear *const linears[], int n, const rp_blocks *blocks);
/* Local. Adds what rp_drift_begin_site and rp_drift_target move for a site's n linears; without
 * `is_expected` only that the streams do not differ is found out. of [nranks]: every rank's. */
RP_CHECKED rp_status rp_drift_site_traffic(rp_traffic *of, const rp_session *session,
                                           const rp_linear *const linears[], int n,
                                           bool is_expected);

#ifdef __cplusplus
}
#endif
#endif

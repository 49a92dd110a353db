/* Perplexity, KL divergence and top-1 agreement over all ranks: rank r takes batches of windows
 * r, r + R, ... */
#ifndef RP_JOBS_EVALUATE_H
#define RP_JOBS_EVALUATE_H

#include "base/progress.h"
#include "jobs/stop.h"
#include "kernels/ops.h"
#include "model/eval.h"
#include "mpi/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_evaluator {
    rp_comm *comm;
    const rp_kernel_ops *ops;
    const rp_exec *exec; /* the operations' */
    rp_eval_opts opts;
    const int32_t *ids; /* the text, the same on all ranks */
    int64_t n_ids;
    FILE *progress;     /* NULL: silent */
    rp_stop_plan *stop; /* NULL: never */
} rp_evaluator;

/* Collective on comm. base NULL: no KL divergence. RP_ERR_STOPPED between two units of work. */
RP_CHECKED rp_status rp_evaluate(rp_eval_result *out, const rp_evaluator *evaluator,
                                 const rp_weights *model, const rp_weights *base, const char *what);

#ifdef __cplusplus
}
#endif
#endif

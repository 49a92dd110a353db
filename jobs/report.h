/* The report of a job: facts gathered on the way, the gates' verdicts, the table at the end, and
 * the files: report.json (schema version 1, docs/formats/report.md), report.html and model cards.
 */
#ifndef RP_JOBS_REPORT_H
#define RP_JOBS_REPORT_H

#include <jansson.h>

#include "jobs/output.h"
#include "jobs/session.h"
#include "model/eval.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_output_result {
    size_t bytes;           /* all files of the output */
    double bits_per_weight; /* 8 * bytes of the tensors / elements of the source model */
    bool is_evaluated;
    rp_eval_result eval;
} rp_output_result;

typedef struct rp_results {
    size_t source_bytes;
    double source_bits_per_weight;
    rp_eval_result source_eval; /* valid when is_evaluated */
    bool is_evaluated;
    rp_output_result outputs[RP_MAX_OUTPUTS];
    size_t planned_bytes;       /* peak memory of a rank, as planned */
    size_t planned_place_bytes; /* of its GPU's arena */
    int64_t n_fallbacks;
    int64_t n_damped;     /* tensors whose factorisation needed more damping */
    int64_t n_drift_kept; /* tensors whose drift-corrected target did not help on kept-aside text */
    int64_t n_kept_dense; /* linears that a quantised output could not hold: stored F16 */
    double seconds;       /* of this run */
} rp_results;

/* Local. Facts of all layers from the checkpoint (array of arrays; empty without one), with the
 * counts of fallbacks. */
RP_CHECKED rp_status rp_report_collect(json_t **facts, rp_results *results, rp_session *session);
/* Local. Checks every gate of the job; RP_ERR_GATE with a message that names the first failed one.
 */
RP_CHECKED rp_status rp_report_judge(const rp_session *session, const rp_results *results);
/* Collective. Rank 0 writes report.html, the model cards (README.md in every folder of safetensors
 * and in the output folder) and, last, report.json. Times are the largest over ranks. The outputs
 * have their final names. */
RP_CHECKED rp_status rp_report_write(rp_session *session, const rp_results *results,
                                     const json_t *facts);
/* Local. Of a job that was done before: the verdict that its report.json holds. RP_ERR_GATE as
 * rp_report_judge. */
RP_CHECKED rp_status rp_report_judge_again(const rp_session *session);
/* Local. The table, the verdicts and where the files are, on stdout. */
void rp_report_print(const rp_session *session, const rp_results *results);

#ifdef __cplusplus
}
#endif
#endif

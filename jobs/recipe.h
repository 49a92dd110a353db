/* Inside of the job: what its table, parser and matcher share. */
#ifndef RP_JOBS_RECIPE_H
#define RP_JOBS_RECIPE_H

#include "jobs/job.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A field that takes its value from the scheme (of a step) or from the step (of an override). */
#define RP_FROM_ABOVE (-1000000)

/* Local. bits, is_symmetric and group_size of a preset. */
void rp_preset_scheme(int64_t preset, rp_step_scheme *out);
/* Local. The or-ed rp_metric of names that the table has. */
unsigned rp_metrics_of(const rp_string_list *names);
/* Local. A "check" of option rows: RP_ERR_USAGE when a target's pattern is not a regular
 * expression.
 */
rp_status rp_target_check(const char *text);

#ifdef __cplusplus
}
#endif
#endif

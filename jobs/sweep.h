/* Variants of a job: a YAML list of mappings, each with a name and the keys that it sets. */
#ifndef RP_JOBS_SWEEP_H
#define RP_JOBS_SWEEP_H

#include "base/owner.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_variant {
    char *name;             /* of its folder below output.dir */
    const char **overrides; /* [n_overrides] "recipe.0.gptq.bits=3" */
    int n_overrides;
} rp_variant;

typedef struct rp_sweep {
    rp_owner owner;
    rp_variant *items;
    int64_t n;
} rp_sweep;

/* Local. RP_ERR_CONFIG "sweep.yaml:3:1: ..." for entries without a name, with a name that is no
 * plain folder name, and for two of one name. Caller destroys in any case. */
RP_CHECKED rp_status rp_sweep_load(rp_sweep *out, const char *path);
void rp_sweep_destroy(rp_sweep *sweep);

#ifdef __cplusplus
}
#endif
#endif

/* What the site solver's files share: the site in hand, and its tiles. */
#ifndef RP_JOBS_SITE_SOLVE_PRIVATE_H
#define RP_JOBS_SITE_SOLVE_PRIVATE_H

#include "jobs/drift.h"
#include "jobs/site_gram.h"
#include "jobs/site_linears.h"
#include "jobs/site_part.h"
#include "jobs/site_solve.h"
#include "methods/site_factor.h"
#include "methods/solver.h"
#include "sharding/gram.h"

typedef struct rp_active_linear {
    const rp_linear *linear;
    const rp_solver *solver; /* rtn after a failed factorisation */
    bool is_fallback, is_done;
    rp_damping_log damping;
    float *target; /* [place] [rows, cols] what the solver is asked for; NULL: the weights */
    rp_drift_result drift;
    rp_form forms[RP_MAX_OUTPUTS];
} rp_active_linear;

struct rp_site_solver {
    rp_session *session;
    rp_gram gram;
    rp_drift *drift;         /* NULL: no linear asks for it */
    int64_t *reduce_scratch; /* [place] */
    char *scratch;           /* [nthreads][scratch_each] */
    size_t scratch_each;     /* 0 where tiles are solved by an operation */
    /* The site whose sum rp_site_begin has begun; cols 0: none. */
    rp_site_part begun;
    rp_site_gram_opts begun_opts;
    /* The site in hand. */
    rp_site_part part;
    rp_active_linear active[RP_SITE_LINEARS];
    int n_active;
    rp_site_tile *tiles;
    int64_t n_tiles;
    rp_site_factor factor;
    rp_ldl ldl; /* of factor */
    float *const *slots;
    /* Numbers of the tiles of one run; for an operation, its tasks and their rows. */
    int64_t *queue;
    int64_t n_queue;
    rp_tile_solve *tasks;
    rp_form *task_rows;
    double solve_seconds; /* of this site */
};

/* Local. What a tile's owner sends. */
size_t rp_site_payload_bytes(const rp_site_solver *solver, const rp_site_tile *tile);

/* Collective. Solves this rank's tiles of the linears in `is_wanted`, but for those that are solved
 * already. RP_ERR_STOPPED between two tiles. */
RP_CHECKED rp_status rp_site_solve_tiles(rp_site_solver *solver,
                                         const bool is_wanted[RP_SITE_LINEARS]);
/* Collective, when the job stops: tiles of a site that is not finished, where it pays. */
RP_CHECKED rp_status rp_site_save_tiles(rp_site_solver *solver);
/* Local. This rank's tiles that were solved before a stop. */
RP_CHECKED rp_status rp_site_take_tiles(rp_site_solver *solver);

#endif

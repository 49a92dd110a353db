/* One site's work in exact mode: statistics over all ranks, one factor, rows solved by all ranks,
 * forms gathered. */
#ifndef RP_JOBS_SITE_SOLVE_H
#define RP_JOBS_SITE_SOLVE_H

#include <jansson.h>

#include "jobs/session.h"
#include "jobs/site_input.h"
#include "kernels/place.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_site_solver rp_site_solver;

/* Local. Borrows session. Memory: rp_site_solver_bytes. */
RP_CHECKED rp_status rp_site_solver_create(rp_site_solver **out, rp_session *session);
void rp_site_solver_destroy(rp_site_solver **solver);
/* Local. What create and the largest solve allocate on this rank, owner's part included. */
rp_place_bytes rp_site_solver_bytes(const rp_session *session, int nranks, int nthreads);
/* Local. Does any linear of this site want a solver. */
bool rp_site_is_active(const rp_session *session, int64_t layer, rp_site site);

/* Local. Before a site's input is made: begins its sum, where it has one. Then rp_site_observe gets
 * each block of this rank as it is made, and rp_site_solve need not look at the input for that.
 * False: there is nothing to observe. */
bool rp_site_begin(rp_site_solver *solver, int64_t layer, rp_site site);
RP_CHECKED rp_status rp_site_observe(rp_site_solver *solver, int64_t block, rp_cmat input);
/* Collective. Solves the site's linears from their weights in `slots` [place] and puts this rank's
 * rows into the open checkpoint generation. Appends one object a linear and form to `facts`. The
 * slots keep the weights, so that the uncompressed stream can pass, until rp_site_replace.
 * RP_ERR_STOPPED between two blocks or tiles: what is worth it is put as parts (jobs/site_part.h),
 * from which the next call goes on. */
RP_CHECKED rp_status rp_site_solve(rp_site_solver *solver, int64_t layer, rp_site site,
                                   const rp_site_input *input, float *slots[RP_SLOT_COUNT],
                                   json_t *facts);
/* Local. Adds what rp_site_solve of an active site does on each rank, undisturbed and without a
 * fallback. of [nranks]: every rank's. */
RP_CHECKED rp_status rp_site_solve_traffic(rp_traffic *of, const rp_session *session, int64_t layer,
                                           rp_site site);
/* Local. After rp_site_solve: overwrites its slots with what form 0 decodes to, and forgets the
 * site. What a GPU fails at comes out of the next rp_place_check. */
void rp_site_replace(rp_site_solver *solver);

#ifdef __cplusplus
}
#endif
#endif

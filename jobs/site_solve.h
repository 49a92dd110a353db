/* One site's work in exact mode: statistics over all ranks, one factor, rows solved by all ranks,
 * forms gathered. */
#ifndef RP_JOBS_SITE_SOLVE_H
#define RP_JOBS_SITE_SOLVE_H

#include <jansson.h>

#include "jobs/session.h"
#include "sharding/partition.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_site_solver rp_site_solver;

/* This rank's blocks of a site's input: block b of `mine` starts at row (b - mine.first) *
 * seqs_per_block * seq_len. */
typedef struct rp_site_input {
    rp_blocks blocks;
    rp_range mine;
    const float *rows; /* [local rows, ld] */
    int64_t ld;
} rp_site_input;

/* Local. Borrows session. Memory: rp_site_solver_bytes. */
RP_CHECKED rp_status rp_site_solver_create(rp_site_solver **out, rp_session *session);
void rp_site_solver_destroy(rp_site_solver **solver);
/* Local. What create and the largest solve allocate on this rank, owner's part included. */
size_t rp_site_solver_bytes(const rp_session *session, int nranks, int nthreads);
/* Local. Does any linear of this site want a solver. */
bool rp_site_is_active(const rp_session *session, int64_t layer, rp_site site);

/* Collective. Solves the site's linears from their weights in `slots`, puts this rank's rows into
 * the open checkpoint generation, and overwrites the slots with what form 0 decodes to. Appends one
 * object a linear and form to `facts`. */
RP_CHECKED rp_status rp_site_solve(rp_site_solver *solver, int64_t layer, rp_site site,
                                   const rp_site_input *input, float *slots[RP_SLOT_COUNT],
                                   json_t *facts);

#ifdef __cplusplus
}
#endif
#endif

/* What the linears of a site ask for, and the tiles of rows that their solves are cut into. */
#ifndef RP_JOBS_SITE_LINEARS_H
#define RP_JOBS_SITE_LINEARS_H

#include "jobs/session.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_SITE_LINEARS 3 /* of a site, at most */

/* Local. Those that are to be compressed, in the order of slots; returns how many. */
int rp_site_linears(const rp_linear *out[RP_SITE_LINEARS], const rp_linears *linears, int64_t layer,
                    rp_site site);

/* Local. The rank that gets the site's statistics and makes its factors. */
int rp_site_owner(int64_t layer, rp_site site, int nranks);
/* Local. Is the linear's target corrected for drift; does its solve need the site's factor; do two
 * linears need the same one. */
bool rp_linear_corrects_drift(const rp_linear *linear);
bool rp_linear_needs_factor(const rp_linear *linear);
bool rp_linear_same_factor(const rp_linear *a, const rp_linear *b);

/* Local. Factors of a site, one for all linears that ask for the same. */
int rp_site_factors(const rp_linear *const linears[RP_SITE_LINEARS], int n);

typedef struct rp_site_tile {
    int linear, form; /* number among the site's linears, form number */
    int owner;
    int64_t row0, nrows;
    double loss;
    bool is_solved; /* by its owner, in this run or before a stop */
} rp_site_tile;

/* Local. Rows of a tile of a matrix in this session, on its CPUs or its GPUs. */
int64_t rp_site_tile_rows(const rp_session *session, int64_t rows);
/* Local. All tiles of all forms, in order: number i belongs to rank i mod nranks. Caller frees. */
RP_CHECKED rp_status rp_site_tiles_list(rp_site_tile **out, int64_t *n, const rp_session *session,
                                        const rp_linear *const linears[RP_SITE_LINEARS],
                                        int n_linears, int nranks);
/* Local. Bytes that a tile's owner sends: its loss, and rows of form 0. */
size_t rp_site_tile_bytes(const rp_site_tile *tile, const rp_linear *linear);

#ifdef __cplusplus
}
#endif
#endif

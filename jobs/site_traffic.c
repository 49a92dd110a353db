/* What the site solver's work moves, step by step in the order of site_solve.c. */
#include <stdlib.h>

#include "base/mem.h"
#include "jobs/drift.h"
#include "jobs/site_gram.h"
#include "jobs/site_linears.h"
#include "jobs/site_solve.h"
#include "methods/site_factor.h"

static void share_factor_traffic(rp_traffic *t, int64_t cols, int owner)
{
    rp_site_factor none = {0};
    rp_site_factor_part parts[RP_SITE_FACTOR_PARTS];

    rp_traffic_agree(t);
    rp_traffic_bcast(t, sizeof(rp_damping_log), owner);
    rp_site_factor_list_parts(parts, &none, cols);
    for (int i = 0; i < RP_SITE_FACTOR_PARTS; i++) {
        rp_traffic_bcast(t, parts[i].nbytes, owner);
    }
}

static void exchange_traffic(rp_traffic *t, const rp_site_tile *tiles, int64_t n_tiles,
                             const rp_linear *const linears[RP_SITE_LINEARS])
{
    size_t total = 0;
    size_t own = 0;

    for (int64_t i = 0; i < n_tiles; i++) {
        const size_t nbytes = rp_site_tile_bytes(&tiles[i], linears[tiles[i].linear]);
        total += nbytes;
        own += tiles[i].owner == t->rank ? nbytes : 0;
    }
    if (t->nranks > 1) {
        rp_traffic_agree(t);
        rp_traffic_allgatherv(t, total, own);
    }
}

/* Statistics and factors, but for drifts. */
static void factors_traffic(rp_traffic *t, int owner,
                            const rp_linear *const linears[RP_SITE_LINEARS], int n)
{
    const int64_t cols = linears[0]->cols;
    const int n_distinct = rp_site_factors(linears, n);

    if (n_distinct > 0) {
        rp_site_gram_traffic(t, cols, owner);
    }
    for (int i = 0; i < n_distinct; i++) {
        share_factor_traffic(t, cols, owner);
        rp_traffic_agree(t); /* after its tiles */
    }
}

rp_status rp_site_solve_traffic(rp_traffic *of, const rp_session *session, int64_t layer,
                                rp_site site)
{
    rp_status st = RP_OK;
    const int nranks = of[0].nranks;
    const rp_linear *linears[RP_SITE_LINEARS];
    const int n = rp_site_linears(linears, &session->linears, layer, site);
    rp_site_tile *tiles = NULL;
    int64_t n_tiles = 0;
    bool has_plain = false;
    bool corrects = false;

    RP_TRY(rp_site_tiles_list(&tiles, &n_tiles, session, linears, n, nranks));
    for (int i = 0; i < n; i++) {
        has_plain = has_plain || !rp_linear_needs_factor(linears[i]);
        corrects = corrects || rp_linear_corrects_drift(linears[i]);
    }
    if (corrects) {
        RP_TRY(rp_drift_site_traffic(of, session, linears, n,
                                     rp_drift_is_expected(&session->linears, layer, site)));
    }
    for (int r = 0; r < nranks; r++) {
        rp_traffic_agree(&of[r]); /* on the tiles that are there */
        if (has_plain) {
            rp_traffic_agree(&of[r]);
        }
        factors_traffic(&of[r], rp_site_owner(layer, site, nranks), linears, n);
        exchange_traffic(&of[r], tiles, n_tiles, linears);
        rp_traffic_agree(&of[r]); /* on what was put */
    }
out:
    free(tiles);
    return st;
}

/* Linears of a site, and their tiles. */
#include "jobs/site_linears.h"

#include <stdlib.h>

#include "base/mem.h"
#include "methods/solver.h"

int rp_site_linears(const rp_linear *out[RP_SITE_LINEARS], const rp_linears *linears, int64_t layer,
                    rp_site site)
{
    int n = 0;

    for (int s = 0; s < RP_SLOT_LINEARS; s++) {
        const rp_linear *linear = rp_linears_at(linears, layer, (rp_slot)s);
        if (rp_slot_info_of((rp_slot)s)->site == site && linear->n_forms > 0) {
            RP_ASSERT(n < RP_SITE_LINEARS);
            out[n++] = linear;
        }
    }
    return n;
}

int rp_site_owner(int64_t layer, rp_site site, int nranks)
{
    return (int)((layer * RP_SITE_COUNT + (int64_t)site) % nranks);
}

bool rp_linear_corrects_drift(const rp_linear *linear)
{
    return linear->n_forms > 0 && linear->choice.drift != RP_DRIFT_NONE;
}

bool rp_linear_needs_factor(const rp_linear *linear)
{
    return linear->n_forms > 0 &&
           (rp_solver_find(rp_method_name(linear->choice.method))->needs_gram ||
            rp_linear_corrects_drift(linear));
}

bool rp_linear_same_factor(const rp_linear *a, const rp_linear *b)
{
    return a->choice.dampening_frac == b->choice.dampening_frac &&
           a->choice.actorder == b->choice.actorder;
}

int rp_site_factors(const rp_linear *const linears[RP_SITE_LINEARS], int n)
{
    int n_distinct = 0;

    for (int i = 0; i < n; i++) {
        bool is_new = rp_linear_needs_factor(linears[i]);
        for (int j = 0; j < i; j++) {
            is_new = is_new && !(rp_linear_needs_factor(linears[j]) &&
                                 rp_linear_same_factor(linears[i], linears[j]));
        }
        n_distinct += is_new;
    }
    return n_distinct;
}

int64_t rp_site_tile_rows(const rp_session *session, int64_t rows)
{
    return rp_solver_tile_rows(rows, session->backend == RP_BACKEND_CUDA);
}

rp_status rp_site_tiles_list(rp_site_tile **out, int64_t *n, const rp_session *session,
                             const rp_linear *const linears[RP_SITE_LINEARS], int n_linears,
                             int nranks)
{
    rp_status st = RP_OK;
    size_t capacity = 0;

    *out = NULL;
    *n = 0;
    for (int k = 0; k < n_linears; k++) {
        const int64_t rows = linears[k]->rows;
        const int64_t step = rp_site_tile_rows(session, rows);
        for (int64_t i = 0; i < linears[k]->n_forms * RP_DIV_UP(rows, step); i++) {
            const int64_t row0 = i % RP_DIV_UP(rows, step) * step;
            RP_TRY(rp_grow(out, &capacity, (size_t)*n + 1, sizeof(**out)));
            (*out)[*n] = (rp_site_tile){
                .linear = k,
                .form = (int)(i / RP_DIV_UP(rows, step)),
                .owner = (int)(*n % nranks),
                .row0 = row0,
                .nrows = RP_MIN(step, rows - row0),
            };
            (*n)++;
        }
    }
out:
    return st;
}

size_t rp_site_tile_bytes(const rp_site_tile *tile, const rp_linear *linear)
{
    const rp_grid *grid = &linear->grid[tile->form];
    const int64_t params = rp_grid_ngroups(grid, linear->cols) * grid->ops->n_params;

    if (tile->form != 0) {
        return sizeof(double);
    }
    return sizeof(double) + (size_t)(tile->nrows * linear->cols) +
           (size_t)(tile->nrows * params) * sizeof(float);
}

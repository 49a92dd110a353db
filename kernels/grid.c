/* The table of grids and what is common to them. */
#include "kernels/grid.h"

#include <stdio.h>
#include <string.h>

#include "kernels/grid_affine.h"
#include "kernels/grid_gguf.h"

static const rp_grid_ops *const grid_table[] = {
    &rp_grid_affine, &rp_grid_q4_0,  &rp_grid_q4_1,  &rp_grid_q5_0,  &rp_grid_q5_1, &rp_grid_q8_0,
    &rp_grid_q2_k,   &rp_grid_q3_k,  &rp_grid_q4_k,  &rp_grid_q5_k,  &rp_grid_q6_k, &rp_grid_iq4_nl,
    &rp_grid_iq4_xs, &rp_grid_tq1_0, &rp_grid_tq2_0, &rp_grid_mxfp4, NULL,
};

const rp_grid_ops *rp_grid_find(const char *name)
{
    for (const rp_grid_ops *const *ops = grid_table; *ops != NULL; ops++) {
        if (strcmp((*ops)->name, name) == 0) {
            return *ops;
        }
    }
    return NULL;
}

bool rp_grid_equal(const rp_grid *a, const rp_grid *b)
{
    return a->ops == b->ops && a->bits == b->bits && a->is_symmetric == b->is_symmetric &&
           a->mse == b->mse && a->zero_min == b->zero_min && a->group == b->group &&
           a->scale_type == b->scale_type;
}

int64_t rp_grid_group_cols(const rp_grid *grid, int64_t cols)
{
    return grid->group == 0 ? cols : grid->group;
}

int64_t rp_grid_ngroups(const rp_grid *grid, int64_t cols)
{
    const int64_t group = rp_grid_group_cols(grid, cols);

    return group == 0 ? 0 : (cols + group - 1) / group;
}

int64_t rp_grid_sub_cols(const rp_grid *grid, int64_t cols)
{
    const int64_t group = rp_grid_group_cols(grid, cols);

    return grid->ops->n_sub > 0 ? group / grid->ops->n_sub : group;
}

void rp_grid_describe(const rp_grid *grid, char *out, size_t out_bytes)
{
    char group[32] = "per channel";

    if (grid->ops->fixed_bits != 0) {
        (void)snprintf(out, out_bytes, "%s", grid->ops->name);
        return;
    }
    if (grid->group != 0) {
        (void)snprintf(group, sizeof(group), "group %lld", (long long)grid->group);
    }
    (void)snprintf(out, out_bytes, "int%d %s %s", grid->bits,
                   grid->is_symmetric ? "symmetric" : "asymmetric", group);
}

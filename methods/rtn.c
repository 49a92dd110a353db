/* Round to nearest: every group is fitted and rounded alone. The baseline, and what a failed
 * factorisation falls back to. */
#include "base/mem.h"
#include "methods/solver.h"

static size_t rtn_scratch_bytes(const rp_grid *grid, int64_t rows, int64_t cols, int64_t block_cols)
{
    (void)grid, (void)rows, (void)cols, (void)block_cols;
    return 0;
}

static void rtn_solve(rp_solver_task *task)
{
    const rp_grid *grid = task->grid;
    const int64_t cols = task->out->cols;
    const int64_t group = rp_grid_group_cols(grid, cols);
    const int64_t per_row = rp_form_params_per_row(task->out);

    for (int64_t r = 0; r < task->out->rows; r++) {
        float *params = task->out->params + r * per_row;
        for (int64_t c = 0; c < cols; c += group) {
            const int64_t n = RP_MIN(group, cols - c);
            const float *x = task->w + r * cols + c;
            grid->ops->fit(grid, n, x, NULL, params);
            grid->ops->round(grid, params, n, x, task->out->codes + r * cols + c, NULL);
            params += grid->ops->n_params;
        }
    }
    task->loss = 0;
}

const rp_solver rp_solver_rtn = {
    .name = "rtn",
    .scratch_bytes = rtn_scratch_bytes,
    .solve = rtn_solve,
};

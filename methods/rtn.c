/* Round to nearest: every group is fitted and rounded alone. The baseline, and what a failed
 * factorisation falls back to. */
#include "methods/solver.h"

static size_t rtn_scratch_bytes(const rp_grid *grid, int64_t rows, int64_t cols, int64_t block_cols)
{
    (void)grid, (void)rows, (void)cols, (void)block_cols;
    return 0;
}

static void rtn_solve(rp_tile_solve *task, void *scratch)
{
    (void)scratch;
    task->grid->ops->quantise(task->grid, task->out->rows, task->out->cols, task->w,
                              task->importance, task->out->params, task->out->codes);
    task->loss = 0;
}

const rp_solver rp_solver_rtn = {
    .name = "rtn",
    .scratch_bytes = rtn_scratch_bytes,
    .solve = rtn_solve,
};

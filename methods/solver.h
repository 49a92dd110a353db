/* Solvers: decide the codes of a matrix on a grid. A solver sees rows of a
 * matrix, its site's factor and a grid; it knows nothing of files or ranks. Rows are independent,
 * so tiles of rows are the units that ranks and threads take. One file and one row of the table in
 * solver.c a method.
 *
 * A back end whose table has solve_tiles solves tiles itself, many at once: those of a solver that
 * needs statistics with a factor (rp_tile_solve.ldl), others without. */
#ifndef RP_METHODS_SOLVER_H
#define RP_METHODS_SOLVER_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_solver {
    const char *name; /* "rtn", "gptq" */
    bool needs_gram;
    /* Bytes of scratch for a tile of `rows` rows. */
    size_t (*scratch_bytes)(const rp_grid *grid, int64_t rows, int64_t cols, int64_t block_cols);
    /* On one thread, whose scratch it is. */
    void (*solve)(rp_tile_solve *task, void *scratch);
} rp_solver;

/* Local. By name, or NULL. */
const rp_solver *rp_solver_find(const char *name);
/* Local. Rows of a tile of a matrix of `rows` rows: fixed by the shape and by who solves. */
int64_t rp_solver_tile_rows(int64_t rows, bool is_on_gpu);

extern const rp_solver rp_solver_rtn;
extern const rp_solver rp_solver_gptq;

#ifdef __cplusplus
}
#endif
#endif

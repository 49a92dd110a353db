/* Solvers: decide the codes of a matrix on a grid. A solver sees rows of a
 * matrix, its site's factor and a grid; it knows nothing of files or ranks. Rows are independent,
 * so tiles of rows are the units that ranks and threads take. One file and one row of the table in
 * solver.c a method. */
#ifndef RP_METHODS_SOLVER_H
#define RP_METHODS_SOLVER_H

#include "kernels/form.h"
#include "methods/site_factor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_solver_task {
    const rp_grid *grid;
    const rp_site_factor *factor; /* NULL for solvers without statistics */
    const float
        *importance;    /* [cols] mean squares of the inputs, for rtn; NULL: all columns equal */
    int64_t block_cols; /* columns of a lazy block */
    int64_t sweeps;     /* passes of coordinate descent after error feedback */
    const float *w;     /* [rows, cols] original weights of the tile, row-major */
    rp_form *out;       /* RP_FORM_CODES view of the tile's rows; filled */
    void *scratch;      /* [scratch_bytes], this thread's */
    double loss; /* out: tr(dW H dW^T) of the tile, undamped, per token; 0 without statistics */
} rp_solver_task;

typedef struct rp_solver {
    const char *name; /* "rtn", "gptq" */
    bool needs_gram;
    /* Bytes of scratch for a tile of `rows` rows. */
    size_t (*scratch_bytes)(const rp_grid *grid, int64_t rows, int64_t cols, int64_t block_cols);
    void (*solve)(rp_solver_task *task);
} rp_solver;

/* Local. By name, or NULL. */
const rp_solver *rp_solver_find(const char *name);
/* Local. Rows of a tile of a matrix of `rows` rows: fixed by the shape alone. */
int64_t rp_solver_tile_rows(int64_t rows);

extern const rp_solver rp_solver_rtn;
extern const rp_solver rp_solver_gptq;

#ifdef __cplusplus
}
#endif
#endif

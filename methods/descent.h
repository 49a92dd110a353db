/* Exact coordinate descent on tr(E H E^T), E = target - decoded, under the undamped H: what follows
 * error feedback, which decided every column knowing only the columns before it. */
#ifndef RP_METHODS_DESCENT_H
#define RP_METHODS_DESCENT_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A solved tile of rows, transposed: a column is `ld` contiguous floats, 0 beyond `rows`. t numbers
 * columns as the factor does. */
typedef struct rp_descent_tile {
    const rp_grid *grid;
    const rp_ldl *ldl;
    int64_t rows, ld;
    const float *w; /* [cols][ld] by t: the target */
    float *error;   /* [cols][ld] by t: target - decoded; kept up to date */
    float *params;  /* [ngroups][n_params][rows] */
    uint8_t *codes; /* [cols][rows] by original column */
} rp_descent_tile;

size_t rp_descent_scratch_bytes(const rp_grid *grid, int64_t rows, int64_t cols);
/* Local. At most `sweeps` passes over all columns; ends early when one changes nothing. Parameters
 * of affine grids, powers of two, and those of a factor with act-order stay as they are. Returns by
 * how much tr(E H E^T) fell. */
double rp_descent_run(const rp_descent_tile *tile, int64_t sweeps, void *scratch);

#ifdef __cplusplus
}
#endif
#endif

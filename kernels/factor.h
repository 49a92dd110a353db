/* Cholesky factorisation in f64, tiled, with the same bits for any number of threads. */
#ifndef RP_KERNELS_FACTOR_H
#define RP_KERNELS_FACTOR_H

#include "kernels/exec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. a [n, n] row-major: the lower triangle becomes L with a = L L^T; the rest is neither read
 * nor written. *failed_at: the first index whose pivot is not positive and finite, or -1; the
 * triangle is then partly overwritten. */
void rp_factor_cholesky(const rp_exec *exec, int64_t n, double *a, int64_t *failed_at);

#ifdef __cplusplus
}
#endif
#endif

/* Arithmetic on columns of a transposed tile: vectors of `ld` floats, one a row of the matrix. */
#ifndef RP_METHODS_COLUMNS_H
#define RP_METHODS_COLUMNS_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_COLUMN_LANES 16 /* ld is a multiple */

/* Local. out = a + b + sum over s < n of multiplier[s] * columns[s]. */
void rp_columns_pull(int64_t ld, int64_t n, const float *a, const float *b, const float *columns,
                     const float *multiplier, float *out);

#ifdef __cplusplus
}
#endif
#endif

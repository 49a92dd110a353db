/* ggml's quantisers of GGUF's blocks written plainly, one value after the other: what the grids'
 * vectors are compared with. */
#ifndef RP_TESTS_KERNELS_GRID_REFERENCE_H
#define RP_TESTS_KERNELS_GRID_REFERENCE_H

#include <stdint.h>

/* One row x [cols], importance [cols] or NULL, on the type of that name, to params and codes as
 * rp_grid_ops' quantise has them. */
void reference_quantise(const char *name, int64_t cols, const float *x, const float *importance,
                        float *params, uint8_t *codes);

#endif

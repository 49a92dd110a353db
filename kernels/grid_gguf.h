/* The grids of llama.cpp's 32-element block types. Private to kernels/ and to the tests: everybody
 * else finds them by name with rp_grid_find. */
#ifndef RP_KERNELS_GRID_GGUF_H
#define RP_KERNELS_GRID_GGUF_H

#include "kernels/grid.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_GGUF_BLOCK 32 /* columns that share one scale */

extern const rp_grid_ops rp_grid_q4_0, rp_grid_q4_1, rp_grid_q5_0, rp_grid_q5_1, rp_grid_q8_0;

#ifdef __cplusplus
}
#endif
#endif

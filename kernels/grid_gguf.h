/* The grids of llama.cpp's block types. Private to kernels/ and to the tests: everybody else finds
 * them by name with rp_grid_find. */
#ifndef RP_KERNELS_GRID_GGUF_H
#define RP_KERNELS_GRID_GGUF_H

#include "kernels/grid.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_GGUF_BLOCK 32 /* columns that share one scale */

/* One level: grid_gguf.c; IQ4_NL, MXFP4, TQ1_0, TQ2_0: grid_levels.c. */
extern const rp_grid_ops rp_grid_q4_0, rp_grid_q4_1, rp_grid_q5_0, rp_grid_q5_1, rp_grid_q8_0;
extern const rp_grid_ops rp_grid_iq4_nl, rp_grid_mxfp4, rp_grid_tq1_0, rp_grid_tq2_0;
/* Two levels: grid_kquant.c. */
extern const rp_grid_ops rp_grid_q2_k, rp_grid_q3_k, rp_grid_q4_k, rp_grid_q5_k, rp_grid_q6_k;
extern const rp_grid_ops rp_grid_iq4_xs;

#ifdef __cplusplus
}
#endif
#endif

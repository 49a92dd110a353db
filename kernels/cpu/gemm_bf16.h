/* Products of tiles rounded to bf16, with f32 sums, on processors with AMX: about eight times the
 * f32 rate (Xeon 8481C, one thread, conversion included: 900 against 120 GFLOP/s).
 *
 * A state holds what each thread needs: room for the converted tiles and the library's compiled
 * products by shape. A product that the library refuses (no memory) gives NaN, which its readers
 * look for. */
#ifndef RP_KERNELS_CPU_GEMM_BF16_H
#define RP_KERNELS_CPU_GEMM_BF16_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. False when the processor has no AMX or the build no oneDNN. */
bool rp_bf16_is_available(void);
/* Local. RP_ERR_USAGE when not available. */
RP_CHECKED rp_status rp_bf16_create(rp_bf16 **out, int nthreads);
void rp_bf16_destroy(rp_bf16 **bf16);
/* Local. Bytes that rp_bf16_create allocates. */
size_t rp_bf16_bytes(int nthreads);
/* Local. "onednn-2.6.3", "" in a build without. */
void rp_bf16_library(char *out, size_t out_bytes);

/* Local. c = a b^T (+ c), a [m, k], b [n, k]; c of at most RP_GEMM_TILE_ROWS rows and
 * RP_GEMM_TILE_COLS columns. */
void rp_bf16_nt(rp_bf16 *bf16, int thread, rp_mat c, rp_cmat a, rp_cmat b, bool accumulate);
/* Local. c = a^T b, a [k, m], b [k, n]; the same bounds. */
void rp_bf16_tn(rp_bf16 *bf16, int thread, rp_mat c, rp_cmat a, rp_cmat b);

#ifdef __cplusplus
}
#endif
#endif

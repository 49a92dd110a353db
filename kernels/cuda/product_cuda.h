/* Products of the solvers. */
#ifndef RP_KERNELS_CUDA_PRODUCT_CUDA_H
#define RP_KERNELS_CUDA_PRODUCT_CUDA_H

#include "kernels/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a product reads its left matrix, the factor or H: rows `ld` apart. */
typedef struct rp_left {
    const float *at; /* [m, k], or transposed [k, m] */
    int64_t ld;
    bool is_transposed;
} rp_left;

#define RP_PRODUCT_LD 32   /* ld is a multiple */
#define RP_PRODUCT_SUM 128 /* terms added up alone: rounding grows with the length of a sum */

/* Local. to [m][ld] := left [m, k] from [k][ld] (+ to when `accumulate`), in the GPU's memory,
 * aligned to 16 bytes. Chains of RP_PRODUCT_SUM fused multiply-adds in ascending k, each from 0,
 * are added in ascending k to 0, or to what is there: an element's bits depend on its row of left
 * and its column of from alone, on no shape, model of GPU or version of a library. */
void rp_product_cuda(rp_gpu *gpu, int64_t m, int64_t k, int64_t ld, rp_left left, const float *from,
                     bool accumulate, float *to);

#ifdef __cplusplus
}
#endif
#endif

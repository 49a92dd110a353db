/* Products of the solvers. */
#ifndef RP_KERNELS_CUDA_PRODUCT_CUDA_H
#define RP_KERNELS_CUDA_PRODUCT_CUDA_H

#include "kernels/gpu.h"
#include "kernels/product.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. rp_product in the GPU's memory, aligned to 16 bytes, with chains of RP_PRODUCT_CHAIN: to
 * [m][ld] := left [m, k] from [k][ld] (+ to when `accumulate`); ld is a multiple of 32. */
void rp_product_cuda(rp_gpu *gpu, int64_t m, int64_t k, int64_t ld, rp_left left, const float *from,
                     bool accumulate, float *to);

#ifdef __cplusplus
}
#endif
#endif

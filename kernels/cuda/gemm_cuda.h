/* What products on tensor cores share: copies of matrices in BF16 and checked dimensions. CUDA C++;
 * .cu files only. */
#ifndef RP_KERNELS_CUDA_GEMM_CUDA_H
#define RP_KERNELS_CUDA_GEMM_CUDA_H

#include "kernels/cuda/gpu_private.h"
#include "kernels/ops.h"

#include <cuda_bf16.h>

/* Rows of copies are padded with zeros to 16 bytes, which tensor cores need: zeros add nothing. */
static inline int64_t rp_gemm_padded(int64_t cols)
{
    return cols < 8 ? 8 : (cols + 7) / 8 * 8;
}

/* cuBLAS takes int; matrices of one operation are far below 2^31 elements a side. */
static inline int rp_gemm_dim(int64_t n)
{
    RP_ASSERT(n >= 0 && n <= INT32_MAX);
    return (int)n;
}

/* Local. out [x.rows, ld] := x rounded to nearest even, zeros from x.cols on. ld is
 * rp_gemm_padded(x.cols). */
void rp_gemm_copy_bf16(rp_gpu *gpu, __nv_bfloat16 *out, int64_t ld, rp_cmat x);

#endif

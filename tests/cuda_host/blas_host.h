/* What the stand-ins of cuBLAS and cublasLt share: operands as they are stored. */
#ifndef RP_TESTS_BLAS_HOST_H
#define RP_TESTS_BLAS_HOST_H

#include "cublas_v2.h"
#include "cuda_host.h"

#include <cblas.h>

/* A column-major matrix. */
struct rp_host_operand {
    const void *data;
    cudaDataType type;
    int rows, cols, ld;
};

static inline CBLAS_TRANSPOSE rp_host_transpose(cublasOperation_t op)
{
    return op == CUBLAS_OP_N ? CblasNoTrans : CblasTrans;
}

static inline size_t rp_host_elem_bytes(cudaDataType type)
{
    return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2;
}

/* Is the shape one; dies when the matrix is not in this GPU's memory. */
bool rp_host_is_sound(const rp_host_operand *m);

#endif

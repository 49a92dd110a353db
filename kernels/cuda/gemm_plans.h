/* The shapes of a GPU's products, and what cublasLt makes of each. CUDA C++; .cu files only. */
#ifndef RP_KERNELS_CUDA_GEMM_PLANS_H
#define RP_KERNELS_CUDA_GEMM_PLANS_H

#include "kernels/cuda/gpu_private.h"

#include <cublasLt.h>

/* What an algorithm is chosen by, in the order in which shapes are compared and written. */
typedef enum rp_gemm_number {
    RP_GEMM_INPUTS, /* rp_gemm_inputs */
    RP_GEMM_A_TRANSPOSED,
    RP_GEMM_B_TRANSPOSED,
    RP_GEMM_ROWS,
    RP_GEMM_COLS,
    RP_GEMM_INNER,
    RP_GEMM_COUNT,
    RP_GEMM_A_LD,
    RP_GEMM_B_LD,
    RP_GEMM_C_LD,
    RP_GEMM_A_STEP, /* 0 where count is 1; so are b's and c's */
    RP_GEMM_B_STEP,
    RP_GEMM_C_STEP,
    RP_GEMM_A_ALIGNMENT, /* bytes; of rows and steps too */
    RP_GEMM_B_ALIGNMENT,
    RP_GEMM_C_ALIGNMENT,
    RP_GEMM_NUMBERS
} rp_gemm_number;

typedef struct rp_gemm_shape {
    int64_t of[RP_GEMM_NUMBERS];
} rp_gemm_shape;

/* BLAS sees the transposes, column by column, so that b is its first factor. */
typedef struct rp_gemm_plan {
    rp_gemm_shape shape;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algorithm;
} rp_gemm_plan;

struct rp_gemms {
    cublasLtHandle_t handle;
    rp_gemm_plan **plans; /* [n], in the order of their shapes */
    size_t n, capacity;
};

/* Local. NULL: none. */
const rp_gemm_plan *rp_gemm_plan_find(const rp_gpu *gpu, const rp_gemm_shape *shape);
/* Local. A plan without an algorithm; NULL, with a failure kept. Caller keeps or destroys it. */
rp_gemm_plan *rp_gemm_plan_create(rp_gpu *gpu, const rp_gemm_shape *shape);
void rp_gemm_plan_destroy(rp_gemm_plan **plan);
/* Local. Takes the plan; false, with a failure kept, when there is no memory. */
bool rp_gemm_plan_keep(rp_gpu *gpu, rp_gemm_plan **plan);
/* Local. Is every sum one sequence, in the workspace that there is. */
bool rp_gemm_is_fixed(const cublasLtMatmulAlgo_t *algorithm, size_t workspace_bytes);

#define RP_GEMM_TEXT_BYTES 1024 /* of a line, with its end */
/* Local. "bf16 transposed_a=0 ..." */
void rp_gemm_shape_text(char out[RP_GEMM_TEXT_BYTES], const rp_gemm_shape *shape);

#endif

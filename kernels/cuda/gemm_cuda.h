/* Products of matrices on tensor cores and in f32: one function for all of them, by algorithms that
 * are chosen once for each shape. CUDA C++; .cu files only.
 *
 * cublasLt's heuristic chooses, by the shape, the GPU and its own version alone: matrices lie as
 * their shape says, alignment included, and sums are never split over blocks of threads (split-K),
 * so that the order of additions is the algorithm's. Ranks with GPUs of one arithmetic class choose
 * the same; a job that goes on is held to what it chose before (rp_gpu_algorithms_pin). */
#ifndef RP_KERNELS_CUDA_GEMM_CUDA_H
#define RP_KERNELS_CUDA_GEMM_CUDA_H

#include "kernels/cuda/gpu_private.h"
#include "kernels/ops.h"

#include <cuda_bf16.h>

typedef enum rp_gemm_inputs {
    RP_GEMM_BF16, /* products exact, sums f32 */
    RP_GEMM_TF32, /* f32, of which 11 significant bits are multiplied, sums f32 */
    RP_GEMM_F32,
    RP_GEMM_INPUTS_COUNT
} rp_gemm_inputs;

/* c [rows, cols] f32 = alpha a b + beta c, `count` times, `step` elements apart. Row-major. */
typedef struct rp_gemm {
    rp_gemm_inputs inputs;
    bool is_a_transposed, is_b_transposed; /* stored as [inner, rows]; as [cols, inner] */
    int64_t rows, cols, inner;             /* inner: at least 1 */
    int64_t count;
    float *c; /* not read where beta is 0 */
    const void *a, *b;
    int64_t c_ld, a_ld, b_ld;
    int64_t c_step, a_step, b_step;
    float alpha, beta;
} rp_gemm;

/* Local. One product with alpha 1 and beta 0, whose matrices are not known yet. */
static inline rp_gemm rp_gemm_of(rp_gemm_inputs inputs, int64_t rows, int64_t cols, int64_t inner)
{
    rp_gemm gemm = {};

    gemm.inputs = inputs;
    gemm.rows = rows, gemm.cols = cols, gemm.inner = inner;
    gemm.count = 1;
    gemm.alpha = 1.0F;
    return gemm;
}

/* Local. Nothing where c has no elements. */
void rp_gemm_run(rp_gpu *gpu, const rp_gemm *gemm);

/* Rows of copies are padded with zeros to 16 bytes, which tensor cores need: zeros add nothing. */
static inline int64_t rp_gemm_padded(int64_t cols)
{
    return cols < 8 ? 8 : (cols + 7) / 8 * 8;
}

/* Local. out [x.rows, ld] := x rounded to nearest even, zeros from x.cols on. ld is
 * rp_gemm_padded(x.cols). */
void rp_gemm_copy_bf16(rp_gpu *gpu, __nv_bfloat16 *out, int64_t ld, rp_cmat x);

/* Local. What products of a GPU have; a failure is kept. */
void rp_gemms_create(rp_gpu *gpu);
void rp_gemms_destroy(rp_gpu *gpu);
/* Local. Algorithms are chosen anew from now on. */
void rp_gemms_forget(rp_gpu *gpu);

#endif

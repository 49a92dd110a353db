/* Products by cublasLt. The first of a shape asks the heuristic, which takes some microseconds; the
 * plan that comes of it is found again by a binary search. */
#include "kernels/cuda/gemm_cuda.h"

#include "base/mem.h"
#include "kernels/cuda/gemm_plans.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ALIGNMENT = 256, CANDIDATES = 8 };

typedef struct arithmetic {
    cudaDataType_t type; /* of a and b; c and both scales are f32 */
    cublasComputeType_t compute;
} arithmetic;

static const arithmetic arithmetics[RP_GEMM_INPUTS_COUNT] = {
    {CUDA_R_16BF, CUBLAS_COMPUTE_32F},          /* RP_GEMM_BF16 */
    {CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32}, /* RP_GEMM_TF32 */
    {CUDA_R_32F, CUBLAS_COMPUTE_32F},           /* RP_GEMM_F32 */
};

/* ---- Shapes ---- */

/* The largest power of two, up to MOST_ALIGNMENT, of which the start, the rows and the steps are
 * multiples. Matrices lie in memory aligned to as much, so whichever rows of one are multiplied,
 * this depends on its shape alone, and on the column that it starts with. */
static int64_t alignment_of(const void *start, int64_t ld, int64_t step, size_t elem_bytes)
{
    const uint64_t bits = (uint64_t) reinterpret_cast<uintptr_t>(start) |
                          (uint64_t)(ld | step) * elem_bytes | MOST_ALIGNMENT;

    return (int64_t)(bits & -bits);
}

static rp_gemm_shape shape_of(const rp_gemm *g)
{
    const size_t input_bytes = g->inputs == RP_GEMM_BF16 ? 2 : 4;
    const bool is_batch = g->count > 1;
    const int64_t a_step = is_batch ? g->a_step : 0;
    const int64_t b_step = is_batch ? g->b_step : 0;
    const int64_t c_step = is_batch ? g->c_step : 0;
    const rp_gemm_shape shape = {{
        g->inputs,
        g->is_a_transposed,
        g->is_b_transposed,
        g->rows,
        g->cols,
        g->inner,
        g->count,
        g->a_ld,
        g->b_ld,
        g->c_ld,
        a_step,
        b_step,
        c_step,
        alignment_of(g->a, g->a_ld, a_step, input_bytes),
        alignment_of(g->b, g->b_ld, b_step, input_bytes),
        alignment_of(g->c, g->c_ld, c_step, sizeof(float)),
    }};

    return shape;
}

static int compare(const rp_gemm_shape *a, const rp_gemm_shape *b)
{
    for (int i = 0; i < RP_GEMM_NUMBERS; i++) {
        if (a->of[i] != b->of[i]) {
            return a->of[i] < b->of[i] ? -1 : 1;
        }
    }
    return 0;
}

/* ---- Plans ---- */

/* The first plan whose shape is not before this one. */
static size_t place_of(const rp_gemms *gemms, const rp_gemm_shape *shape)
{
    size_t begin = 0, end = gemms->n;

    while (begin < end) {
        const size_t middle = begin + (end - begin) / 2;
        if (compare(&gemms->plans[middle]->shape, shape) < 0) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    return begin;
}

const rp_gemm_plan *rp_gemm_plan_find(const rp_gpu *gpu, const rp_gemm_shape *shape)
{
    const rp_gemms *const gemms = gpu->gemms;
    const size_t at = place_of(gemms, shape);

    return at < gemms->n && compare(&gemms->plans[at]->shape, shape) == 0 ? gemms->plans[at] : NULL;
}

bool rp_gemm_plan_keep(rp_gpu *gpu, rp_gemm_plan **plan)
{
    rp_gemms *const gemms = gpu->gemms;
    const size_t at = place_of(gemms, &(*plan)->shape);

    if (rp_grow(&gemms->plans, &gemms->capacity, gemms->n + 1, sizeof(*gemms->plans)) != RP_OK) {
        rp_gpu_keep_message(gpu, "plan of a product", rp_error_message());
        return false;
    }
    memmove(gemms->plans + at + 1, gemms->plans + at, (gemms->n - at) * sizeof(*gemms->plans));
    gemms->plans[at] = *plan;
    gemms->n++;
    *plan = NULL;
    return true;
}

void rp_gemm_plan_destroy(rp_gemm_plan **plan)
{
    if (*plan == NULL) {
        return;
    }
    const cublasLtMatrixLayout_t layouts[3] = {(*plan)->a, (*plan)->b, (*plan)->c};
    for (int i = 0; i < 3; i++) {
        if (layouts[i] != NULL) {
            (void)cublasLtMatrixLayoutDestroy(layouts[i]);
        }
    }
    if ((*plan)->operation != NULL) {
        (void)cublasLtMatmulDescDestroy((*plan)->operation);
    }
    free(*plan);
    *plan = NULL;
}

/* A matrix as BLAS sees it: [rows, cols] of ours, as it is stored. */
static void make_layout(rp_gpu *gpu, cublasLtMatrixLayout_t *out, cudaDataType_t type, int64_t rows,
                        int64_t cols, int64_t ld, int64_t count, int64_t step)
{
    const int32_t n = (int32_t)count;

    RP_GPU_TRY(
        gpu, cublasLtMatrixLayoutCreate(out, type, (uint64_t)cols, (uint64_t)rows, RP_MAX(ld, 1)));
    if (count > 1) {
        RP_GPU_TRY(gpu, cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                         &n, sizeof(n)));
        RP_GPU_TRY(
            gpu, cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                                  &step, sizeof(step)));
    }
}

static void describe(rp_gpu *gpu, rp_gemm_plan *p)
{
    const int64_t *const of = p->shape.of;
    const arithmetic how = arithmetics[of[RP_GEMM_INPUTS]];
    const int64_t rows = of[RP_GEMM_ROWS], cols = of[RP_GEMM_COLS], inner = of[RP_GEMM_INNER];
    const int64_t count = of[RP_GEMM_COUNT];
    const bool is_a_t = of[RP_GEMM_A_TRANSPOSED] != 0, is_b_t = of[RP_GEMM_B_TRANSPOSED] != 0;
    const int32_t first = is_b_t ? CUBLAS_OP_T : CUBLAS_OP_N;
    const int32_t second = is_a_t ? CUBLAS_OP_T : CUBLAS_OP_N;

    RP_GPU_TRY(gpu, cublasLtMatmulDescCreate(&p->operation, how.compute, CUDA_R_32F));
    RP_GPU_TRY(gpu, cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSA,
                                                   &first, sizeof(first)));
    RP_GPU_TRY(gpu, cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSB,
                                                   &second, sizeof(second)));
    make_layout(gpu, &p->a, how.type, is_a_t ? inner : rows, is_a_t ? rows : inner,
                of[RP_GEMM_A_LD], count, of[RP_GEMM_A_STEP]);
    make_layout(gpu, &p->b, how.type, is_b_t ? cols : inner, is_b_t ? inner : cols,
                of[RP_GEMM_B_LD], count, of[RP_GEMM_B_STEP]);
    make_layout(gpu, &p->c, CUDA_R_32F, rows, cols, of[RP_GEMM_C_LD], count, of[RP_GEMM_C_STEP]);
}

rp_gemm_plan *rp_gemm_plan_create(rp_gpu *gpu, const rp_gemm_shape *shape)
{
    rp_gemm_plan *made = NULL;

    if (rp_calloc(&made, 1, sizeof(*made)) != RP_OK) {
        rp_gpu_keep_message(gpu, "plan of a product", rp_error_message());
        return NULL;
    }
    made->shape = *shape;
    describe(gpu, made);
    if (rp_gpu_has_failed(gpu)) {
        rp_gemm_plan_destroy(&made);
    }
    return made;
}

/* ---- The choice ---- */

bool rp_gemm_is_fixed(const cublasLtMatmulAlgo_t *algorithm, size_t workspace_bytes)
{
    int32_t split = 0;
    uint32_t reduction = 0;
    size_t written = 0;

    return workspace_bytes <= RP_GPU_WORKSPACE_BYTES &&
           cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split,
                                                sizeof(split), &written) == CUBLAS_STATUS_SUCCESS &&
           cublasLtMatmulAlgoConfigGetAttribute(algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                                &reduction, sizeof(reduction),
                                                &written) == CUBLAS_STATUS_SUCCESS &&
           split <= 1 && reduction == CUBLASLT_REDUCTION_SCHEME_NONE;
}

static void prefer(rp_gpu *gpu, cublasLtMatmulPreference_t preference,
                   cublasLtMatmulPreferenceAttributes_t attribute, uint32_t value)
{
    RP_GPU_TRY(gpu,
               cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)));
}

static void set_preference(rp_gpu *gpu, cublasLtMatmulPreference_t preference,
                           const rp_gemm_shape *shape)
{
    const uint64_t workspace_bytes = RP_GPU_WORKSPACE_BYTES;
    const uint32_t a = (uint32_t)shape->of[RP_GEMM_A_ALIGNMENT];
    const uint32_t b = (uint32_t)shape->of[RP_GEMM_B_ALIGNMENT];
    const uint32_t c = (uint32_t)shape->of[RP_GEMM_C_ALIGNMENT];

    RP_GPU_TRY(gpu, cublasLtMatmulPreferenceSetAttribute(
                        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                        sizeof(workspace_bytes)));
    prefer(gpu, preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           CUBLASLT_REDUCTION_SCHEME_NONE);
    prefer(gpu, preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, b);
    prefer(gpu, preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, a);
    prefer(gpu, preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c);
    prefer(gpu, preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c);
}

static void keep_no_algorithm(rp_gpu *gpu, const rp_gemm_shape *shape, cublasStatus_t status)
{
    char text[RP_GEMM_TEXT_BYTES], why[RP_GEMM_TEXT_BYTES + 64];

    rp_gemm_shape_text(text, shape);
    snprintf(why, sizeof(why), "%s for %s",
             status == CUBLAS_STATUS_SUCCESS ? "no algorithm" : cublasGetStatusString(status),
             text);
    rp_gpu_keep_message(gpu, "cublasLtMatmulAlgoGetHeuristic", why);
}

/* The fastest of the heuristic's that is fixed. */
static void choose(rp_gpu *gpu, rp_gemm_plan *p, cublasLtMatmulPreference_t preference)
{
    cublasLtMatmulHeuristicResult_t found[CANDIDATES] = {};
    cublasStatus_t status;
    int n = 0;

    if (rp_gpu_has_failed(gpu)) {
        return;
    }
    status = cublasLtMatmulAlgoGetHeuristic(gpu->gemms->handle, p->operation, p->b, p->a, p->c,
                                            p->c, preference, CANDIDATES, found, &n);
    for (int i = 0; i < n && status == CUBLAS_STATUS_SUCCESS; i++) {
        if (found[i].state == CUBLAS_STATUS_SUCCESS &&
            rp_gemm_is_fixed(&found[i].algo, found[i].workspaceSize)) {
            p->algorithm = found[i].algo;
            return;
        }
    }
    keep_no_algorithm(gpu, &p->shape, status);
}

static const rp_gemm_plan *plan_of(rp_gpu *gpu, const rp_gemm_shape *shape)
{
    const rp_gemm_plan *found = rp_gemm_plan_find(gpu, shape);
    cublasLtMatmulPreference_t preference = NULL;
    rp_gemm_plan *made = NULL;

    if (found != NULL) {
        return found;
    }
    made = rp_gemm_plan_create(gpu, shape);
    RP_GPU_TRY(gpu, cublasLtMatmulPreferenceCreate(&preference));
    if (preference != NULL) {
        set_preference(gpu, preference, shape);
        choose(gpu, made, preference);
        (void)cublasLtMatmulPreferenceDestroy(preference);
    }
    if (!rp_gpu_has_failed(gpu) && rp_gemm_plan_keep(gpu, &made)) {
        return rp_gemm_plan_find(gpu, shape);
    }
    rp_gemm_plan_destroy(&made);
    return NULL;
}

void rp_gemm_run(rp_gpu *gpu, const rp_gemm *gemm)
{
    const rp_gemm *const g = gemm;
    const rp_gemm_plan *plan = NULL;

    RP_ASSERT(g->inner > 0 && RP_MAX(RP_MAX(g->rows, g->cols), g->inner) <= INT32_MAX);
    if (!rp_gpu_has_failed(gpu) && g->rows > 0 && g->cols > 0 && g->count > 0) {
        const rp_gemm_shape shape = shape_of(g);
        plan = plan_of(gpu, &shape);
    }
    if (plan != NULL) {
        RP_GPU_TRY(gpu, cublasLtMatmul(gpu->gemms->handle, plan->operation, &g->alpha, g->b,
                                       plan->b, g->a, plan->a, &g->beta, g->c, plan->c, g->c,
                                       plan->c, &plan->algorithm, gpu->workspace,
                                       RP_GPU_WORKSPACE_BYTES, gpu->stream));
    }
}

/* ---- Life ---- */

void rp_gemms_create(rp_gpu *gpu)
{
    if (rp_calloc(&gpu->gemms, 1, sizeof(*gpu->gemms)) != RP_OK) {
        rp_gpu_keep_message(gpu, "products", rp_error_message());
        return;
    }
    RP_GPU_TRY(gpu, cublasLtCreate(&gpu->gemms->handle));
}

void rp_gemms_forget(rp_gpu *gpu)
{
    for (size_t i = 0; i < gpu->gemms->n; i++) {
        rp_gemm_plan_destroy(&gpu->gemms->plans[i]);
    }
    gpu->gemms->n = 0;
}

void rp_gemms_destroy(rp_gpu *gpu)
{
    if (gpu->gemms == NULL) {
        return;
    }
    rp_gemms_forget(gpu);
    if (gpu->gemms->handle != NULL) {
        (void)cublasLtDestroy(gpu->gemms->handle);
    }
    free(gpu->gemms->plans);
    free(gpu->gemms);
    gpu->gemms = NULL;
}

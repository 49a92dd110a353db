/* cuBLAS's stand-in: column-major products and solves by the host's BLAS on one thread. BF16 inputs
 * are widened to f32, where their products are exact. */
#include "cublas_v2.h"

#include "cuda_bf16.h"
#include "cuda_host.h"

#include <cblas.h>
#include <vector>

struct cublasContext {
    cudaStream_t stream;
    void *workspace;
    size_t workspace_bytes;
};

namespace
{

/* A column-major matrix operand as stored. */
struct operand {
    const void *data;
    cudaDataType type;
    int rows, cols, ld;
};

CBLAS_TRANSPOSE transpose(cublasOperation_t op)
{
    return op == CUBLAS_OP_N ? CblasNoTrans : CblasTrans;
}
CBLAS_UPLO half(cublasFillMode_t fill)
{
    return fill == CUBLAS_FILL_MODE_LOWER ? CblasLower : CblasUpper;
}
CBLAS_SIDE side_of(cublasSideMode_t side)
{
    return side == CUBLAS_SIDE_LEFT ? CblasLeft : CblasRight;
}
CBLAS_DIAG diagonal(cublasDiagType_t diag)
{
    return diag == CUBLAS_DIAG_UNIT ? CblasUnit : CblasNonUnit;
}

size_t elem_bytes(cudaDataType type)
{
    return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2;
}

bool is_sound(const operand *m)
{
    const int ld_min = m->rows > 1 ? m->rows : 1;

    if (m->rows < 0 || m->cols < 0 || m->ld < ld_min) {
        return false;
    }
    const size_t elems =
        m->rows == 0 || m->cols == 0 ? 0 : (size_t)m->ld * (size_t)(m->cols - 1) + (size_t)m->rows;
    if (elems > 0 && !rp_host_is_device(m->data, elems * elem_bytes(m->type))) {
        rp_host_die("cuBLAS is given %p, [%d, %d] ld %d, which is not in this GPU's memory",
                    m->data, m->rows, m->cols, m->ld);
    }
    return true;
}

/* Ready for a call: a handle with a stream, one thread. */
cublasStatus_t begin_call(cublasHandle_t handle)
{
    if (handle == nullptr || handle->stream == nullptr) {
        rp_host_die("a cuBLAS call without a handle or on the default stream");
    }
    openblas_set_num_threads(1);
    return rp_host_call_fails() ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}

/* f32 values of an operand, with leading dimension `rows`. */
std::vector<float> widen(const operand *m)
{
    std::vector<float> wide((size_t)m->rows * (size_t)m->cols);

    for (size_t c = 0; c < (size_t)m->cols; c++) {
        const __nv_bfloat16 *const from =
            static_cast<const __nv_bfloat16 *>(m->data) + c * (size_t)m->ld;
        for (size_t r = 0; r < (size_t)m->rows; r++) {
            wide[c * (size_t)m->rows + r] = __bfloat162float(from[r]);
        }
    }
    return wide;
}

void gemm_f32(cublasOperation_t ta, cublasOperation_t tb, int k, float alpha, const operand *a,
              const operand *b, float beta, float *c, const operand *c_shape)
{
    if (c_shape->rows > 0 && c_shape->cols > 0) {
        cblas_sgemm(CblasColMajor, transpose(ta), transpose(tb), c_shape->rows, c_shape->cols, k,
                    alpha, static_cast<const float *>(a->data), a->ld,
                    static_cast<const float *>(b->data), b->ld, beta, c, c_shape->ld);
    }
}

/* f32 values as tensor cores read TF32, with leading dimension `rows`: the low bits are cut off. */
std::vector<float> cut(const operand *m)
{
    std::vector<float> values((size_t)m->rows * (size_t)m->cols);

    for (size_t c = 0; c < (size_t)m->cols; c++) {
        const float *const from = static_cast<const float *>(m->data) + c * (size_t)m->ld;
        for (size_t r = 0; r < (size_t)m->rows; r++) {
            values[c * (size_t)m->rows + r] =
                __uint_as_float(__float_as_uint(from[r]) & 0xffffe000U);
        }
    }
    return values;
}

void gemm_tf32(cublasOperation_t ta, cublasOperation_t tb, int k, float alpha, const operand *a,
               const operand *b, float beta, float *c, const operand *c_shape)
{
    const std::vector<float> cut_a = cut(a), cut_b = cut(b);
    const operand a32 = {cut_a.data(), CUDA_R_32F, a->rows, a->cols, a->rows > 0 ? a->rows : 1};
    const operand b32 = {cut_b.data(), CUDA_R_32F, b->rows, b->cols, b->rows > 0 ? b->rows : 1};

    gemm_f32(ta, tb, k, alpha, &a32, &b32, beta, c, c_shape);
}

/* Memory is open. Inputs are of one type. */
void gemm_bf16(cublasOperation_t ta, cublasOperation_t tb, int k, float alpha, const operand *a,
               const operand *b, float beta, void *c, const operand *c_shape)
{
    const std::vector<float> wide_a = widen(a), wide_b = widen(b);
    const operand a32 = {wide_a.data(), CUDA_R_32F, a->rows, a->cols, a->rows > 0 ? a->rows : 1};
    const operand b32 = {wide_b.data(), CUDA_R_32F, b->rows, b->cols, b->rows > 0 ? b->rows : 1};

    if (c_shape->type == CUDA_R_32F) {
        gemm_f32(ta, tb, k, alpha, &a32, &b32, beta, static_cast<float *>(c), c_shape);
        return;
    }
    std::vector<float> wide_c =
        beta == 0.0F ? std::vector<float>((size_t)c_shape->rows * (size_t)c_shape->cols)
                     : widen(c_shape);
    const operand c32 = {wide_c.data(), CUDA_R_32F, c_shape->rows, c_shape->cols,
                         c_shape->rows > 0 ? c_shape->rows : 1};
    gemm_f32(ta, tb, k, alpha, &a32, &b32, beta, wide_c.data(), &c32);
    for (size_t j = 0; j < (size_t)c_shape->cols; j++) {
        for (size_t i = 0; i < (size_t)c_shape->rows; i++) {
            static_cast<__nv_bfloat16 *>(c)[j * (size_t)c_shape->ld + i] =
                __float2bfloat16_rn(wide_c[j * (size_t)c_shape->rows + i]);
        }
    }
}

/* Everything of a product but where its matrices lie. */
struct product {
    cublasOperation_t ta, tb;
    int k;
    double alpha, beta; /* read in the call */
    operand a, b, c;
    bool is_tf32;
};

/* Can it be computed so; notes how. */
bool set_compute(product *p, cublasComputeType_t compute)
{
    const bool is_f64 = compute == CUBLAS_COMPUTE_64F;

    p->is_tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    if (p->a.type != p->b.type || (p->is_tf32 && p->a.type != CUDA_R_32F)) {
        return false;
    }
    if (is_f64 || p->a.type == CUDA_R_64F) {
        return is_f64 && p->a.type == CUDA_R_64F && p->c.type == CUDA_R_64F;
    }
    return p->c.type == CUDA_R_32F || (p->a.type == CUDA_R_16BF && p->c.type == CUDA_R_16BF);
}

void multiply(const product *p)
{
    void *const c = const_cast<void *>(p->c.data);
    const float alpha = (float)p->alpha, beta = (float)p->beta;

    if (p->a.type == CUDA_R_64F) {
        cblas_dgemm(CblasColMajor, transpose(p->ta), transpose(p->tb), p->c.rows, p->c.cols, p->k,
                    p->alpha, static_cast<const double *>(p->a.data), p->a.ld,
                    static_cast<const double *>(p->b.data), p->b.ld, p->beta,
                    static_cast<double *>(c), p->c.ld);
    } else if (p->is_tf32) {
        gemm_tf32(p->ta, p->tb, p->k, alpha, &p->a, &p->b, beta, static_cast<float *>(c), &p->c);
    } else if (p->a.type == CUDA_R_32F) {
        gemm_f32(p->ta, p->tb, p->k, alpha, &p->a, &p->b, beta, static_cast<float *>(c), &p->c);
    } else {
        gemm_bf16(p->ta, p->tb, p->k, alpha, &p->a, &p->b, beta, c, &p->c);
    }
}

double scalar_of(const void *scalar, cudaDataType type)
{
    return type == CUDA_R_64F ? *static_cast<const double *>(scalar)
                              : (double)*static_cast<const float *>(scalar);
}

product product_of(cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                   const void *alpha, cudaDataType a_type, int lda, cudaDataType b_type, int ldb,
                   const void *beta, cudaDataType c_type, int ldc)
{
    const bool is_a_straight = ta == CUBLAS_OP_N, is_b_straight = tb == CUBLAS_OP_N;

    return {ta,
            tb,
            k,
            scalar_of(alpha, a_type),
            scalar_of(beta, a_type),
            {nullptr, a_type, is_a_straight ? m : k, is_a_straight ? k : m, lda},
            {nullptr, b_type, is_b_straight ? k : n, is_b_straight ? n : k, ldb},
            {nullptr, c_type, m, n, ldc},
            false};
}

cublasStatus_t multiply_at(cudaStream_t stream, product p, const void *a, const void *b, void *c)
{
    p.a.data = a;
    p.b.data = b;
    p.c.data = c;
    if (!is_sound(&p.a) || !is_sound(&p.b) || !is_sound(&p.c)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    rp_host_ask(stream, [p]() { multiply(&p); });
    return CUBLAS_STATUS_SUCCESS;
}

const unsigned char *advanced(const void *start, cudaDataType type, long long elems)
{
    return static_cast<const unsigned char *>(start) + elems * (long long)elem_bytes(type);
}

/* The operands of a triangular solve are sound and the call does not fail. */
cublasStatus_t begin_solve(cublasHandle_t handle, cudaDataType type, cublasSideMode_t side, int m,
                           int n, const void *a, int lda, const void *b, int ldb)
{
    const int order = side == CUBLAS_SIDE_LEFT ? m : n;
    const operand triangle = {a, type, order, order, lda}, right = {b, type, m, n, ldb};

    return is_sound(&triangle) && is_sound(&right) ? begin_call(handle)
                                                   : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t begin_syrk(cublasHandle_t handle, cudaDataType type, cublasOperation_t ta, int n,
                          int k, const void *a, int lda, const void *c, int ldc)
{
    const bool is_straight = ta == CUBLAS_OP_N;
    const operand given = {a, type, is_straight ? n : k, is_straight ? k : n, lda};
    const operand made = {c, type, n, n, ldc};

    return is_sound(&given) && is_sound(&made) ? begin_call(handle) : CUBLAS_STATUS_INVALID_VALUE;
}

} // namespace

const char *cublasGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS            ? "CUBLAS_STATUS_SUCCESS"
           : status == CUBLAS_STATUS_INVALID_VALUE    ? "CUBLAS_STATUS_INVALID_VALUE"
           : status == CUBLAS_STATUS_NOT_SUPPORTED    ? "CUBLAS_STATUS_NOT_SUPPORTED"
           : status == CUBLAS_STATUS_ALLOC_FAILED     ? "CUBLAS_STATUS_ALLOC_FAILED"
           : status == CUBLAS_STATUS_EXECUTION_FAILED ? "CUBLAS_STATUS_EXECUTION_FAILED"
                                                      : "CUBLAS_STATUS_NOT_INITIALIZED";
}

cublasStatus_t cublasGetVersion(cublasHandle_t handle, int *version)
{
    (void)handle;
    *version = 130000;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasCreate(cublasHandle_t *handle)
{
    *handle = nullptr;
    if (rp_host_call_fails()) {
        return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    *handle = new cublasContext();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    handle->workspace = nullptr;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t nbytes)
{
    if (!rp_host_is_device(workspace, nbytes) ||
        reinterpret_cast<uintptr_t>(workspace) % 256 != 0) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    handle->workspace = workspace;
    handle->workspace_bytes = nbytes;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
    (void)handle, (void)mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode)
{
    (void)handle, (void)mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode)
{
    (void)handle, (void)mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m,
                           int n, int k, const float *alpha, const float *a, int lda,
                           const float *b, int ldb, const float *beta, float *c, int ldc)
{
    return cublasGemmEx(handle, ta, tb, m, n, k, alpha, a, CUDA_R_32F, lda, b, CUDA_R_32F, ldb,
                        beta, c, CUDA_R_32F, ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}

cublasStatus_t cublasDgemm(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m,
                           int n, int k, const double *alpha, const double *a, int lda,
                           const double *b, int ldb, const double *beta, double *c, int ldc)
{
    return cublasGemmEx(handle, ta, tb, m, n, k, alpha, a, CUDA_R_64F, lda, b, CUDA_R_64F, ldb,
                        beta, c, CUDA_R_64F, ldc, CUBLAS_COMPUTE_64F, CUBLAS_GEMM_DEFAULT);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb,
                            int m, int n, int k, const void *alpha, const void *a,
                            cudaDataType a_type, int lda, const void *b, cudaDataType b_type,
                            int ldb, const void *beta, void *c, cudaDataType c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algo)
{
    return cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, a, a_type, lda, 0, b, b_type,
                                      ldb, 0, beta, c, c_type, ldc, 0, 1, compute, algo);
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t ta,
                                          cublasOperation_t tb, int m, int n, int k,
                                          const void *alpha, const void *a, cudaDataType a_type,
                                          int lda, long long a_stride, const void *b,
                                          cudaDataType b_type, int ldb, long long b_stride,
                                          const void *beta, void *c, cudaDataType c_type, int ldc,
                                          long long c_stride, int count,
                                          cublasComputeType_t compute, cublasGemmAlgo_t algo)
{
    product p = product_of(ta, tb, m, n, k, alpha, a_type, lda, b_type, ldb, beta, c_type, ldc);
    cublasStatus_t status = begin_call(handle);

    (void)algo;
    if (status == CUBLAS_STATUS_SUCCESS && !set_compute(&p, compute)) {
        status = CUBLAS_STATUS_NOT_SUPPORTED;
    }
    for (int i = 0; i < count && status == CUBLAS_STATUS_SUCCESS; i++) {
        status = multiply_at(handle->stream, p, advanced(a, a_type, i * a_stride),
                             advanced(b, b_type, i * b_stride),
                             const_cast<unsigned char *>(advanced(c, c_type, i * c_stride)));
    }
    return status;
}

cublasStatus_t cublasGemmBatchedEx(cublasHandle_t handle, cublasOperation_t ta,
                                   cublasOperation_t tb, int m, int n, int k, const void *alpha,
                                   const void *const a[], cudaDataType a_type, int lda,
                                   const void *const b[], cudaDataType b_type, int ldb,
                                   const void *beta, void *const c[], cudaDataType c_type, int ldc,
                                   int count, cublasComputeType_t compute, cublasGemmAlgo_t algo)
{
    product p = product_of(ta, tb, m, n, k, alpha, a_type, lda, b_type, ldb, beta, c_type, ldc);
    const size_t nbytes = (size_t)count * sizeof(void *);
    cublasStatus_t status = begin_call(handle);

    (void)algo;
    if (!rp_host_is_device(a, nbytes) || !rp_host_is_device(b, nbytes) ||
        !rp_host_is_device(c, nbytes)) {
        rp_host_die("cuBLAS is given arrays of pointers that are not in this GPU's memory");
    }
    if (status == CUBLAS_STATUS_SUCCESS && !set_compute(&p, compute)) {
        status = CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (status == CUBLAS_STATUS_SUCCESS) {
        rp_host_ask(handle->stream, [=]() {
            for (int i = 0; i < count; i++) {
                product each = p;
                each.a.data = a[i];
                each.b.data = b[i];
                each.c.data = c[i];
                if (!is_sound(&each.a) || !is_sound(&each.b) || !is_sound(&each.c)) {
                    rp_host_die("cuBLAS is given matrices of a wrong shape");
                }
                multiply(&each);
            }
        });
    }
    return status;
}

cublasStatus_t cublasStrsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill,
                           cublasOperation_t ta, cublasDiagType_t diag, int m, int n,
                           const float *alpha, const float *a, int lda, float *b, int ldb)
{
    const cublasStatus_t status = begin_solve(handle, CUDA_R_32F, side, m, n, a, lda, b, ldb);
    const float scale = *alpha;

    if (status == CUBLAS_STATUS_SUCCESS && m > 0 && n > 0) {
        rp_host_ask(handle->stream, [=]() {
            cblas_strsm(CblasColMajor, side_of(side), half(fill), transpose(ta), diagonal(diag), m,
                        n, scale, a, lda, b, ldb);
        });
    }
    return status;
}

cublasStatus_t cublasDtrsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill,
                           cublasOperation_t ta, cublasDiagType_t diag, int m, int n,
                           const double *alpha, const double *a, int lda, double *b, int ldb)
{
    const cublasStatus_t status = begin_solve(handle, CUDA_R_64F, side, m, n, a, lda, b, ldb);
    const double scale = *alpha;

    if (status == CUBLAS_STATUS_SUCCESS && m > 0 && n > 0) {
        rp_host_ask(handle->stream, [=]() {
            cblas_dtrsm(CblasColMajor, side_of(side), half(fill), transpose(ta), diagonal(diag), m,
                        n, scale, a, lda, b, ldb);
        });
    }
    return status;
}

cublasStatus_t cublasSsyrk(cublasHandle_t handle, cublasFillMode_t fill, cublasOperation_t ta,
                           int n, int k, const float *alpha, const float *a, int lda,
                           const float *beta, float *c, int ldc)
{
    const cublasStatus_t status = begin_syrk(handle, CUDA_R_32F, ta, n, k, a, lda, c, ldc);
    const float scale = *alpha, old_scale = *beta;

    if (status == CUBLAS_STATUS_SUCCESS && n > 0) {
        rp_host_ask(handle->stream, [=]() {
            cblas_ssyrk(CblasColMajor, half(fill), transpose(ta), n, k, scale, a, lda, old_scale, c,
                        ldc);
        });
    }
    return status;
}

cublasStatus_t cublasDsyrk(cublasHandle_t handle, cublasFillMode_t fill, cublasOperation_t ta,
                           int n, int k, const double *alpha, const double *a, int lda,
                           const double *beta, double *c, int ldc)
{
    const cublasStatus_t status = begin_syrk(handle, CUDA_R_64F, ta, n, k, a, lda, c, ldc);
    const double scale = *alpha, old_scale = *beta;

    if (status == CUBLAS_STATUS_SUCCESS && n > 0) {
        rp_host_ask(handle->stream, [=]() {
            cblas_dsyrk(CblasColMajor, half(fill), transpose(ta), n, k, scale, a, lda, old_scale, c,
                        ldc);
        });
    }
    return status;
}

/* cuBLAS's stand-in: column-major solves and symmetric products by the host's BLAS on one thread.
 */
#include "blas_host.h"

struct cublasContext {
    cudaStream_t stream;
    void *workspace;
    size_t workspace_bytes;
};

namespace
{

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

/* Ready for a call: a handle with a stream, one thread. */
cublasStatus_t begin_call(cublasHandle_t handle)
{
    if (handle == nullptr || handle->stream == nullptr) {
        rp_host_die("a cuBLAS call without a handle or on the default stream");
    }
    openblas_set_num_threads(1);
    return rp_host_call_fails() ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}

/* The operands of a triangular solve are sound and the call does not fail. */
cublasStatus_t begin_solve(cublasHandle_t handle, cudaDataType type, cublasSideMode_t side, int m,
                           int n, const void *a, int lda, const void *b, int ldb)
{
    const int order = side == CUBLAS_SIDE_LEFT ? m : n;
    const rp_host_operand triangle = {a, type, order, order, lda}, right = {b, type, m, n, ldb};

    return rp_host_is_sound(&triangle) && rp_host_is_sound(&right) ? begin_call(handle)
                                                                   : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t begin_syrk(cublasHandle_t handle, cudaDataType type, cublasOperation_t ta, int n,
                          int k, const void *a, int lda, const void *c, int ldc)
{
    const bool is_straight = ta == CUBLAS_OP_N;
    const rp_host_operand given = {a, type, is_straight ? n : k, is_straight ? k : n, lda};
    const rp_host_operand made = {c, type, n, n, ldc};

    return rp_host_is_sound(&given) && rp_host_is_sound(&made) ? begin_call(handle)
                                                               : CUBLAS_STATUS_INVALID_VALUE;
}

} // namespace

bool rp_host_is_sound(const rp_host_operand *m)
{
    const int ld_min = m->rows > 1 ? m->rows : 1;

    if (m->rows < 0 || m->cols < 0 || m->ld < ld_min) {
        return false;
    }
    const size_t elems =
        m->rows == 0 || m->cols == 0 ? 0 : (size_t)m->ld * (size_t)(m->cols - 1) + (size_t)m->rows;
    if (elems > 0 && !rp_host_is_device(m->data, elems * rp_host_elem_bytes(m->type))) {
        rp_host_die("cuBLAS is given %p, [%d, %d] ld %d, which is not in this GPU's memory",
                    m->data, m->rows, m->cols, m->ld);
    }
    return true;
}

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

cublasStatus_t cublasStrsm(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill,
                           cublasOperation_t ta, cublasDiagType_t diag, int m, int n,
                           const float *alpha, const float *a, int lda, float *b, int ldb)
{
    const cublasStatus_t status = begin_solve(handle, CUDA_R_32F, side, m, n, a, lda, b, ldb);
    const float scale = *alpha;

    if (status == CUBLAS_STATUS_SUCCESS && m > 0 && n > 0) {
        rp_host_ask(handle->stream, [=]() {
            cblas_strsm(CblasColMajor, side_of(side), half(fill), rp_host_transpose(ta),
                        diagonal(diag), m, n, scale, a, lda, b, ldb);
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
            cblas_dtrsm(CblasColMajor, side_of(side), half(fill), rp_host_transpose(ta),
                        diagonal(diag), m, n, scale, a, lda, b, ldb);
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
            cblas_ssyrk(CblasColMajor, half(fill), rp_host_transpose(ta), n, k, scale, a, lda,
                        old_scale, c, ldc);
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
            cblas_dsyrk(CblasColMajor, half(fill), rp_host_transpose(ta), n, k, scale, a, lda,
                        old_scale, c, ldc);
        });
    }
    return status;
}

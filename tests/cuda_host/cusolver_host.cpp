/* cuSOLVER's stand-in. Workspaces are checked and dirtied, as the library does; so is what it need
 * not leave alone. */
#include "cusolverDn.h"

#include "cuda_host.h"

#include <cblas.h>

extern "C" void spotrf_(const char *uplo, const int *n, float *a, const int *lda, int *info);
extern "C" void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);

struct cusolverDnContext {
    cudaStream_t stream;
};
struct cusolverDnParams {
    int nothing;
};

namespace
{

enum { WORKSPACE_ELEMS_A_ROW = 4 };

void factor(const char *uplo, int n, float *a, int lda, int *info)
{
    spotrf_(uplo, &n, a, &lda, info);
}
void factor(const char *uplo, int n, double *a, int lda, int *info)
{
    dpotrf_(uplo, &n, a, &lda, info);
}

/* What nothing is promised of: the other triangle, and what comes after a pivot that is not
 * positive. Column-major. */
template <typename T> void spoil(bool is_lower, int64_t n, T *a, int64_t lda, int info)
{
    const int64_t n_known = info > 0 ? info - 1 : n;

    for (int64_t c = 0; c < n; c++) {
        for (int64_t r = 0; r < n; r++) {
            const bool is_other = is_lower ? r < c : r > c;
            if (is_other || r >= n_known || c >= n_known) {
                a[c * lda + r] = (T)NAN;
            }
        }
    }
}

template <typename T>
cusolverStatus_t potrf(cusolverDnHandle_t handle, cublasFillMode_t fill, int64_t n, T *a,
                       int64_t lda, void *workspace, size_t workspace_bytes, int *info)
{
    const size_t want_bytes = (size_t)n * WORKSPACE_ELEMS_A_ROW * sizeof(T);

    if (handle == nullptr || handle->stream == nullptr) {
        rp_host_die("a cuSOLVER call without a handle or on the default stream");
    }
    if (n < 0 || lda < (n > 1 ? n : 1) || n > 1 << 30 || workspace_bytes < want_bytes) {
        return CUSOLVER_STATUS_INVALID_VALUE;
    }
    if ((n > 0 && (!rp_host_is_device(a, (size_t)(lda * (n - 1) + n) * sizeof(T)) ||
                   !rp_host_is_device(workspace, want_bytes))) ||
        !rp_host_is_device(info, sizeof(*info))) {
        rp_host_die("cuSOLVER is given memory that is not this GPU's");
    }
    if (rp_host_call_fails()) {
        return CUSOLVER_STATUS_EXECUTION_FAILED;
    }
    openblas_set_num_threads(1);
    rp_host_ask(handle->stream, [=]() {
        memset(workspace, 0xff, want_bytes);
        factor(fill == CUBLAS_FILL_MODE_LOWER ? "L" : "U", (int)n, a, (int)lda, info);
        spoil(fill == CUBLAS_FILL_MODE_LOWER, n, a, lda, *info);
    });
    return CUSOLVER_STATUS_SUCCESS;
}

} // namespace

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t *handle)
{
    *handle = nullptr;
    if (rp_host_call_fails()) {
        return CUSOLVER_STATUS_NOT_INITIALIZED;
    }
    *handle = new cusolverDnContext();
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverGetVersion(int *version)
{
    *version = 12000;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle)
{
    delete handle;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSetDeterministicMode(cusolverDnHandle_t handle,
                                                cusolverDeterministicMode_t mode)
{
    (void)handle, (void)mode;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t *params)
{
    *params = new cusolverDnParams();
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t params)
{
    delete params;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSpotrf_bufferSize(cusolverDnHandle_t handle, cublasFillMode_t fill,
                                             int n, float *a, int lda, int *elems)
{
    (void)handle, (void)fill, (void)a, (void)lda;
    *elems = n * WORKSPACE_ELEMS_A_ROW;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSpotrf(cusolverDnHandle_t handle, cublasFillMode_t fill, int n, float *a,
                                  int lda, float *workspace, int elems, int *info)
{
    return potrf(handle, fill, n, a, lda, workspace, (size_t)elems * sizeof(float), info);
}

cusolverStatus_t cusolverDnDpotrf_bufferSize(cusolverDnHandle_t handle, cublasFillMode_t fill,
                                             int n, double *a, int lda, int *elems)
{
    (void)handle, (void)fill, (void)a, (void)lda;
    *elems = n * WORKSPACE_ELEMS_A_ROW;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDpotrf(cusolverDnHandle_t handle, cublasFillMode_t fill, int n,
                                  double *a, int lda, double *workspace, int elems, int *info)
{
    return potrf(handle, fill, n, a, lda, workspace, (size_t)elems * sizeof(double), info);
}

cusolverStatus_t cusolverDnXpotrf_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params,
                                             cublasFillMode_t fill, int64_t n, cudaDataType a_type,
                                             const void *a, int64_t lda, cudaDataType compute_type,
                                             size_t *device_bytes, size_t *host_bytes)
{
    (void)handle, (void)params, (void)fill, (void)a, (void)lda, (void)compute_type;
    *device_bytes = (size_t)n * WORKSPACE_ELEMS_A_ROW * (a_type == CUDA_R_64F ? 8 : 4);
    *host_bytes = 0;
    return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXpotrf(cusolverDnHandle_t handle, cusolverDnParams_t params,
                                  cublasFillMode_t fill, int64_t n, cudaDataType a_type, void *a,
                                  int64_t lda, cudaDataType compute_type, void *device_workspace,
                                  size_t device_bytes, void *host_workspace, size_t host_bytes,
                                  int *info)
{
    (void)params, (void)host_workspace, (void)host_bytes;
    if (a_type != compute_type || (a_type != CUDA_R_32F && a_type != CUDA_R_64F)) {
        return CUSOLVER_STATUS_INVALID_VALUE;
    }
    return a_type == CUDA_R_64F ? potrf(handle, fill, n, static_cast<double *>(a), lda,
                                        device_workspace, device_bytes, info)
                                : potrf(handle, fill, n, static_cast<float *>(a), lda,
                                        device_workspace, device_bytes, info);
}

/* Every function of cuBLAS, cublasLt and cuSOLVER that the CUDA back end calls; the linker misses
 * those that are not listed. */
#include "kernels/cuda/libraries.h"

#include "base/fault.h"
#include "base/mem.h"
#include "kernels/lazy.h"

#include <cublas_api.h>
#include <cusolver_common.h>

#define CUBLAS_FUNCTIONS(ROW)                                                                      \
    ROW(cublasCreate_v2)                                                                           \
    ROW(cublasDestroy_v2)                                                                          \
    ROW(cublasDsyrk_v2)                                                                            \
    ROW(cublasDtrsm_v2)                                                                            \
    ROW(cublasGetStatusString)                                                                     \
    ROW(cublasGetVersion_v2)                                                                       \
    ROW(cublasSetAtomicsMode)                                                                      \
    ROW(cublasSetPointerMode_v2)                                                                   \
    ROW(cublasSetStream_v2)                                                                        \
    ROW(cublasSetWorkspace_v2)                                                                     \
    ROW(cublasStrsm_v2)

#define CUBLASLT_FUNCTIONS(ROW)                                                                    \
    ROW(cublasLtCreate)                                                                            \
    ROW(cublasLtDestroy)                                                                           \
    ROW(cublasLtGetVersion)                                                                        \
    ROW(cublasLtMatmul)                                                                            \
    ROW(cublasLtMatmulAlgoCheck)                                                                   \
    ROW(cublasLtMatmulAlgoConfigGetAttribute)                                                      \
    ROW(cublasLtMatmulAlgoGetHeuristic)                                                            \
    ROW(cublasLtMatmulDescCreate)                                                                  \
    ROW(cublasLtMatmulDescDestroy)                                                                 \
    ROW(cublasLtMatmulDescSetAttribute)                                                            \
    ROW(cublasLtMatmulPreferenceCreate)                                                            \
    ROW(cublasLtMatmulPreferenceDestroy)                                                           \
    ROW(cublasLtMatmulPreferenceSetAttribute)                                                      \
    ROW(cublasLtMatrixLayoutCreate)                                                                \
    ROW(cublasLtMatrixLayoutDestroy)                                                               \
    ROW(cublasLtMatrixLayoutSetAttribute)

#define CUSOLVER_FUNCTIONS(ROW)                                                                    \
    ROW(cusolverDnCreate)                                                                          \
    ROW(cusolverDnDestroy)                                                                         \
    ROW(cusolverDnDpotrf)                                                                          \
    ROW(cusolverDnDpotrf_bufferSize)                                                               \
    ROW(cusolverDnSetDeterministicMode)                                                            \
    ROW(cusolverDnSetStream)                                                                       \
    ROW(cusolverGetVersion)

CUBLAS_FUNCTIONS(RP_LAZY_FUNCTION)
CUBLASLT_FUNCTIONS(RP_LAZY_FUNCTION)
CUSOLVER_FUNCTIONS(RP_LAZY_FUNCTION)

rp_status rp_cuda_load_libraries(void)
{
    static const rp_lazy_function blas[] = {CUBLAS_FUNCTIONS(RP_LAZY_ROW)};
    static const rp_lazy_function light[] = {CUBLASLT_FUNCTIONS(RP_LAZY_ROW)};
    static const rp_lazy_function solver[] = {CUSOLVER_FUNCTIONS(RP_LAZY_ROW)};
    rp_status st = RP_OK;

    RP_TRY(rp_lazy_load("libcublas.so." RP_TEXT_OF(CUBLAS_VER_MAJOR), blas, RP_COUNT(blas)));
    RP_TRY(rp_lazy_load("libcublasLt.so." RP_TEXT_OF(CUBLAS_VER_MAJOR), light, RP_COUNT(light)));
    RP_TRY(
        rp_lazy_load("libcusolver.so." RP_TEXT_OF(CUSOLVER_VER_MAJOR), solver, RP_COUNT(solver)));
out:
    return st;
}

/* cuBLAS, cublasLt and cuSOLVER, opened with the first GPU. */
#ifndef RP_KERNELS_CUDA_LIBRARIES_H
#define RP_KERNELS_CUDA_LIBRARIES_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. Before any call of theirs. */
RP_CHECKED rp_status rp_cuda_load_libraries(void);

#ifdef __cplusplus
}
#endif
#endif

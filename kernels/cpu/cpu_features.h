/* Which code of the linked libraries suits this processor, by feature and never by timing. */
#ifndef RP_KERNELS_CPU_CPU_FEATURES_H
#define RP_KERNELS_CPU_CPU_FEATURES_H

#include "kernels/exec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. The best value of the environment variable OPENBLAS_CORETYPE here, NULL where OpenBLAS's
 * own choice stands. It is read when the library loads. */
const char *rp_cpu_openblas_coretype(void);

/* Local. The arithmetic class, "cpu/openblas-0.3.21-SkylakeX/f32" or ".../bf16-onednn-2.6.3": jobs
 * whose classes differ may give different bits. */
void rp_cpu_arith_class(char *out, size_t out_bytes, rp_products products);

#ifdef __cplusplus
}
#endif
#endif

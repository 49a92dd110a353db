/* OpenBLAS picks its kernels by a list of known processors and falls back to old ones for those it
 * does not know. Its SkylakeX kernels are the fastest on every AVX-512 processor tried, Sapphire
 * Rapids included, where it picks Cooperlake itself (Debian's 0.3.21, one thread, sgemm 2048^3:
 * SkylakeX 128, Cooperlake 91, Haswell 57 GFLOP/s). */
#include "kernels/cpu/cpu_features.h"

#include "kernels/cpu/gemm_bf16.h"

#include <cblas.h>
#include <stdio.h>
#include <string.h>

const char *rp_cpu_openblas_coretype(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        return "SkylakeX";
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        return "Haswell";
    }
#endif
    return NULL;
}

void rp_cpu_arith_class(char *out, size_t out_bytes, rp_products products)
{
    const char *config = openblas_get_config(); /* "OpenBLAS 0.3.21 NO_LAPACKE ..." */
    const char *version = strchr(config, ' ');
    char bf16_library[64];
    int version_len;

    version = version == NULL ? config : version + 1;
    version_len = (int)strcspn(version, " ");
    rp_bf16_library(bf16_library, sizeof(bf16_library));
    (void)snprintf(out, out_bytes, "cpu/openblas-%.*s-%s/%s%s", version_len, version,
                   openblas_get_corename(), products == RP_PRODUCTS_F32 ? "f32" : "bf16-",
                   products == RP_PRODUCTS_F32 ? "" : bf16_library);
}

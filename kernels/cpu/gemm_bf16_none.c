/* A build without oneDNN. */
#include "kernels/cpu/gemm_bf16.h"

bool rp_bf16_is_available(void)
{
    return false;
}

rp_status rp_bf16_create(rp_bf16 **out, int nthreads)
{
    *out = NULL;
    (void)nthreads;
    return RP_FAIL(RP_ERR_USAGE, "bf16 products: this build has no oneDNN");
}

void rp_bf16_destroy(rp_bf16 **bf16)
{
    *bf16 = NULL;
}

size_t rp_bf16_bytes(int nthreads)
{
    (void)nthreads;
    return 0;
}

void rp_bf16_library(char *out, size_t out_bytes)
{
    if (out_bytes > 0) {
        out[0] = '\0';
    }
}

void rp_bf16_nt(rp_bf16 *bf16, int thread, rp_mat c, rp_cmat a, rp_cmat b, bool accumulate)
{
    (void)bf16;
    (void)thread;
    (void)c;
    (void)a;
    (void)b;
    (void)accumulate;
}

void rp_bf16_tn(rp_bf16 *bf16, int thread, rp_mat c, rp_cmat a, rp_cmat b)
{
    (void)bf16;
    (void)thread;
    (void)c;
    (void)a;
    (void)b;
}

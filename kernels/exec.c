/* Threads and scratch of the CPU back end. */
#include "kernels/exec.h"

#include "base/mem.h"
#include "kernels/cpu/gemm.h"

#include <cblas.h>
#include <stdlib.h>

rp_status rp_exec_create(rp_exec **out, int nthreads, rp_products products)
{
    rp_status st = RP_OK;
    rp_exec *exec = NULL;
    size_t scratch_bytes;

    *out = NULL;
    openblas_set_num_threads(1);
    if (!rp_gemm_has(products)) {
        st = RP_FAIL(RP_ERR_USAGE, "bf16 products need a processor with AMX");
        goto out;
    }
    RP_TRY(rp_calloc(&exec, 1, sizeof(*exec)));
    exec->products = products;
    RP_TRY(rp_pool_create(&exec->pool, nthreads));
    RP_TRY(rp_mul_size(&scratch_bytes, (size_t)nthreads, RP_EXEC_SCRATCH_BYTES));
    RP_TRY(rp_alloc(&exec->scratch, scratch_bytes));
    *out = exec;
    exec = NULL;
out:
    rp_exec_destroy(&exec);
    return st;
}

void rp_exec_destroy(rp_exec **exec)
{
    rp_exec *e = *exec;

    if (e == NULL) {
        return;
    }
    rp_pool_destroy(&e->pool);
    free(e->scratch);
    free(e);
    *exec = NULL;
}

void *rp_exec_scratch(const rp_exec *exec, int thread)
{
    return exec->scratch + (size_t)thread * RP_EXEC_SCRATCH_BYTES;
}

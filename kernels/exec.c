/* Threads and scratch of the CPU back end. */
#include "kernels/exec.h"

#include "base/mem.h"
#include "kernels/cpu/gemm_bf16.h"

#include <cblas.h>
#include <stdlib.h>

rp_status rp_exec_create(rp_exec **out, int nthreads, rp_products products)
{
    rp_status st = RP_OK;
    rp_exec *exec = NULL;
    size_t scratch_bytes;

    *out = NULL;
    openblas_set_num_threads(1);
    RP_TRY(rp_calloc(&exec, 1, sizeof(*exec)));
    exec->products = products;
    RP_TRY(rp_pool_create(&exec->pool, nthreads));
    RP_TRY(rp_mul_size(&scratch_bytes, (size_t)nthreads, RP_EXEC_SCRATCH_BYTES));
    RP_TRY(rp_alloc(&exec->scratch, scratch_bytes));
    if (products == RP_PRODUCTS_BF16) {
        RP_TRY(rp_bf16_create(&exec->bf16, nthreads));
    }
    *out = exec;
    exec = NULL;
out:
    rp_exec_destroy(&exec);
    return st;
}

size_t rp_exec_bytes(int nthreads, rp_products products)
{
    return (size_t)nthreads * RP_EXEC_SCRATCH_BYTES +
           (products == RP_PRODUCTS_BF16 ? rp_bf16_bytes(nthreads) : 0);
}

void rp_exec_destroy(rp_exec **exec)
{
    rp_exec *e = *exec;

    if (e == NULL) {
        return;
    }
    rp_pool_destroy(&e->pool);
    rp_bf16_destroy(&e->bf16);
    free(e->scratch);
    free(e);
    *exec = NULL;
}

rp_pool *rp_exec_tile_pool(const rp_exec *exec)
{
    return exec->gpu == NULL ? exec->pool : NULL;
}

rp_exec rp_exec_alone(const rp_exec *exec, int thread)
{
    rp_exec alone = *exec;

    alone.pool = NULL;
    alone.scratch = rp_exec_scratch(exec, thread);
    return alone;
}

void *rp_exec_scratch(const rp_exec *exec, int thread)
{
    return exec->scratch + (size_t)thread * RP_EXEC_SCRATCH_BYTES;
}

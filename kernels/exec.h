/* Where operations run: the CPU's threads and their scratch memory, and a GPU if there is one.
 *
 * Operations neither allocate nor fail (a GPU's failures come out of rp_place_check), so every
 * thread gets its scratch once, at a fixed size that all operations' fixed tiles fit in. */
#ifndef RP_KERNELS_EXEC_H
#define RP_KERNELS_EXEC_H

#include "base/pool.h"
#include "kernels/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_EXEC_SCRATCH_BYTES ((size_t)4 << 20)

/* How products of the forward pass and of Gram matrices are computed: part of the arithmetic class
 * of a job. */
typedef enum rp_products { RP_PRODUCTS_F32 = 0, RP_PRODUCTS_BF16 } rp_products;

typedef struct rp_bf16 rp_bf16; /* kernels/cpu/gemm_bf16.h */

/* Borrowed by every operation; one operation at a time on one exec. */
typedef struct rp_exec {
    rp_pool *pool;
    rp_products products;
    unsigned char *scratch; /* [nthreads][RP_EXEC_SCRATCH_BYTES], aligned to 64 */
    rp_bf16 *bf16;          /* for RP_PRODUCTS_BF16, else NULL */
    rp_gpu *gpu;            /* borrowed; its arena is the place of all matrices. NULL: the host */
} rp_exec;

/* Local. nthreads >= 1, the caller's thread included. Sets the BLAS library to one thread a call.
 * RP_ERR_USAGE when this machine or build cannot compute these products. */
RP_CHECKED rp_status rp_exec_create(rp_exec **out, int nthreads, rp_products products);
/* Local. Bytes that rp_exec_create allocates, for the plan. */
size_t rp_exec_bytes(int nthreads, rp_products products);
void rp_exec_destroy(rp_exec **exec);
/* Local. For tiles that are operations of their own: the threads, each of which computes with
 * rp_exec_alone; NULL with a GPU, which takes one operation after the other. */
rp_pool *rp_exec_tile_pool(const rp_exec *exec);
/* Local. One thread's: its scratch and no pool. Valid while exec is. */
rp_exec rp_exec_alone(const rp_exec *exec, int thread);
/* Local. The scratch of one thread: RP_EXEC_SCRATCH_BYTES bytes, content undefined. */
void *rp_exec_scratch(const rp_exec *exec, int thread);

#ifdef __cplusplus
}
#endif
#endif

/* Rates of products on this machine: what the operations reach, and what the linked libraries reach
 * without fixed tiles. */
#ifndef RP_KERNELS_CPU_GEMM_BENCH_H
#define RP_KERNELS_CPU_GEMM_BENCH_H

#include "kernels/exec.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rp_bench_kind {
    RP_BENCH_SGEMM = 0, /* the library: [m, k] [n, k]^T in f32, m split evenly over the threads */
    RP_BENCH_DGEMM,     /* the same in f64 */
    RP_BENCH_LINEAR,    /* operation `linear`, [m, k] [n, k]^T, in the exec's products */
    RP_BENCH_GRAM,      /* operation `gram_add` of [m, n], conversion included: m n^2 FLOP */
    RP_BENCH_CHOLESKY,  /* rp_factor_cholesky of [n, n]: n^3 / 3 FLOP */
    RP_BENCH_COPY,      /* memory, m * n floats by all threads; bytes read and written */
    RP_BENCH_COUNT
} rp_bench_kind;

typedef struct rp_bench_shape {
    int64_t m, n, k; /* those that the kind does not name are ignored */
} rp_bench_shape;

/* Local. "sgemm", "linear" ... */
const char *rp_bench_kind_name(rp_bench_kind kind);
/* Local. *rate: GFLOP/s (RP_BENCH_COPY: GB/s), the best of repetitions for about limit_s seconds,
 * at least two. */
RP_CHECKED rp_status rp_gemm_bench(double *rate, const rp_exec *exec, rp_bench_kind kind,
                                   const rp_bench_shape *shape, double limit_s);

#ifdef __cplusplus
}
#endif
#endif

/* Products of the solvers, with the same bits on every processor and every GPU.
 *
 * A solver's decisions hang on the last bit of a sum now and then, and one that goes the other way
 * changes the rest of its row. So sums are defined to the bit: chains of fused multiply-adds in
 * ascending k, each from 0, whose results are added in ascending k to what is there. They are
 * short, since rounding grows with the length of a chain. An element depends on its row of `left`
 * and its column of `from` alone. */
#ifndef RP_KERNELS_PRODUCT_H
#define RP_KERNELS_PRODUCT_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_PRODUCT_CHAIN 128 /* terms of a chain, and the most */
#define RP_PRODUCT_LANES 16  /* ld is a multiple; of 32 in GPUs */
/* Columns which a solver decides one after the other before what they owe others is a product,
 * whose chains are then as long. */
#define RP_UNIT_COLS 32

/* How a product reads its left matrix, the factor or H: rows `ld` apart. */
typedef struct rp_left {
    const float *at; /* [m, k], or transposed [k, m] */
    int64_t ld;
    bool is_transposed;
} rp_left;

typedef enum rp_product_use { RP_PRODUCT_SET, RP_PRODUCT_ADD, RP_PRODUCT_SUBTRACT } rp_product_use;

/* Local. to [m][ld] := left [m, k] from [k][ld] added to 0, or added to `to`, or its terms with the
 * other sign; chains of `chain` terms. Without fused multiply-add in the processor it is slow. */
void rp_product(int64_t m, int64_t k, int64_t ld, rp_left left, const float *from, int chain,
                rp_product_use use, float *to);

/* Local. out [ld] := start [ld] + the sum over s < n of multiplier [s] * columns [s][ld]: one chain
 * that begins with start. out may be start. */
void rp_pull_columns(int64_t ld, int64_t n, const float *start, const float *columns,
                     const float *multiplier, float *out);

/* The same two for vectors of 4, 8 or 16 floats. */
typedef struct rp_product_functions {
    void (*multiply)(int64_t m, int64_t k, int64_t ld, rp_left left, const float *from, int chain,
                     float sign, float *to); /* adds */
    void (*pull)(int64_t ld, int64_t n, const float *start, const float *columns,
                 const float *multiplier, float *out);
} rp_product_functions;

/* NULL: not on this processor. */
const rp_product_functions *rp_product_functions_of(int lanes);

#ifdef __cplusplus
}
#endif
#endif

/* Scales of integer sums. */
#include "sharding/exact_sum.h"

#include <math.h>

#include "base/mem.h"

/* Smallest k with 2^k >= n. */
static int log2_up(int64_t n)
{
    int k = 0;

    while (((int64_t)1 << k) < n) {
        k++;
    }
    return k;
}

int rp_exact_shift(int64_t n_tokens, int64_t block_tokens)
{
    return RP_MIN(50 - log2_up(block_tokens), 61 - log2_up(n_tokens));
}

int rp_exact_exponent(float max_abs)
{
    int exponent = 0;

    if (max_abs > 0) {
        (void)frexpf(max_abs, &exponent);
    }
    return exponent;
}

rp_status rp_exact_observe(float *max_abs, const rp_kernel_ops *ops, const rp_exec *exec,
                           rp_cmat block)
{
    const int64_t row = ops->max_abs(exec, block, max_abs);

    if (row >= 0) {
        return RP_FAIL(RP_ERR_FORMAT, "an activation is not finite (token %lld of the block)",
                       (long long)row);
    }
    return RP_OK;
}

/* See product.h. */
#include "kernels/product.h"

#define LANES_SOURCE "kernels/product_lanes.h"
#define LANES_TABLE rp_product_functions
#include "kernels/lanes_all.h"

const rp_product_functions *rp_product_functions_of(int lanes)
{
    return functions_of(lanes);
}

void rp_product(int64_t m, int64_t k, int64_t ld, rp_left left, const float *from, int chain,
                rp_product_use use, float *to)
{
    if (use == RP_PRODUCT_SET) {
        memset(to, 0, (size_t)(m * ld) * sizeof(float));
    }
    functions()->multiply(m, k, ld, left, from, chain, use == RP_PRODUCT_SUBTRACT ? -1.0f : 1.0f,
                          to);
}

void rp_pull_columns(int64_t ld, int64_t n, const float *start, const float *columns,
                     const float *multiplier, float *out)
{
    functions()->pull(ld, n, start, columns, multiplier, out);
}

/* See product.h. */
#include "kernels/product.h"

#define LANES 4
#include "kernels/product_lanes.h"
#include "kernels/lanes_end.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
#define LANES 8
#include "kernels/product_lanes.h"
#include "kernels/lanes_end.h"
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4")
#define LANES 16
#include "kernels/product_lanes.h"
#include "kernels/lanes_end.h"
#pragma GCC pop_options

const rp_product_functions *rp_product_functions_of(int lanes)
{
    if (lanes == 16) {
        return __builtin_cpu_supports("x86-64-v4") ? &functions_16 : NULL;
    }
    if (lanes == 8) {
        return __builtin_cpu_supports("x86-64-v3") ? &functions_8 : NULL;
    }
    return &functions_4;
}
#else
const rp_product_functions *rp_product_functions_of(int lanes)
{
    return lanes == 4 ? &functions_4 : NULL;
}
#endif

static const rp_product_functions *functions(void)
{
    const rp_product_functions *widest = rp_product_functions_of(16);

    widest = widest != NULL ? widest : rp_product_functions_of(8);
    return widest != NULL ? widest : rp_product_functions_of(4);
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

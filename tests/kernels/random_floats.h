/* Numbers for tests of sums. */
#ifndef RP_TESTS_KERNELS_RANDOM_FLOATS_H
#define RP_TESTS_KERNELS_RANDOM_FLOATS_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"

/* Values of many magnitudes, so that the order of a sum shows. */
static inline float *random_floats(int64_t n)
{
    static uint64_t state = 3;
    float *x = (float *)malloc((size_t)RP_MAX(n, 1) * sizeof(*x));

    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const double u = (double)(state >> 11) / 9007199254740992.0 * 2 - 1;
        x[i] = (float)ldexp(u, (int)(state >> 3 & 7));
    }
    return x;
}

#endif

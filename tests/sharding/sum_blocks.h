/* Blocks of activations for tests of exact sums. */
#ifndef RP_TESTS_SHARDING_SUM_BLOCKS_H
#define RP_TESTS_SHARDING_SUM_BLOCKS_H

#include <math.h>
#include <stdlib.h>

#include "kernels/ops.h"
#include "tests/jobs/rank_check.h"

enum { COLS = 150, BLOCK = 96, N_BLOCKS = 7 };

/* x [N_BLOCKS * BLOCK, COLS]: channels from 10^(-3 step) to 10^(3 step); column 5 is dead. Caller
 * frees. */
static inline float *make_blocks(int step)
{
    float *x = (float *)malloc((size_t)N_BLOCKS * BLOCK * COLS * sizeof(*x));

    CHECK(x != NULL);
    for (int64_t i = 0; i < (int64_t)N_BLOCKS * BLOCK * COLS; i++) {
        const int64_t row = i / COLS;
        const int64_t col = i % COLS;
        const double scale = pow(10, (double)(step * (col % 7 - 3)));
        x[i] = col == 5 ? 0 : (float)(scale * sin((double)(row * 31 + col * 17 + row * col)));
    }
    return x;
}

static inline rp_cmat block_of(const float *x, int64_t b)
{
    return rp_cmat_of(x + b * BLOCK * COLS, BLOCK, COLS, COLS);
}

#endif

/* Integer sums: any order gives the same bits. */
#include "sharding/column_sums.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sharding/exact_sum.h"

rp_status rp_column_sums_create(rp_column_sums *out, int64_t max_cols)
{
    rp_status st = RP_OK;
    rp_column_sums sums = {0};
    const size_t n = (size_t)max_cols;

    memset(out, 0, sizeof(*out));
    RP_TRY(rp_alloc_array(&sums.max_abs, n, sizeof(*sums.max_abs)));
    RP_TRY(rp_alloc_array(&sums.block, n, sizeof(*sums.block)));
    RP_TRY(rp_alloc_array(&sums.sum, n, sizeof(*sums.sum)));
    *out = sums;
    memset(&sums, 0, sizeof(sums));
out:
    rp_column_sums_destroy(&sums);
    return st;
}

void rp_column_sums_destroy(rp_column_sums *sums)
{
    free(sums->max_abs);
    free(sums->block);
    free(sums->sum);
    memset(sums, 0, sizeof(*sums));
}

void rp_column_sums_begin(rp_column_sums *sums, int64_t cols, int64_t n_tokens,
                          int64_t block_tokens)
{
    sums->shift = rp_exact_shift(n_tokens, block_tokens);
    sums->cols = cols;
    sums->n_tokens = n_tokens;
    memset(sums->max_abs, 0, (size_t)cols * sizeof(*sums->max_abs));
    memset(sums->sum, 0, (size_t)cols * sizeof(*sums->sum));
}

rp_status rp_column_sums_observe(rp_column_sums *sums, const rp_kernel_ops *ops,
                                 const rp_exec *exec, rp_cmat block)
{
    return rp_exact_observe(sums->max_abs, ops, exec, block);
}

void rp_column_sums_agree(rp_column_sums *sums, rp_comm *comm)
{
    rp_comm_allreduce_max_f32(comm, sums->max_abs, sums->cols);
}

/* What turns a column's sum into its integer: 2 to this power. */
static int power_of(const rp_column_sums *sums, int64_t col)
{
    return sums->shift - 2 * rp_exact_exponent(sums->max_abs[col]);
}

void rp_column_sums_add(rp_column_sums *sums, const rp_kernel_ops *ops, const rp_exec *exec,
                        rp_cmat block)
{
    ops->square_sums(exec, block, sums->block);
    for (int64_t i = 0; i < sums->cols; i++) {
        sums->sum[i] += llrint(ldexp(sums->block[i], power_of(sums, i)));
    }
}

void rp_column_sums_finish(rp_column_sums *sums, rp_comm *comm, float *out)
{
    rp_comm_allreduce_sum_i64(comm, sums->sum, sums->cols);
    for (int64_t i = 0; i < sums->cols; i++) {
        out[i] = (float)ldexp((double)sums->sum[i], -power_of(sums, i));
    }
}

void rp_column_sums_traffic(rp_traffic *traffic, int64_t cols)
{
    rp_traffic_allreduce(traffic, (size_t)cols * sizeof(float));
    rp_traffic_allreduce(traffic, (size_t)cols * sizeof(int64_t));
}

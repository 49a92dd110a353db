/* Integer sums of Gram matrices: any order gives the same bits. */
#include "sharding/gram.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sharding/exact_sum.h"

#define CHUNK_ELEMS ((int64_t)8 << 20)

rp_status rp_gram_create(rp_gram *out, int64_t max_cols)
{
    rp_status st = RP_OK;
    rp_gram gram = {.capacity = max_cols};
    const size_t n = (size_t)max_cols;

    memset(out, 0, sizeof(*out));
    RP_TRY(rp_alloc_array(&gram.exponent, n, sizeof(*gram.exponent)));
    RP_TRY(rp_alloc_array(&gram.max_abs, n, sizeof(*gram.max_abs)));
    RP_TRY(rp_alloc_array(&gram.sum, n * n, sizeof(*gram.sum)));
    *out = gram;
    memset(&gram, 0, sizeof(gram));
out:
    rp_gram_destroy(&gram);
    return st;
}

void rp_gram_destroy(rp_gram *gram)
{
    free(gram->exponent);
    free(gram->max_abs);
    free(gram->sum);
    memset(gram, 0, sizeof(*gram));
}

void rp_gram_begin(rp_gram *gram, int64_t cols, int64_t n_tokens, int64_t block_tokens)
{
    gram->shift = rp_exact_shift(n_tokens, block_tokens);
    gram->cols = cols;
    gram->n_tokens = n_tokens;
    memset(gram->max_abs, 0, (size_t)cols * sizeof(*gram->max_abs));
    memset(gram->sum, 0, (size_t)(cols * cols) * sizeof(*gram->sum));
}

rp_status rp_gram_observe(rp_gram *gram, const rp_kernel_ops *ops, const rp_exec *exec,
                          rp_cmat block)
{
    return rp_exact_observe(gram->max_abs, ops, exec, block);
}

void rp_gram_fix_exponents(rp_gram *gram, rp_comm *comm)
{
    rp_comm_allreduce_max_f32(comm, gram->max_abs, gram->cols);
    for (int64_t i = 0; i < gram->cols; i++) {
        gram->exponent[i] = rp_exact_exponent(gram->max_abs[i]);
    }
}

void rp_gram_add(rp_gram *gram, const rp_kernel_ops *ops, const rp_exec *exec, rp_cmat block)
{
    ops->gram_add(exec, block, gram->exponent, gram->shift, gram->sum);
}

size_t rp_gram_scratch_bytes(int64_t max_cols)
{
    const int64_t triangle = max_cols * (max_cols + 1) / 2;

    /* A piece is whole rows: at least one row fits. */
    return (size_t)RP_MIN(triangle, RP_MAX(CHUNK_ELEMS, max_cols)) * sizeof(int64_t);
}

void rp_gram_reduce(rp_gram *gram, rp_comm *comm, int owner, int64_t *scratch)
{
    const int64_t n = gram->cols;
    const int64_t limit = (int64_t)(rp_gram_scratch_bytes(n) / sizeof(int64_t));

    if (rp_comm_nranks(comm) == 1) {
        return;
    }
    for (int64_t first = 0; first < n;) {
        int64_t at = 0;
        int64_t end = first;
        while (end < n && at + end + 1 <= limit) {
            memcpy(scratch + at, gram->sum + end * n, (size_t)(end + 1) * sizeof(int64_t));
            at += end + 1;
            end++;
        }
        rp_comm_reduce_sum_i64(comm, scratch, at, owner);
        if (rp_comm_rank(comm) == owner) {
            at = 0;
            for (int64_t i = first; i < end; i++) {
                memcpy(gram->sum + i * n, scratch + at, (size_t)(i + 1) * sizeof(int64_t));
                at += i + 1;
            }
        }
        first = end;
    }
}

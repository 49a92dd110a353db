/* Integer sums of Gram matrices: any order gives the same bits. */
#include "sharding/gram.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/place.h"
#include "sharding/exact_sum.h"

#define CHUNK_ELEMS ((int64_t)8 << 20)

rp_status rp_gram_create(rp_gram *out, const rp_kernel_ops *ops, const rp_exec *exec,
                         int64_t max_cols)
{
    rp_status st = RP_OK;
    rp_gram gram = {.ops = ops, .exec = exec, .capacity = max_cols};
    const size_t n = (size_t)max_cols;

    memset(out, 0, sizeof(*out));
    RP_TRY(rp_alloc_array(&gram.exponent, n, sizeof(*gram.exponent)));
    RP_TRY(rp_alloc_array(&gram.max_abs, n, sizeof(*gram.max_abs)));
    RP_TRY(rp_place_alloc(exec, &gram.sum, n * n, sizeof(*gram.sum)));
    *out = gram;
    memset(&gram, 0, sizeof(gram));
out:
    rp_gram_destroy(&gram);
    return st;
}

void rp_gram_destroy(rp_gram *gram)
{
    if (gram->sum != NULL) {
        rp_place_free(gram->exec, gram->sum);
    }
    free(gram->exponent);
    free(gram->max_abs);
    memset(gram, 0, sizeof(*gram));
}

void rp_gram_begin(rp_gram *gram, int64_t cols, int64_t n_tokens, int64_t block_tokens)
{
    gram->shift = rp_exact_shift(n_tokens, block_tokens);
    gram->cols = cols;
    gram->n_tokens = n_tokens;
    memset(gram->max_abs, 0, (size_t)cols * sizeof(*gram->max_abs));
    rp_place_zero(gram->exec, gram->sum, (size_t)(cols * cols) * sizeof(*gram->sum));
}

rp_status rp_gram_observe(rp_gram *gram, rp_cmat block)
{
    return rp_exact_observe(gram->max_abs, gram->ops, gram->exec, block);
}

void rp_gram_fix_exponents(rp_gram *gram, rp_comm *comm)
{
    rp_comm_allreduce_max_f32(comm, gram->max_abs, gram->cols);
    for (int64_t i = 0; i < gram->cols; i++) {
        gram->exponent[i] = rp_exact_exponent(gram->max_abs[i]);
    }
}

void rp_gram_add(rp_gram *gram, rp_cmat block)
{
    gram->ops->gram_add(gram->exec, block, gram->exponent, gram->shift, gram->sum);
}

/* Values of the first n rows. */
static int64_t triangle(int64_t n)
{
    return n * (n + 1) / 2;
}

size_t rp_gram_scratch_bytes(int64_t max_cols)
{
    /* A piece is whole rows: at least one row fits. */
    return (size_t)RP_MIN(triangle(max_cols), RP_MAX(CHUNK_ELEMS, max_cols)) * sizeof(int64_t);
}

/* Whole rows from `first` on, up to *end, are summed at once; returns their values. */
static int64_t piece_elems(int64_t cols, int64_t first, int64_t *end)
{
    const int64_t limit =
        triangle(first) + (int64_t)(rp_gram_scratch_bytes(cols) / sizeof(int64_t));

    *end = RP_MIN(cols, (int64_t)sqrt(2 * (double)limit)); /* one too many at most */
    while (triangle(*end) > limit) {
        (*end)--;
    }
    return triangle(*end) - triangle(first);
}

void rp_gram_reduce(rp_gram *gram, rp_comm *comm, int owner, int64_t *scratch)
{
    const int64_t n = gram->cols;
    int64_t end = 0;

    for (int64_t first = 0; first < n && rp_comm_nranks(comm) > 1; first = end) {
        const int64_t n_elems = piece_elems(n, first, &end);
        gram->ops->triangle(gram->exec, gram->sum, n, first, end, scratch, true);
        rp_comm_place_reduce_sum_i64(comm, gram->exec, scratch, n_elems, owner);
        if (rp_comm_rank(comm) == owner) {
            gram->ops->triangle(gram->exec, gram->sum, n, first, end, scratch, false);
        }
    }
}

void rp_gram_fix_exponents_traffic(rp_traffic *traffic, int64_t cols)
{
    rp_traffic_allreduce(traffic, (size_t)cols * sizeof(float));
}

void rp_gram_reduce_traffic(rp_traffic *traffic, int64_t cols, int owner)
{
    int64_t end = 0;

    for (int64_t first = 0; first < cols && traffic->nranks > 1; first = end) {
        const int64_t n_elems = piece_elems(cols, first, &end);
        rp_traffic_reduce(traffic, (size_t)n_elems * sizeof(int64_t), owner);
    }
}

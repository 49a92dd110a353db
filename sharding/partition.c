/* Who has what: equal shares of a range, by rank. */
#include "sharding/partition.h"

#include "base/mem.h"

#define KEPT_ONE_OF 10

rp_range rp_partition(int64_t n, int nranks, int rank)
{
    const int64_t small = n / nranks;
    const int64_t larger = n % nranks; /* the first `larger` ranks get one more */
    const rp_range range = {rank * small + RP_MIN(rank, larger), small + (rank < larger)};

    return range;
}

rp_blocks rp_blocks_make(int64_t n_seqs, int64_t seq_len, int64_t block_tokens)
{
    rp_blocks blocks = {.seq_len = seq_len, .n_seqs = n_seqs};

    blocks.seqs_per_block = RP_MAX(block_tokens / seq_len, 1);
    blocks.n_blocks = RP_DIV_UP(n_seqs, blocks.seqs_per_block);
    return blocks;
}

int64_t rp_blocks_first_seq(const rp_blocks *blocks, int64_t b)
{
    return b * blocks->seqs_per_block;
}

int64_t rp_blocks_seqs(const rp_blocks *blocks, int64_t b)
{
    return RP_MIN(blocks->seqs_per_block, blocks->n_seqs - rp_blocks_first_seq(blocks, b));
}

bool rp_blocks_is_kept_aside(const rp_blocks *blocks, int64_t b)
{
    if (blocks->n_blocks < KEPT_ONE_OF) {
        return blocks->n_blocks > 1 && b == blocks->n_blocks - 1;
    }
    return b % KEPT_ONE_OF == KEPT_ONE_OF - 1;
}

int64_t rp_blocks_fitted_seqs(const rp_blocks *blocks)
{
    int64_t n = 0;

    for (int64_t b = 0; b < blocks->n_blocks; b++) {
        n += rp_blocks_is_kept_aside(blocks, b) ? 0 : rp_blocks_seqs(blocks, b);
    }
    return n;
}

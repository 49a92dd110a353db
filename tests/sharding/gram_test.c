/* The Gram sum has the same bits however its blocks are dealt to ranks, and is right. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/exec.h"
#include "sharding/gram.h"
#include "sharding/partition.h"
#include "tests/sharding/sum_blocks.h"

/* Both passes over this rank's blocks, reduced to `owner`. */
static void total(rp_gram *gram, const float *x, const rp_exec *exec, rp_comm *comm, int owner)
{
    const rp_range mine = rp_partition(N_BLOCKS, rp_comm_nranks(comm), rp_comm_rank(comm));
    int64_t *scratch = malloc(rp_gram_scratch_bytes(COLS));

    CHECK(scratch != NULL);
    CHECK(rp_gram_create(gram, rp_kernels_cpu(), exec, COLS) == RP_OK);
    rp_gram_begin(gram, COLS, (int64_t)N_BLOCKS * BLOCK, BLOCK);
    for (int64_t b = mine.first; b < mine.first + mine.count; b++) {
        CHECK(rp_gram_observe(gram, block_of(x, b)) == RP_OK);
    }
    rp_gram_fix_exponents(gram, comm);
    for (int64_t b = mine.first; b < mine.first + mine.count; b++) {
        rp_gram_add(gram, block_of(x, b));
    }
    rp_gram_reduce(gram, comm, owner, scratch);
    free(scratch);
}

/* A sum of more than 64 MiB goes in pieces of whole rows; the bytes are the triangle's. */
static void check_pieces(int64_t cols)
{
    const int64_t limit = (int64_t)(rp_gram_scratch_bytes(cols) / sizeof(int64_t));
    rp_traffic traffic = rp_traffic_of(3, 1);
    int64_t n_pieces = 1;
    int64_t n = 0;

    for (int64_t i = 0; i < cols; i++) {
        n_pieces += n + i + 1 > limit;
        n = n + i + 1 > limit ? i + 1 : n + i + 1;
    }
    rp_gram_reduce_traffic(&traffic, cols, 0);
    CHECK(traffic.calls == n_pieces);
    CHECK(traffic.sent_bytes == cols * (cols + 1) / 2 * (int64_t)sizeof(int64_t));
}

static void check_values(const rp_gram *gram, const float *x)
{
    for (int64_t i = 0; i < COLS; i++) {
        for (int64_t j = 0; j <= i; j++) {
            double want = 0;
            double size = 0;
            const double got = ldexp((double)gram->sum[i * COLS + j],
                                     gram->exponent[i] + gram->exponent[j] - gram->shift);
            for (int64_t r = 0; r < (int64_t)N_BLOCKS * BLOCK; r++) {
                want += (double)x[r * COLS + i] * (double)x[r * COLS + j];
                size += fabs((double)x[r * COLS + i] * (double)x[r * COLS + j]);
            }
            CHECK(fabs(got - want) <= 1e-5 * size);
        }
    }
    CHECK(gram->max_abs[5] == 0 && gram->sum[5 * COLS + 5] == 0);
}

static const int64_t piece_cols[] = {1, 2, 64, 4095, 4096, 4097, 5792, 8192, 11008, 28672};

int main(void)
{
    rp_comm *world = NULL;
    rp_comm *alone = NULL;
    rp_exec *exec = NULL;
    rp_gram shared;
    rp_gram serial;
    float *x = make_blocks(1);

    CHECK(rp_comm_create_world(&world) == RP_OK && rp_comm_create_serial(&alone) == RP_OK);
    CHECK(rp_exec_create(&exec, 1 + rp_comm_rank(world) % 2, RP_PRODUCTS_F32) == RP_OK);
    total(&serial, x, exec, alone, 0);
    check_values(&serial, x);
    for (int owner = 0; owner < rp_comm_nranks(world); owner++) {
        total(&shared, x, exec, world, owner);
        CHECK(memcmp(shared.exponent, serial.exponent, COLS * sizeof(int)) == 0);
        for (int64_t i = 0; i < COLS && rp_comm_rank(world) == owner; i++) {
            CHECK(memcmp(shared.sum + i * COLS, serial.sum + i * COLS,
                         (size_t)(i + 1) * sizeof(int64_t)) == 0);
        }
        rp_gram_destroy(&shared);
    }
    for (size_t i = 0; i < RP_COUNT(piece_cols); i++) {
        check_pieces(piece_cols[i]);
    }
    /* A value that is not finite is refused. */
    x[3] = NAN;
    rp_gram_begin(&serial, COLS, BLOCK, BLOCK);
    CHECK(rp_gram_observe(&serial, block_of(x, 0)) == RP_ERR_FORMAT);
    rp_gram_destroy(&serial);
    rp_exec_destroy(&exec);
    rp_comm_destroy(&alone);
    rp_comm_destroy(&world);
    free(x);
    return 0;
}

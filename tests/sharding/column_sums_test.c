/* Sums of squares have the same bits however the blocks are dealt to ranks, and are right. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/exec.h"
#include "sharding/column_sums.h"
#include "sharding/partition.h"
#include "tests/sharding/sum_blocks.h"

/* Both passes over this rank's blocks. */
static void total(float out[COLS], rp_column_sums *sums, const float *x, const rp_exec *exec,
                  rp_comm *comm)
{
    const rp_kernel_ops *ops = rp_kernels_cpu();
    const rp_range mine = rp_partition(N_BLOCKS, rp_comm_nranks(comm), rp_comm_rank(comm));

    rp_column_sums_begin(sums, COLS, (int64_t)N_BLOCKS * BLOCK, BLOCK);
    for (int64_t b = mine.first; b < mine.first + mine.count; b++) {
        CHECK(rp_column_sums_observe(sums, ops, exec, block_of(x, b)) == RP_OK);
    }
    rp_column_sums_agree(sums, comm);
    for (int64_t b = mine.first; b < mine.first + mine.count; b++) {
        rp_column_sums_add(sums, ops, exec, block_of(x, b));
    }
    rp_column_sums_finish(sums, comm, out);
}

static void check_values(const float got[COLS], const float *x)
{
    for (int64_t i = 0; i < COLS; i++) {
        double want = 0;
        for (int64_t r = 0; r < (int64_t)N_BLOCKS * BLOCK; r++) {
            want += (double)x[r * COLS + i] * (double)x[r * COLS + i];
        }
        CHECK(fabs((double)got[i] - want) <= 6e-8 * want); /* f32's rounding alone */
    }
    CHECK(got[5] == 0 && got[4] > 0);
}

int main(void)
{
    rp_comm *world = NULL;
    rp_comm *alone = NULL;
    rp_exec *exec = NULL;
    rp_column_sums sums;
    float shared[COLS];
    float serial[COLS];
    float *x = make_blocks(5); /* squares span f32's whole range */

    CHECK(rp_comm_create_world(&world) == RP_OK && rp_comm_create_serial(&alone) == RP_OK);
    CHECK(rp_exec_create(&exec, 1 + rp_comm_rank(world) % 2, RP_PRODUCTS_F32) == RP_OK);
    CHECK(rp_column_sums_create(&sums, COLS + 3) == RP_OK);
    total(serial, &sums, x, exec, alone);
    check_values(serial, x);
    total(shared, &sums, x, exec, world);
    for (int64_t i = 0; i < COLS; i++) {
        CHECK(shared[i] == serial[i]);
    }
    x[3] = NAN;
    rp_column_sums_begin(&sums, COLS, BLOCK, BLOCK);
    CHECK(rp_column_sums_observe(&sums, rp_kernels_cpu(), exec, block_of(x, 0)) == RP_ERR_FORMAT);
    rp_column_sums_destroy(&sums);
    rp_exec_destroy(&exec);
    rp_comm_destroy(&alone);
    rp_comm_destroy(&world);
    free(x);
    return 0;
}

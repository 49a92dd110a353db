/* Every rank gets the layer that one process reads, though each read only its share; partitions
 * cover everything once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/exec.h"
#include "sharding/layer_loader.h"
#include "sharding/partition.h"
#include "tests/jobs/rank_check.h"

static void check_partition(void)
{
    for (int nranks = 1; nranks <= 9; nranks++) {
        for (int64_t n = 0; n < 40; n++) {
            int64_t next = 0;
            for (int r = 0; r < nranks; r++) {
                const rp_range range = rp_partition(n, nranks, r);
                CHECK(range.first == next && range.count >= n / nranks);
                CHECK(range.count <= n / nranks + 1);
                next += range.count;
            }
            CHECK(next == n);
        }
    }
}

static void check_blocks(void)
{
    const rp_blocks blocks = rp_blocks_make(10, 512, 2048);
    const rp_blocks single = rp_blocks_make(3, 4096, 2048);

    CHECK(blocks.seqs_per_block == 4 && blocks.n_blocks == 3);
    CHECK(rp_blocks_seqs(&blocks, 1) == 4 && rp_blocks_seqs(&blocks, 2) == 2);
    CHECK(rp_blocks_first_seq(&blocks, 2) == 8);
    CHECK(single.seqs_per_block == 1 && single.n_blocks == 3);
}

static void check_layer(rp_layer_loader *loader, const rp_weights *weights, int64_t layer)
{
    const rp_model_config *config = rp_weights_config(weights);
    float *slots[RP_SLOT_COUNT];

    CHECK(rp_layer_loader_get(loader, layer, slots) == RP_OK);
    for (int s = 0; s < RP_SLOT_COUNT; s++) {
        char name[256];
        int64_t rows = 0;
        int64_t cols = 0;
        float *want = NULL;
        size_t n = 0;
        CHECK((slots[s] != NULL) == rp_model_has_slot(config, (rp_slot)s));
        if (slots[s] == NULL) {
            continue;
        }
        rp_model_slot_name(name, sizeof(name), layer, (rp_slot)s);
        rp_model_slot_shape(config, (rp_slot)s, &rows, &cols);
        n = (size_t)(rows * (cols == 0 ? 1 : cols));
        want = malloc(n * sizeof(*want));
        CHECK(want != NULL);
        CHECK(rp_weights_read_f32(weights, rp_weights_find(weights, name), 0, rows, want) == RP_OK);
        CHECK(memcmp(want, slots[s], n * sizeof(*want)) == 0);
        free(want);
    }
}

int main(int argc, char **argv)
{
    rp_comm *comm = NULL;
    rp_weights *weights = NULL;
    rp_exec *exec = NULL;
    rp_layer_loader *loader = NULL;
    double wait = 0;
    int64_t nbytes = 0;
    int64_t all_bytes = 0;

    CHECK(argc == 2);
    check_partition();
    check_blocks();
    CHECK(rp_comm_create_world(&comm) == RP_OK);
    CHECK(rp_weights_open(&weights, argv[1]) == RP_OK);
    CHECK(rp_exec_create(&exec, 2, RP_PRODUCTS_F32) == RP_OK);
    CHECK(rp_layer_loader_create(&loader, comm, weights, rp_kernels_cpu(), exec) == RP_OK);
    check_layer(loader, weights, 0); /* not prefetched */
    rp_layer_loader_prefetch(loader, 1);
    check_layer(loader, weights, 1);
    rp_layer_loader_prefetch(loader, 1); /* the wrong one */
    check_layer(loader, weights, 2);
    /* Four reads of a layer in all, shared by the ranks: none reads more than its part and a row of
     * each tensor. */
    rp_layer_loader_stats(loader, &wait, &nbytes);
    all_bytes = nbytes;
    rp_comm_allreduce_sum_i64(comm, &all_bytes, 1);
    CHECK(nbytes <= all_bytes / rp_comm_nranks(comm) + 4 * RP_SLOT_COUNT * 768 * 2);
    rp_layer_loader_destroy(&loader);
    rp_exec_destroy(&exec);
    rp_weights_close(&weights);
    rp_comm_destroy(&comm);
    return 0;
}

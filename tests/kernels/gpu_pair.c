/* See gpu_pair.h. */
#include "gpu_pair.h"

rp_exec *cpu;
rp_exec gpu;

int set_up(void **state)
{
    (void)state;
    if (rp_exec_create(&cpu, 1, RP_PRODUCTS_F32) != RP_OK) {
        return 1;
    }
    gpu = *cpu;
    return rp_gpu_create(&gpu.gpu, 0, gpu_arena_bytes) == RP_OK ? 0 : 1;
}

int tear_down(void **state)
{
    (void)state;
    rp_gpu_destroy(&gpu.gpu);
    rp_exec_destroy(&cpu);
    return 0;
}

void *gpu_copy(const void *from, size_t nbytes)
{
    void *to = NULL;

    assert_int_equal(rp_place_alloc(&gpu, &to, nbytes, 1), RP_OK);
    rp_place_put(&gpu, to, from, nbytes);
    return to;
}

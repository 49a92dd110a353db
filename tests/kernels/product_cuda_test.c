/* The GPU's product of the solvers against the CPU's: the same bits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gpu_pair.h"
#include "kernels/cuda/product_cuda.h"
#include "random_floats.h"

enum { SKIPPED = 77, BEHIND = 64 };

const size_t gpu_arena_bytes = (size_t)16 << 20;

typedef struct shape {
    int64_t m, k, ld;
    int64_t left_offset, left_ld; /* ld: beyond what it must be */
    bool is_transposed, accumulate;
} shape;

static void check(const shape *s)
{
    const int64_t left_ld = (s->is_transposed ? s->m : s->k) + s->left_ld;
    const int64_t n_left = s->left_offset + (s->is_transposed ? s->k : s->m) * left_ld;
    const size_t to_bytes = (size_t)(s->m * s->ld + BEHIND) * sizeof(float);
    float *left = random_floats(n_left);
    float *from = random_floats(s->k * s->ld);
    float *want = random_floats(s->m * s->ld + BEHIND);
    float *got = malloc(to_bytes);
    float *left_d = gpu_copy(left, (size_t)n_left * sizeof(float));
    float *from_d = gpu_copy(from, (size_t)(s->k * s->ld) * sizeof(float));
    float *to_d = gpu_copy(want, to_bytes);
    const rp_left seen = {left_d + s->left_offset, left_ld, s->is_transposed};

    assert_non_null(got);
    rp_product(s->m, s->k, s->ld, (rp_left){left + s->left_offset, left_ld, s->is_transposed}, from,
               RP_PRODUCT_CHAIN, s->accumulate ? RP_PRODUCT_ADD : RP_PRODUCT_SET, want);
    rp_product_cuda(gpu.gpu, s->m, s->k, s->ld, seen, from_d, s->accumulate, to_d);
    rp_place_get(&gpu, got, to_d, to_bytes);
    assert_int_equal(rp_place_check(&gpu), RP_OK);
    assert_memory_equal(got, want, to_bytes);
    rp_place_free(&gpu, left_d);
    rp_place_free(&gpu, from_d);
    rp_place_free(&gpu, to_d);
    free(left);
    free(from);
    free(want);
    free(got);
}

static void product_equals_loop(void **state)
{
    static const shape shapes[] = {
        {64, 32, 64, 0, 0, true, false},    {64, 32, 64, 0, 0, false, false},
        {1, 1, 32, 0, 0, true, false},      {1, 1, 32, 3, 1, false, true},
        {32, 31, 96, 0, 0, true, true},     {32, 33, 96, 0, 0, false, true},
        {7, 5, 32, 1, 2, true, false},      {33, 64, 160, 1, 2, false, false},
        {128, 300, 128, 5, 7, true, false}, {128, 300, 128, 5, 7, true, true},
        {200, 97, 224, 2, 3, false, true},  {65, 1000, 64, 0, 13, true, false},
        {256, 16, 64, 0, 240, false, true}, {100, 257, 320, 9, 5, true, true},
    };

    (void)state;
    for (size_t i = 0; i < RP_COUNT(shapes); i++) {
        check(&shapes[i]);
    }
}

static void nothing_is_multiplied(void **state)
{
    const shape empty[] = {{0, 4, 32, 0, 0, true, true}, {4, 0, 32, 0, 0, true, true}};

    (void)state;
    check(&empty[0]);
    check(&empty[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(product_equals_loop),
        cmocka_unit_test(nothing_is_multiplied),
    };

    if (rp_gpu_count() == 0) {
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

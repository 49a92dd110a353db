/* A GPU's arena, copies and failures, on the stand-in and on a GPU. */
#include "base/mem.h"
#include "kernels/gpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static rp_gpu *gpu;

enum { ARENA_BYTES = 96 << 20 };

static int set_up(void **state)
{
    (void)state;
    if (rp_gpu_create(&gpu, 0, ARENA_BYTES) != RP_OK) {
        print_error("%s\n", rp_error_message());
        return 1;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rp_gpu_destroy(&gpu);
    return 0;
}

static unsigned char *random_bytes(size_t n, uint32_t seed)
{
    unsigned char *const bytes = malloc(n);

    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525U + 1013904223U;
        bytes[i] = (unsigned char)(seed >> 24);
    }
    return bytes;
}

/* There and back, both with pitches. */
static void round_trip(rp_pool *pool, size_t row_bytes, size_t nrows, size_t gpu_gap,
                       size_t host_gap)
{
    const size_t gpu_pitch = row_bytes + gpu_gap, host_pitch = row_bytes + host_gap;
    unsigned char *const before = random_bytes(host_pitch * nrows, 1);
    unsigned char *const after = random_bytes(host_pitch * nrows, 2);
    unsigned char *const expected = random_bytes(host_pitch * nrows, 2);
    void *memory = NULL;

    for (size_t r = 0; r < nrows; r++) {
        memcpy(expected + r * host_pitch, before + r * host_pitch, row_bytes);
    }
    assert_int_equal(rp_gpu_alloc(&memory, gpu, gpu_pitch * nrows), RP_OK);
    rp_gpu_put_by(gpu, pool, memory, gpu_pitch, before, host_pitch, row_bytes, nrows);
    memset(before, 0, host_pitch * nrows); /* put has read it all */
    rp_gpu_get_by(gpu, pool, after, host_pitch, memory, gpu_pitch, row_bytes, nrows);
    assert_int_equal(rp_gpu_sync(gpu), RP_OK);
    assert_memory_equal(after, expected, host_pitch * nrows);
    rp_gpu_free(gpu, memory);
    free(before);
    free(after);
    free(expected);
}

static void bytes_go_there_and_back(void **state)
{
    rp_pool *pools[2] = {NULL, NULL};

    (void)state;
    assert_int_equal(rp_pool_create(&pools[1], 3), RP_OK);
    for (int i = 0; i < 2; i++) {
        round_trip(pools[i], 0, 3, 0, 0);
        round_trip(pools[i], 1, 1, 0, 0);
        round_trip(pools[i], 100, 7, 28, 0);
        round_trip(pools[i], 100, 7, 0, 5);
        round_trip(pools[i], 4096, 9000, 0, 0);  /* 37 MB at once */
        round_trip(pools[i], 4000, 5000, 96, 8); /* and in rows */
        /* rows longer than a staging buffer */
        round_trip(pools[i], ((size_t)9 << 20) + 3, 3, 61, 1);
    }
    rp_pool_destroy(&pools[1]);
}

static void small_puts_do_not_overwrite_each_other(void **state)
{
    enum { N = 3000, BYTES = 9000 };
    unsigned char *const all = random_bytes((size_t)N * BYTES, 3), *const back = malloc(N * BYTES);
    unsigned char piece[BYTES];
    void *memory = NULL;

    (void)state;
    assert_non_null(back);
    assert_int_equal(rp_gpu_alloc(&memory, gpu, (size_t)N * BYTES), RP_OK);
    for (size_t i = 0; i < N; i++) {
        memcpy(piece, all + i * BYTES, BYTES);
        rp_gpu_put(gpu, (unsigned char *)memory + i * BYTES, BYTES, piece, BYTES, BYTES, 1);
    }
    rp_gpu_get(gpu, back, BYTES, memory, BYTES, BYTES, N);
    assert_int_equal(rp_gpu_sync(gpu), RP_OK);
    assert_memory_equal(back, all, (size_t)N * BYTES);
    rp_gpu_free(gpu, memory);
    free(all);
    free(back);
}

static void memory_is_copied_and_cleared_within(void **state)
{
    enum { N = 100000 };
    unsigned char *const bytes = random_bytes(N, 4), *const back = random_bytes(N, 5);
    void *a = NULL, *b = NULL;

    (void)state;
    assert_int_equal(rp_gpu_alloc(&a, gpu, N), RP_OK);
    assert_int_equal(rp_gpu_alloc(&b, gpu, N), RP_OK);
    rp_gpu_put(gpu, a, N, bytes, N, N, 1);
    rp_gpu_copy(gpu, b, a, N);
    rp_gpu_zero(gpu, (unsigned char *)b + 10, N - 20);
    rp_gpu_get(gpu, back, N, b, N, N, 1);
    assert_int_equal(rp_gpu_sync(gpu), RP_OK);
    memset(bytes + 10, 0, N - 20);
    assert_memory_equal(back, bytes, N);
    rp_gpu_free(gpu, a);
    rp_gpu_free(gpu, b);
    free(bytes);
    free(back);
}

static void a_full_arena_says_so(void **state)
{
    void *a = NULL, *b = NULL;

    (void)state;
    assert_int_equal(rp_gpu_alloc(&a, gpu, ARENA_BYTES - 1000), RP_OK);
    assert_int_equal(rp_gpu_alloc(&b, gpu, 2000), RP_ERR_MEMORY);
    assert_null(b);
    assert_non_null(strstr(rp_error_message(), "GPU 0"));
    rp_gpu_free(gpu, a);
    assert_int_equal(rp_gpu_alloc(&a, gpu, ARENA_BYTES), RP_OK);
    rp_gpu_free(gpu, a);
    assert_int_equal(rp_gpu_peak_bytes(gpu), ARENA_BYTES);
}

static void it_is_described(void **state)
{
    rp_gpu_info info;
    char model[80];

    (void)state;
    assert_int_equal(rp_gpu_describe(&info, 0), RP_OK);
    assert_true(info.compute_major >= 8 && info.n_multiprocessors > 0);
    assert_true(info.free_bytes < info.total_bytes);
    assert_memory_equal(info.uuid, "GPU-", 4);
    assert_int_equal(strlen(info.uuid), 40);
    snprintf(model, sizeof(model), "cuda %s sm_", info.name);
    assert_memory_equal(rp_gpu_class(gpu), model, strlen(model));
    assert_int_equal(rp_gpu_describe(&info, 1000), RP_ERR_MEMORY);
}

static void too_much_memory_is_refused(void **state)
{
    rp_gpu *other = NULL;

    (void)state;
    assert_int_equal(rp_gpu_create(&other, 0, (size_t)1 << 50), RP_ERR_MEMORY);
    assert_null(other);
    assert_non_null(strstr(rp_error_message(), "are free"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_go_there_and_back),
        cmocka_unit_test(small_puts_do_not_overwrite_each_other),
        cmocka_unit_test(memory_is_copied_and_cleared_within),
        cmocka_unit_test(a_full_arena_says_so),
        cmocka_unit_test(it_is_described),
        cmocka_unit_test(too_much_memory_is_refused),
    };

    if (rp_gpu_count() == 0) {
        return 77;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

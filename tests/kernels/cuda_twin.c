/* See cuda_twin.h. */
#include "cuda_twin.h"

#define ARENA_BYTES ((size_t)64 << 20)

rp_exec *cpu;
rp_exec on_gpu;

uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352dU;
    x ^= x >> 15;
    x *= 0x846ca68bU;
    return x ^ (x >> 16);
}

float value_at(uint32_t seed, int64_t i)
{
    return (float)mix(seed * 2654435761U + (uint32_t)i) / 2147483648.0F - 1.0F;
}

size_t twin_bytes(const twin *t)
{
    return (size_t)(t->rows * t->ld) * sizeof(float);
}

void twin_put(const twin *t)
{
    rp_place_put(&on_gpu, t->place, t->host, twin_bytes(t));
}

twin twin_make(int64_t rows, int64_t cols, int64_t ld, uint32_t seed, float size, float step)
{
    twin t = {rows, cols, ld, NULL, NULL, NULL};

    assert_int_equal(rp_alloc(&t.host, twin_bytes(&t)), RP_OK);
    assert_int_equal(rp_alloc(&t.got, twin_bytes(&t)), RP_OK);
    assert_int_equal(rp_place_alloc(&on_gpu, &t.place, (size_t)(rows * ld), sizeof(float)), RP_OK);
    for (int64_t i = 0; i < rows * ld; i++) {
        const float v = size * value_at(seed, i);
        t.host[i] = step > 0 ? step * rintf(v / step) : v;
    }
    twin_put(&t);
    return t;
}

void twin_free(twin *t)
{
    free(t->host);
    free(t->got);
    rp_place_free(&on_gpu, t->place);
}

rp_mat host_mat(const twin *t)
{
    return rp_mat_of(t->host, t->rows, t->cols, t->ld);
}
rp_cmat host_cmat(const twin *t)
{
    return rp_cmat_of(t->host, t->rows, t->cols, t->ld);
}
rp_mat place_mat(const twin *t)
{
    return rp_mat_of(t->place, t->rows, t->cols, t->ld);
}
rp_cmat place_cmat(const twin *t)
{
    return rp_cmat_of(t->place, t->rows, t->cols, t->ld);
}

void assert_gpu_is_well(void)
{
    if (rp_place_check(&on_gpu) != RP_OK) {
        fail_msg("%s", rp_error_message());
    }
}

void assert_same_bits(const twin *t)
{
    assert_memory_equal(t->got, t->host, twin_bytes(t));
}

void assert_near(double got, double want, double tolerance, const char *what, int64_t row,
                 int64_t col)
{
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("%s at %lld, %lld: got %.9g, want %.9g within %.3g", what, (long long)row,
                 (long long)col, got, want, tolerance);
    }
}

void assert_relative(const twin *t, double rtol, const char *what)
{
    for (int64_t r = 0; r < t->rows; r++) {
        const float *got = t->got + r * t->ld, *want = t->host + r * t->ld;
        for (int64_t c = 0; c < t->cols; c++) {
            assert_near((double)got[c], (double)want[c], rtol * fabs((double)want[c]), what, r, c);
        }
        assert_memory_equal(got + t->cols, want + t->cols,
                            (size_t)(t->ld - t->cols) * sizeof(float));
    }
}

int set_up(void **state)
{
    rp_gpu *gpu = NULL;

    (void)state;
    if ((rp_exec_create(&cpu, 2, RP_PRODUCTS_BF16) != RP_OK &&
         rp_exec_create(&cpu, 2, RP_PRODUCTS_F32) != RP_OK) ||
        rp_gpu_create(&gpu, 0, ARENA_BYTES) != RP_OK) {
        return 1;
    }
    on_gpu = *cpu;
    on_gpu.gpu = gpu;
    return 0;
}

int tear_down(void **state)
{
    (void)state;
    rp_gpu_destroy(&on_gpu.gpu);
    rp_exec_destroy(&cpu);
    return 0;
}

int small_scratch(void **state)
{
    (void)state;
    rp_gpu_limit_scratch(on_gpu.gpu, (size_t)128 << 10);
    return 0;
}

int full_scratch(void **state)
{
    (void)state;
    rp_gpu_limit_scratch(on_gpu.gpu, RP_GPU_NO_LIMIT);
    return 0;
}

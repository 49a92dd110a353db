/* Matrices on the host and the GPU side by side, for tests of CUDA operations against the CPU's. */
#ifndef RP_TESTS_KERNELS_CUDA_TWIN_H
#define RP_TESTS_KERNELS_CUDA_TWIN_H

#include "base/mem.h"
#include "kernels/cpu/ops_cpu.h"
#include "kernels/cuda/ops_cuda.h"
#include "kernels/place.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Half the distance of neighbours, relative: of f32, of TF32. */
#define F32_ROUNDING 0x1p-24
#define TF32_ROUNDING 0x1p-11

/* The CPU's, with BF16 products where the processor has them, and the same with a GPU. */
extern rp_exec *cpu;
extern rp_exec on_gpu;
/* Of cmocka's groups. */
int set_up(void **state);
int tear_down(void **state);

/* Of tests that also run in many small pieces. */
int small_scratch(void **state);
int full_scratch(void **state);

uint32_t mix(uint32_t x);
/* In (-1, 1), a function of seed and index. */
float value_at(uint32_t seed, int64_t i);

/* A matrix on the host and its copy on the GPU, padding of its rows included. */
typedef struct twin {
    int64_t rows, cols, ld;
    float *host, *place;
    float *got; /* what the GPU made of it */
} twin;

/* Values in (-size, size), multiples of `step` if that is not 0. */
twin twin_make(int64_t rows, int64_t cols, int64_t ld, uint32_t seed, float size, float step);
void twin_free(twin *t);
size_t twin_bytes(const twin *t);
/* The GPU's := the host's. */
void twin_put(const twin *t);

rp_mat host_mat(const twin *t);
rp_cmat host_cmat(const twin *t);
rp_mat place_mat(const twin *t);
rp_cmat place_cmat(const twin *t);

/* `call` on the GPU, twice from the same start; t->got is what it left, with the same bits. */
#define RUN_TWICE(t, call)                                                                         \
    do {                                                                                           \
        float *again = NULL;                                                                       \
        assert_int_equal(rp_alloc(&again, twin_bytes(t)), RP_OK);                                  \
        twin_put(t);                                                                               \
        call;                                                                                      \
        rp_place_get(&on_gpu, (t)->got, (t)->place, twin_bytes(t));                                \
        twin_put(t);                                                                               \
        call;                                                                                      \
        rp_place_get(&on_gpu, again, (t)->place, twin_bytes(t));                                   \
        assert_memory_equal(again, (t)->got, twin_bytes(t));                                       \
        free(again);                                                                               \
        assert_gpu_is_well();                                                                      \
    } while (0)

void assert_gpu_is_well(void);
/* The GPU's result is the host's, which the CPU made meanwhile, bit by bit, padding included. */
void assert_same_bits(const twin *t);
void assert_near(double got, double want, double tolerance, const char *what, int64_t row,
                 int64_t col);
/* Within rtol of the host's, bit by bit in the padding. */
void assert_relative(const twin *t, double rtol, const char *what);

#endif

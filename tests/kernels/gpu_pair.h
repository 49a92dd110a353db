/* The CPU with fp32 products and a GPU side by side, for tests of one against the other. */
#ifndef RP_TESTS_KERNELS_GPU_PAIR_H
#define RP_TESTS_KERNELS_GPU_PAIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "kernels/ops.h"
#include "kernels/place.h"

extern rp_exec *cpu;
extern rp_exec gpu;
/* Of the GPU; the test says how much it takes. */
extern const size_t gpu_arena_bytes;
/* Of cmocka's groups. */
int set_up(void **state);
int tear_down(void **state);

/* A copy on the GPU. */
void *gpu_copy(const void *from, size_t nbytes);

#endif

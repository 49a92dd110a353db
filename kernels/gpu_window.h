/* Rows in pinned memory of the host, which a GPU works on block by block: while it works on one,
 * the next is on its way to it and the one before on its way back. */
#ifndef RP_KERNELS_GPU_WINDOW_H
#define RP_KERNELS_GPU_WINDOW_H

#include "kernels/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows of `cols` values in blocks of block_rows, of which the last may have fewer. */
typedef struct rp_window_shape {
    int64_t rows, block_rows, cols;
} rp_window_shape;

typedef struct rp_gpu_window rp_gpu_window;

/* Local. Content undefined. Two blocks of the arena, and the rows on the host. */
RP_CHECKED rp_status rp_gpu_window_create(rp_gpu_window **out, rp_gpu *gpu,
                                          const rp_window_shape *shape);
void rp_gpu_window_destroy(rp_gpu_window **window);
/* Local. Rows of a block in the arena, as rp_window_use says; not both counts are 0. */
float *rp_gpu_window_use(rp_gpu_window *window, int64_t block, int64_t n_read, int64_t n_write);
/* Local. Waits. All rows as they are, for the host to read and write until a block is used again;
 * of no worth when something failed. */
float *rp_gpu_window_host(rp_gpu_window *window);

#ifdef __cplusplus
}
#endif
#endif

/* A GPU of this process: its memory, of which an arena is taken once before work starts, and its
 * errors, which are kept until somebody asks. Builds without CUDA link gpu_none.c: there are none.
 */
#ifndef RP_KERNELS_GPU_H
#define RP_KERNELS_GPU_H

#include "base/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_gpu rp_gpu;

typedef struct rp_gpu_info {
    char name[64];
    char uuid[48]; /* "GPU-..." */
    int compute_major, compute_minor;
    int n_multiprocessors;
    int driver_version, runtime_version; /* 1000 major + 10 minor */
    size_t total_bytes, free_bytes;
} rp_gpu_info;

/* Local. Was this program built with CUDA. */
bool rp_gpu_is_built(void);
/* Local. GPUs that this process may use (CUDA_VISIBLE_DEVICES); 0 without a driver. */
int rp_gpu_count(void);
/* Local. Why an installed driver gives no GPU (it is too old, or a service of it does not run);
 * NULL where there is no driver or nothing is wrong. */
const char *rp_gpu_trouble(void);
RP_CHECKED rp_status rp_gpu_describe(rp_gpu_info *out, int ordinal);

/* Local, on any thread. Opens what rp_gpu_create and rp_gpu_describe need first and which takes
 * time: the GPU itself and the libraries. What cannot be opened is left to them, who say so. */
void rp_gpu_open_ahead(int ordinal);
/* Local. Makes the GPU the calling thread's, which alone works with it, takes arena_bytes of its
 * memory for good, and sets up libraries with fixed algorithms and workspaces of their own
 * (rp_gpu_own_bytes, not of the arena). RP_ERR_MEMORY names what was wanted and what is free. */
RP_CHECKED rp_status rp_gpu_create(rp_gpu **out, int ordinal, size_t arena_bytes);
void rp_gpu_destroy(rp_gpu **gpu);
/* Local. What rp_gpu_create takes beside the arena, for the plan; NULL: of a GPU of 16 GiB or more,
 * smaller ones have less. */
size_t rp_gpu_own_bytes(const rp_gpu_info *info);
/* Local. The largest arena that rp_gpu_create would find room for. */
size_t rp_gpu_room_bytes(const rp_gpu_info *info);
/* Local. The arithmetic class: model and the libraries' versions, "cuda NVIDIA H200 sm_90 cublas
 * 130100 cublasLt 130100 cusolver 12000". */
const char *rp_gpu_class(const rp_gpu *gpu);

/* In a line of the text below, between a product's shape and how it is computed. */
#define RP_GPU_ALGORITHM " algorithm="
/* Local. The algorithms by which products have been computed, as text: the arithmetic class and a
 * line for each shape, in an order that does not depend on that of the products. There are more of
 * them with time, never others: the count says whether any came. Caller frees. */
int64_t rp_gpu_algorithms_count(const rp_gpu *gpu);
RP_CHECKED rp_status rp_gpu_algorithms_format(char **out, const rp_gpu *gpu);
/* Local, before the first product. Those of the text's shapes are computed as it says. A text of
 * another arithmetic class says nothing. RP_ERR_FORMAT for what is no such text; RP_ERR_MEMORY (no
 * device) names the shape whose algorithm the library does not accept. */
RP_CHECKED rp_status rp_gpu_algorithms_pin(rp_gpu *gpu, const char *text);

/* Local. From the arena, aligned to 256 bytes; content undefined. RP_ERR_MEMORY when it is full. */
RP_CHECKED rp_status rp_gpu_alloc(void **out, rp_gpu *gpu, size_t nbytes);
void rp_gpu_free(rp_gpu *gpu, void *memory);
/* Local. Most of the arena that was ever taken. */
size_t rp_gpu_peak_bytes(const rp_gpu *gpu);

/* Local. In the order of the operations; put may return while the host memory is copied to a
 * staging buffer only, get when the bytes are there. Rows of row_bytes, their starts pitch apart.
 */
void rp_gpu_put(rp_gpu *gpu, void *to, size_t to_pitch, const void *from, size_t from_pitch,
                size_t row_bytes, size_t nrows);
void rp_gpu_get(rp_gpu *gpu, void *to, size_t to_pitch, const void *from, size_t from_pitch,
                size_t row_bytes, size_t nrows);
/* Local. The same by the threads of a pool, which is not in use; NULL: by the caller's alone. */
void rp_gpu_put_by(rp_gpu *gpu, rp_pool *pool, void *to, size_t to_pitch, const void *from,
                   size_t from_pitch, size_t row_bytes, size_t nrows);
void rp_gpu_get_by(rp_gpu *gpu, rp_pool *pool, void *to, size_t to_pitch, const void *from,
                   size_t from_pitch, size_t row_bytes, size_t nrows);
void rp_gpu_copy(rp_gpu *gpu, void *to, const void *from, size_t nbytes); /* within the GPU */
void rp_gpu_zero(rp_gpu *gpu, void *memory, size_t nbytes);

/* Local. Waits for everything asked of the GPU. RP_ERR_MEMORY (no memory or device) with the first
 * failure since rp_gpu_create, which stays: its operations do nothing any more. */
RP_CHECKED rp_status rp_gpu_sync(rp_gpu *gpu);

#ifdef __cplusplus
}
#endif
#endif

/* A build without CUDA has no GPU. */
#include "kernels/gpu.h"

#include "kernels/gpu_stream.h"
#include "kernels/gpu_window.h"
#include "kernels/ops.h"

bool rp_gpu_is_built(void)
{
    return false;
}

int rp_gpu_count(void)
{
    return 0;
}

const char *rp_gpu_trouble(void)
{
    return NULL;
}

static rp_status no_gpu(void)
{
    return RP_FAIL(RP_ERR_MEMORY, "this rankpress was built without CUDA");
}

rp_status rp_gpu_describe(rp_gpu_info *out, int ordinal)
{
    (void)out, (void)ordinal;
    return no_gpu();
}

void rp_gpu_open_ahead(int ordinal)
{
    (void)ordinal;
}

rp_status rp_gpu_create(rp_gpu **out, int ordinal, size_t arena_bytes)
{
    (void)ordinal, (void)arena_bytes;
    *out = NULL;
    return no_gpu();
}

void rp_gpu_destroy(rp_gpu **gpu)
{
    (void)gpu;
}

size_t rp_gpu_own_bytes(const rp_gpu_info *info)
{
    (void)info;
    return 0;
}

size_t rp_gpu_room_bytes(const rp_gpu_info *info)
{
    (void)info;
    return 0;
}

const char *rp_gpu_class(const rp_gpu *gpu)
{
    (void)gpu;
    return "";
}

int64_t rp_gpu_algorithms_count(const rp_gpu *gpu)
{
    (void)gpu;
    return 0;
}

rp_status rp_gpu_algorithms_format(char **out, const rp_gpu *gpu)
{
    (void)gpu;
    *out = NULL;
    return no_gpu();
}

rp_status rp_gpu_algorithms_pin(rp_gpu *gpu, const char *text)
{
    (void)gpu, (void)text;
    return no_gpu();
}

rp_status rp_gpu_alloc(void **out, rp_gpu *gpu, size_t nbytes)
{
    (void)gpu, (void)nbytes;
    *out = NULL;
    return no_gpu();
}

void rp_gpu_free(rp_gpu *gpu, void *memory)
{
    (void)gpu, (void)memory;
}

size_t rp_gpu_peak_bytes(const rp_gpu *gpu)
{
    (void)gpu;
    return 0;
}

void rp_gpu_put(rp_gpu *gpu, void *to, size_t to_pitch, const void *from, size_t from_pitch,
                size_t row_bytes, size_t nrows)
{
    (void)gpu, (void)to, (void)to_pitch, (void)from, (void)from_pitch, (void)row_bytes, (void)nrows;
}

void rp_gpu_get(rp_gpu *gpu, void *to, size_t to_pitch, const void *from, size_t from_pitch,
                size_t row_bytes, size_t nrows)
{
    (void)gpu, (void)to, (void)to_pitch, (void)from, (void)from_pitch, (void)row_bytes, (void)nrows;
}

void rp_gpu_put_by(rp_gpu *gpu, rp_pool *pool, void *to, size_t to_pitch, const void *from,
                   size_t from_pitch, size_t row_bytes, size_t nrows)
{
    (void)pool;
    rp_gpu_put(gpu, to, to_pitch, from, from_pitch, row_bytes, nrows);
}

void rp_gpu_get_by(rp_gpu *gpu, rp_pool *pool, void *to, size_t to_pitch, const void *from,
                   size_t from_pitch, size_t row_bytes, size_t nrows)
{
    (void)pool;
    rp_gpu_get(gpu, to, to_pitch, from, from_pitch, row_bytes, nrows);
}

void rp_gpu_copy(rp_gpu *gpu, void *to, const void *from, size_t nbytes)
{
    (void)gpu, (void)to, (void)from, (void)nbytes;
}

void rp_gpu_zero(rp_gpu *gpu, void *memory, size_t nbytes)
{
    (void)gpu, (void)memory, (void)nbytes;
}

rp_status rp_gpu_sync(rp_gpu *gpu)
{
    (void)gpu;
    return RP_OK;
}

const rp_kernel_ops *rp_kernels_cuda(void)
{
    return NULL;
}

struct CUstream_st *rp_gpu_stream(rp_gpu *gpu)
{
    (void)gpu;
    return NULL;
}

int rp_gpu_ordinal(const rp_gpu *gpu)
{
    (void)gpu;
    return -1;
}

rp_status rp_gpu_poll(rp_gpu *gpu, bool *is_idle)
{
    (void)gpu;
    *is_idle = true;
    return RP_OK;
}

void rp_gpu_give_up(rp_gpu *gpu, const char *why)
{
    (void)gpu, (void)why;
}

rp_status rp_gpu_window_create(rp_gpu_window **out, rp_gpu *gpu, const rp_window_shape *shape)
{
    (void)gpu, (void)shape;
    *out = NULL;
    return no_gpu();
}

void rp_gpu_window_destroy(rp_gpu_window **window)
{
    (void)window;
}

float *rp_gpu_window_use(rp_gpu_window *window, int64_t block, int64_t n_read, int64_t n_write)
{
    (void)window, (void)block, (void)n_read, (void)n_write;
    return NULL;
}

float *rp_gpu_window_host(rp_gpu_window *window)
{
    (void)window;
    return NULL;
}

/* Copies between a GPU and the host. Host memory is pageable, so bytes go through two pinned
 * buffers: while one is on its way the calling thread fills, or empties, the other one. */
#include "base/mem.h"
#include "kernels/cuda/gpu_private.h"

#include <string.h>

/* Rows on both sides; their starts are pitches apart. */
typedef struct rp_rows {
    unsigned char *device, *host;
    size_t device_pitch, host_pitch, row_bytes, nrows;
} rp_rows;

typedef void (*rp_rows_fn)(rp_gpu *gpu, const rp_rows *piece, void *ctx);

/* Pieces that fit a staging buffer: whole rows, or a part of one. */
static void for_each_piece(rp_gpu *gpu, rp_rows rows, rp_rows_fn fn, void *ctx)
{
    if (rows.device_pitch == rows.row_bytes && rows.host_pitch == rows.row_bytes) {
        rows.row_bytes *= rows.nrows;
        rows.nrows = rows.row_bytes > 0 ? 1 : 0;
        rows.device_pitch = rows.host_pitch = rows.row_bytes;
    }
    if (rows.row_bytes == 0) {
        return;
    }
    const size_t step_bytes = RP_MIN(rows.row_bytes, RP_GPU_STAGING_BYTES);
    const size_t step_rows = RP_GPU_STAGING_BYTES / step_bytes;
    for (size_t r = 0; r < rows.nrows; r += step_rows) {
        for (size_t at = 0; at < rows.row_bytes; at += step_bytes) {
            const rp_rows piece = {rows.device + r * rows.device_pitch + at,
                                   rows.host + r * rows.host_pitch + at,
                                   rows.device_pitch,
                                   rows.host_pitch,
                                   RP_MIN(step_bytes, rows.row_bytes - at),
                                   RP_MIN(step_rows, rows.nrows - r)};
            if (!rp_gpu_has_failed(gpu)) {
                fn(gpu, &piece, ctx);
            }
        }
    }
}

/* Makes the other buffer the current one, once all that was asked of it is done. */
static void flip(rp_gpu *gpu)
{
    rp_gpu_staging *const s = &gpu->staging;

    RP_GPU_TRY(gpu, cudaEventRecord(s->is_done[s->current], gpu->stream));
    s->current = 1 - s->current;
    s->used_bytes = 0;
    RP_GPU_TRY(gpu, cudaEventSynchronize(s->is_done[s->current]));
}

static void put_piece(rp_gpu *gpu, const rp_rows *piece, void *ctx)
{
    rp_gpu_staging *const s = &gpu->staging;
    unsigned char *staged;

    (void)ctx;
    if (piece->row_bytes * piece->nrows > RP_GPU_STAGING_BYTES - s->used_bytes) {
        flip(gpu);
    }
    staged = s->buffer[s->current] + s->used_bytes;
    for (size_t r = 0; r < piece->nrows; r++) {
        memcpy(staged + r * piece->row_bytes, piece->host + r * piece->host_pitch,
               piece->row_bytes);
    }
    s->used_bytes += piece->row_bytes * piece->nrows;
    RP_GPU_TRY(gpu, cudaMemcpy2DAsync(piece->device, piece->device_pitch, staged, piece->row_bytes,
                                      piece->row_bytes, piece->nrows, cudaMemcpyHostToDevice,
                                      gpu->stream));
}

void rp_gpu_put(rp_gpu *gpu, void *to, size_t to_pitch, const void *from, size_t from_pitch,
                size_t row_bytes, size_t nrows)
{
    const rp_rows rows = {static_cast<unsigned char *>(to),
                          static_cast<unsigned char *>(const_cast<void *>(from)),
                          to_pitch,
                          from_pitch,
                          row_bytes,
                          nrows};

    for_each_piece(gpu, rows, put_piece, NULL);
}

/* From a staging buffer, which the piece fills from its start, to the host. */
static void unstage(rp_gpu *gpu, const rp_rows *piece, int buffer)
{
    const unsigned char *const staged = gpu->staging.buffer[buffer];

    for (size_t r = 0; r < piece->nrows && !rp_gpu_has_failed(gpu); r++) {
        memcpy(piece->host + r * piece->host_pitch, staged + r * piece->row_bytes,
               piece->row_bytes);
    }
}

/* ctx: the piece before, which lies in the other buffer. */
static void get_piece(rp_gpu *gpu, const rp_rows *piece, void *ctx)
{
    rp_rows *const before = static_cast<rp_rows *>(ctx);
    rp_gpu_staging *const s = &gpu->staging;

    RP_GPU_TRY(gpu, cudaMemcpy2DAsync(s->buffer[s->current], piece->row_bytes, piece->device,
                                      piece->device_pitch, piece->row_bytes, piece->nrows,
                                      cudaMemcpyDeviceToHost, gpu->stream));
    flip(gpu); /* waits for the piece before alone */
    unstage(gpu, before, s->current);
    *before = *piece;
}

void rp_gpu_get(rp_gpu *gpu, void *to, size_t to_pitch, const void *from, size_t from_pitch,
                size_t row_bytes, size_t nrows)
{
    const rp_rows rows = {static_cast<unsigned char *>(const_cast<void *>(from)),
                          static_cast<unsigned char *>(to),
                          from_pitch,
                          to_pitch,
                          row_bytes,
                          nrows};
    rp_rows last = {};

    flip(gpu); /* what was put may still be on its way from the current buffer */
    for_each_piece(gpu, rows, get_piece, &last);
    flip(gpu);
    unstage(gpu, &last, gpu->staging.current);
}

void rp_gpu_copy(rp_gpu *gpu, void *to, const void *from, size_t nbytes)
{
    RP_GPU_TRY(gpu, cudaMemcpyAsync(to, from, nbytes, cudaMemcpyDeviceToDevice, gpu->stream));
}

void rp_gpu_zero(rp_gpu *gpu, void *memory, size_t nbytes)
{
    RP_GPU_TRY(gpu, cudaMemsetAsync(memory, 0, nbytes, gpu->stream));
}

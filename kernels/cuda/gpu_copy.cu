/* Copies between a GPU and the host. Host memory is pageable, so bytes go through two pinned
 * buffers: while one is on its way the calling thread, or a pool's, fill or empty the other one. */
#include "base/mem.h"
#include "kernels/cuda/gpu_private.h"

#include <string.h>

/* What a thread copies at least. */
static const size_t PART_BYTES = (size_t)1 << 20;

/* Rows on both sides; their starts are pitches apart. */
typedef struct rp_rows {
    unsigned char *device, *host;
    size_t device_pitch, host_pitch, row_bytes, nrows;
} rp_rows;

typedef void (*rp_rows_fn)(rp_gpu *gpu, const rp_rows *piece, void *ctx);

/* ---- Within the host ---- */

typedef struct host_copy {
    unsigned char *to;
    const unsigned char *from;
    size_t to_pitch, from_pitch, row_bytes, nbytes;
} host_copy;

/* The bytes of one part, which begins and ends anywhere in a row. */
static void copy_part(void *ctx, int64_t part, int thread)
{
    const host_copy *const c = static_cast<const host_copy *>(ctx);
    const size_t end = RP_MIN((size_t)(part + 1) * PART_BYTES, c->nbytes);

    (void)thread;
    for (size_t at = (size_t)part * PART_BYTES; at < end;) {
        const size_t row = at / c->row_bytes, in_row = at % c->row_bytes;
        const size_t n = RP_MIN(end - at, c->row_bytes - in_row);
        memcpy(c->to + row * c->to_pitch + in_row, c->from + row * c->from_pitch + in_row, n);
        at += n;
    }
}

/* From the host's rows to a staging buffer, where they are contiguous. */
static void stage(rp_pool *pool, const rp_rows *piece, unsigned char *staged)
{
    host_copy c = {staged,           piece->host,
                   piece->row_bytes, piece->host_pitch,
                   piece->row_bytes, piece->row_bytes * piece->nrows};

    rp_pool_run(pool, (int64_t)RP_DIV_UP(c.nbytes, PART_BYTES), copy_part, &c);
}

static void unstage(rp_pool *pool, const rp_rows *piece, const unsigned char *staged)
{
    host_copy c = {piece->host,      staged,           piece->host_pitch,
                   piece->row_bytes, piece->row_bytes, piece->row_bytes * piece->nrows};

    rp_pool_run(pool, (int64_t)RP_DIV_UP(c.nbytes, PART_BYTES), copy_part, &c);
}

/* ---- Between the host and the GPU ---- */

/* Pieces that fit a staging buffer: whole rows, or a part of one. */
static void for_each_piece(rp_gpu *gpu, rp_rows rows, rp_rows_fn fn, void *ctx)
{
    if (rows.device_pitch == rows.row_bytes && rows.host_pitch == rows.row_bytes) {
        rows.row_bytes *= rows.nrows;
        rows.nrows = rows.row_bytes > 0 ? 1 : 0;
        rows.device_pitch = rows.host_pitch = 0; /* of the one row: CUDA takes none of 2 GiB */
    }
    if (rows.row_bytes == 0) {
        return;
    }
    const size_t step_bytes = RP_MIN(rows.row_bytes, RP_GPU_STAGING_BYTES);
    const size_t step_rows = RP_GPU_STAGING_BYTES / step_bytes;
    for (size_t r = 0; r < rows.nrows; r += step_rows) {
        for (size_t at = 0; at < rows.row_bytes; at += step_bytes) {
            const rp_rows piece = {
                rows.device + r * rows.device_pitch + at, rows.host + r * rows.host_pitch + at,
                RP_MAX(rows.device_pitch, step_bytes),    RP_MAX(rows.host_pitch, step_bytes),
                RP_MIN(step_bytes, rows.row_bytes - at),  RP_MIN(step_rows, rows.nrows - r)};
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

/* ctx: the pool. */
static void put_piece(rp_gpu *gpu, const rp_rows *piece, void *ctx)
{
    rp_gpu_staging *const s = &gpu->staging;
    unsigned char *staged;

    if (piece->row_bytes * piece->nrows > RP_GPU_STAGING_BYTES - s->used_bytes) {
        flip(gpu);
    }
    staged = s->buffer[s->current] + s->used_bytes;
    stage(static_cast<rp_pool *>(ctx), piece, staged);
    s->used_bytes += piece->row_bytes * piece->nrows;
    RP_GPU_TRY(gpu, cudaMemcpy2DAsync(piece->device, piece->device_pitch, staged, piece->row_bytes,
                                      piece->row_bytes, piece->nrows, cudaMemcpyHostToDevice,
                                      gpu->stream));
}

void rp_gpu_put_by(rp_gpu *gpu, rp_pool *pool, void *to, size_t to_pitch, const void *from,
                   size_t from_pitch, size_t row_bytes, size_t nrows)
{
    const rp_rows rows = {static_cast<unsigned char *>(to),
                          static_cast<unsigned char *>(const_cast<void *>(from)),
                          to_pitch,
                          from_pitch,
                          row_bytes,
                          nrows};

    for_each_piece(gpu, rows, put_piece, pool);
}

void rp_gpu_put(rp_gpu *gpu, void *to, size_t to_pitch, const void *from, size_t from_pitch,
                size_t row_bytes, size_t nrows)
{
    rp_gpu_put_by(gpu, NULL, to, to_pitch, from, from_pitch, row_bytes, nrows);
}

typedef struct getting {
    rp_pool *pool;
    rp_rows before; /* the piece that lies in the other buffer, from its start */
} getting;

/* The piece before goes to the host. */
static void end_piece(rp_gpu *gpu, const getting *g)
{
    flip(gpu); /* waits for the piece before alone */
    if (!rp_gpu_has_failed(gpu)) {
        unstage(g->pool, &g->before, gpu->staging.buffer[gpu->staging.current]);
    }
}

static void get_piece(rp_gpu *gpu, const rp_rows *piece, void *ctx)
{
    getting *const g = static_cast<getting *>(ctx);

    RP_GPU_TRY(gpu, cudaMemcpy2DAsync(gpu->staging.buffer[gpu->staging.current], piece->row_bytes,
                                      piece->device, piece->device_pitch, piece->row_bytes,
                                      piece->nrows, cudaMemcpyDeviceToHost, gpu->stream));
    end_piece(gpu, g);
    g->before = *piece;
}

void rp_gpu_get_by(rp_gpu *gpu, rp_pool *pool, void *to, size_t to_pitch, const void *from,
                   size_t from_pitch, size_t row_bytes, size_t nrows)
{
    const rp_rows rows = {static_cast<unsigned char *>(const_cast<void *>(from)),
                          static_cast<unsigned char *>(to),
                          from_pitch,
                          to_pitch,
                          row_bytes,
                          nrows};
    getting g = {pool, {}};

    flip(gpu); /* what was put may still be on its way from the current buffer */
    for_each_piece(gpu, rows, get_piece, &g);
    end_piece(gpu, &g);
}

void rp_gpu_get(rp_gpu *gpu, void *to, size_t to_pitch, const void *from, size_t from_pitch,
                size_t row_bytes, size_t nrows)
{
    rp_gpu_get_by(gpu, NULL, to, to_pitch, from, from_pitch, row_bytes, nrows);
}

void rp_gpu_copy(rp_gpu *gpu, void *to, const void *from, size_t nbytes)
{
    RP_GPU_TRY(gpu, cudaMemcpyAsync(to, from, nbytes, cudaMemcpyDeviceToDevice, gpu->stream));
}

void rp_gpu_zero(rp_gpu *gpu, void *memory, size_t nbytes)
{
    RP_GPU_TRY(gpu, cudaMemsetAsync(memory, 0, nbytes, gpu->stream));
}

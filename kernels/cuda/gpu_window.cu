/* Two slots in the arena: the one in use, and the other one, which what it held leaves by one
 * stream before the next block comes by another. So a block's way there, the work on it and its way
 * back are at the same time as those of its neighbours.
 *
 * Who waits for whom, by events: a way back for the operations on the slot; a way there for these
 * and for all ways back, since it reads what they wrote; operations for the last copy of the slot.
 */
#include "base/mem.h"
#include "kernels/cuda/gpu_private.h"
#include "kernels/gpu_window.h"

#include <stdlib.h>

typedef struct window_slot {
    float *data;
    int64_t block;              /* -1: none */
    int64_t n_valid, n_changed; /* columns: as they are; not yet on the host */
    cudaEvent_t is_used;        /* operations asked for while the slot was in use */
    cudaEvent_t is_copied;      /* the last copy from or to it */
} window_slot;

struct rp_gpu_window {
    rp_gpu *gpu;
    rp_window_shape shape;
    float *host; /* pinned [rows, cols] */
    cudaStream_t fetching, storing;
    cudaEvent_t is_stored; /* all ways back so far */
    window_slot slots[2];
    window_slot *current; /* in use; NULL: none */
};

static size_t rows_bytes(const rp_window_shape *shape, int64_t rows)
{
    return (size_t)rows * (size_t)shape->cols * sizeof(float);
}

static window_slot *other_slot(rp_gpu_window *w, const window_slot *slot)
{
    return slot == &w->slots[0] ? &w->slots[1] : &w->slots[0];
}

/* ---- Copies ---- */

static void copy_columns(rp_gpu_window *w, window_slot *slot, int64_t cols, cudaMemcpyKind kind,
                         cudaStream_t stream)
{
    const size_t pitch = (size_t)w->shape.cols * sizeof(float);
    const int64_t first = slot->block * w->shape.block_rows;
    float *const host = w->host + first * w->shape.cols;
    const bool is_fetch = kind == cudaMemcpyHostToDevice;

    RP_GPU_TRY(w->gpu,
               cudaMemcpy2DAsync(is_fetch ? slot->data : host, pitch, is_fetch ? host : slot->data,
                                 pitch, (size_t)cols * sizeof(float),
                                 (size_t)RP_MIN(w->shape.block_rows, w->shape.rows - first), kind,
                                 stream));
    RP_GPU_TRY(w->gpu, cudaEventRecord(slot->is_copied, stream));
}

/* No more operations on the slot; what they changed goes back. */
static void leave(rp_gpu_window *w, window_slot *slot)
{
    RP_GPU_TRY(w->gpu, cudaEventRecord(slot->is_used, w->gpu->stream));
    if (slot->n_changed > 0) {
        RP_GPU_TRY(w->gpu, cudaStreamWaitEvent(w->storing, slot->is_used, 0));
        copy_columns(w, slot, slot->n_changed, cudaMemcpyDeviceToHost, w->storing);
        RP_GPU_TRY(w->gpu, cudaEventRecord(w->is_stored, w->storing));
        slot->n_changed = 0;
    }
}

static void fetch(rp_gpu_window *w, window_slot *slot, int64_t block, int64_t n_read)
{
    slot->block = block;
    slot->n_valid = n_read;
    RP_GPU_TRY(w->gpu, cudaStreamWaitEvent(w->fetching, slot->is_used, 0));
    RP_GPU_TRY(w->gpu, cudaStreamWaitEvent(w->fetching, w->is_stored, 0));
    copy_columns(w, slot, n_read, cudaMemcpyHostToDevice, w->fetching);
}

static bool holds(const window_slot *slot, int64_t block, int64_t n_read)
{
    return slot->block == block && slot->n_valid >= n_read;
}

/* ---- Use ---- */

static window_slot *slot_for(rp_gpu_window *w, int64_t block)
{
    for (int i = 0; i < 2; i++) {
        if (w->slots[i].block == block) {
            return &w->slots[i];
        }
    }
    return other_slot(w, w->current);
}

/* Makes a slot that is not in use hold the block. */
static void fill(rp_gpu_window *w, window_slot *slot, int64_t block, int64_t n_read)
{
    if (holds(slot, block, n_read)) {
        return;
    }
    if (n_read > 0) {
        fetch(w, slot, block, n_read);
    } else {
        slot->block = block;
        slot->n_valid = 0;
    }
}

float *rp_gpu_window_use(rp_gpu_window *w, int64_t block, int64_t n_read, int64_t n_write)
{
    window_slot *const slot = slot_for(w, block);

    if (slot != w->current || !holds(slot, block, n_read)) {
        if (w->current != NULL) {
            leave(w, w->current);
        }
        fill(w, slot, block, n_read);
        RP_GPU_TRY(w->gpu, cudaStreamWaitEvent(w->gpu->stream, slot->is_copied, 0));
        w->current = slot;
    }
    slot->n_changed = RP_MAX(slot->n_changed, n_write);
    slot->n_valid = RP_MAX(slot->n_valid, n_write);
    if (n_read > 0 && (block + 1) * w->shape.block_rows < w->shape.rows) {
        fill(w, other_slot(w, slot), block + 1, n_read);
    }
    return slot->data;
}

float *rp_gpu_window_host(rp_gpu_window *w)
{
    if (w->current != NULL) {
        leave(w, w->current);
        w->current = NULL;
    }
    for (int i = 0; i < 2; i++) {
        w->slots[i].block = -1; /* whatever is still on its way there */
    }
    RP_GPU_TRY(w->gpu, cudaEventSynchronize(w->is_stored));
    return w->host;
}

/* ---- Life ---- */

static rp_status set_up(rp_gpu_window *w)
{
    rp_status st = RP_OK;
    const rp_window_shape *const shape = &w->shape;

    for (int i = 0; i < 2; i++) {
        void *memory = NULL;
        RP_TRY(rp_gpu_alloc(&memory, w->gpu,
                            rows_bytes(shape, RP_MIN(shape->block_rows, shape->rows))));
        w->slots[i].data = static_cast<float *>(memory);
        w->slots[i].block = -1;
        RP_GPU_TRY(w->gpu, cudaEventCreateWithFlags(&w->slots[i].is_used, cudaEventDisableTiming));
        RP_GPU_TRY(w->gpu,
                   cudaEventCreateWithFlags(&w->slots[i].is_copied, cudaEventDisableTiming));
    }
    RP_GPU_TRY(w->gpu, cudaEventCreateWithFlags(&w->is_stored, cudaEventDisableTiming));
    RP_GPU_TRY(w->gpu, cudaStreamCreateWithFlags(&w->fetching, cudaStreamNonBlocking));
    RP_GPU_TRY(w->gpu, cudaStreamCreateWithFlags(&w->storing, cudaStreamNonBlocking));
    RP_GPU_TRY(w->gpu, cudaMallocHost(reinterpret_cast<void **>(&w->host),
                                      RP_MAX(rows_bytes(shape, shape->rows), (size_t)1)));
    RP_TRY(rp_gpu_sync(w->gpu)); /* operations on what the slots were before, too */
out:
    return st;
}

rp_status rp_gpu_window_create(rp_gpu_window **out, rp_gpu *gpu, const rp_window_shape *shape)
{
    rp_status st = RP_OK;
    rp_gpu_window *w = NULL;

    *out = NULL;
    RP_TRY(rp_calloc(&w, 1, sizeof(*w)));
    w->gpu = gpu;
    w->shape = *shape;
    RP_TRY(set_up(w));
    *out = w;
    w = NULL;
out:
    rp_gpu_window_destroy(&w);
    return st;
}

void rp_gpu_window_destroy(rp_gpu_window **window)
{
    rp_gpu_window *const w = *window;

    *window = NULL;
    if (w == NULL) {
        return;
    }
    rp_gpu_destroy_stream(w->fetching);
    rp_gpu_destroy_stream(w->storing);
    rp_gpu_destroy_event(w->is_stored);
    for (int i = 0; i < 2; i++) {
        rp_gpu_destroy_event(w->slots[i].is_used);
        rp_gpu_destroy_event(w->slots[i].is_copied);
        if (w->slots[i].data != NULL) {
            rp_gpu_free(w->gpu, w->slots[i].data);
        }
    }
    (void)cudaFreeHost(w->host);
    free(w);
}

/* Resident rows, or those of a gpu_window. */
#include "kernels/window.h"

#include <stdlib.h>

#include "base/mem.h"

struct rp_window {
    const rp_exec *exec;
    rp_window_shape shape;
    float *resident; /* [place] [rows, cols]; NULL: streamed */
    rp_gpu_window *streamed;
};

rp_place_bytes rp_window_bytes(const rp_window_shape *shape, bool is_streamed)
{
    const size_t row_bytes = (size_t)shape->cols * sizeof(float);
    const size_t all_bytes = (size_t)shape->rows * row_bytes;
    const size_t block_bytes = (size_t)RP_MIN(shape->block_rows, shape->rows) * row_bytes;

    return is_streamed ? (rp_place_bytes){all_bytes, 2 * block_bytes}
                       : (rp_place_bytes){0, all_bytes};
}

rp_status rp_window_create(rp_window **out, const rp_exec *exec, const rp_window_shape *shape,
                           bool is_streamed)
{
    rp_status st = RP_OK;
    rp_window *w = NULL;
    size_t n = 0;

    *out = NULL;
    RP_TRY(rp_mul_size(&n, (size_t)shape->rows, (size_t)shape->cols));
    RP_TRY(rp_calloc(&w, 1, sizeof(*w)));
    w->exec = exec;
    w->shape = *shape;
    if (is_streamed && !rp_place_is_host(exec)) {
        RP_TRY(rp_gpu_window_create(&w->streamed, exec->gpu, shape));
    } else {
        RP_TRY(rp_place_alloc(exec, &w->resident, n, sizeof(float)));
    }
    *out = w;
    w = NULL;
out:
    rp_window_destroy(&w);
    return st;
}

void rp_window_destroy(rp_window **window)
{
    rp_window *w = *window;

    *window = NULL;
    if (w == NULL) {
        return;
    }
    rp_gpu_window_destroy(&w->streamed);
    rp_place_free(w->exec, w->resident);
    free(w);
}

int64_t rp_window_cols(const rp_window *window)
{
    return window->shape.cols;
}

float *rp_window_use(rp_window *w, int64_t block, int64_t n_read, int64_t n_write)
{
    RP_ASSERT(block >= 0 && block * w->shape.block_rows < w->shape.rows);
    RP_ASSERT(n_read <= w->shape.cols && n_write <= w->shape.cols);
    if (n_read == 0 && n_write == 0) {
        return NULL;
    }
    return w->streamed != NULL ? rp_gpu_window_use(w->streamed, block, n_read, n_write)
                               : w->resident + block * w->shape.block_rows * w->shape.cols;
}

float *rp_window_on_host(rp_window *w)
{
    if (w->streamed != NULL) {
        return rp_gpu_window_host(w->streamed);
    }
    return rp_place_is_host(w->exec) ? w->resident : NULL;
}

/* Where rows of the window are put and got: those of the host are a host's place. */
static rp_exec exec_of_rows(rp_window *w, float **rows)
{
    rp_exec exec = *w->exec;

    *rows = w->resident;
    if (w->streamed != NULL) {
        *rows = rp_gpu_window_host(w->streamed);
        exec.gpu = NULL;
    }
    return exec;
}

void rp_window_put(rp_window *w, int64_t row, int64_t nrows, int64_t ncols, const float *from)
{
    float *rows = NULL;
    const rp_exec exec = exec_of_rows(w, &rows);

    rp_place_put_rows(&exec, rows + row * w->shape.cols, (size_t)w->shape.cols * sizeof(float),
                      from, (size_t)ncols * sizeof(float), (size_t)nrows);
}

void rp_window_get(rp_window *w, int64_t row, int64_t nrows, int64_t ncols, float *to)
{
    float *rows = NULL;
    const rp_exec exec = exec_of_rows(w, &rows);

    rp_place_get_rows(&exec, to, rows + row * w->shape.cols, (size_t)w->shape.cols * sizeof(float),
                      (size_t)ncols * sizeof(float), (size_t)nrows);
}

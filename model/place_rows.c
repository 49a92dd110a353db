/* A GPU is given values in the file's own type, in pieces, and widens them itself; a piece is read,
 * and decoded where its container asks for it, by all threads. */
#include "model/place_rows.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/place.h"

#define PIECE_ELEMS ((int64_t)16 << 20)

size_t rp_place_rows_bytes(bool has_gpu)
{
    return has_gpu ? (size_t)PIECE_ELEMS * sizeof(float) : 0;
}

/* What a thread reads. A failure's message is the thread's own and is carried over. */
typedef struct share {
    rp_status status;
    char message[RP_MESSAGE_BYTES];
} share;

typedef struct fetching {
    const rp_weights *weights;
    const rp_weight_info *info;
    int64_t row0, nrows;
    char *stored; /* [nrows, row_bytes] */
    share *shares;
    int64_t n_shares;
} fetching;

/* Values of a row. */
static int64_t row_elems(const rp_weight_info *info)
{
    return info->ndim == 1 ? 1 : info->shape[1];
}

static size_t row_bytes(const rp_weight_info *info)
{
    return (size_t)row_elems(info) * rp_dtype_bytes(info->dtype);
}

static void fetch_share(void *ctx, int64_t tile, int thread)
{
    const fetching *f = ctx;
    const int64_t first = f->nrows * tile / f->n_shares;
    const int64_t n = f->nrows * (tile + 1) / f->n_shares - first;
    share *s = &f->shares[tile];

    (void)thread;
    s->status = RP_OK;
    if (n > 0) {
        s->status = rp_weights_read_rows(f->weights, f->info, f->row0 + first, n,
                                         f->stored + (size_t)first * row_bytes(f->info));
    }
    if (s->status != RP_OK) {
        memcpy(s->message, rp_error_message(), strlen(rp_error_message()) + 1);
    }
}

rp_status rp_place_rows_fetch(const rp_weights *weights, const rp_weight_info *info, int64_t row0,
                              int64_t nrows, const rp_exec *exec, void *stored)
{
    rp_status st = RP_OK;
    fetching f = {weights, info, row0, nrows, stored, NULL, rp_pool_nthreads(exec->pool)};

    RP_TRY(rp_calloc(&f.shares, (size_t)f.n_shares, sizeof(*f.shares)));
    rp_pool_run(exec->pool, f.n_shares, fetch_share, &f);
    for (int64_t i = 0; i < f.n_shares; i++) {
        if (f.shares[i].status != RP_OK) {
            st = RP_FAIL(f.shares[i].status, "%s", f.shares[i].message);
            goto out;
        }
    }
out:
    free(f.shares);
    return st;
}

rp_status rp_place_rows_widen(const rp_weights *weights, const rp_weight_info *info, int64_t row0,
                              int64_t nrows, const rp_kernel_ops *ops, const rp_exec *exec,
                              const void *stored, float *out)
{
    const int64_t cols = row_elems(info);
    const int64_t bad = ops->widen(exec, out, stored, info->dtype, nrows * cols);

    return bad < 0 ? RP_OK
                   : RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: value %lld is not finite",
                             rp_weights_path(weights), info->name, (long long)(row0 * cols + bad));
}

static rp_status read_pieces(const rp_weights *weights, const rp_weight_info *info, int64_t row0,
                             int64_t nrows, const rp_kernel_ops *ops, const rp_exec *exec,
                             float *out)
{
    rp_status st = RP_OK;
    const int64_t cols = row_elems(info);
    const int64_t step = RP_MIN(RP_MAX(PIECE_ELEMS / cols, 1), nrows);
    char *stored = NULL;

    RP_TRY(rp_alloc_array(&stored, (size_t)step, row_bytes(info)));
    for (int64_t row = 0; row < nrows; row += step) {
        const int64_t n = RP_MIN(step, nrows - row);
        RP_TRY(rp_place_rows_fetch(weights, info, row0 + row, n, exec, stored));
        RP_TRY(
            rp_place_rows_widen(weights, info, row0 + row, n, ops, exec, stored, out + row * cols));
    }
out:
    free(stored);
    return st;
}

rp_status rp_place_rows_read(const rp_weights *weights, const rp_weight_info *info, int64_t row0,
                             int64_t nrows, const rp_kernel_ops *ops, const rp_exec *exec,
                             float *out)
{
    return rp_place_is_host(exec) ? rp_weights_read_f32(weights, info, row0, nrows, out)
                                  : read_pieces(weights, info, row0, nrows, ops, exec, out);
}

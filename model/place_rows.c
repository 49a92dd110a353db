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

/* What a thread reads of a piece. A failure's message is the thread's own and is carried over. */
typedef struct share {
    rp_status status;
    char message[RP_MESSAGE_BYTES];
} share;

typedef struct piece {
    const rp_weights *weights;
    const rp_weight_info *info;
    int64_t row0, nrows;
    size_t row_bytes;
    char *stored; /* [nrows, row_bytes] */
    share *shares;
    int64_t n_shares;
} piece;

static void read_share(void *ctx, int64_t tile, int thread)
{
    const piece *p = ctx;
    const int64_t first = p->nrows * tile / p->n_shares;
    const int64_t n = p->nrows * (tile + 1) / p->n_shares - first;
    share *s = &p->shares[tile];

    (void)thread;
    s->status = RP_OK;
    if (n > 0) {
        s->status = rp_weights_read_rows(p->weights, p->info, p->row0 + first, n,
                                         p->stored + (size_t)first * p->row_bytes);
    }
    if (s->status != RP_OK) {
        memcpy(s->message, rp_error_message(), strlen(rp_error_message()) + 1);
    }
}

static rp_status read_piece(piece *p, rp_pool *pool)
{
    rp_pool_run(pool, p->n_shares, read_share, p);
    for (int64_t i = 0; i < p->n_shares; i++) {
        if (p->shares[i].status != RP_OK) {
            return RP_FAIL(p->shares[i].status, "%s", p->shares[i].message);
        }
    }
    return RP_OK;
}

static rp_status widen_rows(const rp_weights *weights, const rp_weight_info *info, int64_t row0,
                            int64_t nrows, const rp_kernel_ops *ops, const rp_exec *exec,
                            float *out)
{
    rp_status st = RP_OK;
    const int64_t cols = info->ndim == 1 ? 1 : info->shape[1];
    const int64_t step = RP_MIN(RP_MAX(PIECE_ELEMS / cols, 1), nrows);
    piece p = {.weights = weights,
               .info = info,
               .row_bytes = (size_t)cols * rp_dtype_bytes(info->dtype),
               .n_shares = exec->pool == NULL ? 1 : rp_pool_nthreads(exec->pool)};

    RP_TRY(rp_alloc_array(&p.stored, (size_t)step, p.row_bytes));
    RP_TRY(rp_calloc(&p.shares, (size_t)p.n_shares, sizeof(*p.shares)));
    for (int64_t row = 0; row < nrows; row += step) {
        int64_t bad = -1;
        p.row0 = row0 + row;
        p.nrows = RP_MIN(step, nrows - row);
        RP_TRY(read_piece(&p, exec->pool));
        bad = ops->widen(exec, out + row * cols, p.stored, info->dtype, p.nrows * cols);
        if (bad >= 0) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: value %lld is not finite",
                         rp_weights_path(weights), info->name, (long long)(p.row0 * cols + bad));
            goto out;
        }
    }
out:
    free(p.stored);
    free(p.shares);
    return st;
}

rp_status rp_place_rows_read(const rp_weights *weights, const rp_weight_info *info, int64_t row0,
                             int64_t nrows, const rp_kernel_ops *ops, const rp_exec *exec,
                             float *out)
{
    return rp_place_is_host(exec) ? rp_weights_read_f32(weights, info, row0, nrows, out)
                                  : widen_rows(weights, info, row0, nrows, ops, exec, out);
}

/* A GPU is given values in the file's own type, in pieces, and widens them itself. */
#include "model/place_rows.h"

#include <stdlib.h>

#include "base/mem.h"
#include "kernels/place.h"

#define PIECE_ELEMS ((int64_t)16 << 20)

size_t rp_place_rows_bytes(bool has_gpu)
{
    return has_gpu ? (size_t)PIECE_ELEMS * sizeof(float) : 0;
}

static rp_status widen_rows(const rp_weights *weights, const rp_weight_info *info, int64_t row0,
                            int64_t nrows, const rp_kernel_ops *ops, const rp_exec *exec,
                            float *out)
{
    rp_status st = RP_OK;
    const int64_t cols = info->ndim == 1 ? 1 : info->shape[1];
    const int64_t step = RP_MIN(RP_MAX(PIECE_ELEMS / cols, 1), nrows);
    void *stored = NULL;

    RP_TRY(rp_alloc_array(&stored, (size_t)(step * cols), rp_dtype_bytes(info->dtype)));
    for (int64_t row = 0; row < nrows; row += step) {
        const int64_t n = RP_MIN(step, nrows - row);
        RP_TRY(rp_weights_read_rows(weights, info, row0 + row, n, stored));
        const int64_t bad = ops->widen(exec, out + row * cols, stored, info->dtype, n * cols);
        if (bad >= 0) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: value %lld is not finite",
                         rp_weights_path(weights), info->name,
                         (long long)((row0 + row) * cols + bad));
            goto out;
        }
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
                                  : widen_rows(weights, info, row0, nrows, ops, exec, out);
}

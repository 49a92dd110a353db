/* Tiles of rows, so that a few of them stay in the cache from their values to their codes. */
#include "jobs/round_rows.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"

#define TILE_ROWS 32

typedef struct matrix {
    const rp_gguf_block_type *type;
    const float *importance, *w;
    float *out;
    int64_t rows, cols;
    rp_status *statuses; /* [tiles] */
} matrix;

static rp_status round_floats(rp_dtype dtype, int64_t n, const float *w, float *out)
{
    rp_status st = RP_OK;
    void *stored = NULL;

    RP_TRY(rp_alloc_array(&stored, (size_t)n, rp_dtype_bytes(dtype)));
    rp_from_f32(stored, w, dtype, n);
    rp_to_f32(out, stored, dtype, n);
out:
    free(stored);
    return st;
}

rp_status rp_round_rows(const rp_gguf_block_type *type, const float *importance, int64_t rows,
                        int64_t cols, const float *w, float *out)
{
    rp_status st = RP_OK;
    rp_grid grid;
    rp_form form = {0};

    if (type->is_float) {
        return round_floats(type->dtype, rows * cols, w, out);
    }
    RP_TRY(rp_gguf_grid(&grid, type));
    RP_TRY(rp_form_create_codes(&form, &grid, rows, cols));
    grid.ops->quantise(&grid, rows, cols, w, importance, form.params, form.codes);
    rp_form_decode_rows(&form, 0, rows, out);
out:
    rp_form_destroy(&form);
    return st;
}

static void round_tile(void *ctx, int64_t tile, int thread)
{
    const matrix *m = ctx;
    const int64_t row0 = tile * TILE_ROWS;
    const int64_t rows = RP_MIN(TILE_ROWS, m->rows - row0);

    (void)thread;
    m->statuses[tile] = rp_round_rows(m->type, m->importance, rows, m->cols, m->w + row0 * m->cols,
                                      m->out + row0 * m->cols);
}

rp_status rp_round_matrix(const rp_exec *exec, const rp_gguf_block_type *type,
                          const float *importance, int64_t rows, int64_t cols, const float *w,
                          float *out)
{
    rp_status st = RP_OK;
    matrix m = {type, importance, w, out, rows, cols, NULL};
    const int64_t n = RP_DIV_UP(rows, TILE_ROWS);

    RP_TRY(rp_calloc(&m.statuses, (size_t)n, sizeof(*m.statuses)));
    rp_pool_run(exec->pool, n, round_tile, &m);
    for (int64_t i = 0; i < n; i++) {
        if (m.statuses[i] != RP_OK) {
            st =
                RP_FAIL(m.statuses[i], "cannot round %lld rows to %s", (long long)rows, type->name);
            goto out;
        }
    }
out:
    free(m.statuses);
    return st;
}

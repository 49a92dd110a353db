/* Reads an output back and compares it with what was meant, by all ranks and threads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "jobs/importance.h"
#include "jobs/output_units.h"

/* Values as a dense tensor of the file's type holds them. */
static rp_status store_and_read(const rp_store_item *item, const rp_session *s, int64_t nrows,
                                int64_t cols, float *values)
{
    rp_status st = RP_OK;
    const rp_dtype dtype = item->block != NULL ? RP_F32 : item->dtype;
    rp_form form = {.kind = RP_FORM_DENSE, .rows = nrows, .cols = cols, .values = values};
    void *stored = NULL;

    if (item->block != NULL && item->info->ndim > 1) {
        RP_TRY(rp_alloc(&stored, (size_t)nrows * rp_gguf_row_bytes(item->block, cols)));
        RP_TRY(rp_gguf_encode_rows(item->block, &form, 0, nrows,
                                   rp_importance_of_tensor(s->importance, item->info->name),
                                   stored));
        rp_gguf_decode_rows(item->block, stored, nrows, cols, values);
    } else if (dtype != RP_F32) {
        RP_TRY(rp_alloc(&stored, (size_t)(nrows * cols) * rp_dtype_bytes(dtype)));
        rp_from_f32(stored, values, dtype, nrows * cols);
        rp_to_f32(values, stored, dtype, nrows * cols);
    }
out:
    free(stored);
    return st;
}

/* Values that the written file must decode to, rows row .. row + nrows - 1 of the unit in the
 * source's order. */
static rp_status expected_rows(const rp_store_unit *u, const rp_session *s, int64_t row,
                               int64_t nrows, float *out)
{
    rp_status st = RP_OK;
    const rp_store_item *item = u->item;
    const int64_t cols = rp_store_item_cols(item);

    if (item->form == RP_FORM_NONE) {
        RP_TRY(rp_weights_read_f32(s->weights, item->info, u->row0 + row, nrows, out));
        return item->is_copy ? RP_OK : store_and_read(item, s, nrows, cols, out);
    }
    rp_form_decode_rows(&u->form, row, nrows, out);
    if (!item->is_container && (item->block == NULL || rp_gguf_grid_ops(item->block) == NULL)) {
        RP_TRY(store_and_read(item, s, nrows, cols, out)); /* a dense tensor of decoded values */
    }
out:
    return st;
}

static rp_status fail_difference(const rp_store *store, const rp_store_item *item, int64_t index,
                                 float want, float got)
{
    const int64_t cols = rp_store_item_cols(item);

    return RP_FAIL(RP_ERR_IO, "%s: verify: tensor %s, row %lld, column %lld: want %.9g, got %.9g",
                   store->path, item->info->name, (long long)(index / cols),
                   (long long)(index % cols), (double)want, (double)got);
}

typedef struct verifier {
    const rp_store *store;
    const rp_session *s;
    const rp_weights *written;
} verifier;

static rp_status verify_unit(void *ctx, rp_store_unit *u)
{
    rp_status st = RP_OK;
    const verifier *v = ctx;
    const rp_store_item *item = u->item;
    const rp_weight_info *info = rp_weights_find(v->written, item->info->name);
    const int64_t cols = rp_store_item_cols(item);
    const int64_t step = RP_MAX(RP_STORE_CACHED_ELEMS / cols, 1);
    const size_t n = (size_t)(RP_MIN(step, u->nrows) * cols);
    float *want = NULL;
    float *got = NULL;

    if (info == NULL || info->shape[0] != item->info->shape[0] || info->ndim != item->info->ndim) {
        return RP_FAIL(RP_ERR_IO, "%s: verify: tensor %s is missing or has another shape",
                       v->store->path, item->info->name);
    }
    RP_TRY(rp_alloc_array(&want, n, sizeof(*want)));
    RP_TRY(rp_alloc_array(&got, n, sizeof(*got)));
    for (int64_t row = 0; row < u->nrows; row += step) {
        const int64_t nrows = RP_MIN(step, u->nrows - row);
        RP_TRY(expected_rows(u, v->s, row, nrows, want));
        RP_TRY(rp_weights_read_f32(v->written, info, u->row0 + row, nrows, got));
        if (memcmp(want, got, (size_t)(nrows * cols) * sizeof(*want)) == 0) {
            continue;
        }
        for (int64_t i = 0; i < nrows * cols; i++) {
            if (want[i] != got[i]) {
                st = fail_difference(v->store, item, (u->row0 + row) * cols + i, want[i], got[i]);
                goto out;
            }
        }
    }
out:
    free(got);
    free(want);
    return st;
}

/* Ranks take units in turn, which is not how they wrote them. */
static int reading_rank(int64_t unit, int64_t before, int64_t all, int nranks)
{
    (void)before;
    (void)all;
    return (int)(unit % nranks);
}

rp_status rp_store_verify(const rp_store *store, rp_session *session)
{
    rp_status st = RP_OK;
    rp_weights *written = NULL;
    double start = rp_clock_seconds();

    st = rp_weights_open(&written, store->path);
    if (st == RP_OK) {
        verifier v = {store, session, written};
        const rp_unit_work work = {
            .rows_of = rp_store_read_rows, .rank_of = reading_rank, .work = verify_unit, .ctx = &v};
        st = rp_store_do_units(store, session, &work);
    }
    rp_weights_close(&written);
    st = rp_agree(session->comm, st);
    rp_session_lap(session, RP_PHASE_VERIFY, &start);
    return st;
}

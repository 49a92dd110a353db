/* Reads an output back and compares it with what was meant. The rank after the one that wrote an
 * item reads it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "jobs/output.h"

#define CHUNK_ELEMS ((int64_t)4 << 20)

/* Values that the written file must decode to, rows row0 .. row0 + nrows - 1 in the source's order.
 */
static rp_status expected_rows(const rp_store_item *item, rp_session *s, int64_t row0,
                               int64_t nrows, int64_t cols, float *out)
{
    rp_status st = RP_OK;
    rp_form form = {0};
    void *stored = NULL;
    rp_dtype dtype = item->dtype;

    if (item->form != RP_FORM_NONE) {
        RP_TRY(rp_store_get_form(item, s, row0, nrows, &form));
        rp_form_decode_rows(&form, 0, nrows, out);
    } else {
        RP_TRY(rp_weights_read_f32(s->weights, item->info, row0, nrows, out));
    }
    if (item->is_container ||
        (item->block != NULL && item->block->grid != NULL && item->form != RP_FORM_NONE)) {
        goto out; /* decoded exactly */
    }
    if (item->block != NULL && item->info->ndim > 1) {
        if (form.kind == RP_FORM_CODES && form.codes != NULL) {
            rp_form_destroy(&form);
        }
        form = (rp_form){.kind = RP_FORM_DENSE, .rows = nrows, .cols = cols, .values = out};
        RP_TRY(rp_alloc(&stored, (size_t)nrows * rp_gguf_row_bytes(item->block, cols)));
        st = rp_gguf_encode_rows(item->block, &form, 0, nrows, stored);
        form.values = NULL;
        if (st == RP_OK) {
            rp_gguf_decode_rows(item->block, stored, nrows, cols, out);
        }
        goto out;
    }
    if (item->block != NULL) {
        dtype = RP_F32;
    }
    for (int64_t i = 0; i < nrows * cols; i++) {
        out[i] = rp_round_to_dtype(out[i], dtype);
    }
out:
    free(stored);
    rp_form_destroy(&form);
    return st;
}

static rp_status verify_item(const rp_store *store, const rp_store_item *item, rp_session *s,
                             const rp_weights *written)
{
    rp_status st = RP_OK;
    const rp_weight_info *info = rp_weights_find(written, item->info->name);
    const int64_t rows = item->info->shape[0];
    const int64_t cols = item->info->ndim > 1 ? item->info->shape[1] : 1;
    const int64_t step = RP_MAX(CHUNK_ELEMS / cols, 1);
    const size_t n = (size_t)(RP_MIN(step, rows) * cols);
    float *want = NULL;
    float *got = NULL;

    if (info == NULL || info->shape[0] != rows || info->ndim != item->info->ndim) {
        return RP_FAIL(RP_ERR_IO, "%s: verify: tensor %s is missing or has another shape",
                       store->path, item->info->name);
    }
    RP_TRY(rp_alloc_array(&want, n, sizeof(*want)));
    RP_TRY(rp_alloc_array(&got, n, sizeof(*got)));
    for (int64_t row0 = 0; row0 < rows; row0 += step) {
        const int64_t nrows = RP_MIN(step, rows - row0);
        RP_TRY(expected_rows(item, s, row0, nrows, cols, want));
        RP_TRY(rp_weights_read_f32(written, info, row0, nrows, got));
        for (int64_t i = 0; i < nrows * cols; i++) {
            if (want[i] != got[i]) {
                st = RP_FAIL(RP_ERR_IO,
                             "%s: verify: tensor %s, row %lld, column %lld: want %.9g, got %.9g",
                             store->path, item->info->name, (long long)(row0 + i / cols),
                             (long long)(i % cols), (double)want[i], (double)got[i]);
                goto out;
            }
        }
    }
out:
    free(got);
    free(want);
    return st;
}

rp_status rp_store_verify(const rp_store *store, rp_session *session)
{
    rp_status st = RP_OK;
    const int nranks = rp_comm_nranks(session->comm);
    const int rank = rp_comm_rank(session->comm);
    rp_weights *written = NULL;
    double start = rp_clock_seconds();

    st = rp_weights_open(&written, store->path);
    for (int64_t i = 0; i < store->n_items && st == RP_OK; i++) {
        if ((i + 1) % nranks == rank) {
            st = verify_item(store, &store->items[i], session, written);
        }
    }
    rp_weights_close(&written);
    st = rp_agree(session->comm, st);
    rp_session_lap(session, RP_PHASE_VERIFY, &start);
    return st;
}

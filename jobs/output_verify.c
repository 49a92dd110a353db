/* Reads an output back and compares it with what was meant, by all ranks and threads. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "jobs/importance.h"
#include "jobs/output.h"

/* Values compared at a time: half of a second-level cache each. */
#define CHUNK_ELEMS ((int64_t)128 << 10)

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

/* Values that the written file must decode to, rows row0 .. row0 + nrows - 1 in the source's order.
 */
static rp_status expected_rows(const rp_store_item *item, rp_session *s, int64_t row0,
                               int64_t nrows, int64_t cols, float *out)
{
    rp_status st = RP_OK;
    rp_form form = {0};

    if (item->form == RP_FORM_NONE) {
        RP_TRY(rp_weights_read_f32(s->weights, item->info, row0, nrows, out));
        RP_TRY(item->is_copy ? RP_OK : store_and_read(item, s, nrows, cols, out));
        return RP_OK;
    }
    RP_TRY(rp_store_get_form(item, s, row0, nrows, &form));
    rp_form_decode_rows(&form, 0, nrows, out);
    if (!item->is_container && (item->block == NULL || rp_gguf_grid_ops(item->block) == NULL)) {
        RP_TRY(store_and_read(item, s, nrows, cols, out)); /* a dense tensor of decoded values */
    }
out:
    rp_form_destroy(&form);
    return st;
}

static rp_status fail_difference(const rp_store *store, const rp_store_item *item, int64_t index,
                                 float want, float got)
{
    const int64_t cols = item->info->ndim > 1 ? item->info->shape[1] : 1;

    return RP_FAIL(RP_ERR_IO, "%s: verify: tensor %s, row %lld, column %lld: want %.9g, got %.9g",
                   store->path, item->info->name, (long long)(index / cols),
                   (long long)(index % cols), (double)want, (double)got);
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
        if (memcmp(want, got, (size_t)(nrows * cols) * sizeof(*want)) == 0) {
            continue;
        }
        for (int64_t i = 0; i < nrows * cols; i++) {
            if (want[i] != got[i]) {
                st = fail_difference(store, item, row0 * cols + i, want[i], got[i]);
                goto out;
            }
        }
    }
out:
    free(got);
    free(want);
    return st;
}

typedef struct verifier {
    const rp_store *store;
    rp_session *s;
    const rp_weights *written;
    pthread_mutex_t lock; /* of the two below */
    rp_status status;
    char message[RP_MESSAGE_BYTES];
    atomic_bool is_stopping;
} verifier;

/* Ranks take items in turn, which is not how they wrote them. */
static void verify_numbered(void *ctx, int64_t index, int thread)
{
    verifier *v = ctx;
    rp_status status = RP_OK;

    if (index % rp_comm_nranks(v->s->comm) != rp_comm_rank(v->s->comm)) {
        return;
    }
    if (rp_stop_is_due(&v->s->stop, thread)) {
        atomic_store(&v->is_stopping, true);
        return;
    }
    status = verify_item(v->store, &v->store->items[index], v->s, v->written);
    if (status != RP_OK) {
        pthread_mutex_lock(&v->lock);
        v->status = status;
        memcpy(v->message, rp_error_message(), strlen(rp_error_message()) + 1);
        pthread_mutex_unlock(&v->lock);
    }
}

rp_status rp_store_verify(const rp_store *store, rp_session *session)
{
    rp_status st = RP_OK;
    rp_weights *written = NULL;
    verifier v = {.store = store, .s = session, .lock = PTHREAD_MUTEX_INITIALIZER};
    double start = rp_clock_seconds();

    st = rp_weights_open(&written, store->path);
    if (st == RP_OK) {
        /* Forms come from the checkpoint in one thread. */
        v.written = written;
        rp_pool_run(session->checkpoint == NULL ? session->exec->pool : NULL, store->n_items,
                    verify_numbered, &v);
        if (v.status != RP_OK) {
            st = RP_FAIL(v.status, "%s", v.message);
        } else if (atomic_load(&v.is_stopping)) {
            st = rp_stop_poll(&session->stop);
        }
    }
    rp_weights_close(&written);
    st = rp_agree(session->comm, st);
    rp_session_lap(session, RP_PHASE_VERIFY, &start);
    return st;
}

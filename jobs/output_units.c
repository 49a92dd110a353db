/* See output_units.h. */
#include "jobs/output_units.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

typedef struct units {
    rp_session *s;
    const rp_unit_work *work;
    rp_store_unit *items; /* this rank's */
    int64_t n;
    rp_store_unit *batch;
} units;

static int64_t item_elems(const rp_store_item *item)
{
    return rp_store_item_rows(item) * rp_store_item_cols(item);
}

int64_t rp_store_read_rows(const rp_store_item *item)
{
    return RP_MAX(RP_STORE_UNIT_ELEMS / RP_MAX(rp_store_item_cols(item), 1), 1);
}

int64_t rp_store_written_rows(const rp_store_item *item)
{
    if (item->is_container || item->order.head_rows > 0 || item->info->ndim < 2) {
        return rp_store_item_rows(item);
    }
    return rp_store_read_rows(item);
}

int64_t rp_store_most_elems(const rp_store *store)
{
    int64_t most = 0;

    for (int64_t i = 0; i < store->n_items; i++) {
        const rp_store_item *item = &store->items[i];
        const int64_t rows = RP_MIN(rp_store_written_rows(item), rp_store_item_rows(item));
        most = RP_MAX(most, rows * rp_store_item_cols(item));
    }
    return most;
}

static rp_status deal(units *u, const rp_store *store)
{
    rp_status st = RP_OK;
    const rp_comm *comm = u->s->comm;
    size_t capacity = 0;
    int64_t n_all = 0;
    int64_t before = 0;
    int64_t number = 0;

    for (int64_t i = 0; i < store->n_items; i++) {
        n_all += item_elems(&store->items[i]);
    }
    for (int64_t i = 0; i < store->n_items; i++) {
        const rp_store_item *item = &store->items[i];
        const int64_t rows = rp_store_item_rows(item);
        const int64_t step = u->work->rows_of(item);
        for (int64_t row0 = 0; row0 < rows; row0 += step) {
            const int64_t first = before + row0 * rp_store_item_cols(item);
            const int rank = u->work->rank_of(number++, first, n_all, rp_comm_nranks(comm));
            if (rank == rp_comm_rank(comm)) {
                RP_TRY(rp_grow(&u->items, &capacity, (size_t)u->n + 1, sizeof(*u->items)));
                u->items[u->n++] =
                    (rp_store_unit){.item = item, .row0 = row0, .nrows = RP_MIN(step, rows - row0)};
            }
        }
        before += item_elems(item);
    }
out:
    return st;
}

static void clear(rp_store_unit *unit)
{
    rp_form_destroy(&unit->form);
    for (int p = 0; p < RP_MAX_PARTS; p++) {
        free(unit->bytes[p]);
        unit->bytes[p] = NULL;
    }
}

static rp_status get_form(rp_session *s, rp_store_unit *unit)
{
    if (unit->item->form == RP_FORM_NONE) {
        return RP_OK;
    }
    return rp_store_get_form(unit->item, s, unit->row0, unit->nrows, &unit->form);
}

static void work_on(void *ctx, int64_t index, int thread)
{
    const units *u = ctx;
    rp_store_unit *unit = &u->batch[index];

    if (rp_stop_is_due(&u->s->stop, thread)) {
        return; /* the calling thread finds it, too */
    }
    if (u->s->checkpoint == NULL) {
        unit->status = get_form(u->s, unit);
    }
    if (unit->status == RP_OK) {
        unit->status = u->work->work(u->work->ctx, unit);
    }
    if (unit->status != RP_OK) { /* the message is this thread's */
        memcpy(unit->message, rp_error_message(), strlen(rp_error_message()) + 1);
    }
    if (u->work->end == NULL) {
        clear(unit);
    }
}

static rp_status do_batch(units *u, int64_t n)
{
    rp_status st = RP_OK;

    for (int64_t i = 0; i < n && u->s->checkpoint != NULL; i++) {
        RP_TRY(get_form(u->s, &u->batch[i]));
    }
    rp_pool_run(u->s->exec->pool, n, work_on, u);
    for (int64_t i = 0; i < n; i++) {
        if (u->batch[i].status != RP_OK) {
            st = RP_FAIL(u->batch[i].status, "%s", u->batch[i].message);
            goto out;
        }
    }
    RP_TRY(rp_stop_poll(&u->s->stop));
    for (int64_t i = 0; i < n && u->work->end != NULL; i++) {
        RP_TRY(u->work->end(u->work->ctx, &u->batch[i]));
    }
out:
    for (int64_t i = 0; i < n; i++) {
        clear(&u->batch[i]);
    }
    return st;
}

/* How many of the units from `first` on are done at once. */
static int64_t batch_size(const units *u, int64_t first)
{
    const int64_t most = (int64_t)rp_pool_nthreads(u->s->exec->pool) * RP_STORE_UNITS_A_THREAD;
    int64_t n = 0;
    int64_t elems = 0;

    while (n < most && first + n < u->n) {
        const rp_store_unit *unit = &u->items[first + n];
        elems += unit->nrows * rp_store_item_cols(unit->item);
        if (n > 0 && elems > u->s->write_elems) {
            break;
        }
        n++;
    }
    return n;
}

rp_status rp_store_do_units(const rp_store *store, rp_session *session, const rp_unit_work *work)
{
    rp_status st = RP_OK;
    units u = {.s = session, .work = work};

    RP_TRY(deal(&u, store));
    for (int64_t i = 0, n = 0; i < u.n; i += n) {
        n = batch_size(&u, i);
        u.batch = u.items + i;
        RP_TRY(rp_stop_poll(&session->stop));
        RP_TRY(do_batch(&u, n));
    }
out:
    free(u.items);
    return st;
}

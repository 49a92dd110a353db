/* See output_units.h. */
#include "jobs/output_units.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/thread.h"
#include "jobs/importance.h"
#include "jobs/piece.h"
#include "methods/solver.h"

/* Units in hand, or all of this rank. */
typedef struct batch {
    rp_session *s;
    const rp_unit_work *work;
    rp_store_unit *units;
    int64_t n;
} batch;

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

static rp_status deal(batch *u, const rp_store *store)
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
                RP_TRY(rp_grow(&u->units, &capacity, (size_t)u->n + 1, sizeof(*u->units)));
                u->units[u->n++] =
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
    free(unit->packed);
    unit->packed = NULL;
    for (int p = 0; p < RP_MAX_PARTS; p++) {
        free(unit->bytes[p]);
        unit->bytes[p] = NULL;
    }
}

/* Messages belong to threads: a unit keeps its own. */
static void keep_status(rp_store_unit *unit, rp_status st)
{
    unit->status = st;
    if (st != RP_OK) {
        memcpy(unit->message, rp_error_message(), strlen(rp_error_message()) + 1);
    }
}

/* Rows are taken a few at a time, so that they stay in the cache from the file to their codes. */
static rp_status solve_rtn(const rp_store_item *item, const rp_session *s, int64_t row0,
                           int64_t nrows, rp_form *out)
{
    rp_status st = RP_OK;
    const int64_t cols = rp_store_item_cols(item);
    const int64_t step = RP_MAX(RP_STORE_CACHED_ELEMS / cols, 1);
    float *w = NULL;
    rp_form form = {0};
    rp_tile_solve task = {.grid = &item->linear->grid[item->form],
                          .importance = rp_importance_of_linear(s->importance, item->linear)};

    RP_TRY(rp_alloc_array(&w, (size_t)(RP_MIN(step, nrows) * cols), sizeof(*w)));
    RP_TRY(rp_form_create_codes(&form, task.grid, nrows, cols));
    for (int64_t r = 0; r < nrows; r += step) {
        rp_form rows = rp_form_view_rows(&form, r, RP_MIN(step, nrows - r));
        RP_TRY(rp_weights_read_f32(s->weights, item->info, row0 + r, rows.rows, w));
        task.w = w;
        task.out = &rows;
        rp_solver_rtn.solve(&task, NULL);
    }
    *out = form;
    memset(&form, 0, sizeof(form));
out:
    rp_form_destroy(&form);
    free(w);
    return st;
}

/* From the checkpoint, with its codes packed, in calls from one thread; or solved, when the job
 * keeps no forms. */
static rp_status get_form(rp_session *s, rp_store_unit *u)
{
    const rp_store_item *item = u->item;
    char name[160];

    if (item->form == RP_FORM_NONE) {
        return RP_OK;
    }
    if (s->checkpoint == NULL) {
        return solve_rtn(item, s, u->row0, u->nrows, &u->form);
    }
    rp_linear_unit(name, sizeof(name), item->linear, item->form);
    return rp_checkpoint_get_packed_form(s->checkpoint, name, u->row0, u->nrows, &u->form,
                                         &u->packed);
}

/* From the checkpoint; without one, each thread makes its forms. */
static void *get_forms(void *ctx)
{
    const batch *b = ctx;

    for (int64_t i = 0; i < b->n && b->s->checkpoint != NULL; i++) {
        keep_status(&b->units[i], get_form(b->s, &b->units[i]));
        if (b->units[i].status != RP_OK) {
            break;
        }
    }
    return NULL;
}

static void work_on(void *ctx, int64_t index, int thread)
{
    const batch *b = ctx;
    rp_store_unit *unit = &b->units[index];
    rp_status st = RP_OK;

    if (rp_stop_is_due(&b->s->stop, thread)) {
        return; /* the calling thread finds it, too */
    }
    if (b->s->checkpoint == NULL) {
        st = get_form(b->s, unit);
    }
    rp_piece_unpack_codes(&unit->form, unit->packed);
    keep_status(unit, st == RP_OK ? b->work->work(b->work->ctx, unit) : st);
    if (b->work->end == NULL) {
        clear(unit);
    }
}

static rp_status check_units(const batch *b)
{
    for (int64_t i = 0; i < b->n; i++) {
        if (b->units[i].status != RP_OK) {
            return RP_FAIL(b->units[i].status, "%s", b->units[i].message);
        }
    }
    return RP_OK;
}

static rp_status do_batch(batch *b)
{
    rp_status st = RP_OK;

    RP_TRY(check_units(b)); /* they have their forms */
    rp_pool_run(b->s->exec->pool, b->n, work_on, b);
    RP_TRY(check_units(b));
    RP_TRY(rp_stop_poll(&b->s->stop));
    for (int64_t i = 0; i < b->n && b->work->end != NULL; i++) {
        RP_TRY(b->work->end(b->work->ctx, &b->units[i]));
    }
out:
    return st;
}

/* The forms of the next batch are read meanwhile, where there is a thread for it. */
static rp_status do_and_read(batch *now, batch *next)
{
    rp_status st = RP_OK;
    pthread_t reader;
    const bool is_reading = next->n > 0 && now->s->checkpoint != NULL && !RP_FAULT("thread") &&
                            rp_thread_start(&reader, get_forms, next) == 0;

    st = do_batch(now);
    if (is_reading) {
        (void)pthread_join(reader, NULL);
    } else if (st == RP_OK) {
        (void)get_forms(next);
    }
    for (int64_t i = 0; i < now->n; i++) {
        clear(&now->units[i]);
    }
    return st;
}

/* The units from `first` on that are done at once. */
static batch batch_from(const batch *all, int64_t first)
{
    const int64_t most = (int64_t)rp_pool_nthreads(all->s->exec->pool) * RP_STORE_UNITS_A_THREAD;
    batch b = {all->s, all->work, all->units + first, 0};
    int64_t elems = 0;

    while (b.n < most && first + b.n < all->n) {
        const rp_store_unit *unit = &b.units[b.n];
        elems += unit->nrows * rp_store_item_cols(unit->item);
        if (b.n > 0 && elems > all->s->write_elems) {
            break;
        }
        b.n++;
    }
    return b;
}

rp_status rp_store_do_units(const rp_store *store, rp_session *session, const rp_unit_work *work)
{
    rp_status st = RP_OK;
    batch all = {.s = session, .work = work};
    batch next = {0};

    RP_TRY(deal(&all, store));
    next = batch_from(&all, 0);
    (void)get_forms(&next);
    for (int64_t end = 0; end < all.n;) {
        batch now = next;
        end += now.n;
        next = batch_from(&all, end);
        RP_TRY(rp_stop_poll(&session->stop));
        RP_TRY(do_and_read(&now, &next));
    }
out:
    for (int64_t i = 0; i < all.n; i++) {
        clear(&all.units[i]);
    }
    free(all.units);
    return st;
}

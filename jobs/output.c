/* Writing: units are dealt to ranks in contiguous runs of about equal values. Bytes are made by all
 * threads, and written by them too, unless the file goes through MPI-IO, which wants one thread. */
#include "jobs/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "jobs/importance.h"
#include "jobs/output_units.h"
#include "mpi/file.h"

typedef struct writer {
    const rp_store *store;
    rp_session *s;
    rp_file *const *files;
} writer;

static rp_status check_f16(const rp_store_item *item, const uint16_t *halves, int64_t n)
{
    unsigned is_bad = 0;

    for (int64_t i = 0; i < n; i++) { /* no early way out: the loop becomes vectors */
        is_bad |= (halves[i] & 0x7c00u) == 0x7c00u;
    }
    if (is_bad) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: a value does not fit in F16 (choose dtype: BF16)",
                       item->info->name);
    }
    return RP_OK;
}

/* Rows of a dense item in the type of the file, through f32, a few at a time. */
static rp_status make_dense(const rp_store_unit *u, const rp_weights *weights, rp_dtype dtype,
                            void *dst)
{
    rp_status st = RP_OK;
    const rp_store_item *item = u->item;
    const int64_t cols = rp_store_item_cols(item);
    const int64_t step = RP_MAX(RP_STORE_CACHED_ELEMS / cols, 1);
    float *values = NULL;

    RP_TRY(rp_alloc_array(&values, (size_t)(RP_MIN(step, u->nrows) * cols), sizeof(*values)));
    for (int64_t r = 0; r < u->nrows; r += step) {
        const int64_t nrows = RP_MIN(step, u->nrows - r);
        char *rows = (char *)dst + (size_t)(r * cols) * rp_dtype_bytes(dtype);
        if (item->form != RP_FORM_NONE) {
            rp_form_decode_rows(&u->form, r, nrows, values);
        } else {
            RP_TRY(rp_weights_read_f32(weights, item->info, u->row0 + r, nrows, values));
        }
        rp_from_f32(rows, values, dtype, nrows * cols);
        if (dtype == RP_F16) {
            RP_TRY(check_f16(item, (const uint16_t *)(const void *)rows, nrows * cols));
        }
    }
out:
    free(values);
    return st;
}

static void reorder_rows(char *dst, const char *src, int64_t rows, rp_gguf_row_order order,
                         size_t row_bytes)
{
    for (int64_t r = 0; r < rows; r++) {
        const int64_t from = rp_gguf_row_to_hf(order, r);
        memcpy(dst + (size_t)r * row_bytes, src + (size_t)from * row_bytes, row_bytes);
    }
}

static rp_status make_gguf(rp_store_unit *u, const rp_session *s, void *dst)
{
    rp_status st = RP_OK;
    const rp_store_item *item = u->item;
    const size_t row_bytes = rp_gguf_row_bytes(item->block, rp_store_item_cols(item));
    rp_form dense = {0};
    char *rows = NULL;
    void *target = dst;

    if (item->is_copy) {
        return rp_weights_read_stored(s->weights, item->info, u->row0, u->nrows, dst);
    }
    if (item->info->ndim < 2) { /* vectors are F32 */
        RP_TRY(rp_alloc(&rows, (size_t)rp_store_item_rows(item) * sizeof(float)));
        RP_TRY(make_dense(u, s->weights, RP_F32, item->order.head_rows > 0 ? (void *)rows : dst));
        if (item->order.head_rows > 0) {
            reorder_rows(dst, rows, rp_store_item_rows(item), item->order, sizeof(float));
        }
        goto out;
    }
    if (item->order.head_rows > 0) {
        RP_TRY(rp_alloc(&rows, (size_t)u->nrows * row_bytes));
        target = rows;
    }
    if (item->form == RP_FORM_NONE) {
        RP_TRY(rp_form_create_dense(&dense, u->nrows, rp_store_item_cols(item)));
        RP_TRY(rp_weights_read_f32(s->weights, item->info, u->row0, u->nrows, dense.values));
        RP_TRY(rp_gguf_encode_rows(item->block, &dense, 0, u->nrows,
                                   rp_importance_of_tensor(s->importance, item->info->name),
                                   target));
    } else {
        RP_TRY(rp_gguf_encode_rows(item->block, &u->form, 0, u->nrows, NULL, target));
    }
    if (item->order.head_rows > 0) {
        reorder_rows(dst, rows, u->nrows, item->order, row_bytes);
    }
out:
    free(rows);
    rp_form_destroy(&dense);
    return st;
}

static size_t unit_part_bytes(const rp_store_unit *u, int part)
{
    const rp_store_item *item = u->item;

    return item->places[part].nbytes / (size_t)rp_store_item_rows(item) * (size_t)u->nrows;
}

static rp_status make_unit(void *ctx, rp_store_unit *u)
{
    rp_status st = RP_OK;
    const writer *w = ctx;
    const rp_store_item *item = u->item;

    for (int p = 0; p < item->n_parts; p++) {
        const size_t nbytes = item->is_container ? item->places[p].nbytes : unit_part_bytes(u, p);
        RP_TRY(rp_alloc(&u->bytes[p], nbytes));
        if (item->is_container) {
            RP_TRY(
                w->store->container->encode(&w->store->container_opts, &u->form, p, u->bytes[p]));
        } else if (item->block != NULL) {
            RP_TRY(make_gguf(u, w->s, u->bytes[p]));
        } else if (item->form == RP_FORM_NONE && item->dtype == item->info->dtype &&
                   item->info->is_dense) {
            RP_TRY(rp_weights_read_rows(w->s->weights, item->info, u->row0, u->nrows, u->bytes[p]));
        } else {
            RP_TRY(make_dense(u, w->s->weights, item->dtype, u->bytes[p]));
        }
    }
out:
    if (st != RP_OK) {
        st = rp_error_prefix(st, "%s", item->info->name);
    }
    return st;
}

static rp_status write_unit(void *ctx, rp_store_unit *u)
{
    rp_status st = RP_OK;
    const writer *w = ctx;

    for (int p = 0; p < u->item->n_parts; p++) {
        const rp_store_place *place = &u->item->places[p];
        const size_t row_bytes = place->nbytes / (size_t)rp_store_item_rows(u->item);
        const size_t nbytes = u->item->is_container ? place->nbytes : unit_part_bytes(u, p);
        RP_TRY(rp_file_write_at(w->files[place->file],
                                place->offset_bytes + (size_t)u->row0 * row_bytes, u->bytes[p],
                                nbytes));
    }
out:
    return st;
}

static rp_status make_and_write(void *ctx, rp_store_unit *u)
{
    const rp_status st = make_unit(ctx, u);

    return st == RP_OK ? write_unit(ctx, u) : st;
}

/* The rank in whose share of all values the unit's first one lies. */
static int writing_rank(int64_t unit, int64_t before, int64_t all, int nranks)
{
    (void)unit;
    return (int)((__int128)before * nranks / all);
}

static rp_status write_units(writer *w)
{
    const bool threads_write = rp_file_takes_threads(w->files[0]);
    const rp_unit_work work = {
        .rows_of = rp_store_written_rows,
        .rank_of = writing_rank,
        .work = threads_write ? make_and_write : make_unit,
        .end = threads_write ? NULL : write_unit,
        .ctx = w,
    };

    return rp_store_do_units(w->store, w->s, &work);
}

/* Headers and what is not of the source are rank 0's. */
static rp_status write_headers(const rp_store *store, const rp_session *s, rp_file *const *files)
{
    rp_status st = RP_OK;

    for (int64_t f = 0; f < store->n_files && rp_comm_rank(s->comm) == 0; f++) {
        const rp_store_file *file = &store->files[f];
        RP_TRY(rp_file_write_at(files[f], 0, file->header, file->header_bytes));
        if (file->extra != NULL) {
            RP_TRY(rp_file_write_at(files[f], file->extra_offset, file->extra, file->extra_bytes));
        }
    }
out:
    return st;
}

/* Collective. A folder gets its final name as a whole. */
static rp_status finish_folder(const rp_store *store, const rp_session *s)
{
    rp_status st = RP_OK;

    if (strcmp(store->path, store->work_path) == 0) {
        return RP_OK;
    }
    if (rp_comm_rank(s->comm) == 0) {
        st = rp_store_write_sidecars(store, s);
        if (st == RP_OK) {
            st = rp_fs_rename(store->work_path, store->path);
        }
    }
    return rp_agree(s->comm, st);
}

static rp_status write_files(rp_store *store, rp_session *s, rp_file **files)
{
    rp_status st = RP_OK;
    writer w = {store, s, files};
    rp_status local = RP_OK;
    double start = rp_clock_seconds();
    double fsync_seconds = 0;

    for (int64_t f = 0; f < store->n_files && st == RP_OK; f++) {
        st = rp_file_create(&files[f], s->comm, store->files[f].path, store->files[f].total_bytes);
    }
    local = st;
    if (local == RP_OK) {
        local = write_headers(store, s, files);
    }
    if (local == RP_OK) {
        local = write_units(&w);
    }
    if (local == RP_OK) {
        local = rp_lock_check(s->lock);
    }
    rp_session_lap(s, RP_PHASE_WRITE, &start);
    local = rp_files_finish(files, store->n_files, s->comm, local, &fsync_seconds);
    s->seconds[RP_PHASE_FSYNC] += fsync_seconds;
    return local;
}

rp_status rp_store_write(rp_store *store, rp_session *session)
{
    rp_status st = RP_OK;
    rp_file **files = NULL;

    RP_TRY(rp_agree(session->comm, rp_lock_check(session->lock)));
    st = rp_calloc(&files, (size_t)store->n_files, sizeof(*files));
    if (st == RP_OK && rp_comm_rank(session->comm) == 0 &&
        strcmp(store->path, store->work_path) != 0) {
        st = rp_fs_remove_tree(store->work_path);
        if (st == RP_OK) {
            st = rp_fs_make_dirs(store->work_path);
        }
    }
    RP_TRY(rp_agree(session->comm, st));
    st = write_files(store, session, files);
    if (st == RP_OK) {
        st = finish_folder(store, session);
    }
    if (st != RP_OK && rp_comm_rank(session->comm) == 0 &&
        strcmp(store->path, store->work_path) != 0) {
        (void)!rp_fs_remove_tree(store->work_path);
    }
out:
    free(files);
    return st;
}

void rp_store_destroy(rp_store **store)
{
    rp_store *s = *store;

    if (s == NULL) {
        return;
    }
    for (int64_t f = 0; f < s->n_files; f++) {
        free(s->files[f].path);
        free(s->files[f].header);
        free(s->files[f].extra);
    }
    free(s->files);
    free(s->items);
    free(s->index_json);
    free(s->path);
    free(s->work_path);
    free(s);
    *store = NULL;
}

/* Rounding what is rounded already costs quality twice: only on demand. */
static rp_status check_requantized(const rp_store *store, const rp_session *s)
{
    for (int64_t i = 0; i < store->n_items && !s->job->allow_requantize; i++) {
        const rp_store_item *item = &store->items[i];
        const bool is_quantised =
            item->form != RP_FORM_NONE || (item->block != NULL && !item->block->is_float);
        if (!item->info->is_dense && is_quantised && !item->is_copy) {
            return RP_FAIL(RP_ERR_CONFIG,
                           "%s: tensor %s is quantised already (%s): set allow_requantize: true "
                           "to quantise it again",
                           rp_weights_path(s->weights), item->info->name, item->info->stored_as);
        }
    }
    return RP_OK;
}

rp_status rp_store_create(rp_store **out, const rp_session *session, int index)
{
    rp_status st = RP_OK;
    rp_store *store = NULL;
    const rp_output_format *format = &session->job->output.formats.items[index];
    const bool is_file = format->kind == RP_FORMAT_GGUF;

    *out = NULL;
    RP_TRY(rp_calloc(&store, 1, sizeof(*store)));
    store->format = format;
    store->index = index;
    RP_TRY(rp_fs_join(&store->path, session->job->output.dir, format->name));
    RP_TRY(rp_strprintf(&store->work_path, "%s%s", store->path, is_file ? "" : ".part"));
    RP_TRY(is_file ? rp_store_lay_out_gguf(store, session)
                   : rp_store_lay_out_safetensors(store, session));
    RP_TRY(check_requantized(store, session));
    for (int64_t f = 0; f < store->n_files; f++) {
        store->total_bytes += store->files[f].total_bytes;
    }
    *out = store;
    store = NULL;
out:
    rp_store_destroy(&store);
    return st;
}

/* Units read back from whatever ranks' files hold their rows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "jobs/checkpoint_private.h"

static void close_reader(rp_checkpoint_reader *reader)
{
    rp_piece_file_close(&reader->file);
    free(reader->name);
    memset(reader, 0, sizeof(*reader));
}

void rp_checkpoint_readers_close(rp_checkpoint *checkpoint)
{
    for (int i = 0; i < RP_CHECKPOINT_READERS; i++) {
        close_reader(&checkpoint->readers[i]);
    }
}

rp_status rp_checkpoint_reader_open(rp_piece_file **out, rp_checkpoint *checkpoint, size_t file)
{
    rp_status st = RP_OK;
    const char *name = checkpoint->manifest.files[file].name;
    rp_checkpoint_reader *oldest = &checkpoint->readers[0];
    char *path = NULL;

    rp_writer_wait_idle(checkpoint->writer);
    for (int i = 0; i < RP_CHECKPOINT_READERS; i++) {
        rp_checkpoint_reader *reader = &checkpoint->readers[i];
        if (reader->name != NULL && strcmp(reader->name, name) == 0) {
            reader->last_use = ++checkpoint->reader_clock;
            *out = reader->file;
            return RP_OK;
        }
        if (reader->last_use < oldest->last_use) {
            oldest = reader;
        }
    }
    close_reader(oldest);
    RP_TRY(rp_fs_join(&path, checkpoint->dir, name));
    RP_TRY(rp_piece_file_open(&oldest->file, path));
    RP_TRY(rp_strdup(&oldest->name, name));
    oldest->last_use = ++checkpoint->reader_clock;
    *out = oldest->file;
out:
    if (st != RP_OK) {
        close_reader(oldest);
    }
    free(path);
    return st;
}

bool rp_checkpoint_has(const rp_checkpoint *checkpoint, const char *unit)
{
    size_t n = 0;
    const size_t first = rp_manifest_find(&checkpoint->manifest, unit, &n);

    return rp_manifest_is_complete(checkpoint->manifest.pieces + first, n);
}

int64_t rp_checkpoint_n_units(const rp_checkpoint *checkpoint)
{
    const rp_manifest *m = &checkpoint->manifest;
    int64_t n = 0;

    for (size_t p = 0; p < m->n_pieces; p++) {
        n += p == 0 || strcmp(m->pieces[p].unit, m->pieces[p - 1].unit) != 0;
    }
    return n;
}

const char *rp_checkpoint_unit_name(const rp_checkpoint *checkpoint, int64_t index)
{
    const rp_manifest *m = &checkpoint->manifest;

    for (size_t p = 0; p < m->n_pieces; p++) {
        index -= p == 0 || strcmp(m->pieces[p].unit, m->pieces[p - 1].unit) != 0;
        if (index < 0) {
            return m->pieces[p].unit;
        }
    }
    return NULL;
}

/* What was whole when it was opened or committed is no bad input: the disk failed, or the next
 * opening will find the damage and drop the unit. */
static rp_status of_committed(rp_status st)
{
    return st == RP_ERR_FORMAT ? rp_error_prefix(RP_ERR_IO, "checkpoint") : st;
}

/* The pieces of a complete unit. */
static rp_status find_unit(const rp_manifest_piece **out, size_t *n,
                           const rp_checkpoint *checkpoint, const char *unit)
{
    const size_t first = rp_manifest_find(&checkpoint->manifest, unit, n);

    *out = checkpoint->manifest.pieces + first;
    if (!rp_manifest_is_complete(*out, *n)) {
        return RP_FAIL(RP_ERR_INTERNAL, "%s: no complete unit \"%s\"", checkpoint->dir, unit);
    }
    return RP_OK;
}

/* Opens the piece's file and reads what the piece is; the manifest and it must agree. */
static rp_status open_piece(rp_piece_file **file, rp_piece *out, rp_checkpoint *checkpoint,
                            const rp_manifest_piece *piece)
{
    rp_status st = RP_OK;

    RP_TRY(rp_checkpoint_reader_open(file, checkpoint, piece->file));
    RP_TRY(rp_piece_file_stat(*file, piece->unit, piece->row0, out, NULL));
    if (out->rows != piece->rows || out->total_rows != piece->total_rows) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: %s has %lld of %lld rows, the manifest says %lld of %lld",
                     checkpoint->manifest.files[piece->file].name, piece->unit,
                     (long long)out->rows, (long long)out->total_rows, (long long)piece->rows,
                     (long long)piece->total_rows);
    }
out:
    return st;
}

static size_t packed_row_bytes(const rp_piece *piece)
{
    rp_piece_part parts[RP_PIECE_MAX_PARTS];

    (void)rp_piece_parts(piece, parts);
    return rp_piece_part_row_bytes(&parts[0]);
}

static rp_status create_codes(rp_form *out, void **packed, const rp_piece *piece, int64_t nrows)
{
    rp_status st = RP_OK;

    RP_TRY(rp_alloc_array(packed, (size_t)nrows, packed_row_bytes(piece)));
    RP_TRY(rp_form_create_codes(out, &piece->grid, nrows, piece->cols));
out:
    return st;
}

static rp_status create_form(rp_form *out, void **packed, const rp_piece *piece, int64_t nrows,
                             const char *unit)
{
    switch (piece->kind) {
    case RP_PIECE_CODES:
        return create_codes(out, packed, piece, nrows);
    case RP_PIECE_DENSE:
        return rp_form_create_dense(out, nrows, piece->cols);
    default:
        return RP_FAIL(RP_ERR_INTERNAL, "unit \"%s\" is no form but %s", unit,
                       rp_piece_kind_name(piece->kind));
    }
}

static bool fits(const rp_form *form, const rp_piece *piece)
{
    if (form->cols != piece->cols) {
        return false;
    }
    return form->kind == RP_FORM_CODES
               ? piece->kind == RP_PIECE_CODES && rp_grid_equal(&form->grid, &piece->grid)
               : piece->kind == RP_PIECE_DENSE;
}

/* Rows [first, first + n) of the unit, all in this piece, to their place in form and packed (whose
 * first row is row0). */
static rp_status read_form_rows(const rp_form *form, char *packed, int64_t row0,
                                rp_piece_file *file, const rp_piece *piece, const char *unit,
                                int64_t first, int64_t n)
{
    rp_status st = RP_OK;
    const rp_form view = rp_form_view_rows(form, first - row0, n);
    const int64_t from = first - piece->row0;
    void *data = view.values;

    if (form->kind == RP_FORM_CODES) {
        data = packed + (size_t)(first - row0) * packed_row_bytes(piece);
        RP_TRY(rp_piece_file_read(file, unit, piece, 1, from, n, view.params));
    }
    RP_TRY(rp_piece_file_read(file, unit, piece, 0, from, n, data));
out:
    return st;
}

rp_status rp_checkpoint_get_packed_form(rp_checkpoint *checkpoint, const char *unit, int64_t row0,
                                        int64_t nrows, rp_form *out, void **packed)
{
    rp_status st = RP_OK;
    const double start = rp_clock_seconds();
    const rp_manifest_piece *pieces = NULL;
    size_t n_pieces = 0;
    rp_form form = {0};
    bool is_made = false;

    memset(out, 0, sizeof(*out));
    *packed = NULL;
    RP_TRY(find_unit(&pieces, &n_pieces, checkpoint, unit));
    if (row0 < 0 || nrows < 1 || row0 > pieces[0].total_rows - nrows) {
        st = RP_FAIL(RP_ERR_INTERNAL, "rows %lld + %lld of unit \"%s\", which has %lld",
                     (long long)row0, (long long)nrows, unit, (long long)pieces[0].total_rows);
        goto out;
    }
    for (size_t p = 0; p < n_pieces; p++) {
        const int64_t first = RP_MAX(row0, pieces[p].row0);
        const int64_t end = RP_MIN(row0 + nrows, pieces[p].row0 + pieces[p].rows);
        rp_piece_file *file = NULL;
        rp_piece piece;
        if (first >= end) {
            continue;
        }
        RP_TRY(open_piece(&file, &piece, checkpoint, &pieces[p]));
        if (!is_made) {
            RP_TRY(create_form(&form, packed, &piece, nrows, unit));
            is_made = true;
        } else if (!fits(&form, &piece)) {
            st = RP_FAIL(RP_ERR_FORMAT, "unit \"%s\": its pieces are of different kinds", unit);
            goto out;
        }
        RP_TRY(read_form_rows(&form, *packed, row0, file, &piece, unit, first, end - first));
        checkpoint->counts.read_bytes += (int64_t)pieces[p].nbytes * (end - first) / pieces[p].rows;
    }
    *out = form;
    memset(&form, 0, sizeof(form));
out:
    rp_form_destroy(&form);
    if (st != RP_OK) {
        free(*packed);
        *packed = NULL;
    }
    checkpoint->counts.read_seconds += rp_clock_seconds() - start;
    return of_committed(st);
}

rp_status rp_checkpoint_get_form(rp_checkpoint *checkpoint, const char *unit, int64_t row0,
                                 int64_t nrows, rp_form *out)
{
    rp_status st = RP_OK;
    void *packed = NULL;

    RP_TRY(rp_checkpoint_get_packed_form(checkpoint, unit, row0, nrows, out, &packed));
    rp_piece_unpack_codes(out, packed);
out:
    free(packed);
    return st;
}

/* The data of a unit of one piece, with a NUL behind them. */
static rp_status get_data(rp_checkpoint *checkpoint, const char *unit, rp_piece_kind kind,
                          rp_dtype dtype, char **out, int64_t *n)
{
    rp_status st = RP_OK;
    const double start = rp_clock_seconds();
    const rp_manifest_piece *pieces = NULL;
    size_t n_pieces = 0;
    size_t nbytes = 0;
    rp_piece_file *file = NULL;
    rp_piece piece;
    char *data = NULL;

    *out = NULL;
    RP_TRY(find_unit(&pieces, &n_pieces, checkpoint, unit));
    RP_TRY(open_piece(&file, &piece, checkpoint, &pieces[0]));
    if (n_pieces != 1 || piece.kind != kind || piece.dtype != dtype) {
        st = RP_FAIL(RP_ERR_INTERNAL, "unit \"%s\" is %s of %s, not %s of %s", unit,
                     rp_piece_kind_name(piece.kind), rp_dtype_name(piece.dtype),
                     rp_piece_kind_name(kind), rp_dtype_name(dtype));
        goto out;
    }
    RP_TRY(rp_mul_size(&nbytes, (size_t)piece.rows, rp_dtype_bytes(dtype)));
    RP_TRY(rp_alloc(&data, nbytes + 1));
    RP_TRY(rp_piece_file_read(file, unit, &piece, 0, 0, piece.rows, data));
    data[nbytes] = '\0';
    checkpoint->counts.read_bytes += (int64_t)nbytes;
    *n = piece.rows;
    *out = data;
    data = NULL;
out:
    free(data);
    checkpoint->counts.read_seconds += rp_clock_seconds() - start;
    return of_committed(st);
}

rp_status rp_checkpoint_get_array(rp_checkpoint *checkpoint, const char *unit, rp_dtype dtype,
                                  void *out, int64_t *n)
{
    char *data = NULL;
    const rp_status st = get_data(checkpoint, unit, RP_PIECE_ARRAY, dtype, &data, n);

    memcpy(out, &data, sizeof(data));
    return st;
}

rp_status rp_checkpoint_get_text(rp_checkpoint *checkpoint, const char *unit, char **out)
{
    int64_t n = 0;

    return get_data(checkpoint, unit, RP_PIECE_TEXT, RP_U8, out, &n);
}

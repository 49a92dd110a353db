/* Checkpoint: opening, putting, committing. This rank's files are made in checkpoint_writer.c and
 * piece_file.c, the index in manifest.c, the folder in checkpoint_folder.c, reading in
 * checkpoint_read.c.
 *
 * Order of a commit, so that a kill at any moment leaves the last generation or the new one whole:
 * every rank finishes its file (flush, close, reopen and verify, fsync, rename, fsync of the
 * folder); all agree; the ranks tell each other their pieces; rank 0 publishes the manifest; all
 * agree; only then are files removed that no manifest names any more. */
#include "jobs/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "jobs/checkpoint_private.h"

/* The rate of writing before so much was written. */
#define FIRST_GUESS_BYTES_PER_SECOND 3e8
#define RATE_MIN_BYTES (1 << 20)

rp_checkpoint_opts rp_checkpoint_opts_default(void)
{
    const rp_checkpoint_opts opts = {.keep = 2, .queue_bytes = (size_t)8 << 20};

    return opts;
}

void rp_checkpoint_warn(const rp_checkpoint *checkpoint, const char *fmt, ...)
{
    char text[RP_MESSAGE_BYTES];
    va_list args;

    if (checkpoint->opts.warn == NULL) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    checkpoint->opts.warn(checkpoint->opts.warn_ctx, text);
}

/* ---- the generation in the making ---- */

static rp_making *making_of(rp_checkpoint *c)
{
    return &c->makings[c->making];
}

static rp_making *sealed_of(rp_checkpoint *c)
{
    return &c->makings[1 - c->making];
}

/* Forgets it, of which the writer has nothing left to do; removes its files under either name while
 * no manifest can name them. */
static void discard(rp_making *m, bool removes_files)
{
    for (int kind = 0; kind < RP_FILE_KINDS; kind++) {
        rp_pending_file *pending = &m->own.pending[kind];
        rp_piece_file_close(&pending->file);
        if (removes_files && pending->part_path != NULL) {
            (void)unlink(pending->part_path);
            (void)unlink(pending->final_path);
        }
        free(pending->part_path);
        free(pending->final_path);
        free(pending->name);
    }
    rp_manifest_clear(&m->own.fragment);
    rp_manifest_clear(&m->drops);
    memset(m, 0, sizeof(*m));
}

/* All that is no part of the checkpoint. */
static void discard_all(rp_checkpoint *c)
{
    if (c->writer != NULL) {
        rp_writer_cancel(c->writer);
    }
    for (int i = 0; i < 2; i++) {
        discard(&c->makings[i], !c->is_anothers);
    }
    c->has_sealed = false;
}

rp_status rp_checkpoint_begin(rp_checkpoint *checkpoint)
{
    discard_all(checkpoint);
    return RP_OK;
}

static rp_status may_write(const rp_checkpoint *c)
{
    return c->opts.may_write == NULL ? RP_OK : c->opts.may_write(c->opts.may_write_ctx);
}

/* Names this rank's new file of a kind before its first piece. */
static rp_status name_file(rp_checkpoint *c, rp_file_kind kind)
{
    static const char *const marks[RP_FILE_KINDS] = {"", "p"};
    rp_status st = RP_OK;
    rp_generation *g = &making_of(c)->own;
    rp_pending_file *p = &g->pending[kind];

    if (p->part_path != NULL) {
        return RP_OK;
    }
    RP_TRY(may_write(c));
    if (!making_of(c)->has_pieces) { /* later the writer reads it */
        g->number = c->next_generation;
    }
    free(p->name);
    free(p->final_path);
    p->name = p->final_path = NULL;
    RP_TRY(rp_strprintf(&p->name, "g%06lld-r%04d%s.h5", (long long)g->number, rp_comm_rank(c->comm),
                        marks[kind]));
    RP_TRY(rp_fs_join(&p->final_path, c->dir, p->name));
    RP_TRY(rp_strprintf(&p->part_path, "%s.part", p->final_path));
out:
    return st;
}

static rp_file_kind kind_of(const char *unit)
{
    return strncmp(unit, RP_UNIT_PASSING, strlen(RP_UNIT_PASSING)) == 0 ? RP_PASSING : RP_LASTING;
}

static rp_status put(rp_checkpoint *c, const char *unit, const rp_piece *piece,
                     const void *const *data)
{
    rp_status st = RP_OK;
    rp_making *m = making_of(c);

    RP_TRY(name_file(c, kind_of(unit)));
    m->has_pieces = true;
    RP_TRY(rp_writer_put(c->writer, &m->own, kind_of(unit), unit, piece, data));
out:
    return st;
}

static rp_status put_codes(rp_checkpoint *c, const char *unit, const rp_piece *piece,
                           const rp_form *rows)
{
    rp_status st = RP_OK;
    const void *data[RP_PIECE_MAX_PARTS] = {NULL, rows->params};
    void *packed = NULL;

    RP_TRY(rp_piece_pack_codes(&packed, rows, c->opts.pool));
    data[0] = packed;
    RP_TRY(put(c, unit, piece, data));
out:
    free(packed);
    return st;
}

rp_status rp_checkpoint_put_form(rp_checkpoint *checkpoint, const char *unit, int64_t row0,
                                 int64_t total_rows, const rp_form *rows)
{
    const rp_piece piece = rp_piece_of_form(rows, row0, total_rows);
    const void *const values[RP_PIECE_MAX_PARTS] = {rows->values};

    if (row0 < 0 || rows->rows < 0 || rows->cols < 1 || row0 > total_rows - rows->rows) {
        return RP_FAIL(RP_ERR_INTERNAL, "rows %lld + %lld of %lld put to unit \"%s\"",
                       (long long)row0, (long long)rows->rows, (long long)total_rows, unit);
    }
    if (rows->rows == 0) {
        return RP_OK;
    }
    return rows->kind == RP_FORM_CODES ? put_codes(checkpoint, unit, &piece, rows)
                                       : put(checkpoint, unit, &piece, values);
}

rp_status rp_checkpoint_put_array(rp_checkpoint *checkpoint, const char *unit, rp_dtype dtype,
                                  const void *data, int64_t n)
{
    const rp_piece piece = {
        .kind = RP_PIECE_ARRAY, .dtype = dtype, .rows = n, .total_rows = n, .cols = 1};
    const void *const parts[RP_PIECE_MAX_PARTS] = {data};

    return put(checkpoint, unit, &piece, parts);
}

rp_status rp_checkpoint_put_text(rp_checkpoint *checkpoint, const char *unit, const char *text)
{
    const int64_t n = (int64_t)strlen(text);
    const void *const parts[RP_PIECE_MAX_PARTS] = {text};
    const rp_piece piece = {
        .kind = RP_PIECE_TEXT, .dtype = RP_U8, .rows = n, .total_rows = n, .cols = 1};

    return put(checkpoint, unit, &piece, parts);
}

rp_status rp_checkpoint_drop(rp_checkpoint *checkpoint, const char *unit)
{
    const rp_manifest_piece entry = {.unit = (char *)unit};

    return rp_manifest_add_piece(&making_of(checkpoint)->drops, &entry);
}

rp_status rp_checkpoint_drop_below(rp_checkpoint *checkpoint, const char *prefix, const char *kept)
{
    rp_status st = RP_OK;
    const rp_manifest *m = &checkpoint->manifest;

    for (size_t p = 0; p < m->n_pieces; p++) {
        const char *unit = m->pieces[p].unit;
        const bool is_first = p == 0 || strcmp(unit, m->pieces[p - 1].unit) != 0;
        const bool is_kept = kept != NULL && strncmp(unit, kept, strlen(kept)) == 0;
        if (is_first && !is_kept && strncmp(unit, prefix, strlen(prefix)) == 0) {
            RP_TRY(rp_checkpoint_drop(checkpoint, unit));
        }
    }
out:
    return st;
}

bool rp_checkpoint_is_dirty(const rp_checkpoint *checkpoint)
{
    const rp_making *m = &checkpoint->makings[checkpoint->making];

    return m->has_pieces || m->drops.n_pieces > 0;
}

/* ---- commit ---- */

/* Parses the ranks' texts, one after another in `texts`, into one manifest. */
static rp_status join_fragments(rp_manifest *out, const rp_checkpoint *c, const char *texts)
{
    rp_status st = RP_OK;
    rp_manifest fragment = {0};

    for (int r = 0; r < rp_comm_nranks(c->comm); r++) {
        if (c->sizes[r] == 0) {
            continue;
        }
        RP_TRY(rp_manifest_parse(&fragment, texts, c->sizes[r], "pieces of a rank"));
        RP_TRY(rp_manifest_append(out, &fragment, NULL, NULL));
        rp_manifest_clear(&fragment);
        texts += c->sizes[r];
    }
    rp_manifest_sort(out);
    for (size_t p = 1; p < out->n_pieces; p++) {
        const rp_manifest_piece *a = &out->pieces[p - 1];
        const rp_manifest_piece *b = a + 1;
        if (strcmp(a->unit, b->unit) == 0 &&
            (b->row0 < a->row0 + a->rows || a->total_rows != b->total_rows)) {
            st = RP_FAIL(RP_ERR_INTERNAL, "unit \"%s\" was put twice at row %lld", b->unit,
                         (long long)b->row0);
            goto out;
        }
    }
out:
    rp_manifest_clear(&fragment);
    return st;
}

/* Collective. All ranks' new pieces, on all ranks. */
static rp_status exchange(rp_manifest *out, rp_checkpoint *c, const rp_manifest *own)
{
    rp_status st = RP_OK;
    rp_status local = RP_OK;
    char *text = NULL;
    char *texts = NULL;
    size_t mine = 0;
    size_t total = 0;

    if (own->n_pieces > 0) {
        local = rp_manifest_format(&text, &mine, own);
    }
    rp_comm_allgather(c->comm, &mine, c->sizes, sizeof(mine));
    for (int r = 0; r < rp_comm_nranks(c->comm); r++) {
        total += c->sizes[r];
    }
    if (local == RP_OK) {
        local = rp_alloc(&texts, total);
    }
    RP_TRY(rp_agree(c->comm, local));
    rp_comm_allgatherv(c->comm, text, texts, c->sizes);
    RP_TRY(rp_agree(c->comm, join_fragments(out, c, texts)));
out:
    free(text);
    free(texts);
    return st;
}

typedef struct staying {
    const rp_manifest *old, *fresh, *drops;
} staying;

/* A committed piece stays unless its unit was put again or dropped. */
static bool stays(const void *ctx, size_t piece)
{
    const staying *s = ctx;
    const char *unit = s->old->pieces[piece].unit;
    size_t n_fresh = 0;
    size_t n_dropped = 0;

    (void)rp_manifest_find(s->fresh, unit, &n_fresh);
    (void)rp_manifest_find(s->drops, unit, &n_dropped);
    return n_fresh == 0 && n_dropped == 0;
}

static rp_status make_next(rp_manifest *out, const rp_checkpoint *c, int64_t number,
                           const rp_manifest *fresh, rp_manifest *drops)
{
    rp_status st = RP_OK;
    const staying ctx = {&c->manifest, fresh, drops};

    rp_manifest_sort(drops);
    out->generation = number;
    out->job_hash = c->job_hash;
    RP_TRY(rp_strdup(&out->job_text, c->job_text));
    RP_TRY(rp_manifest_append(out, &c->manifest, stays, &ctx));
    RP_TRY(rp_manifest_append(out, fresh, NULL, NULL));
    rp_manifest_sort(out);
out:
    return st;
}

/* Rank 0. */
static rp_status publish(rp_checkpoint *c, const rp_manifest *next)
{
    rp_status st = RP_OK;
    char *text = NULL;
    size_t nbytes = 0;

    RP_TRY(rp_manifest_format(&text, &nbytes, next));
    RP_TRY(rp_manifest_publish(c->dir, text, nbytes, c->opts.keep));
    c->counts.written_bytes += (int64_t)nbytes;
out:
    free(text);
    return st;
}

/* Collective, every rank's file in place. *may_be_named: the new manifest may be on disk. */
static rp_status commit_manifest(rp_checkpoint *c, rp_making *sealed, bool *may_be_named)
{
    rp_status st = RP_OK;
    const bool is_root = rp_comm_rank(c->comm) == 0;
    rp_manifest fresh = {0};
    rp_manifest next = {0};

    RP_TRY(exchange(&fresh, c, &sealed->own.fragment));
    RP_TRY(rp_agree(c->comm, make_next(&next, c, c->next_generation - 1, &fresh, &sealed->drops)));
    *may_be_named = true;
    RP_TRY(rp_agree(c->comm, is_root ? publish(c, &next) : RP_OK));
    rp_manifest_clear(&c->manifest);
    c->manifest = next;
    memset(&next, 0, sizeof(next));
    c->counts.commits++;
    if (is_root) {
        rp_checkpoint_remove_orphans(c);
    }
out:
    rp_manifest_clear(&fresh);
    rp_manifest_clear(&next);
    return st;
}

/* Collective. Whether the folder is still this job's, and all ranks went well so far. */
static rp_status agree_to_write(rp_checkpoint *c, rp_status local)
{
    rp_status st = RP_OK;

    if (local == RP_OK && rp_comm_rank(c->comm) == 0) {
        local = may_write(c);
    }
    st = rp_agree(c->comm, local);
    c->is_anothers =
        st == RP_ERR_LOCKED || (st == RP_ERR_PEER && rp_error_peer_status() == RP_ERR_LOCKED);
    return st;
}

rp_status rp_checkpoint_settle(rp_checkpoint *checkpoint, bool waits)
{
    rp_status st = RP_OK;
    rp_checkpoint *c = checkpoint;
    rp_status local = RP_OK;
    rp_making *sealed = sealed_of(c);
    double start = 0;
    bool may_be_named = false;

    if (!c->has_sealed ||
        (!waits && rp_comm_any(c->comm, !rp_writer_is_done(c->writer, &sealed->own)))) {
        return RP_OK;
    }
    local = rp_writer_wait(c->writer, &sealed->own);
    start = rp_clock_seconds();
    RP_TRY(agree_to_write(c, local));
    RP_TRY(commit_manifest(c, sealed, &may_be_named));
    for (size_t f = 0; f < sealed->own.fragment.n_files; f++) {
        c->counts.written_bytes += (int64_t)sealed->own.fragment.files[f].nbytes;
    }
    c->counts.write_seconds += sealed->own.seconds;
out:
    discard(sealed, st != RP_OK && !may_be_named && !c->is_anothers);
    c->has_sealed = false;
    c->counts.write_seconds += rp_clock_seconds() - start;
    return st;
}

rp_status rp_checkpoint_seal(rp_checkpoint *checkpoint, rp_status local)
{
    rp_status st = RP_OK;
    rp_checkpoint *c = checkpoint;

    st = rp_checkpoint_settle(c, true);
    if (st == RP_OK) {
        st = agree_to_write(c, local);
    }
    if (st == RP_OK && rp_comm_any(c->comm, rp_checkpoint_is_dirty(c))) {
        st = rp_agree(c->comm, rp_writer_finish(c->writer, &making_of(c)->own));
        c->next_generation++;
        c->making = 1 - c->making;
        c->has_sealed = true;
    }
    if (st != RP_OK) {
        discard_all(c);
    }
    return st;
}

rp_status rp_checkpoint_commit(rp_checkpoint *checkpoint, rp_status local)
{
    rp_status st = RP_OK;

    RP_TRY(rp_checkpoint_seal(checkpoint, local));
    RP_TRY(rp_checkpoint_settle(checkpoint, true));
out:
    return st;
}

/* ---- open ---- */

static bool is_finished(const void *ctx, size_t piece)
{
    const rp_manifest *manifest = ctx;

    return strncmp(manifest->pieces[piece].unit, RP_UNIT_PASSING, strlen(RP_UNIT_PASSING)) != 0;
}

static rp_status drop_passing(rp_manifest *manifest)
{
    rp_status st = RP_OK;
    rp_manifest kept = {.generation = manifest->generation, .job_hash = manifest->job_hash};

    RP_TRY(rp_manifest_append(&kept, manifest, is_finished, manifest));
    rp_manifest_clear(manifest);
    *manifest = kept;
    memset(&kept, 0, sizeof(kept));
out:
    rp_manifest_clear(&kept);
    return st;
}

/* Rank 0. Units of another job are refused; those of a job that differs in the loose key alone are
 * kept where they are finished. */
static rp_status check_job(rp_checkpoint *c, rp_manifest *manifest)
{
    rp_status st = RP_OK;
    const char *loose = c->opts.loose_key;
    char *differences = NULL;

    if (manifest->job_text == NULL || rp_hash_equal(manifest->job_hash, c->job_hash)) {
        return RP_OK;
    }
    RP_TRY(rp_manifest_job_differences(&differences, manifest->job_text, c->job_text));
    if (loose != NULL && rp_manifest_job_differs_only_in(manifest->job_text, c->job_text, loose)) {
        rp_checkpoint_warn(c,
                           "%s: %s: what is finished is kept, sums and streams in progress are not",
                           c->dir, differences);
        RP_TRY(drop_passing(manifest));
        goto out;
    }
    st = RP_FAIL(RP_ERR_CONFIG, "%s was made by another job: %s", c->dir,
                 differences[0] == '\0' ? "the hashes differ" : differences);
out:
    free(differences);
    return st;
}

/* Collective. Ranks of another arithmetic class, or with another version of the model, would make
 * other bytes: refused before they make any. */
static rp_status prove_same_job(rp_checkpoint *c)
{
    rp_status st = RP_OK;
    const bool is_root = rp_comm_rank(c->comm) == 0;
    size_t nbytes = strlen(c->job_text) + 1;
    char *text = NULL; /* rank 0's */
    char *differences = NULL;

    rp_comm_bcast(c->comm, &nbytes, sizeof(nbytes), 0);
    RP_TRY(rp_agree(c->comm, is_root ? rp_strdup(&text, c->job_text) : rp_alloc(&text, nbytes)));
    rp_comm_bcast(c->comm, text, nbytes, 0);
    st = rp_manifest_job_differences(&differences, text, c->job_text);
    if (st == RP_OK && differences[0] != '\0') {
        st = RP_FAIL(RP_ERR_CONFIG, "this rank does not do the same as rank 0: %s", differences);
    }
    RP_TRY(rp_agree(c->comm, st));
out:
    free(text);
    free(differences);
    return st;
}

/* Rank 0: the text that the others get. */
static rp_status load_text(char **out, size_t *nbytes, rp_checkpoint *c)
{
    rp_status st = RP_OK;
    rp_manifest manifest = {0};

    RP_TRY(rp_checkpoint_load_newest(c, &manifest));
    RP_TRY(check_job(c, &manifest));
    RP_TRY(rp_manifest_format(out, nbytes, &manifest));
out:
    rp_manifest_clear(&manifest);
    return st;
}

/* Collective. */
static rp_status share_manifest(rp_checkpoint *c)
{
    rp_status st = RP_OK;
    rp_status local = RP_OK;
    const bool is_root = rp_comm_rank(c->comm) == 0;
    char *text = NULL;
    size_t nbytes = 0;

    RP_TRY(rp_agree(c->comm, is_root ? load_text(&text, &nbytes, c) : RP_OK));
    rp_comm_bcast(c->comm, &nbytes, sizeof(nbytes), 0);
    if (!is_root) {
        local = rp_alloc(&text, nbytes);
    }
    RP_TRY(rp_agree(c->comm, local));
    rp_comm_bcast(c->comm, text, nbytes, 0);
    RP_TRY(rp_agree(c->comm, rp_manifest_parse(&c->manifest, text, nbytes, c->dir)));
out:
    free(text);
    return st;
}

/* The file's pieces: damage is noted in is_bad, other failures are returned. */
static rp_status check_file(rp_checkpoint *c, size_t file, int64_t *is_bad)
{
    rp_status st = RP_OK;
    rp_piece_file *pieces = NULL;
    size_t nbytes = 0;
    char *path = NULL;
    int fd = -1;

    RP_TRY(rp_fs_join(&path, c->dir, c->manifest.files[file].name));
    st = rp_fs_open_read(&fd, path);
    if (st == RP_OK) {
        st = rp_fs_size(&nbytes, fd, path);
    }
    if (st == RP_OK && nbytes != c->manifest.files[file].nbytes) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: %zu bytes, the manifest says %zu", path, nbytes,
                     c->manifest.files[file].nbytes);
    }
    if (st == RP_OK) {
        st = rp_piece_file_open(&pieces, path);
    }
    if (st == RP_ERR_FORMAT) {
        rp_checkpoint_warn(c, "%s", rp_error_message());
    }
    for (size_t p = 0; p < c->manifest.n_pieces; p++) {
        const rp_manifest_piece *piece = &c->manifest.pieces[p];
        rp_status good = st;
        if (piece->file != file) {
            continue;
        }
        if (good == RP_OK) {
            good =
                rp_piece_file_check(pieces, piece->unit, piece->row0, piece->hash, piece->nbytes);
            if (good == RP_ERR_FORMAT) {
                rp_checkpoint_warn(c, "%s", rp_error_message());
            }
        }
        is_bad[p] = good != RP_OK;
        if (good != RP_OK && good != RP_ERR_FORMAT) {
            st = good;
        }
    }
    if (st == RP_ERR_FORMAT) {
        st = RP_OK;
    }
out:
    rp_piece_file_close(&pieces);
    if (fd >= 0) {
        (void)close(fd);
    }
    free(path);
    return st;
}

typedef struct goodness {
    const rp_manifest *manifest;
    const int64_t *is_bad; /* [pieces] 0: good */
} goodness;

/* A unit with a bad piece goes as a whole. */
static bool is_unit_good(const void *ctx, size_t piece)
{
    const goodness *g = ctx;
    size_t n = 0;
    const size_t first = rp_manifest_find(g->manifest, g->manifest->pieces[piece].unit, &n);

    for (size_t p = first; p < first + n; p++) {
        if (g->is_bad[p] != 0) {
            return false;
        }
    }
    return true;
}

static rp_status drop_bad_units(rp_checkpoint *c, const int64_t *is_bad)
{
    rp_status st = RP_OK;
    rp_manifest good = {.generation = c->manifest.generation, .job_hash = c->job_hash};
    const goodness ctx = {&c->manifest, is_bad};

    for (size_t p = 0; p < c->manifest.n_pieces && rp_comm_rank(c->comm) == 0; p++) {
        const rp_manifest_piece *piece = &c->manifest.pieces[p];
        if (is_bad[p] != 0) {
            rp_checkpoint_warn(c, "%s: unit %s is dropped: rows %lld to %lld in %s are damaged",
                               c->dir, piece->unit, (long long)piece->row0,
                               (long long)(piece->row0 + piece->rows - 1),
                               c->manifest.files[piece->file].name);
        }
    }
    RP_TRY(rp_manifest_append(&good, &c->manifest, is_unit_good, &ctx));
    rp_manifest_clear(&c->manifest);
    c->manifest = good;
    memset(&good, 0, sizeof(good));
out:
    rp_manifest_clear(&good);
    return st;
}

/* Collective. The ranks share the files among them; what one finds bad is bad for all. */
static rp_status check_pieces(rp_checkpoint *c)
{
    rp_status st = RP_OK;
    rp_status local = RP_OK;
    int64_t *is_bad = NULL;
    const size_t n = c->manifest.n_pieces;
    const size_t nranks = (size_t)rp_comm_nranks(c->comm);

    RP_TRY(rp_agree(c->comm, rp_calloc(&is_bad, n, sizeof(*is_bad))));
    for (size_t f = (size_t)rp_comm_rank(c->comm); f < c->manifest.n_files && local == RP_OK;
         f += nranks) {
        local = check_file(c, f, is_bad);
    }
    RP_TRY(rp_agree(c->comm, local));
    rp_comm_allreduce_sum_i64(c->comm, is_bad, (int64_t)n);
    RP_TRY(rp_agree(c->comm, drop_bad_units(c, is_bad)));
out:
    free(is_bad);
    return st;
}

static rp_status prepare(rp_checkpoint **out, rp_comm *comm, const char *dir, rp_hash job_hash,
                         const char *job_text, const rp_checkpoint_opts *opts)
{
    rp_status st = RP_OK;
    rp_checkpoint *c = NULL;

    RP_TRY(rp_calloc(&c, 1, sizeof(*c)));
    *out = c;
    c->comm = comm;
    c->job_hash = job_hash;
    c->opts = opts == NULL ? rp_checkpoint_opts_default() : *opts;
    RP_TRY(rp_strdup(&c->dir, dir));
    RP_TRY(rp_strdup(&c->job_text, job_text));
    RP_TRY(rp_calloc(&c->sizes, (size_t)rp_comm_nranks(comm), sizeof(*c->sizes)));
    RP_TRY(rp_writer_create(&c->writer, c->opts.queue_bytes));
    if (c->opts.keep < 1 || c->opts.keep > RP_CHECKPOINT_MAX_KEEP) {
        st = RP_FAIL(RP_ERR_INTERNAL, "a checkpoint keeps 1 to %d manifests, not %d",
                     RP_CHECKPOINT_MAX_KEEP, c->opts.keep);
        goto out;
    }
    if (rp_comm_rank(comm) == 0) {
        RP_TRY(rp_fs_make_dirs(dir));
    }
out:
    return st;
}

rp_status rp_checkpoint_open(rp_checkpoint **out, rp_comm *comm, const char *dir, rp_hash job_hash,
                             const char *job_text, const rp_checkpoint_opts *opts)
{
    rp_status st = RP_OK;
    rp_checkpoint *c = NULL;

    *out = NULL;
    RP_TRY(rp_agree(comm, prepare(&c, comm, dir, job_hash, job_text, opts)));
    RP_ASSERT(c != NULL);
    RP_TRY(prove_same_job(c));
    RP_TRY(rp_checkpoint_prove_shared(c));
    RP_TRY(share_manifest(c));
    RP_TRY(check_pieces(c));
    c->next_generation = INT64_MAX; /* nobody writes yet: what is there is old */
    if (rp_comm_rank(comm) == 0) {
        rp_checkpoint_remove_orphans(c);
    }
    c->next_generation = c->manifest.generation + 1;
    /* Nobody makes a file before the old ones of its name are gone. */
    rp_comm_barrier(comm);
    *out = c;
    c = NULL;
out:
    rp_checkpoint_close(&c);
    return st;
}

void rp_checkpoint_close(rp_checkpoint **checkpoint)
{
    rp_checkpoint *c = *checkpoint;

    if (c == NULL) {
        return;
    }
    discard_all(c);
    rp_writer_destroy(&c->writer);
    rp_checkpoint_readers_close(c);
    rp_manifest_clear(&c->manifest);
    free(c->sizes);
    free(c->dir);
    free(c->job_text);
    free(c);
    *checkpoint = NULL;
}

rp_status rp_checkpoint_remove(rp_checkpoint *checkpoint)
{
    rp_status st = RP_OK;
    rp_checkpoint *c = checkpoint;

    discard_all(c);
    rp_checkpoint_readers_close(c);
    rp_comm_barrier(c->comm);
    RP_TRY(rp_agree(c->comm, rp_comm_rank(c->comm) == 0 ? rp_checkpoint_remove_files(c) : RP_OK));
    rp_manifest_clear(&c->manifest);
out:
    return st;
}

int64_t rp_checkpoint_generation(const rp_checkpoint *checkpoint)
{
    return checkpoint->manifest.generation;
}

double rp_checkpoint_write_seconds(const rp_checkpoint *checkpoint, double bytes)
{
    const rp_checkpoint_counts *n = &checkpoint->counts;
    const bool is_measured = n->written_bytes > RATE_MIN_BYTES && n->write_seconds > 0;

    return bytes / (is_measured ? (double)n->written_bytes / n->write_seconds
                                : FIRST_GUESS_BYTES_PER_SECOND);
}

rp_checkpoint_counts rp_checkpoint_counts_get(const rp_checkpoint *checkpoint)
{
    return checkpoint->counts;
}

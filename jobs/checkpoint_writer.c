/* One thread, one list of tasks. */
#include "jobs/checkpoint_writer.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/thread.h"

/* A piece to write, or without a unit a generation to finish. */
typedef struct task {
    struct task *next;
    rp_generation *generation;
    rp_file_kind kind;
    char unit[RP_UNIT_NAME_MAX_BYTES + 1];
    rp_piece piece;
    const void *data[RP_PIECE_MAX_PARTS];
    size_t nbytes; /* of copies behind this struct */
} task;

struct rp_writer {
    size_t queue_bytes;
    bool has_thread;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    task *first, **end;  /* asked for and not begun */
    size_t queued_bytes; /* theirs, and of the one in hand */
    bool is_busy, is_ending;
};

/* ---- a task ---- */

static rp_status write_piece(const task *t)
{
    rp_status st = RP_OK;
    rp_generation *g = t->generation;
    rp_pending_file *p = &g->pending[t->kind];
    rp_manifest_piece entry = {.unit = (char *)t->unit,
                               .row0 = t->piece.row0,
                               .rows = t->piece.rows,
                               .total_rows = t->piece.total_rows};

    if (p->file == NULL) {
        RP_TRY(rp_piece_file_create(&p->file, p->part_path));
        RP_TRY(rp_manifest_add_file(&g->fragment, p->name, 0, g->number, &p->index));
    }
    entry.file = p->index;
    RP_TRY(rp_piece_file_put(p->file, t->unit, &t->piece, t->data, &entry.hash, &entry.nbytes));
    RP_TRY(rp_manifest_add_piece(&g->fragment, &entry));
out:
    return st;
}

/* Reads back what was written, through a new handle. */
static rp_status verify(const rp_generation *g, const rp_pending_file *pending)
{
    rp_status st = RP_OK;
    rp_piece_file *file = NULL;

    RP_TRY(rp_piece_file_open(&file, pending->part_path));
    for (size_t p = 0; p < g->fragment.n_pieces; p++) {
        const rp_manifest_piece *piece = &g->fragment.pieces[p];
        if (piece->file == pending->index) {
            RP_TRY(rp_piece_file_check(file, piece->unit, piece->row0, piece->hash, piece->nbytes));
        }
    }
out:
    rp_piece_file_close(&file);
    /* Our own bytes of a moment ago: the disk's fault. */
    return st == RP_ERR_FORMAT ? rp_error_prefix(RP_ERR_IO, "verify") : st;
}

static rp_status sync_and_rename(const rp_pending_file *pending, size_t *nbytes)
{
    rp_status st = RP_OK;
    const char *from = pending->part_path;
    const char *to = pending->final_path;
    int fd = -1;

    RP_TRY(rp_fs_open_read(&fd, from));
    RP_TRY(rp_fs_size(nbytes, fd, from));
    if (RP_FAULT("fsync") || fsync(fd) != 0) {
        st = RP_FAIL(rp_status_from_errno(errno), "%s: cannot sync: %s", from, strerror(errno));
        goto out;
    }
    if (RP_FAULT("rename") || rename(from, to) != 0) {
        st = RP_FAIL(rp_status_from_errno(errno), "%s: cannot rename to %s: %s", from, to,
                     strerror(errno));
        goto out;
    }
    RP_TRY(rp_fs_sync_parent(to));
out:
    if (fd >= 0) {
        (void)close(fd);
    }
    return st;
}

static rp_status finish_files(rp_generation *g)
{
    rp_status st = RP_OK;

    rp_manifest_sort(&g->fragment);
    for (int kind = 0; kind < RP_FILE_KINDS; kind++) {
        rp_pending_file *p = &g->pending[kind];
        if (p->file != NULL) {
            RP_TRY(rp_piece_file_finish(&p->file));
            RP_TRY(verify(g, p));
            RP_TRY(sync_and_rename(p, &g->fragment.files[p->index].nbytes));
        }
    }
out:
    return st;
}

static rp_status do_task(const task *t)
{
    rp_status st = RP_OK;
    rp_generation *g = t->generation;

    if (g->status != RP_OK) {
        return RP_OK;
    }
    st = t->unit[0] == '\0' ? finish_files(g) : write_piece(t);
    for (int kind = 0; kind < RP_FILE_KINDS && st != RP_OK; kind++) {
        rp_piece_file_close(&g->pending[kind].file);
    }
    return st;
}

/* ---- the list ---- */

/* Outside the lock, but for what others may look at. */
static void do_and_note(rp_writer *w, const task *t)
{
    rp_generation *g = t->generation;
    const double start = rp_clock_seconds();
    const rp_status st = do_task(t);

    (void)pthread_mutex_lock(&w->lock);
    if (st != RP_OK) {
        g->status = st;
        (void)snprintf(g->message, sizeof(g->message), "%s", rp_error_message());
    }
    g->seconds += rp_clock_seconds() - start;
    g->n_asked--;
    (void)pthread_mutex_unlock(&w->lock);
}

static void *run(void *ctx)
{
    rp_writer *w = ctx;

    (void)pthread_mutex_lock(&w->lock);
    while (!w->is_ending || w->first != NULL) {
        task *t = w->first;
        if (t == NULL) {
            (void)pthread_cond_wait(&w->changed, &w->lock);
            continue;
        }
        w->first = t->next;
        w->end = w->first == NULL ? &w->first : w->end;
        w->is_busy = true;
        (void)pthread_mutex_unlock(&w->lock);
        do_and_note(w, t);
        (void)pthread_mutex_lock(&w->lock);
        w->is_busy = false;
        w->queued_bytes -= t->nbytes;
        free(t);
        (void)pthread_cond_broadcast(&w->changed);
    }
    (void)pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* Where no thread can be had, the caller does it. */
static void ask(rp_writer *w, task *t)
{
    if (!w->has_thread) {
        w->has_thread = !RP_FAULT("thread") && rp_thread_start(&w->thread, run, w) == 0;
    }
    (void)pthread_mutex_lock(&w->lock);
    t->generation->n_asked++;
    if (w->has_thread) {
        *w->end = t;
        w->end = &t->next;
        w->queued_bytes += t->nbytes;
        (void)pthread_cond_broadcast(&w->changed);
    }
    (void)pthread_mutex_unlock(&w->lock);
    if (!w->has_thread) {
        do_and_note(w, t);
        free(t);
    }
}

static bool is_idle(const rp_writer *w)
{
    return w->first == NULL && !w->is_busy;
}

/* Until so many bytes more fit, or nothing is left to do. */
static void wait_for_room(rp_writer *w, size_t nbytes)
{
    (void)pthread_mutex_lock(&w->lock);
    while (!is_idle(w) && (nbytes > w->queue_bytes || w->queued_bytes > w->queue_bytes - nbytes)) {
        (void)pthread_cond_wait(&w->changed, &w->lock);
    }
    (void)pthread_mutex_unlock(&w->lock);
}

void rp_writer_wait_idle(rp_writer *writer)
{
    wait_for_room(writer, SIZE_MAX);
}

bool rp_writer_is_done(rp_writer *writer, const rp_generation *generation)
{
    bool answer = false;

    (void)pthread_mutex_lock(&writer->lock);
    answer = generation->n_asked == 0;
    (void)pthread_mutex_unlock(&writer->lock);
    return answer;
}

static rp_status failure_of(rp_writer *w, const rp_generation *g)
{
    rp_status st = RP_OK;
    char message[RP_MESSAGE_BYTES] = "";

    (void)pthread_mutex_lock(&w->lock);
    st = g->status;
    memcpy(message, g->message, sizeof(message));
    (void)pthread_mutex_unlock(&w->lock);
    return st == RP_OK ? RP_OK : RP_FAIL(st, "%s", message);
}

rp_status rp_writer_wait(rp_writer *writer, const rp_generation *generation)
{
    (void)pthread_mutex_lock(&writer->lock);
    while (generation->n_asked > 0) {
        (void)pthread_cond_wait(&writer->changed, &writer->lock);
    }
    (void)pthread_mutex_unlock(&writer->lock);
    return failure_of(writer, generation);
}

/* ---- what is asked ---- */

/* A task with copies of the data behind it; data NULL: none. */
static rp_status make_task(task **out, const task *what, const void *const *data)
{
    rp_status st = RP_OK;
    rp_piece_part parts[RP_PIECE_MAX_PARTS];
    const int n_parts = data == NULL ? 0 : rp_piece_parts(&what->piece, parts);
    const size_t nbytes = data == NULL ? 0 : rp_piece_bytes(&what->piece);
    char *copy = NULL;
    task *t = NULL;

    RP_TRY(rp_alloc(&t, sizeof(*t) + nbytes));
    *t = *what;
    t->nbytes = nbytes;
    copy = (char *)(t + 1);
    for (int i = 0; i < n_parts; i++) {
        const size_t n = (size_t)what->piece.rows * rp_piece_part_row_bytes(&parts[i]);
        if (n > 0) {
            memcpy(copy, data[i], n);
        }
        t->data[i] = copy;
        copy += n;
    }
    *out = t;
out:
    return st;
}

rp_status rp_writer_put(rp_writer *writer, rp_generation *generation, rp_file_kind kind,
                        const char *unit, const rp_piece *piece, const void *const *data)
{
    rp_status st = RP_OK;
    const size_t nbytes = rp_piece_bytes(piece);
    task what = {.generation = generation, .kind = kind, .piece = *piece};
    task *t = NULL;

    RP_TRY(rp_manifest_check_unit(unit));
    (void)snprintf(what.unit, sizeof(what.unit), "%s", unit);
    wait_for_room(writer, nbytes);
    RP_TRY(failure_of(writer, generation));
    if (nbytes <= writer->queue_bytes) {
        RP_TRY(make_task(&t, &what, data));
        ask(writer, t);
        goto out;
    }
    memcpy(what.data, data, RP_PIECE_MAX_PARTS * sizeof(*data));
    generation->n_asked++; /* the thread has nothing to do */
    do_and_note(writer, &what);
    st = failure_of(writer, generation);
out:
    return st;
}

rp_status rp_writer_finish(rp_writer *writer, rp_generation *generation)
{
    rp_status st = RP_OK;
    const task what = {.generation = generation};
    task *t = NULL;

    RP_TRY(make_task(&t, &what, NULL));
    ask(writer, t);
out:
    return st;
}

void rp_writer_cancel(rp_writer *writer)
{
    (void)pthread_mutex_lock(&writer->lock);
    while (writer->first != NULL) {
        task *t = writer->first;
        writer->first = t->next;
        t->generation->n_asked--;
        writer->queued_bytes -= t->nbytes;
        free(t);
    }
    writer->end = &writer->first;
    (void)pthread_mutex_unlock(&writer->lock);
    rp_writer_wait_idle(writer);
}

/* ---- life ---- */

rp_status rp_writer_create(rp_writer **out, size_t queue_bytes)
{
    rp_status st = RP_OK;
    rp_writer *w = NULL;

    RP_TRY(rp_calloc(&w, 1, sizeof(*w)));
    w->queue_bytes = queue_bytes;
    w->end = &w->first;
    (void)pthread_mutex_init(&w->lock, NULL);
    (void)pthread_cond_init(&w->changed, NULL);
    *out = w;
out:
    return st;
}

void rp_writer_destroy(rp_writer **writer)
{
    rp_writer *w = *writer;

    if (w == NULL) {
        return;
    }
    rp_writer_cancel(w);
    if (w->has_thread) {
        (void)pthread_mutex_lock(&w->lock);
        w->is_ending = true;
        (void)pthread_cond_broadcast(&w->changed);
        (void)pthread_mutex_unlock(&w->lock);
        (void)pthread_join(w->thread, NULL);
    }
    (void)pthread_cond_destroy(&w->changed);
    (void)pthread_mutex_destroy(&w->lock);
    free(w);
    *writer = NULL;
}

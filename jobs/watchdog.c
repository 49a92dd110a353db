/* OUT/.heartbeat/RUN/, with files of one size, so that a full disk takes nobody's voice:
 *
 *   r0003    "3 <host> <pid> <count> <phase>": the sign of life of rank 3; gone when it has left
 *   verdict  blank, or the sentence that ends all ranks
 *   accuser  a link to the file of the one rank that may write the verdict
 *
 * Files are opened, read or written, and closed each time, which is when network file systems show
 * what another host wrote; the verdict is there from the start, since they remember for long that a
 * file is not there. A look counts only when it came in time and this rank's own sign of life was
 * written: one that was itself asleep, or whose file system stood still, starts counting anew.
 *
 * A folder for each run keeps apart a rank that was thought dead, wakes up, and finds that others
 * have gone on without it: it finds its run's verdict, or its file gone, and ends. No fault points
 * in the thread: its calls would make their counts a matter of time. */
#include "jobs/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "jobs/ticker.h"

#define RECORD_BYTES RP_MESSAGE_BYTES
#define MIN_LOOKS 4
/* A look that comes later than so many intervals after the one before does not count. */
#define LATE_INTERVALS 2

typedef struct record {
    char text[RECORD_BYTES]; /* blanks behind the text, not terminated */
} record;

struct rp_watchdog {
    rp_watchdog_opts opts;
    const rp_comm *comm;
    rp_ticker *ticker;
    char *out_dir, *heartbeat_dir, *dir;
    char *own_path, *watched_path, *verdict_path, *accuser_path;
    int rank, watched;
    char host[64];
    _Atomic(const char *) phase;
    /* The thread's alone. */
    int64_t n_beats;
    record heard;                       /* the last the watched rank wrote */
    double heard_seconds, look_seconds; /* when it was new; when the last look ended */
    char message[RECORD_BYTES];
    bool is_accuser;
};

rp_watchdog_opts rp_watchdog_opts_default(void)
{
    const rp_watchdog_opts opts = {
        .interval_seconds = 5, .deadline_seconds = 60, .grace_seconds = 3};

    return opts;
}

/* ---- records ---- */

static void set_record(record *out, const char *text)
{
    memset(out->text, ' ', sizeof(out->text));
    memcpy(out->text, text, RP_MIN(strlen(text), sizeof(out->text)));
}

static bool is_blank(const record *r)
{
    return r->text[0] == ' ';
}

/* 0 or an errno. */
static int write_record(const char *path, const record *r, int more_flags)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC | more_flags, 0666);
    ssize_t n = 0;
    int failed = 0;

    if (fd < 0) {
        return errno;
    }
    errno = EIO; /* of a short write */
    n = pwrite(fd, r->text, sizeof(r->text), 0);
    failed = n == (ssize_t)sizeof(r->text) ? 0 : errno;
    if (close(fd) != 0 && failed == 0) {
        failed = errno;
    }
    return failed;
}

/* 0 or an errno. */
static int read_record(record *out, const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    int failed = 0;

    set_record(out, "");
    if (fd < 0) {
        return errno;
    }
    failed = pread(fd, out->text, sizeof(out->text), 0) < 0 ? errno : 0;
    (void)close(fd);
    return failed;
}

/* ---- the end ---- */

/* Any call here may hang: on a pipe that nobody reads, a file system, the launcher. */
static void *last_words(void *ctx)
{
    const rp_watchdog *w = ctx;

    if (w->is_accuser) {
        (void)dprintf(STDERR_FILENO, "rankpress: %s\n", w->message);
    }
    RP_LOG(RP_LOG_ERROR, "end", rp_log_str("message", w->message));
    if (w->is_accuser && w->comm != NULL) {
        rp_comm_end(w->comm, rp_status_exit_code(RP_ERR_STOPPED));
    }
    return NULL;
}

/* The thread that computes may be anywhere, in a commit too: it is as good as killed. The accuser
 * has the launcher end all ranks; the others give it the time. */
static void __attribute__((noreturn)) leave(rp_watchdog *w)
{
    const double grace = w->opts.grace_seconds;
    const struct timespec t = {(time_t)grace, (long)(1e9 * (grace - (double)(time_t)grace))};
    pthread_t thread;

    if (pthread_create(&thread, NULL, last_words, w) == 0) {
        (void)pthread_detach(thread);
        (void)nanosleep(&t, NULL);
    } else if (w->is_accuser) {
        (void)dprintf(STDERR_FILENO, "rankpress: %s\n", w->message);
    }
    _exit(rp_status_exit_code(RP_ERR_STOPPED));
}

static void __attribute__((noreturn)) obey(rp_watchdog *w, const record *verdict)
{
    size_t n = sizeof(verdict->text) - 1;

    while (n > 0 && verdict->text[n - 1] == ' ') {
        n--;
    }
    memcpy(w->message, verdict->text, n);
    w->message[n] = '\0';
    leave(w);
}

static void __attribute__((noreturn)) accuse(rp_watchdog *w, double silent_seconds)
{
    char host[64] = "an unknown host";
    char phase[64] = "nothing";
    long long pid = 0;
    char text[RECORD_BYTES];
    record verdict;

    (void)snprintf(text, sizeof(text), "%.*s", (int)sizeof(text) - 1, w->heard.text);
    (void)sscanf(text, "%*d %63s %lld %*d %63s", host, &pid, phase);
    (void)snprintf(w->message, sizeof(w->message),
                   "rank %d on %s (pid %lld) gave no sign of life for %.0f s, last seen after %s; "
                   "stopping; go on with: rankpress resume %s",
                   w->watched, host, pid, silent_seconds, phase, w->out_dir);
    w->is_accuser = link(w->own_path, w->accuser_path) == 0 || errno != EEXIST;
    if (w->is_accuser) {
        set_record(&verdict, w->message);
        (void)write_record(w->verdict_path, &verdict, 0);
    }
    leave(w);
}

/* ---- looks ---- */

static int beat(rp_watchdog *w, int more_flags)
{
    char text[RECORD_BYTES];
    record own;

    (void)snprintf(text, sizeof(text), "%d %s %lld %" PRId64 " %s", w->rank, w->host,
                   (long long)getpid(), w->n_beats++, atomic_load(&w->phase));
    set_record(&own, text);
    return write_record(w->own_path, &own, more_flags);
}

static void look(void *ctx)
{
    rp_watchdog *w = ctx;
    record verdict;
    record watched;
    const int failed_beat = beat(w, 0);
    const bool has_verdict = read_record(&verdict, w->verdict_path) == 0 && !is_blank(&verdict);
    const int failed_look = read_record(&watched, w->watched_path);
    const double now = rp_clock_seconds();
    const bool is_late = now - w->look_seconds > LATE_INTERVALS * w->opts.interval_seconds;

    w->look_seconds = now;
    if (is_late && (failed_beat == ENOENT || has_verdict)) {
        _exit(rp_status_exit_code(RP_ERR_STOPPED)); /* given up while it slept */
    }
    if (has_verdict) {
        obey(w, &verdict);
    }
    if (is_late || failed_beat != 0 || failed_look != 0 ||
        memcmp(&watched, &w->heard, sizeof(watched)) != 0) {
        w->heard = watched;
        w->heard_seconds = now;
    } else if (now - w->heard_seconds >= w->opts.deadline_seconds) {
        accuse(w, now - w->heard_seconds);
    }
}

/* ---- joining and leaving ---- */

static rp_status remove_earlier(const char *out_dir)
{
    rp_status st = RP_OK;
    char *path = NULL;

    RP_TRY(rp_fs_join(&path, out_dir, RP_WATCHDOG_DIR));
    RP_TRY(rp_fs_remove_tree(path));
out:
    free(path);
    return st;
}

rp_status rp_watchdog_make_folder(const char *out_dir, const char *run)
{
    rp_status st = RP_OK;
    char *dir = NULL;
    char *verdict_path = NULL;
    record blank;
    int failed = 0;

    RP_TRY(remove_earlier(out_dir));
    RP_TRY(rp_strprintf(&dir, "%s/%s/%s", out_dir, RP_WATCHDOG_DIR, run));
    RP_TRY(rp_fs_make_dirs(dir));
    RP_TRY(rp_fs_join(&verdict_path, dir, "verdict"));
    set_record(&blank, "");
    failed = write_record(verdict_path, &blank, O_CREAT | O_EXCL);
    if (failed != 0) {
        st = RP_FAIL(rp_status_from_errno(failed), "%s: cannot write: %s", verdict_path,
                     strerror(failed));
    }
out:
    free(verdict_path);
    free(dir);
    return st;
}

static rp_status set_paths(rp_watchdog *w, const char *out_dir, const rp_watchdog_place *place)
{
    rp_status st = RP_OK;

    RP_TRY(rp_strdup(&w->out_dir, out_dir));
    RP_TRY(rp_fs_join(&w->heartbeat_dir, out_dir, RP_WATCHDOG_DIR));
    RP_TRY(rp_fs_join(&w->dir, w->heartbeat_dir, place->run));
    RP_TRY(rp_fs_join(&w->verdict_path, w->dir, "verdict"));
    RP_TRY(rp_fs_join(&w->accuser_path, w->dir, "accuser"));
    RP_TRY(rp_strprintf(&w->own_path, "%s/r%04d", w->dir, w->rank));
    RP_TRY(rp_strprintf(&w->watched_path, "%s/r%04d", w->dir, w->watched));
out:
    return st;
}

static void destroy(rp_watchdog *w)
{
    if (w == NULL) {
        return;
    }
    rp_ticker_stop(&w->ticker);
    if (w->own_path != NULL) {
        (void)unlink(w->own_path);
    }
    free(w->out_dir);
    free(w->heartbeat_dir);
    free(w->dir);
    free(w->own_path);
    free(w->watched_path);
    free(w->verdict_path);
    free(w->accuser_path);
    free(w);
}

rp_status rp_watchdog_join(rp_watchdog **out, const char *out_dir, const rp_watchdog_place *place,
                           const rp_watchdog_opts *opts)
{
    rp_status st = RP_OK;
    rp_watchdog *w = NULL;
    int failed = 0;

    *out = NULL;
    RP_TRY(rp_calloc(&w, 1, sizeof(*w)));
    w->opts = *opts;
    w->opts.interval_seconds = RP_MIN(opts->interval_seconds, opts->deadline_seconds / MIN_LOOKS);
    w->comm = place->comm;
    w->rank = place->rank;
    w->watched = (place->rank + 1) % place->nranks;
    (void)snprintf(w->host, sizeof(w->host), "unknown");
    (void)gethostname(w->host, sizeof(w->host) - 1);
    atomic_init(&w->phase, "start");
    RP_TRY(set_paths(w, out_dir, place));
    failed = beat(w, O_CREAT);
    if (failed != 0) {
        st = RP_FAIL(rp_status_from_errno(failed), "%s: cannot write: %s", w->own_path,
                     strerror(failed));
        goto out;
    }
    w->look_seconds = rp_clock_seconds();
    w->heard_seconds = w->look_seconds;
    RP_TRY(rp_ticker_start(&w->ticker, w->opts.interval_seconds, look, w));
    *out = w;
    w = NULL;
out:
    destroy(w); /* the folder is the others' too */
    return st;
}

rp_status rp_watchdog_start(rp_watchdog **out, rp_comm *comm, const char *out_dir,
                            const rp_watchdog_opts *opts)
{
    rp_status st = RP_OK;
    const rp_watchdog_opts used = opts == NULL ? rp_watchdog_opts_default() : *opts;
    char run[24] = "";
    uint64_t random = 0;
    const rp_watchdog_place place = {
        .comm = comm, .run = run, .rank = rp_comm_rank(comm), .nranks = rp_comm_nranks(comm)};
    rp_watchdog *w = NULL;

    *out = NULL;
    if (place.nranks == 1 || used.deadline_seconds <= 0) {
        return rp_agree(comm, place.rank == 0 ? remove_earlier(out_dir) : RP_OK);
    }
    if (place.rank == 0) {
        (void)getrandom(&random, sizeof(random), 0);
        (void)snprintf(run, sizeof(run), "%016" PRIx64, random);
        st = rp_watchdog_make_folder(out_dir, run);
    }
    RP_TRY(rp_agree(comm, st));
    rp_comm_bcast(comm, run, sizeof(run), 0);
    RP_TRY(rp_agree(comm, rp_watchdog_join(&w, out_dir, &place, &used)));
    *out = w;
    w = NULL;
out:
    rp_watchdog_stop(&w);
    return st;
}

void rp_watchdog_note(rp_watchdog *watchdog, const char *phase)
{
    if (watchdog != NULL) {
        atomic_store(&watchdog->phase, phase);
    }
}

/* The last rank to leave finds the folders empty. */
void rp_watchdog_stop(rp_watchdog **watchdog)
{
    rp_watchdog *w = *watchdog;

    if (w == NULL) {
        return;
    }
    rp_ticker_stop(&w->ticker);
    (void)unlink(w->own_path);
    if (w->rank == 0) {
        (void)unlink(w->verdict_path);
    }
    (void)rmdir(w->dir);
    (void)rmdir(w->heartbeat_dir);
    destroy(w);
    *watchdog = NULL;
}

/* DIR/.lock, one line: "rankpress <host> <pid> <start of the process> <pid namespace> <batch job or
 * -> <its restarts> <random>".
 *
 * The line is written to a file of its own first and appears under the lock's name by link(), which
 * fails when the name is there: the lock is never seen half-written. Taking a stale lock over moves
 * it aside by rename() and looks at what was moved, since another job may have been faster. Ages
 * are differences of the file server's own times, so the hosts' clocks need not agree. */
#include "jobs/lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "jobs/ticker.h"

#define LINE_BYTES 384
#define MAX_ATTEMPTS 8

struct rp_lock {
    rp_lock_opts opts;
    char *path, *own_path, *aside_path; /* the lock; our line's first name; a stale lock's last */
    char line[LINE_BYTES];
    bool is_held;
    atomic_bool is_lost;
    rp_ticker *heartbeat;
};

typedef struct holder {
    char host[64], job[64]; /* job "-": none */
    long long pid, start, space, restarts;
    double age_seconds;
} holder;

rp_lock_opts rp_lock_opts_default(void)
{
    const rp_lock_opts opts = {.heartbeat_seconds = 5, .stale_seconds = 120};

    return opts;
}

/* When the process started, in the kernel's ticks: tells it from a later one with the same number.
 * 0: no such process, or one that has ended and waits for its parent (for ever, in a container
 * whose first process does not care for orphans); -1: not known. */
static long long process_start(long long pid)
{
    char path[64];
    char *text = NULL;
    char *after_name = NULL;
    long long start = -1;
    FILE *file = NULL;
    size_t capacity = 0;

    if (kill((pid_t)pid, 0) != 0 && errno == ESRCH) {
        return 0;
    }
    (void)snprintf(path, sizeof(path), "/proc/%lld/stat", pid);
    file = fopen(path, "re");
    if (file == NULL) {
        return -1;
    }
    /* Field 3 is the state, field 22 the start; the name in field 2 may hold blanks and ends at the
     * last bracket. */
    if (getline(&text, &capacity, file) > 0 && (after_name = strrchr(text, ')')) != NULL) {
        char *field = strtok(after_name + 1, " ");
        const bool has_ended = field != NULL && (*field == 'Z' || *field == 'X');
        for (int i = 3; i < 22 && field != NULL; i++) {
            field = strtok(NULL, " ");
        }
        start = has_ended ? 0 : field == NULL ? -1 : atoll(field);
    }
    free(text);
    (void)fclose(file);
    return start;
}

static double seconds_of(struct timespec t)
{
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of the pids: containers of one host name may each have their own. 0: not known. */
static long long pid_space(void)
{
    struct stat info;

    return stat("/proc/self/ns/pid", &info) == 0 ? (long long)info.st_ino : 0;
}

typedef enum lock_read { IS_READ, IS_GONE, IS_UNREADABLE } lock_read;

/* The line and age of a lock file. */
static lock_read read_lock(char line[LINE_BYTES], double *touched_seconds, const char *path)
{
    const int fd = RP_FAULT("open") ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    ssize_t n = -1;

    line[0] = '\0';
    if (fd < 0) {
        return errno == ENOENT ? IS_GONE : IS_UNREADABLE;
    }
    if (fstat(fd, &info) == 0) {
        *touched_seconds = seconds_of(info.st_mtim);
        n = RP_FAULT("read") ? -1 : read(fd, line, LINE_BYTES - 1);
    }
    (void)close(fd);
    line[n < 0 ? 0 : n] = '\0';
    return n < 0 ? IS_UNREADABLE : IS_READ;
}

/* Now, by the clock of the folder's file server: the time of our own file after touching it. */
static bool server_now(double *out, const char *own_path)
{
    struct stat info;

    if (RP_FAULT("utime") || utimensat(AT_FDCWD, own_path, NULL, 0) != 0 ||
        stat(own_path, &info) != 0) {
        return false;
    }
    *out = seconds_of(info.st_mtim);
    return true;
}

static void parse_line(holder *out, const char *line)
{
    memset(out, 0, sizeof(*out));
    if (sscanf(line, "rankpress %63s %lld %lld %lld %63s %lld", out->host, &out->pid, &out->start,
               &out->space, out->job, &out->restarts) != 6) {
        memset(out, 0, sizeof(*out));
        (void)snprintf(out->host, sizeof(out->host), "unknown");
        (void)snprintf(out->job, sizeof(out->job), "-");
    }
}

/* Why the holder's lock may be taken; NULL: it may not. On its own host that is a fact. The batch
 * system starts a job again only when its earlier start is over. Else it is a question of age. */
static const char *why_stale(const holder *h, const rp_lock_opts *opts)
{
    char host[64] = "";

    (void)gethostname(host, sizeof(host) - 1);
    if (opts->is_forced) {
        return "as asked";
    }
    if (strcmp(host, h->host) == 0 && h->space == pid_space()) {
        const long long start = process_start(h->pid);
        return start == 0 || (start > 0 && h->start > 0 && start != h->start) ? "which is gone"
                                                                              : NULL;
    }
    if (opts->job_id != NULL && strcmp(opts->job_id, h->job) == 0 && opts->restarts > h->restarts) {
        return "whose batch job was started again";
    }
    return h->age_seconds > opts->stale_seconds ? "which is silent" : NULL;
}

/* "process 12 on node3, job 77, last sign of life 4 s ago" */
static void describe(char *out, size_t out_bytes, const holder *h)
{
    const bool has_job = strcmp(h->job, "-") != 0;

    (void)snprintf(out, out_bytes, "process %lld on %s%s%s, last sign of life %.0f s ago", h->pid,
                   h->host, has_job ? ", job " : "", has_job ? h->job : "", h->age_seconds);
}

static rp_status write_own(rp_lock *lock)
{
    rp_status st = RP_OK;
    char host[64] = "unknown";
    uint64_t random = 0;
    int fd = -1;

    (void)gethostname(host, sizeof(host) - 1);
    (void)getrandom(&random, sizeof(random), 0);
    (void)snprintf(lock->line, sizeof(lock->line),
                   "rankpress %s %lld %lld %lld %.63s %" PRId64 " %016" PRIx64 "\n", host,
                   (long long)getpid(), process_start(getpid()), pid_space(),
                   lock->opts.job_id == NULL ? "-" : lock->opts.job_id, lock->opts.restarts,
                   random);
    RP_TRY(rp_strprintf(&lock->own_path, "%s.%016" PRIx64, lock->path, random));
    RP_TRY(rp_strprintf(&lock->aside_path, "%s.stale", lock->own_path));
    fd =
        RP_FAULT("open") ? -1 : open(lock->own_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        st = RP_FAIL(rp_status_from_errno(errno), "%s: cannot create: %s", lock->own_path,
                     strerror(errno));
        goto out;
    }
    RP_TRY(rp_fs_pwrite(fd, lock->own_path, lock->line, strlen(lock->line), 0));
out:
    if (fd >= 0) {
        (void)close(fd);
    }
    return st;
}

static void warn(const rp_lock *lock, const holder *h, const char *why)
{
    char who[256];
    char text[512];

    if (lock->opts.warn != NULL) {
        describe(who, sizeof(who), h);
        (void)snprintf(text, sizeof(text), "%s: taking over from %s, %s", lock->path, who, why);
        lock->opts.warn(lock->opts.warn_ctx, text);
    }
}

/* Moves the stale lock away. What was moved may be a new job's lock: then it is put back. */
static void move_aside(const rp_lock *lock, const char *stale_line)
{
    char line[LINE_BYTES];
    double touched = 0;

    if (RP_FAULT("rename") || rename(lock->path, lock->aside_path) != 0) {
        return; /* gone already */
    }
    if (read_lock(line, &touched, lock->aside_path) == IS_READ && strcmp(line, stale_line) != 0) {
        (void)link(lock->aside_path, lock->path);
    }
    (void)unlink(lock->aside_path);
}

/* RP_OK: the way may be free now, try again. */
static rp_status judge(const rp_lock *lock)
{
    char line[LINE_BYTES];
    char who[256];
    double touched = 0;
    double now = 0;
    const char *why = NULL;
    const lock_read read = read_lock(line, &touched, lock->path);
    holder h;

    if (read == IS_GONE) {
        return RP_OK; /* released meanwhile */
    }
    if (read == IS_UNREADABLE) {
        return RP_FAIL(rp_status_from_errno(errno), "%s: cannot read: %s", lock->path,
                       strerror(errno));
    }
    if (!server_now(&now, lock->own_path)) {
        return RP_FAIL(rp_status_from_errno(errno), "%s: cannot touch: %s", lock->own_path,
                       strerror(errno));
    }
    parse_line(&h, line);
    h.age_seconds = now - touched;
    why = why_stale(&h, &lock->opts);
    if (why == NULL) {
        describe(who, sizeof(who), &h);
        return RP_FAIL(RP_ERR_LOCKED, "%s: in use by %s", lock->path, who);
    }
    warn(lock, &h, why);
    move_aside(lock, line);
    return RP_OK;
}

/* First names of locks that were never linked, by jobs that are gone. */
static void remove_unborn(const rp_lock *lock, const char *dir)
{
    DIR *stream = RP_FAULT("opendir") ? NULL : opendir(dir);
    const struct dirent *entry = NULL;
    rp_lock_opts opts = lock->opts;
    double now = 0;

    opts.is_forced = false;
    if (stream == NULL || !server_now(&now, lock->own_path)) {
        goto out;
    }
    while ((entry = readdir(stream)) != NULL) {
        char line[LINE_BYTES];
        char path[PATH_MAX];
        double touched = 0;
        holder h;
        (void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        if (strncmp(entry->d_name, ".lock.", 6) != 0 || strcmp(path, lock->own_path) == 0 ||
            read_lock(line, &touched, path) != IS_READ) {
            continue;
        }
        parse_line(&h, line);
        h.age_seconds = now - touched;
        if (why_stale(&h, &opts) != NULL) {
            (void)unlink(path);
        }
    }
out:
    if (stream != NULL) {
        (void)closedir(stream);
    }
}

/* Rank 0. */
static rp_status acquire(rp_lock *lock, const char *dir)
{
    rp_status st = RP_OK;

    RP_TRY(write_own(lock));
    for (int attempt = 0; attempt < MAX_ATTEMPTS && !lock->is_held; attempt++) {
        const int failed = RP_FAULT("link") ? -1 : link(lock->own_path, lock->path);
        if (failed == 0) {
            lock->is_held = true;
        } else if (errno == EEXIST) {
            RP_TRY(judge(lock));
        } else {
            st = RP_FAIL(rp_status_from_errno(errno), "%s: cannot create: %s", lock->path,
                         strerror(errno));
            goto out;
        }
    }
    if (!lock->is_held) {
        st = RP_FAIL(RP_ERR_LOCKED, "%s: several jobs want it at once", lock->path);
        goto out;
    }
    remove_unborn(lock, dir);
out:
    if (lock->own_path != NULL) {
        (void)unlink(lock->own_path);
    }
    return st;
}

typedef enum ownership { OURS, ANOTHERS, NOT_KNOWN } ownership;

static ownership whose(char line[LINE_BYTES], const rp_lock *lock)
{
    double touched = 0;

    switch (read_lock(line, &touched, lock->path)) {
    case IS_READ:
        return strcmp(line, lock->line) == 0 ? OURS : ANOTHERS;
    case IS_GONE:
        return ANOTHERS;
    default:
        return NOT_KNOWN;
    }
}

static void beat(void *ctx)
{
    rp_lock *lock = ctx;
    char line[LINE_BYTES];

    switch (whose(line, lock)) {
    case OURS:
        (void)utimensat(AT_FDCWD, lock->path, NULL, 0);
        break;
    case ANOTHERS:
        atomic_store(&lock->is_lost, true);
        break;
    case NOT_KNOWN:
        break;
    }
}

static rp_status prepare(rp_lock **out, const char *dir, const rp_lock_opts *opts, bool is_root)
{
    rp_status st = RP_OK;
    rp_lock *lock = NULL;

    RP_TRY(rp_calloc(&lock, 1, sizeof(*lock)));
    *out = lock;
    lock->opts = opts == NULL ? rp_lock_opts_default() : *opts;
    RP_TRY(rp_fs_join(&lock->path, dir, ".lock"));
    if (is_root) {
        RP_TRY(acquire(lock, dir));
        RP_TRY(rp_ticker_start(&lock->heartbeat, lock->opts.heartbeat_seconds, beat, lock));
    }
out:
    return st;
}

rp_status rp_lock_take(rp_lock **out, rp_comm *comm, const char *dir, const rp_lock_opts *opts)
{
    rp_status st = RP_OK;
    rp_lock *lock = NULL;

    *out = NULL;
    RP_TRY(rp_agree(comm, prepare(&lock, dir, opts, rp_comm_rank(comm) == 0)));
    rp_comm_bcast(comm, lock->line, sizeof(lock->line), 0); /* all ranks may look */
    *out = lock;
    lock = NULL;
out:
    rp_lock_release(&lock);
    return st;
}

bool rp_lock_is_lost(const rp_lock *lock)
{
    return atomic_load(&lock->is_lost);
}

rp_status rp_lock_check(const rp_lock *lock)
{
    char line[LINE_BYTES];
    holder h;

    if (lock == NULL || whose(line, lock) != ANOTHERS) {
        return RP_OK;
    }
    if (*line == '\0') {
        return RP_FAIL(RP_ERR_LOCKED, "%s: lost: somebody removed it", lock->path);
    }
    parse_line(&h, line);
    return RP_FAIL(RP_ERR_LOCKED, "%s: lost: process %lld on %s has taken the folder over",
                   lock->path, h.pid, h.host);
}

void rp_lock_release(rp_lock **lock)
{
    rp_lock *l = *lock;
    char line[LINE_BYTES];

    if (l == NULL) {
        return;
    }
    rp_ticker_stop(&l->heartbeat);
    if (l->is_held && whose(line, l) == OURS) {
        (void)unlink(l->path);
    }
    free(l->path);
    free(l->own_path);
    free(l->aside_path);
    free(l);
    *lock = NULL;
}

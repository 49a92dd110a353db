/* Rings of forked processes, each a rank without MPI: who is missed, who is not, and how often it
 * is said. Argument: a scratch folder. */
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "jobs/watchdog.h"

#define MAX_RANKS 4
#define DEADLINE 0.6
#define RUNNING (-1)

static const rp_watchdog_opts opts = {
    .interval_seconds = 0.1, .deadline_seconds = DEADLINE, .grace_seconds = 0.1};

typedef struct ring {
    int n;
    pid_t pids[MAX_RANKS];
    int leave[MAX_RANKS]; /* to close: the rank leaves in order */
} ring;

static char dir[512], said_path[600];

static void sleep_seconds(double seconds)
{
    const struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};

    (void)nanosleep(&t, NULL);
}

/* In a child: watches until the pipe is closed. */
static void be_rank(int rank, int n, const char *run, int told)
{
    const rp_watchdog_place place = {.run = run, .rank = rank, .nranks = n};
    rp_watchdog *watchdog = NULL;
    char byte = 0;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* when a check fails */
    if (freopen(said_path, "a", stderr) == NULL ||
        rp_watchdog_join(&watchdog, dir, &place, &opts) != RP_OK) {
        _exit(1);
    }
    rp_watchdog_note(watchdog, "solve");
    while (read(told, &byte, 1) < 0 && errno == EINTR) {
    }
    rp_watchdog_stop(&watchdog);
    _exit(0);
}

static void path_of(char out[700], const char *run, int rank)
{
    (void)snprintf(out, 700, "%s/%s/%s/r%04d", dir, RP_WATCHDOG_DIR, run, rank);
}

static void start_rank(ring *r, int rank, const char *run)
{
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    r->leave[rank] = ends[1];
    r->pids[rank] = fork();
    assert_true(r->pids[rank] >= 0);
    if (r->pids[rank] == 0) {
        for (int i = 0; i <= rank; i++) {
            (void)close(r->leave[i]);
        }
        be_rank(rank, r->n, run, ends[0]);
    }
    (void)close(ends[0]);
}

/* All ranks have shown themselves, and a look or two are past. */
static void start_ring(ring *r, int n)
{
    char path[700];

    assert_ok(rp_fs_make_dirs(dir));
    assert_ok(rp_watchdog_make_folder(dir, "run"));
    assert_ok(rp_fs_write_file(said_path, "", 0));
    r->n = n;
    for (int i = 0; i < n; i++) {
        start_rank(r, i, "run");
    }
    for (int i = 0; i < n; i++) {
        path_of(path, "run", i);
        for (int k = 0; k < 1000 && !rp_fs_exists(path); k++) {
            sleep_seconds(0.01);
        }
    }
    sleep_seconds(3 * opts.interval_seconds);
}

/* The exit code within the time, RUNNING if it has none. */
static int exit_code(const ring *r, int rank, double seconds)
{
    const double end = rp_clock_seconds() + seconds;
    siginfo_t info;

    do {
        info.si_pid = 0;
        assert_int_equal(waitid(P_PID, (id_t)r->pids[rank], &info, WEXITED | WNOHANG | WNOWAIT), 0);
        if (info.si_pid != 0) {
            return info.si_status;
        }
        sleep_seconds(0.01);
    } while (rp_clock_seconds() < end);
    return RUNNING;
}

static void signal_rank(const ring *r, int rank, int number)
{
    assert_int_equal(kill(r->pids[rank], number), 0);
}

static void signal_all(const ring *r, int number)
{
    for (int i = 0; i < r->n; i++) {
        signal_rank(r, i, number);
    }
}

static void collect(const ring *r)
{
    for (int i = 0; i < r->n; i++) {
        (void)close(r->leave[i]);
        (void)kill(r->pids[i], SIGKILL);
        assert_int_equal(waitpid(r->pids[i], NULL, 0), r->pids[i]);
    }
}

static void assert_nothing_left(void)
{
    char path[700];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, RP_WATCHDOG_DIR);
    assert_false(rp_fs_exists(path));
}

/* Nobody was missed: all leave in order. */
static void assert_all_well(ring *r)
{
    for (int i = 0; i < r->n; i++) {
        (void)close(r->leave[i]);
        assert_int_equal(exit_code(r, i, 10), 0);
        r->leave[i] = -1;
    }
    collect(r);
    assert_nothing_left();
}

static char *what_was_said(int *n_lines)
{
    char *text = NULL;
    size_t n = 0;

    assert_ok(rp_fs_read_file(&text, &n, said_path, 1 << 20));
    *n_lines = 0;
    for (const char *c = text; *c != '\0'; c++) {
        *n_lines += *c == '\n';
    }
    return text;
}

static void assert_said_nothing(void)
{
    int n_lines = 0;
    char *text = what_was_said(&n_lines);

    assert_string_equal(text, "");
    free(text);
}

/* One line, and it names one of the ranks (or-ed bits). */
static void assert_said_once(const ring *r, unsigned ranks)
{
    int n_lines = 0;
    char *text = what_was_said(&n_lines);
    char host[64] = "";
    char want[1024];
    bool is_named = false;

    assert_int_equal(n_lines, 1);
    (void)gethostname(host, sizeof(host) - 1);
    for (int i = 0; i < r->n; i++) {
        (void)snprintf(want, sizeof(want),
                       "rankpress: rank %d on %s (pid %d) gave no sign of life for 1 s, last seen "
                       "after solve; stopping; go on with: rankpress resume %s\n",
                       i, host, (int)r->pids[i], dir);
        is_named = is_named || ((ranks & (1U << i)) != 0 && strcmp(text, want) == 0);
    }
    if (!is_named) {
        fail_msg("said: %s", text);
    }
    free(text);
}

static void test_stopped_rank(void **state)
{
    ring r;

    (void)state;
    start_ring(&r, 4);
    signal_rank(&r, 2, SIGSTOP);
    assert_int_equal(exit_code(&r, 1, DEADLINE / 2), RUNNING);
    assert_int_equal(exit_code(&r, 1, DEADLINE + 10), 75);
    /* At the verdict, not by missing one after the other. */
    assert_int_equal(exit_code(&r, 3, 1.5 * DEADLINE), 75);
    assert_int_equal(exit_code(&r, 0, DEADLINE), 75);
    assert_said_once(&r, 1U << 2);
    /* It wakes up, finds itself given up, and says nothing. */
    signal_rank(&r, 2, SIGCONT);
    assert_int_equal(exit_code(&r, 2, 10), 75);
    assert_said_once(&r, 1U << 2);
    collect(&r);
}

static void test_killed_rank(void **state)
{
    ring r;

    (void)state;
    start_ring(&r, 2);
    signal_rank(&r, 0, SIGKILL);
    assert_int_equal(exit_code(&r, 1, DEADLINE + 10), 75);
    assert_said_once(&r, 1U << 0);
    collect(&r);
}

/* Two are missed at once: one line all the same. */
static void test_two_stopped(void **state)
{
    ring r;

    (void)state;
    start_ring(&r, 4);
    signal_rank(&r, 1, SIGSTOP);
    signal_rank(&r, 3, SIGSTOP);
    assert_int_equal(exit_code(&r, 0, DEADLINE + 10), 75);
    assert_int_equal(exit_code(&r, 2, DEADLINE + 10), 75);
    assert_said_once(&r, 1U << 1 | 1U << 3);
    collect(&r);
}

/* Another rank is about to write the verdict. */
static void test_second_accuser(void **state)
{
    ring r;
    char path[700];

    (void)state;
    start_ring(&r, 2);
    (void)snprintf(path, sizeof(path), "%s/%s/run/accuser", dir, RP_WATCHDOG_DIR);
    assert_ok(rp_fs_write_file(path, "", 0));
    signal_rank(&r, 1, SIGSTOP);
    assert_int_equal(exit_code(&r, 0, DEADLINE + 10), 75);
    assert_said_nothing();
    collect(&r);
}

/* All stand still for longer than the deadline; one is the first to go on. */
static void test_watcher_asleep(void **state)
{
    ring r;

    (void)state;
    start_ring(&r, 3);
    signal_all(&r, SIGSTOP);
    sleep_seconds(2 * DEADLINE);
    for (int i = 0; i < 3; i++) {
        signal_rank(&r, i, SIGCONT);
        sleep_seconds(2 * opts.interval_seconds);
    }
    assert_int_equal(exit_code(&r, 0, 2 * DEADLINE), RUNNING);
    assert_said_nothing();
    assert_all_well(&r);
}

/* A rank whose own signs of life are not written knows nothing of the others. */
static void test_no_own_file(void **state)
{
    ring r;
    char path[700];

    (void)state;
    start_ring(&r, 2);
    path_of(path, "run", 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0777), 0);
    signal_rank(&r, 1, SIGSTOP);
    assert_int_equal(exit_code(&r, 0, 2 * DEADLINE), RUNNING);
    assert_said_nothing();
    collect(&r);
}

static void test_left(void **state)
{
    ring r;

    (void)state;
    start_ring(&r, 3);
    (void)close(r.leave[1]);
    r.leave[1] = -1;
    assert_int_equal(exit_code(&r, 1, 10), 0);
    assert_int_equal(exit_code(&r, 0, 2 * DEADLINE), RUNNING);
    assert_int_equal(exit_code(&r, 2, 0), RUNNING);
    assert_said_nothing();
    assert_all_well(&r);
}

/* Files of a run that was killed say nothing about the next one, whose ranks have their names; a
 * rank of it that wakes up ends and leaves the new one alone. */
static void test_earlier_run(void **state)
{
    ring old;
    ring r = {.n = 2};

    (void)state;
    start_ring(&old, 2);
    signal_all(&old, SIGSTOP);
    assert_ok(rp_watchdog_make_folder(dir, "next"));
    for (int i = 0; i < 2; i++) {
        start_rank(&r, i, "next");
    }
    sleep_seconds(2 * DEADLINE);
    signal_all(&old, SIGCONT);
    assert_int_equal(exit_code(&old, 0, 10), 75);
    assert_int_equal(exit_code(&old, 1, 10), 75);
    assert_int_equal(exit_code(&r, 0, 2 * DEADLINE), RUNNING);
    assert_said_nothing();
    collect(&old);
    assert_all_well(&r);
}

/* One rank alone: what a run of several left is removed all the same. */
static void test_nobody_watches(void **state)
{
    rp_watchdog *watchdog = NULL;
    rp_comm *comm = NULL;

    (void)state;
    assert_ok(rp_watchdog_make_folder(dir, "run"));
    assert_ok(rp_comm_create_serial(&comm));
    assert_ok(rp_watchdog_start(&watchdog, comm, dir, NULL));
    assert_null(watchdog);
    rp_watchdog_note(watchdog, "solve");
    rp_watchdog_stop(&watchdog);
    rp_comm_destroy(&comm);
    assert_nothing_left();
}

static void test_faults(void **state)
{
    static const char *const sites[] = {"alloc", "thread"};
    const rp_watchdog_place place = {.run = "run", .rank = 0, .nranks = 2};

    (void)state;
    for (size_t s = 0; s < RP_COUNT(sites); s++) {
        bool was_hit = true;
        for (int64_t n = 1; was_hit; n++) {
            rp_watchdog *watchdog = NULL;
            rp_status st = RP_OK;
            assert_ok(rp_watchdog_make_folder(dir, "run"));
            rp_fault_arm(sites[s], n, false);
            st = rp_watchdog_join(&watchdog, dir, &place, &opts);
            was_hit = rp_fault_count() >= n;
            rp_fault_arm(NULL, 0, false);
            assert_int_equal(st != RP_OK, was_hit);
            assert_int_equal(watchdog == NULL, was_hit);
            rp_watchdog_stop(&watchdog);
        }
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stopped_rank),   cmocka_unit_test(test_killed_rank),
        cmocka_unit_test(test_two_stopped),    cmocka_unit_test(test_second_accuser),
        cmocka_unit_test(test_watcher_asleep), cmocka_unit_test(test_no_own_file),
        cmocka_unit_test(test_left),           cmocka_unit_test(test_earlier_run),
        cmocka_unit_test(test_nobody_watches), cmocka_unit_test(test_faults),
    };

    if (argc != 2) {
        return 64;
    }
    (void)snprintf(dir, sizeof(dir), "%s", argv[1]);
    (void)snprintf(said_path, sizeof(said_path), "%s/said", dir);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

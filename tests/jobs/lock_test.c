/* The lock of an output folder, at any number of ranks: rank 0 holds it, all hear of it. Children
 * are forked on rank 0 before MPI starts, by a launch without MPI ("serial"). Arguments: a scratch
 * folder; "serial". */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "jobs/lock.h"
#include "tests/jobs/rank_check.h"

static char dir[512], lock_path[520];
static char warning[512];

static void keep_warning(void *ctx, const char *text)
{
    (void)ctx;
    (void)snprintf(warning, sizeof(warning), "%s", text);
}

static const rp_lock_opts opts = {
    .heartbeat_seconds = 0.05, .stale_seconds = 30, .warn = keep_warning};

static void sleep_seconds(double seconds)
{
    const struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};

    (void)nanosleep(&t, NULL);
}

/* Files that the lock's making may leave behind, the lock included. */
static int count_locks(void)
{
    DIR *d = opendir(dir);
    const struct dirent *entry = NULL;
    int n = 0;

    CHECK(d != NULL);
    while ((entry = readdir(d)) != NULL) {
        n += strncmp(entry->d_name, ".lock", 5) == 0;
    }
    (void)closedir(d);
    return n;
}

static void write_lock(const char *line, time_t age_seconds)
{
    const struct timespec times[2] = {{time(NULL) - age_seconds, 0}, {time(NULL) - age_seconds, 0}};

    CHECK(rp_fs_write_file(lock_path, line, strlen(line)) == RP_OK);
    CHECK(utimensat(AT_FDCWD, lock_path, times, 0) == 0);
}

static void test_take_and_release(rp_comm *comm)
{
    rp_lock *lock = NULL;
    rp_lock *second = NULL;
    const int rank = rp_comm_rank(comm);

    CHECK(rp_lock_take(&lock, comm, dir, &opts) == RP_OK);
    CHECK(count_locks() == 1 && !rp_lock_is_lost(lock));
    rp_comm_barrier(comm);
    CHECK(rp_lock_take(&second, comm, dir, &opts) == (rank == 0 ? RP_ERR_LOCKED : RP_ERR_PEER));
    CHECK(second == NULL && rp_status_exit_code(rank == 0 ? RP_ERR_LOCKED : RP_ERR_PEER) == 73);
    CHECK(strstr(rp_error_message(), "in use by process") != NULL);
    sleep_seconds(0.2);
    CHECK(!rp_lock_is_lost(lock) && rp_lock_check(lock) == RP_OK);
    rp_comm_barrier(comm);
    if (rank == 0) { /* somebody takes it over: noticed, and theirs is left alone */
        write_lock("rankpress elsewhere 1 1 1 - 0 0\n", 0);
        sleep_seconds(0.5);
        CHECK(rp_lock_is_lost(lock) && rp_lock_check(lock) == RP_ERR_LOCKED);
        CHECK(strstr(rp_error_message(), "lost: process 1 on elsewhere") != NULL);
        CHECK(unlink(lock_path) == 0 && rp_lock_check(lock) == RP_ERR_LOCKED);
        write_lock("rankpress elsewhere 1 1 1 - 0 0\n", 0);
    }
    rp_comm_barrier(comm);
    CHECK(rp_lock_check(lock) == RP_ERR_LOCKED);
    rp_comm_barrier(comm);
    rp_lock_release(&lock);
    CHECK(lock == NULL && rp_fs_exists(lock_path));
    rp_comm_barrier(comm);
    if (rank == 0) {
        CHECK(unlink(lock_path) == 0);
    }
    rp_comm_barrier(comm);
    CHECK(rp_lock_take(&lock, comm, dir, NULL) == RP_OK);
    rp_comm_barrier(comm);
    rp_lock_release(&lock);
    rp_comm_barrier(comm);
    CHECK(count_locks() == 0);
    rp_comm_barrier(comm);
}

static void test_other_host(rp_comm *comm)
{
    rp_lock *lock = NULL;
    const int rank = rp_comm_rank(comm);

    if (rank == 0) {
        write_lock("rankpress elsewhere 4711 99 1 77 1 0\n", 10);
    }
    rp_comm_barrier(comm);
    CHECK(rp_lock_take(&lock, comm, dir, &opts) != RP_OK);
    CHECK(strstr(rp_error_message(), "process 4711 on elsewhere") != NULL);
    rp_comm_barrier(comm);
    if (rank == 0) {
        write_lock("rankpress elsewhere 4711 99 1 77 1 0\n", 100);
    }
    rp_comm_barrier(comm);
    CHECK(rp_lock_take(&lock, comm, dir, &opts) == RP_OK);
    CHECK(rank != 0 || strstr(warning, "taking over from process 4711 on elsewhere") != NULL);
    rp_comm_barrier(comm);
    CHECK(count_locks() == 1);
    rp_comm_barrier(comm);
    rp_lock_release(&lock);
    rp_comm_barrier(comm);
}

/* A batch job that was started again takes its own lock at once; others, and the same start of it,
 * do not. Force takes any. */
static void test_batch_job(rp_comm *comm)
{
    static const struct {
        const char *job_id;
        int64_t restarts;
        bool is_forced, is_taken;
    } tries[] = {{"77", 1, false, false}, {"77", 0, false, false}, {"78", 9, false, false},
                 {NULL, 9, false, false}, {"77", 2, false, true},  {NULL, 0, true, true}};

    for (size_t i = 0; i < RP_COUNT(tries); i++) {
        rp_lock *lock = NULL;
        rp_lock_opts own = opts;
        rp_status st = RP_OK;
        own.job_id = tries[i].job_id;
        own.restarts = tries[i].restarts;
        own.is_forced = tries[i].is_forced;
        if (rp_comm_rank(comm) == 0) {
            write_lock("rankpress elsewhere 4711 99 1 77 1 0\n", 10);
        }
        rp_comm_barrier(comm);
        st = rp_lock_take(&lock, comm, dir, &own);
        CHECK((st == RP_OK) == tries[i].is_taken);
        CHECK(st == RP_OK || strstr(rp_error_message(), "on elsewhere, job 77, last") != NULL);
        rp_comm_barrier(comm);
        rp_lock_release(&lock);
        if (rp_comm_rank(comm) == 0) {
            (void)unlink(lock_path);
        }
        rp_comm_barrier(comm);
    }
}

static void test_faults(rp_comm *comm)
{
    static const char *const sites[] = {"alloc", "open", "write", "link", "thread"};

    for (size_t s = 0; s < RP_COUNT(sites); s++) {
        bool was_hit = true;
        for (int64_t n = 1; was_hit; n++) {
            rp_lock *lock = NULL;
            rp_status st = RP_OK;
            rp_fault_arm(rp_comm_rank(comm) == 0 ? sites[s] : NULL, n, false);
            st = rp_lock_take(&lock, comm, dir, &opts);
            was_hit = rp_comm_any(comm, rp_fault_count() >= n);
            rp_fault_arm(NULL, 0, false);
            CHECK((st != RP_OK) == was_hit && (lock == NULL) == was_hit);
            CHECK(count_locks() == !was_hit);
            rp_comm_barrier(comm);
            rp_lock_release(&lock);
            rp_comm_barrier(comm);
        }
    }
}

/* A process of the same number in another pid namespace of this host says nothing: age decides. */
static void test_other_namespace(rp_comm *comm)
{
    rp_lock *lock = NULL;
    char host[64] = "";
    char line[128];

    CHECK(gethostname(host, sizeof(host) - 1) == 0);
    (void)snprintf(line, sizeof(line), "rankpress %s 4194303 99 1 - 0 0\n", host);
    write_lock(line, 10);
    CHECK(rp_lock_take(&lock, comm, dir, &opts) == RP_ERR_LOCKED);
    CHECK(unlink(lock_path) == 0);
}

/* A child that takes the lock and holds it until it is killed. */
static pid_t fork_holder(rp_comm *comm)
{
    const pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0) {
        rp_lock *lock = NULL;
        _exit(rp_lock_take(&lock, comm, dir, &opts) == RP_OK ? pause() : 1);
    }
    return pid;
}

static void test_killed_holder(rp_comm *comm)
{
    rp_lock *lock = NULL;
    const pid_t pid = fork_holder(comm);
    char who[64];
    siginfo_t info;

    for (int i = 0; i < 1000 && !rp_fs_exists(lock_path); i++) {
        sleep_seconds(0.01);
    }
    (void)snprintf(who, sizeof(who), "process %d on ", (int)pid);
    CHECK(rp_lock_take(&lock, comm, dir, &opts) == RP_ERR_LOCKED);
    CHECK(strstr(rp_error_message(), who) != NULL);
    /* It has ended, but nobody has collected it yet. */
    CHECK(kill(pid, SIGKILL) == 0 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
    CHECK(rp_lock_take(&lock, comm, dir, &opts) == RP_OK);
    CHECK(strstr(warning, who) != NULL);
    CHECK(waitpid(pid, NULL, 0) == pid);
    rp_lock_release(&lock);
    CHECK(count_locks() == 0);
}

/* Many at once on a stale lock: one gets it. */
static void test_race(rp_comm *comm)
{
    enum { N = 8 };

    for (int round = 0; round < 5; round++) {
        pid_t pids[N];
        int n_locked = 0;
        write_lock("rankpress elsewhere 4711 99 1 77 1 0\n", 100);
        for (int i = 0; i < N; i++) {
            pids[i] = fork_holder(comm);
        }
        for (int i = 0; i < 300 && n_locked < N - 1; i++) {
            sleep_seconds(0.01);
            for (int k = 0; k < N; k++) {
                int status = 0;
                if (pids[k] != 0 && waitpid(pids[k], &status, WNOHANG) == pids[k]) {
                    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1);
                    pids[k] = 0;
                    n_locked++;
                }
            }
        }
        CHECK(n_locked == N - 1);
        for (int k = 0; k < N; k++) {
            if (pids[k] != 0) {
                CHECK(kill(pids[k], SIGKILL) == 0 && waitpid(pids[k], NULL, 0) == pids[k]);
            }
        }
        CHECK(count_locks() == 1 && unlink(lock_path) == 0);
    }
}

int main(int argc, char **argv)
{
    rp_comm *comm = NULL;
    const bool is_serial = argc > 2;

    CHECK(argc > 1);
    CHECK((is_serial ? rp_comm_create_serial(&comm) : rp_comm_create_world(&comm)) == RP_OK);
    (void)snprintf(dir, sizeof(dir), "%s/r%d", argv[1], rp_comm_nranks(comm));
    (void)snprintf(lock_path, sizeof(lock_path), "%s/.lock", dir);
    if (rp_comm_rank(comm) == 0) {
        CHECK(rp_fs_make_dirs(dir) == RP_OK);
        (void)unlink(lock_path);
    }
    rp_comm_barrier(comm);
    test_take_and_release(comm);
    test_other_host(comm);
    test_batch_job(comm);
    test_faults(comm);
    if (is_serial) {
        test_other_namespace(comm);
        test_killed_holder(comm);
        test_race(comm);
    }
    rp_comm_destroy(&comm);
    return 0;
}

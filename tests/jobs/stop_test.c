/* The stop flag and the time limit; at several ranks, agreement on them. Argument "serial": the
 * signals, in forked children. */
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "jobs/stop.h"
#include "tests/jobs/rank_check.h"

static const rp_walltime no_limit = {0};

static void wait_for_second_signal(void)
{
    const struct timespec t = {1, 200000000};

    (void)nanosleep(&t, NULL);
}

/* In a child: the first signal sets the flag, its double does nothing, a later one ends. */
static void child(int signal_number, const char *name)
{
    CHECK(rp_stop_install() == RP_OK && !rp_stop_requested());
    CHECK(raise(signal_number) == 0 && rp_stop_requested());
    CHECK(raise(signal_number) == 0);
    CHECK(strcmp(rp_stop_reason(no_limit, 0), name) == 0);
    wait_for_second_signal();
    (void)raise(signal_number);
    _exit(0);
}

static void test_signals(void)
{
    static const struct {
        int number;
        const char *name;
    } signals[] = {{SIGTERM, "SIGTERM"}, {SIGINT, "SIGINT"}, {SIGUSR1, "SIGUSR1"}};
    pid_t pids[3];

    for (int i = 0; i < 3; i++) {
        pids[i] = fork();
        CHECK(pids[i] >= 0);
        if (pids[i] == 0) {
            child(signals[i].number, signals[i].name);
        }
    }
    for (int i = 0; i < 3; i++) {
        int status = 0;
        CHECK(waitpid(pids[i], &status, 0) == pids[i]);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 128 + signals[i].number);
    }
}

static void test_walltime(void)
{
    const rp_walltime soon = rp_walltime_start(100);
    const rp_walltime late = rp_walltime_until((double)time(NULL) + 1000);

    CHECK(isinf(rp_walltime_left(no_limit)) && isinf(rp_walltime_left(rp_walltime_start(0))));
    CHECK(isinf(rp_walltime_left(rp_walltime_until(0))));
    CHECK(rp_walltime_left(soon) > 90 && rp_walltime_left(soon) <= 100);
    CHECK(rp_walltime_left(late) > 990 && rp_walltime_left(late) <= 1000);
    CHECK(rp_walltime_left(rp_walltime_until((double)time(NULL) - 10)) < 0);
    CHECK(rp_walltime_earlier(soon, late).end_seconds == soon.end_seconds);
    CHECK(rp_walltime_earlier(late, soon).end_seconds == soon.end_seconds);
    CHECK(rp_walltime_earlier(no_limit, soon).end_seconds == soon.end_seconds);
    CHECK(rp_walltime_earlier(soon, no_limit).end_seconds == soon.end_seconds);
}

static void test_agree(rp_comm *comm)
{
    const bool is_last = rp_comm_rank(comm) == rp_comm_nranks(comm) - 1;
    const rp_walltime limit = is_last ? rp_walltime_start(100) : no_limit;

    rp_stop_reset();
    CHECK(!rp_stop_agree(comm, no_limit, 1e9));
    CHECK(!rp_stop_agree(comm, limit, 10));
    CHECK(rp_stop_agree(comm, limit, 200));
    CHECK(strcmp(rp_stop_reason(limit, 200),
                 is_last ? "the time limit" : "another rank's request") == 0);
    if (is_last) {
        rp_stop_request(0);
        CHECK(strcmp(rp_stop_reason(no_limit, 0), "a request") == 0);
    }
    CHECK(rp_stop_agree(comm, no_limit, 0));
    CHECK(rp_stop_requested() == is_last);
    rp_stop_reset();
    CHECK(!rp_stop_agree(comm, no_limit, 0));
}

int main(int argc, char **argv)
{
    rp_comm *comm = NULL;
    const bool is_serial = argc > 1;

    (void)argv;
    CHECK((is_serial ? rp_comm_create_serial(&comm) : rp_comm_create_world(&comm)) == RP_OK);
    if (is_serial) {
        test_signals();
    }
    test_walltime();
    test_agree(comm);
    rp_comm_destroy(&comm);
    return 0;
}

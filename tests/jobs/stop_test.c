/* The stop flag and the time limit, and how other ranks learn of them. Argument "serial": the
 * signals, in forked children. */
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "jobs/stop.h"
#include "tests/jobs/rank_check.h"

static const rp_walltime no_limit = {0};

static void wait_for_second_signal(void)
{
    const struct timespec t = {1, 200000000};

    (void)nanosleep(&t, NULL);
}

/* In a child: the first signal sets the flag, its double does nothing, a later one ends. */
static void child(rp_comm *comm, int signal_number, const char *name)
{
    rp_stop_plan plan = rp_stop_plan_make(comm, no_limit, 45);

    CHECK(rp_stop_install() == RP_OK && !rp_stop_requested());
    CHECK(raise(signal_number) == 0 && rp_stop_requested());
    CHECK(raise(signal_number) == 0);
    CHECK(rp_stop_poll(&plan) == RP_ERR_STOPPED && strcmp(rp_stop_reason(&plan), name) == 0);
    CHECK(strstr(rp_error_message(), name) != NULL);
    wait_for_second_signal();
    (void)raise(signal_number);
    _exit(0);
}

static void test_signals(rp_comm *comm)
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
            child(comm, signals[i].number, signals[i].name);
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

/* One rank's reason stops all: at once where it is, soon elsewhere. */
static void test_poll(rp_comm *comm)
{
    const bool is_last = rp_comm_rank(comm) == rp_comm_nranks(comm) - 1;
    rp_stop_plan plan = rp_stop_plan_make(comm, no_limit, 45);
    rp_stop_plan limited = rp_stop_plan_make(comm, rp_walltime_start(100), 10);
    rp_status st = RP_OK;

    rp_stop_reset();
    CHECK(rp_agree(comm, rp_stop_poll(&plan)) == RP_OK);
    CHECK(rp_stop_poll(&limited) == RP_OK && limited.lead_seconds == 10);
    rp_comm_barrier(comm); /* all have looked before one has a reason */
    if (is_last) {
        limited.lead_seconds = 200;
        CHECK(rp_stop_poll(&limited) == RP_ERR_STOPPED);
        CHECK(strcmp(rp_error_message(), "stopped by the time limit") == 0);
    }
    while ((st = rp_stop_poll(&plan)) == RP_OK) {
    }
    CHECK(rp_stop_requested());
    CHECK(strcmp(rp_stop_reason(&plan), is_last ? "a request" : "another rank's request") == 0);
    CHECK(rp_agree(comm, st) == RP_ERR_STOPPED);
    CHECK(strcmp(rp_stop_first_reason(&plan), "a request") == 0);
    rp_stop_reset();
}

static void test_save_left(rp_comm *comm)
{
    rp_stop_plan plan = rp_stop_plan_make(comm, no_limit, 45);
    rp_stop_plan short_plan = rp_stop_plan_make(comm, rp_walltime_start(20), 45);

    CHECK(rp_stop_save_left(&plan) > 44 && rp_stop_save_left(&plan) <= 45);
    plan.asked_at = rp_clock_seconds() - 50;
    CHECK(rp_stop_save_left(&plan) < 0);
    CHECK(short_plan.lead_seconds > 9 && short_plan.lead_seconds <= 10);
    CHECK(rp_stop_save_left(&short_plan) <= 20);
}

int main(int argc, char **argv)
{
    rp_comm *comm = NULL;
    const bool is_serial = argc > 1;

    (void)argv;
    CHECK((is_serial ? rp_comm_create_serial(&comm) : rp_comm_create_world(&comm)) == RP_OK);
    if (is_serial) {
        test_signals(comm);
    }
    test_walltime();
    test_poll(comm);
    test_save_left(comm);
    rp_comm_destroy(&comm);
    return 0;
}

/* The stop flag. The handler does what is allowed in one: atomics, clock_gettime, _exit. */
#include "jobs/stop.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"

/* A launcher and the batch system both pass a signal on: a second one so soon is the same one. */
#define SAME_SIGNAL_SECONDS 1.0

static const int stop_signals[] = {SIGTERM, SIGINT, SIGUSR1};

static atomic_bool stop_flag;
static _Atomic int64_t first_signal; /* when, in microseconds, * 256 + its number; 0: none yet */

static int64_t now_us(void)
{
    return (int64_t)(1e6 * rp_clock_seconds());
}

void rp_stop_request(int signal_number)
{
    int64_t none = 0;

    if (signal_number != 0) {
        (void)atomic_compare_exchange_strong(&first_signal, &none, now_us() * 256 + signal_number);
    }
    atomic_store(&stop_flag, true);
}

static void handle(int signal_number)
{
    const int kept_errno = errno;
    const int64_t first = atomic_load(&first_signal);

    if (first != 0 && now_us() - first / 256 >= (int64_t)(1e6 * SAME_SIGNAL_SECONDS)) {
        _exit(128 + signal_number);
    }
    rp_stop_request(signal_number);
    errno = kept_errno;
}

static void mask_signals(int how)
{
    sigset_t set;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < RP_COUNT(stop_signals); i++) {
        (void)sigaddset(&set, stop_signals[i]);
    }
    (void)pthread_sigmask(how, &set, NULL);
}

void rp_stop_hold(void)
{
    mask_signals(SIG_BLOCK);
}

void rp_stop_release(void)
{
    mask_signals(SIG_UNBLOCK);
}

rp_status rp_stop_install(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = handle;
    action.sa_flags = SA_RESTART;
    (void)sigfillset(&action.sa_mask);
    for (size_t i = 0; i < RP_COUNT(stop_signals); i++) {
        if (sigaction(stop_signals[i], &action, NULL) != 0) {
            return RP_FAIL(RP_ERR_INTERNAL, "cannot handle signal %d: %s", stop_signals[i],
                           strerror(errno));
        }
    }
    return RP_OK;
}

bool rp_stop_requested(void)
{
    return atomic_load(&stop_flag);
}

void rp_stop_reset(void)
{
    atomic_store(&stop_flag, false);
    atomic_store(&first_signal, 0);
}

rp_walltime rp_walltime_start(double limit_seconds)
{
    const rp_walltime walltime = {limit_seconds > 0 ? rp_clock_seconds() + limit_seconds : 0};

    return walltime;
}

rp_walltime rp_walltime_until(double epoch_seconds)
{
    struct timespec now;
    rp_walltime walltime = {0};

    if (epoch_seconds > 0) {
        (void)clock_gettime(CLOCK_REALTIME, &now);
        walltime.end_seconds =
            rp_clock_seconds() + epoch_seconds - (double)now.tv_sec - 1e-9 * (double)now.tv_nsec;
    }
    return walltime;
}

rp_walltime rp_walltime_earlier(rp_walltime a, rp_walltime b)
{
    if (a.end_seconds == 0 || b.end_seconds == 0) {
        return a.end_seconds == 0 ? b : a;
    }
    return a.end_seconds < b.end_seconds ? a : b;
}

double rp_walltime_left(rp_walltime walltime)
{
    return walltime.end_seconds == 0 ? HUGE_VAL : walltime.end_seconds - rp_clock_seconds();
}

rp_stop_plan rp_stop_plan_make(rp_comm *comm, rp_walltime walltime, double save_seconds)
{
    const rp_stop_plan plan = {.comm = comm,
                               .walltime = walltime,
                               .lead_seconds = RP_MIN(save_seconds, rp_walltime_left(walltime) / 2),
                               .save_seconds = save_seconds};

    return plan;
}

/* What a rank knows itself comes behind what it heard from others. */
static const char *const reasons[] = {
    "nothing", "another rank's request", "a request", "the time limit", "SIGUSR1", "SIGINT",
    "SIGTERM"};
enum { NO_REASON, NOTIFIED, REQUESTED, TIME_LIMIT, BY_SIGUSR1, BY_SIGINT, BY_SIGTERM };

static int reason_of(const rp_stop_plan *plan)
{
    switch (atomic_load(&first_signal) % 256) {
    case SIGTERM:
        return BY_SIGTERM;
    case SIGINT:
        return BY_SIGINT;
    case SIGUSR1:
        return BY_SIGUSR1;
    default:
        break;
    }
    if (rp_walltime_left(plan->walltime) < plan->lead_seconds) {
        return TIME_LIMIT;
    }
    if (rp_stop_requested()) {
        return REQUESTED;
    }
    return rp_comm_is_notified(plan->comm) ? NOTIFIED : NO_REASON;
}

rp_status rp_stop_poll(rp_stop_plan *plan)
{
    if (RP_FAULT("stop")) {
        rp_stop_request(0);
    }
    if (plan->reason == NO_REASON) {
        plan->reason = reason_of(plan);
        if (plan->reason == NO_REASON) {
            return RP_OK;
        }
        plan->asked_at = rp_clock_seconds();
        rp_stop_request(0);
        rp_comm_notify(plan->comm);
    }
    return RP_FAIL(RP_ERR_STOPPED, "stopped by %s", rp_stop_reason(plan));
}

const char *rp_stop_reason(const rp_stop_plan *plan)
{
    return reasons[plan->reason];
}

const char *rp_stop_first_reason(const rp_stop_plan *plan)
{
    double strongest = plan->reason;

    rp_comm_allreduce_max_f64(plan->comm, &strongest, 1);
    return reasons[(int)strongest];
}

bool rp_stop_is_due(rp_stop_plan *plan, int thread)
{
    return thread == 0 ? rp_stop_poll(plan) != RP_OK : rp_stop_requested();
}

double rp_stop_save_left(const rp_stop_plan *plan)
{
    const double begin = plan->asked_at > 0 ? plan->asked_at : rp_clock_seconds();

    return RP_MIN(begin + plan->save_seconds - rp_clock_seconds(),
                  rp_walltime_left(plan->walltime));
}

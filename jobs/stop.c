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

rp_status rp_stop_install(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = handle;
    action.sa_flags = SA_RESTART;
    (void)sigfillset(&action.sa_mask);
    for (size_t i = 0; i < sizeof(stop_signals) / sizeof(stop_signals[0]); i++) {
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

bool rp_stop_agree(rp_comm *comm, rp_walltime walltime, double need_seconds)
{
    return rp_comm_any(comm, rp_stop_requested() || rp_walltime_left(walltime) < need_seconds);
}

const char *rp_stop_reason(rp_walltime walltime, double need_seconds)
{
    switch (atomic_load(&first_signal) % 256) {
    case SIGTERM:
        return "SIGTERM";
    case SIGINT:
        return "SIGINT";
    case SIGUSR1:
        return "SIGUSR1";
    default:
        break;
    }
    if (rp_walltime_left(walltime) < need_seconds) {
        return "the time limit";
    }
    return rp_stop_requested() ? "a request" : "another rank's request";
}

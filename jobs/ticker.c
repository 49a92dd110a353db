/* The thread sleeps on a condition of the monotonic clock, so that stopping it takes no time and a
 * change of the clock's date does not matter. */
#include "jobs/ticker.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/thread.h"

struct rp_ticker {
    double seconds;
    void (*tick)(void *ctx);
    void *ctx;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool is_ending; /* under mutex */
};

static struct timespec after(double seconds)
{
    struct timespec t;
    double wake = 0;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    wake = 1e-9 * (double)t.tv_nsec + seconds;
    t.tv_sec += (time_t)wake;
    t.tv_nsec = (long)(1e9 * (wake - (double)(time_t)wake));
    return t;
}

/* False when the ticker is to end. */
static bool wait_for_turn(rp_ticker *ticker)
{
    const struct timespec until = after(ticker->seconds);
    int waited = 0;
    bool is_ending = false;

    (void)pthread_mutex_lock(&ticker->mutex);
    while (!ticker->is_ending && waited != ETIMEDOUT) {
        waited = pthread_cond_timedwait(&ticker->cond, &ticker->mutex, &until);
    }
    is_ending = ticker->is_ending;
    (void)pthread_mutex_unlock(&ticker->mutex);
    return !is_ending;
}

static void *run(void *ctx)
{
    rp_ticker *ticker = ctx;

    while (wait_for_turn(ticker)) {
        ticker->tick(ticker->ctx);
    }
    return NULL;
}

static void destroy(rp_ticker *ticker)
{
    (void)pthread_cond_destroy(&ticker->cond);
    (void)pthread_mutex_destroy(&ticker->mutex);
    free(ticker);
}

rp_status rp_ticker_start(rp_ticker **out, double seconds, void (*tick)(void *ctx), void *ctx)
{
    rp_status st = RP_OK;
    pthread_condattr_t monotonic;
    rp_ticker *ticker = NULL;
    int failed = 0;

    *out = NULL;
    RP_TRY(rp_calloc(&ticker, 1, sizeof(*ticker)));
    ticker->seconds = seconds;
    ticker->tick = tick;
    ticker->ctx = ctx;
    (void)pthread_mutex_init(&ticker->mutex, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&ticker->cond, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    failed = RP_FAULT("thread") ? EAGAIN : rp_thread_start(&ticker->thread, run, ticker);
    if (failed != 0) {
        destroy(ticker);
        st = RP_FAIL(RP_ERR_MEMORY, "no thread for the heartbeat: %s", strerror(failed));
        goto out;
    }
    *out = ticker;
out:
    return st;
}

void rp_ticker_stop(rp_ticker **ticker)
{
    rp_ticker *t = *ticker;

    if (t == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&t->mutex);
    t->is_ending = true;
    (void)pthread_cond_signal(&t->cond);
    (void)pthread_mutex_unlock(&t->mutex);
    (void)pthread_join(t->thread, NULL);
    destroy(t);
    *ticker = NULL;
}

/* Threads beside the one that computes. */
#include "base/mem.h"
#include "base/thread.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static const int stop_signals[] = {SIGTERM, SIGINT, SIGUSR1};

static int n_taken(void)
{
    sigset_t held;
    int n = 0;

    (void)pthread_sigmask(SIG_SETMASK, NULL, &held);
    for (size_t i = 0; i < RP_COUNT(stop_signals); i++) {
        n += sigismember(&held, stop_signals[i]) == 0;
    }
    return n;
}

static void *count_taken(void *ctx)
{
    *(int *)ctx = n_taken();
    return NULL;
}

static void the_thread_takes_no_signals(void **state)
{
    pthread_t thread;
    int n = -1;

    (void)state;
    assert_int_equal(rp_thread_start(&thread, count_taken, &n), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(n, 0);
    assert_int_equal(n_taken(), RP_COUNT(stop_signals)); /* as before */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_thread_takes_no_signals)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

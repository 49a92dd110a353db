/* See thread.h. */
#include "base/thread.h"

#include <signal.h>

int rp_thread_start(pthread_t *out, void *(*run)(void *ctx), void *ctx)
{
    sigset_t all;
    sigset_t kept;
    int failed = 0;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &kept);
    failed = pthread_create(out, NULL, run, ctx);
    (void)pthread_sigmask(SIG_SETMASK, &kept, NULL);
    return failed;
}

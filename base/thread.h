/* A thread beside the one that computes. */
#ifndef RP_BASE_THREAD_H
#define RP_BASE_THREAD_H

#include <pthread.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Local. 0 or an errno. The thread, and those that it starts, take no signals: they are for the
 * thread that computes. */
int rp_thread_start(pthread_t *out, void *(*run)(void *ctx), void *ctx);

#ifdef __cplusplus
}
#endif
#endif

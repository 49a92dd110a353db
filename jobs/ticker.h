/* A thread that does one small thing every few seconds beside the work. */
#ifndef RP_JOBS_TICKER_H
#define RP_JOBS_TICKER_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_ticker rp_ticker;

/* Local. Calls tick(ctx) every `seconds`, counted from the end of the call before; the first one
 * comes after as long. The thread takes no signals: they are for the thread that computes. */
RP_CHECKED rp_status rp_ticker_start(rp_ticker **out, double seconds, void (*tick)(void *ctx),
                                     void *ctx);
/* Local. Returns when the thread has ended: a call in progress is waited for. Accepts NULL. */
void rp_ticker_stop(rp_ticker **ticker);

#ifdef __cplusplus
}
#endif
#endif

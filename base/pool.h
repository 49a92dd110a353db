/* Thread pool: runs numbered tiles of a fixed partition. What a tile computes must not depend on
 * which thread takes it or when, so results are the same for any thread count. */
#ifndef RP_BASE_POOL_H
#define RP_BASE_POOL_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_pool rp_pool;
/* `thread` is 0 .. rp_pool_nthreads - 1: an index for per-thread scratch. */
typedef void (*rp_tile_fn)(void *ctx, int64_t tile, int thread);

/* Local. nthreads >= 1; the caller's thread is one of them. */
RP_CHECKED rp_status rp_pool_create(rp_pool **out, int nthreads);
void rp_pool_destroy(rp_pool **pool);
int rp_pool_nthreads(const rp_pool *pool);
/* Local. Calls fn(ctx, 0..ntiles-1, thread) each once, returns when all are done. NULL pool: in the
 * caller's thread. Not reentrant: fn must not call rp_pool_run on the same pool. */
void rp_pool_run(rp_pool *pool, int64_t ntiles, rp_tile_fn fn, void *ctx);

#ifdef __cplusplus
}
#endif
#endif

/* Workers sleep on a condition variable between runs and take tiles from one atomic counter during
 * a run. */
#include "base/pool.h"

#include "base/fault.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct rp_pool {
    int nthreads;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_cond_t done;
    uint64_t round; /* a new value means a new run */
    int working;    /* workers that have not finished the round */
    bool is_closing;
    rp_tile_fn fn;
    void *ctx;
    int64_t ntiles;
    _Atomic int64_t next;
    struct worker {
        pthread_t id;
        rp_pool *pool;
        int thread;
    } * workers; /* [nthreads - 1] */
    int nstarted;
};

static void take_tiles(rp_pool *pool, int thread)
{
    for (;;) {
        const int64_t tile = atomic_fetch_add(&pool->next, 1);
        if (tile >= pool->ntiles) {
            return;
        }
        pool->fn(pool->ctx, tile, thread);
    }
}

static void *worker_main(void *arg)
{
    struct worker *self = arg;
    rp_pool *pool = self->pool;
    uint64_t seen = 0;

    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->round == seen && !pool->is_closing) {
            pthread_cond_wait(&pool->wake, &pool->lock);
        }
        if (pool->is_closing) {
            break;
        }
        seen = pool->round;
        pthread_mutex_unlock(&pool->lock);
        take_tiles(pool, self->thread);
        pthread_mutex_lock(&pool->lock);
        if (--pool->working == 0) {
            pthread_cond_signal(&pool->done);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

rp_status rp_pool_create(rp_pool **out, int nthreads)
{
    rp_status st = RP_OK;
    rp_pool *pool = NULL;

    *out = NULL;
    RP_TRY(rp_calloc(&pool, 1, sizeof(*pool)));
    pool->nthreads = nthreads;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    RP_TRY(rp_calloc(&pool->workers, (size_t)RP_MAX(nthreads - 1, 1), sizeof(*pool->workers)));
    for (int i = 0; i + 1 < nthreads; i++) {
        pool->workers[i].pool = pool;
        pool->workers[i].thread = i + 1;
        if (RP_FAULT("thread") ||
            pthread_create(&pool->workers[i].id, NULL, worker_main, &pool->workers[i]) != 0) {
            st = RP_FAIL(RP_ERR_MEMORY, "cannot start thread %d of %d", i + 2, nthreads);
            goto out;
        }
        pool->nstarted++;
    }
    *out = pool;
    pool = NULL;
out:
    rp_pool_destroy(&pool);
    return st;
}

void rp_pool_destroy(rp_pool **pool)
{
    rp_pool *p = *pool;

    if (p == NULL) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->is_closing = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->nstarted; i++) {
        pthread_join(p->workers[i].id, NULL);
    }
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p);
    *pool = NULL;
}

int rp_pool_nthreads(const rp_pool *pool)
{
    return pool == NULL ? 1 : pool->nthreads;
}

void rp_pool_run(rp_pool *pool, int64_t ntiles, rp_tile_fn fn, void *ctx)
{
    if (pool == NULL || pool->nstarted == 0 || ntiles <= 1) {
        for (int64_t tile = 0; tile < ntiles; tile++) {
            fn(ctx, tile, 0);
        }
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->fn = fn;
    pool->ctx = ctx;
    pool->ntiles = ntiles;
    atomic_store(&pool->next, 0);
    pool->working = pool->nstarted;
    pool->round++;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    take_tiles(pool, 0);
    pthread_mutex_lock(&pool->lock);
    while (pool->working > 0) {
        pthread_cond_wait(&pool->done, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
}

/* Batches of windows are dealt to ranks in turn; their results are gathered and summed in window
 * order. */
#include "jobs/evaluate.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "jobs/dealt.h"
#include "jobs/stop.h"

typedef struct ticker {
    rp_progress *progress;
    rp_stop_plan *stop;
    int64_t done;
} ticker;

static rp_status tick(void *ctx, int64_t units)
{
    ticker *t = ctx;

    t->done += units;
    rp_progress_update(t->progress, (double)t->done);
    return t->stop == NULL ? RP_OK : rp_stop_poll(t->stop);
}

/* Windows and how they are dealt: in batches, of which the last may be short. */
typedef struct dealing {
    int64_t n_windows, batch, n_batches;
} dealing;

/* This rank's windows; returns their number. indices [n_windows]. */
static int64_t list_windows(int64_t *indices, const dealing *d, const rp_comm *comm)
{
    int64_t n = 0;

    for (int64_t b = rp_comm_rank(comm); b < d->n_batches; b += rp_comm_nranks(comm)) {
        const int64_t end = RP_MIN((b + 1) * d->batch, d->n_windows);
        for (int64_t i = b * d->batch; i < end; i++) {
            indices[n++] = i;
        }
    }
    return n;
}

/* This rank's windows into their places of `all`. */
static rp_status run_windows(rp_eval_window *all, const dealing *d, const rp_evaluator *e,
                             const rp_weights *model, const rp_weights *base, const char *what)
{
    rp_status st = RP_OK;
    int64_t n = 0;
    rp_lm *lm = NULL;
    rp_lm *base_lm = NULL;
    int64_t *indices = NULL;
    rp_eval_window *windows = NULL;
    ticker t = {.stop = e->stop};
    const rp_lm_tick on_tick = {tick, &t};

    RP_TRY(rp_alloc_array(&indices, (size_t)d->n_windows, sizeof(*indices)));
    n = list_windows(indices, d, e->comm);
    if (n == 0) {
        goto out;
    }
    RP_TRY(rp_lm_create(&lm, model, NULL, e->ops, e->exec, e->opts.context));
    if (base != NULL) {
        RP_TRY(rp_lm_create(&base_lm, base, NULL, e->ops, e->exec, e->opts.context));
    }
    RP_TRY(rp_calloc(&windows, (size_t)n, sizeof(*windows)));
    RP_TRY(rp_progress_create(&t.progress, e->progress, what, "units",
                              (double)rp_eval_units(rp_weights_config(model),
                                                    base == NULL ? NULL : rp_weights_config(base),
                                                    n)));
    RP_TRY(rp_eval_windows(windows, lm, base_lm, &e->opts, e->ids, indices, n, &on_tick));
    for (int64_t i = 0; i < n; i++) {
        all[indices[i]] = windows[i];
    }
out:
    rp_progress_finish(&t.progress);
    free(windows);
    free(indices);
    rp_lm_destroy(&base_lm);
    rp_lm_destroy(&lm);
    return st;
}

rp_status rp_evaluate(rp_eval_result *out, const rp_evaluator *e, const rp_weights *model,
                      const rp_weights *base, const char *what)
{
    rp_status st = RP_OK;
    rp_eval_window *all = NULL;
    dealing d = {.n_windows = 0};

    memset(out, 0, sizeof(*out));
    st = rp_eval_count_windows(&d.n_windows, &e->opts, e->n_ids);
    if (st == RP_OK) {
        d.batch = rp_lm_batch_seqs(!rp_place_is_host(e->exec), e->opts.context);
        d.n_batches = RP_DIV_UP(d.n_windows, d.batch);
        st = rp_calloc(&all, (size_t)(d.n_batches * d.batch), sizeof(*all));
    }
    RP_TRY(rp_agree(e->comm, st));
    RP_ASSERT(all != NULL);
    RP_TRY(rp_agree(e->comm, run_windows(all, &d, e, model, base, what)));
    RP_TRY(rp_dealt_gather(e->comm, all, d.n_batches, (size_t)d.batch * sizeof(*all)));
    *out = rp_eval_summarise(all, d.n_windows);
out:
    free(all);
    return st;
}

/* Windows are dealt to ranks in turn; their results are gathered and summed in window order. */
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

/* This rank's windows into all[r], all[r + R], ... */
static rp_status run_windows(rp_eval_window *all, int64_t n_all, const rp_evaluator *e,
                             const rp_weights *model, const rp_weights *base, const char *what)
{
    rp_status st = RP_OK;
    const int rank = rp_comm_rank(e->comm);
    const int nranks = rp_comm_nranks(e->comm);
    const int64_t n = RP_MAX((n_all - rank + nranks - 1) / nranks, 0);
    rp_lm *lm = NULL;
    rp_lm *base_lm = NULL;
    int64_t *indices = NULL;
    rp_eval_window *windows = NULL;
    ticker t = {.stop = e->stop};
    const rp_lm_tick on_tick = {tick, &t};

    if (n == 0) {
        return RP_OK;
    }
    RP_TRY(rp_lm_create(&lm, model, NULL, e->ops, e->exec, e->opts.context));
    if (base != NULL) {
        RP_TRY(rp_lm_create(&base_lm, base, NULL, e->ops, e->exec, e->opts.context));
    }
    RP_TRY(rp_alloc_array(&indices, (size_t)n, sizeof(*indices)));
    RP_TRY(rp_calloc(&windows, (size_t)n, sizeof(*windows)));
    for (int64_t i = 0; i < n; i++) {
        indices[i] = rank + i * nranks;
    }
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
    int64_t n_all = 0;

    memset(out, 0, sizeof(*out));
    st = rp_eval_count_windows(&n_all, &e->opts, e->n_ids);
    if (st == RP_OK) {
        st = rp_calloc(&all, (size_t)n_all, sizeof(*all));
    }
    RP_TRY(rp_agree(e->comm, st));
    RP_ASSERT(all != NULL);
    RP_TRY(rp_agree(e->comm, run_windows(all, n_all, e, model, base, what)));
    RP_TRY(rp_dealt_gather(e->comm, all, n_all, sizeof(*all)));
    *out = rp_eval_summarise(all, n_all);
out:
    free(all);
    return st;
}

/* See loss.h. */
#include "kernels/loss.h"

#include <math.h>

rp_loss rp_loss_start(void)
{
    return (rp_loss){.max = -INFINITY, .best = -1};
}

/* Sums so far are relative to the old maximum. */
static void raise_max(rp_loss *loss, const float *logits, int64_t first, int64_t n)
{
    float max = loss->max;
    int64_t best = loss->best;

    for (int64_t i = 0; i < n; i++) {
        if (logits[i] > max) {
            max = logits[i];
            best = first + i;
        }
    }
    if (best != loss->best) {
        const double shrink = exp((double)loss->max - (double)max);
        loss->sum *= shrink;
        loss->cross *= shrink;
        loss->max = max;
        loss->best = best;
    }
}

void rp_loss_add(rp_loss *loss, const float *logits, const float *other, int64_t first, int64_t n,
                 int64_t target)
{
    raise_max(loss, logits, first, n);
    if (target >= first && target < first + n) {
        loss->target = logits[target - first];
    }
    /* expf's error of one unit in the last place is far below that of the logits themselves. */
    for (int64_t i = 0; i < n; i++) {
        const double p = (double)expf(logits[i] - loss->max);
        loss->sum += p;
        if (other != NULL) {
            loss->cross += p * ((double)logits[i] - (double)other[i]);
        }
    }
}

static double log_sum_exp(const rp_loss *loss)
{
    return (double)loss->max + log(loss->sum);
}

double rp_loss_nll(const rp_loss *loss)
{
    return log_sum_exp(loss) - (double)loss->target;
}

double rp_loss_kl(const rp_loss *base, const rp_loss *model)
{
    return base->cross / base->sum - log_sum_exp(base) + log_sum_exp(model);
}

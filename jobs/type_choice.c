/* Dynamic programming over sizes in units: best[b] is the least loss of the items so far whose
 * bytes beyond their smallest options fill at most b units. */
#include "jobs/type_choice.h"

#include <stdlib.h>

#include "base/mem.h"

#define MAX_UNITS ((size_t)1 << 17)

typedef struct knapsack {
    const rp_choice_item *items;
    int64_t n;
    size_t unit, n_units;
    double *best;   /* [n_units + 1] */
    uint8_t *picks; /* [n, n_units + 1] */
} knapsack;

static size_t least_of(const rp_choice_item *item)
{
    size_t least = item->nbytes[0];

    for (int t = 1; t < item->n; t++) {
        least = RP_MIN(least, item->nbytes[t]);
    }
    return least;
}

static size_t most_of(const rp_choice_item *item)
{
    size_t most = 0;

    for (int t = 0; t < item->n; t++) {
        most = RP_MAX(most, item->nbytes[t]);
    }
    return most;
}

size_t rp_choice_least_bytes(const rp_choice_item *items, int64_t n)
{
    size_t total = 0;

    for (int64_t i = 0; i < n; i++) {
        total += least_of(&items[i]);
    }
    return total;
}

size_t rp_choice_most_bytes(const rp_choice_item *items, int64_t n)
{
    size_t total = 0;

    for (int64_t i = 0; i < n; i++) {
        total += most_of(&items[i]);
    }
    return total;
}

static size_t common_divisor(size_t a, size_t b)
{
    while (b != 0) {
        const size_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The unit that all differences of sizes share, or the smallest multiple that is coarse enough. */
static void set_unit(knapsack *k, size_t room_bytes)
{
    size_t shared = 0;

    for (int64_t i = 0; i < k->n; i++) {
        const size_t least = least_of(&k->items[i]);
        for (int t = 0; t < k->items[i].n; t++) {
            shared = common_divisor(shared, k->items[i].nbytes[t] - least);
        }
    }
    shared = RP_MAX(shared, 1);
    k->unit = shared * RP_MAX(RP_DIV_UP(room_bytes / shared, MAX_UNITS), 1);
    k->n_units = room_bytes / k->unit;
}

static size_t units_of(const knapsack *k, const rp_choice_item *item, int t)
{
    return RP_DIV_UP(item->nbytes[t] - least_of(item), k->unit);
}

/* One more item. Going down, best[b - units] is still that of the items before it. */
static void add_item(knapsack *k, int64_t i)
{
    const rp_choice_item *item = &k->items[i];
    uint8_t *picks = k->picks + (size_t)i * (k->n_units + 1);
    size_t units[RP_MAX_CHOICES];

    for (int t = 0; t < item->n; t++) {
        units[t] = units_of(k, item, t);
    }
    for (size_t b = k->n_units + 1; b-- > 0;) {
        double least = 0;
        int pick = -1;
        for (int t = 0; t < item->n; t++) {
            if (units[t] <= b && (pick < 0 || k->best[b - units[t]] + item->loss[t] < least)) {
                least = k->best[b - units[t]] + item->loss[t];
                pick = t;
            }
        }
        picks[b] = (uint8_t)pick;
        k->best[b] = least;
    }
}

static void trace_back(const knapsack *k, int *out)
{
    size_t b = k->n_units;

    for (int64_t i = k->n; i-- > 0;) {
        out[i] = k->picks[(size_t)i * (k->n_units + 1) + b];
        b -= units_of(k, &k->items[i], out[i]);
    }
}

/* Where sizes were rounded up, room is left: the option that gains most a byte, until none fits. */
static void fill_room(const rp_choice_item *items, int64_t n, size_t limit_bytes, int *out)
{
    size_t used = 0;
    bool is_changed = true;

    for (int64_t i = 0; i < n; i++) {
        used += items[i].nbytes[out[i]];
    }
    while (is_changed) {
        double most = 0;
        int64_t best_item = 0;
        int best_option = 0;
        for (int64_t i = 0; i < n; i++) {
            const rp_choice_item *item = &items[i];
            for (int t = 0; t < item->n; t++) {
                const double gain = item->loss[out[i]] - item->loss[t];
                const double more = (double)item->nbytes[t] - (double)item->nbytes[out[i]];
                if (gain > 0 && used - item->nbytes[out[i]] + item->nbytes[t] <= limit_bytes &&
                    gain / RP_MAX(more, 1) > most) {
                    most = gain / RP_MAX(more, 1);
                    best_item = i;
                    best_option = t;
                }
            }
        }
        is_changed = most > 0;
        if (is_changed) {
            used = used - items[best_item].nbytes[out[best_item]] +
                   items[best_item].nbytes[best_option];
            out[best_item] = best_option;
        }
    }
}

rp_status rp_choose_options(int *out, const rp_choice_item *items, int64_t n, size_t limit_bytes)
{
    rp_status st = RP_OK;
    knapsack k = {.items = items, .n = n};
    const size_t least = rp_choice_least_bytes(items, n);
    const size_t most = rp_choice_most_bytes(items, n);
    size_t elems = 0;

    RP_ASSERT(least <= limit_bytes);
    set_unit(&k, RP_MIN(limit_bytes, most) - least);
    RP_TRY(rp_calloc(&k.best, k.n_units + 1, sizeof(*k.best)));
    RP_TRY(rp_mul_size(&elems, (size_t)n, k.n_units + 1));
    RP_TRY(rp_alloc(&k.picks, elems));
    for (int64_t i = 0; i < n; i++) {
        add_item(&k, i);
    }
    trace_back(&k, out);
    fill_room(items, n, limit_bytes, out);
out:
    free(k.best);
    free(k.picks);
    return st;
}

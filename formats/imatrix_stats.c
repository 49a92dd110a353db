/* See imatrix_stats.h. All sums are f64. */
#include "formats/imatrix_stats.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define LAYER_PREFIX "blk."
#define ACTIVE_ABOVE 1e-5
#define MAX_LAYER_DIGITS 9

/* The layer of "blk.<layer>.<rest>", and where the rest begins; -1 and the name for others. */
static int64_t layer_of(const char *name, const char **rest)
{
    const char *digits = name + strlen(LAYER_PREFIX);
    int64_t layer = 0;
    int n = 0;

    *rest = name;
    if (strncmp(name, LAYER_PREFIX, strlen(LAYER_PREFIX)) != 0) {
        return -1;
    }
    while (n < MAX_LAYER_DIGITS && isdigit((unsigned char)digits[n])) {
        layer = 10 * layer + (digits[n] - '0');
        n++;
    }
    if (n == 0 || digits[n] != '.') {
        return -1;
    }
    *rest = digits + n;
    return layer;
}

/* Mean squares of the matrices that saw tokens, packed into out; how many. */
static int64_t pack_means(const rp_imatrix_entry *entry, double *out)
{
    const int64_t cols = entry->n_values / entry->n_mats;
    int64_t n = 0;

    for (int64_t i = 0; i < entry->n_values; i++) {
        const int64_t count = entry->counts[i / cols];
        if (count > 0) {
            out[n++] = (double)entry->sums[i] / (double)count;
        }
    }
    return n;
}

static void fill(rp_imatrix_stats *s, const double *x, int64_t n)
{
    double squares = 0;
    int64_t n_active = 0;
    int64_t n_high = 0;

    s->n = n;
    s->min = n > 0 ? x[0] : 0;
    for (int64_t i = 0; i < n; i++) {
        s->sum += x[i];
        s->min = RP_MIN(s->min, x[i]);
        s->max = RP_MAX(s->max, x[i]);
        n_active += x[i] > ACTIVE_ABOVE;
    }
    if (n == 0) {
        return;
    }
    s->mean = s->sum / (double)n;
    s->active = (double)n_active / (double)n;
    for (int64_t i = 0; i < n; i++) {
        const double share = s->sum > 0 ? x[i] / s->sum : 0;
        squares += (x[i] - s->mean) * (x[i] - s->mean);
        s->entropy -= share > 0 ? share * log2(share) : 0;
    }
    s->entropy_norm = n > 1 ? s->entropy / log2((double)n) : 0;
    s->stddev = sqrt(squares / (double)n);
    for (int64_t i = 0; i < n; i++) {
        n_high += s->stddev > 0 && x[i] - s->mean > s->stddev;
    }
    s->zd = (double)n_high / (double)n;
}

/* The cosine between the sums of two entries; 0 when it has no meaning. */
static double cosine(const rp_imatrix_entry *a, const rp_imatrix_entry *b)
{
    double ab = 0;
    double aa = 0;
    double bb = 0;

    for (int64_t i = 0; a->n_values == b->n_values && i < a->n_values; i++) {
        ab += (double)a->sums[i] * (double)b->sums[i];
        aa += (double)a->sums[i] * (double)a->sums[i];
        bb += (double)b->sums[i] * (double)b->sums[i];
    }
    return aa > 0 && bb > 0 ? ab / (sqrt(aa) * sqrt(bb)) : 0;
}

static rp_status compare_with_before(rp_imatrix_stats *s, const rp_imatrix *imatrix)
{
    rp_status st = RP_OK;
    const char *rest = NULL;
    const rp_imatrix_entry *before = NULL;
    char *name = NULL;

    s->layer = layer_of(s->entry->name, &rest);
    if (s->layer > 0) {
        RP_TRY(rp_strprintf(&name, LAYER_PREFIX "%lld%s", (long long)s->layer - 1, rest));
        before = rp_imatrix_find(imatrix, name);
        s->cossim = before != NULL ? cosine(s->entry, before) : 0;
    }
out:
    free(name);
    return st;
}

rp_status rp_imatrix_stats_make(rp_imatrix_stats **out, const rp_imatrix *imatrix)
{
    rp_status st = RP_OK;
    rp_imatrix_stats *stats = NULL;
    double *means = NULL;
    size_t most = 0;

    *out = NULL;
    for (size_t i = 0; i < imatrix->n; i++) {
        most = RP_MAX(most, (size_t)imatrix->entries[i].n_values);
    }
    RP_TRY(rp_calloc(&stats, imatrix->n, sizeof(*stats)));
    RP_TRY(rp_alloc_array(&means, most, sizeof(*means)));
    for (size_t i = 0; i < imatrix->n; i++) {
        stats[i].entry = &imatrix->entries[i];
        fill(&stats[i], means, pack_means(stats[i].entry, means));
        RP_TRY(compare_with_before(&stats[i], imatrix));
    }
    *out = stats;
    stats = NULL;
out:
    free(means);
    free(stats);
    return st;
}

static int compare_layers(const void *a, const void *b)
{
    const rp_imatrix_stats *const *left = a;
    const rp_imatrix_stats *const *right = b;

    if ((*left)->layer != (*right)->layer) {
        return (*left)->layer < (*right)->layer ? -1 : 1;
    }
    return *left < *right ? -1 : 1; /* as they stood */
}

rp_status rp_imatrix_layer_stats_make(rp_imatrix_layer_stats **out, int64_t *n_layers,
                                      const rp_imatrix_stats *stats, int64_t n)
{
    rp_status st = RP_OK;
    const rp_imatrix_stats **sorted = NULL;
    rp_imatrix_layer_stats *layers = NULL;
    int64_t n_made = 0;

    *out = NULL;
    RP_TRY(rp_alloc_array(&sorted, (size_t)n, sizeof(*sorted)));
    RP_TRY(rp_calloc(&layers, (size_t)n, sizeof(*layers)));
    for (int64_t i = 0; i < n; i++) {
        sorted[i] = &stats[i];
    }
    qsort(sorted, (size_t)n, sizeof(*sorted), compare_layers);
    for (int64_t i = 0; i < n;) {
        rp_imatrix_layer_stats layer = {.layer = sorted[i]->layer};
        double weight = 0;
        for (; i < n && sorted[i]->layer == layer.layer; i++) {
            const double cols = (double)sorted[i]->n;
            weight += cols;
            layer.sum += cols * sorted[i]->sum;
            layer.zd += cols * sorted[i]->zd;
            layer.cossim += cols * sorted[i]->cossim;
        }
        if (layer.layer >= 0 && weight > 0) {
            layers[n_made++] = (rp_imatrix_layer_stats){layer.layer, layer.sum / weight,
                                                        layer.zd / weight, layer.cossim / weight};
        }
    }
    *out = layers;
    *n_layers = n_made;
    layers = NULL;
out:
    free(layers);
    free(sorted);
    return st;
}

/* Importance matrices in memory: entries, lookup, merging. */
#include "formats/imatrix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

rp_status rp_imatrix_create(rp_imatrix **out)
{
    rp_status st = RP_OK;

    RP_TRY(rp_calloc(out, 1, sizeof(**out)));
    (*out)->chunk_size = RP_IMATRIX_DAT_CHUNK;
out:
    return st;
}

static void clear_entry(rp_imatrix_entry *entry)
{
    free(entry->name);
    free(entry->sums);
    free(entry->counts);
    memset(entry, 0, sizeof(*entry));
}

void rp_imatrix_destroy(rp_imatrix **imatrix)
{
    rp_imatrix *m = *imatrix;

    *imatrix = NULL;
    if (m == NULL) {
        return;
    }
    for (size_t i = 0; i < m->n; i++) {
        clear_entry(&m->entries[i]);
    }
    for (size_t i = 0; i < m->n_datasets; i++) {
        free(m->datasets[i]);
    }
    free(m->entries);
    free(m->datasets);
    free(m);
}

rp_status rp_imatrix_add(rp_imatrix_entry **entry, rp_imatrix *imatrix, const char *name,
                         int64_t n_values, int64_t n_mats)
{
    rp_status st = RP_OK;
    rp_imatrix_entry made = {.n_values = n_values, .n_mats = n_mats};

    RP_ASSERT(n_mats > 0 && n_values > 0 && n_values % n_mats == 0);
    RP_TRY(rp_strdup(&made.name, name));
    RP_TRY(rp_calloc(&made.sums, (size_t)n_values, sizeof(*made.sums)));
    RP_TRY(rp_calloc(&made.counts, (size_t)n_mats, sizeof(*made.counts)));
    RP_TRY(rp_grow(&imatrix->entries, &imatrix->capacity, imatrix->n + 1, sizeof(made)));
    *entry = &imatrix->entries[imatrix->n++];
    **entry = made;
    memset(&made, 0, sizeof(made));
out:
    clear_entry(&made);
    return st;
}

rp_status rp_imatrix_add_dataset(rp_imatrix *imatrix, const char *name)
{
    rp_status st = RP_OK;

    RP_TRY(rp_grow(&imatrix->datasets, &imatrix->dataset_capacity, imatrix->n_datasets + 1,
                   sizeof(*imatrix->datasets)));
    RP_TRY(rp_strdup(&imatrix->datasets[imatrix->n_datasets], name));
    imatrix->n_datasets++;
out:
    return st;
}

static int compare_entries(const void *a, const void *b)
{
    const rp_imatrix_entry *left = a;
    const rp_imatrix_entry *right = b;

    return strcmp(left->name, right->name);
}

rp_status rp_imatrix_seal(rp_imatrix *imatrix)
{
    if (imatrix->n > 0) {
        qsort(imatrix->entries, imatrix->n, sizeof(*imatrix->entries), compare_entries);
    }
    for (size_t i = 1; i < imatrix->n; i++) {
        if (strcmp(imatrix->entries[i - 1].name, imatrix->entries[i].name) == 0) {
            return RP_FAIL(RP_ERR_FORMAT, "entry %s: occurs twice", imatrix->entries[i].name);
        }
    }
    return RP_OK;
}

static rp_imatrix_entry *find(const rp_imatrix *imatrix, const char *name)
{
    rp_imatrix_entry key = {.n_values = 0};

    memcpy(&key.name, &name, sizeof(key.name)); /* bsearch's key: only read */
    if (imatrix->n == 0) {
        return NULL;
    }
    return bsearch(&key, imatrix->entries, imatrix->n, sizeof(key), compare_entries);
}

const rp_imatrix_entry *rp_imatrix_find(const rp_imatrix *imatrix, const char *name)
{
    return find(imatrix, name);
}

void rp_imatrix_importance(const rp_imatrix_entry *entry, float *out)
{
    const int64_t cols = entry->n_values / entry->n_mats;

    for (int64_t i = 0; i < entry->n_values; i++) {
        const int64_t tokens = entry->counts[i / cols];
        out[i] = tokens > 0 ? entry->sums[i] / (float)tokens : 1;
    }
}

/* ---- Merging ---- */

/* One count becomes n equal ones. */
static rp_status spread_count(rp_imatrix_entry *entry, int64_t n_mats)
{
    rp_status st = RP_OK;
    int64_t *counts = NULL;

    RP_TRY(rp_alloc_array(&counts, (size_t)n_mats, sizeof(*counts)));
    for (int64_t i = 0; i < n_mats; i++) {
        counts[i] = entry->counts[0];
    }
    free(entry->counts);
    entry->counts = counts;
    entry->n_mats = n_mats;
out:
    return st;
}

static rp_status merge_entry(rp_imatrix_entry *into, const rp_imatrix_entry *from)
{
    rp_status st = RP_OK;

    if (into->n_values != from->n_values ||
        (into->n_mats != from->n_mats && into->n_mats != 1 && from->n_mats != 1)) {
        st = RP_FAIL(RP_ERR_FORMAT, "entry %s: %lld values of %lld matrices, before %lld of %lld",
                     from->name, (long long)from->n_values, (long long)from->n_mats,
                     (long long)into->n_values, (long long)into->n_mats);
        goto out;
    }
    if (into->n_mats < from->n_mats) {
        RP_TRY(spread_count(into, from->n_mats));
    }
    for (int64_t i = 0; i < into->n_values; i++) {
        into->sums[i] += from->sums[i];
        if (!isfinite(into->sums[i])) {
            st = RP_FAIL(RP_ERR_FORMAT, "entry %s: a sum of squares overflows", from->name);
            goto out;
        }
    }
    for (int64_t i = 0; i < into->n_mats; i++) {
        into->counts[i] += from->counts[from->n_mats == 1 ? 0 : i];
    }
out:
    return st;
}

static rp_status copy_entry(rp_imatrix *into, const rp_imatrix_entry *from)
{
    rp_status st = RP_OK;
    rp_imatrix_entry *entry = NULL;

    RP_TRY(rp_imatrix_add(&entry, into, from->name, from->n_values, from->n_mats));
    memcpy(entry->sums, from->sums, (size_t)from->n_values * sizeof(*entry->sums));
    memcpy(entry->counts, from->counts, (size_t)from->n_mats * sizeof(*entry->counts));
out:
    return st;
}

static int64_t most_tokens(const rp_imatrix *imatrix)
{
    int64_t most = 0;

    for (size_t i = 0; i < imatrix->n; i++) {
        for (int64_t k = 0; k < imatrix->entries[i].n_mats; k++) {
            most = RP_MAX(most, imatrix->entries[i].counts[k]);
        }
    }
    return most;
}

rp_status rp_imatrix_merge(rp_imatrix *into, const rp_imatrix *from)
{
    rp_status st = RP_OK;
    const size_t n_sorted = into->n; /* new ones come behind and are not looked at */

    for (size_t i = 0; i < from->n; i++) {
        const rp_imatrix sorted = {.entries = into->entries, .n = n_sorted};
        rp_imatrix_entry *known = find(&sorted, from->entries[i].name);
        if (known != NULL) {
            RP_TRY(merge_entry(known, &from->entries[i]));
        } else {
            RP_TRY(copy_entry(into, &from->entries[i]));
        }
    }
    for (size_t i = 0; i < from->n_datasets; i++) {
        RP_TRY(rp_imatrix_add_dataset(into, from->datasets[i]));
    }
    into->chunk_count =
        RP_MIN(most_tokens(into) / RP_MAX(into->chunk_size, 1), (int64_t)UINT32_MAX);
    RP_TRY(rp_imatrix_seal(into));
out:
    return st;
}

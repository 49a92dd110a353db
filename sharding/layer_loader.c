/* The layer's tensors stand one after the other in slot order, rows in order: rank r's share is the
 * rows whose first byte lies in [total r / R, total (r + 1) / R), so that one gather in rank order
 * gives the layer. */
#include "sharding/layer_loader.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"

typedef struct piece {
    const rp_weight_info *info; /* NULL: the model has no such tensor */
    int64_t rows, cols;         /* a vector: n rows of 1 */
    size_t row_bytes, at_bytes; /* place in the layer */
    int64_t at_elems;           /* place in the f32 copy */
} piece;

struct rp_layer_loader {
    rp_comm *comm;
    const rp_weights *weights;
    const rp_kernel_ops *ops;
    const rp_exec *exec;
    char *share;         /* this rank's bytes */
    char *layer;         /* all bytes */
    float *values;       /* [place] */
    size_t *share_bytes; /* [nranks] of the layer in hand */
    pthread_t thread;
    bool is_reading;
    int64_t reading; /* layer in `share`, -1: none */
    rp_status read_status;
    char read_message[RP_MESSAGE_BYTES];
    double wait_seconds;
    int64_t read_bytes;
};

/* The layer's layout; returns its bytes. */
static size_t lay_out(const rp_weights *weights, int64_t layer, piece pieces[RP_SLOT_COUNT],
                      int64_t *n_elems)
{
    const rp_model_config *config = rp_weights_config(weights);
    char name[256];
    size_t at = 0;

    *n_elems = 0;
    for (int s = 0; s < RP_SLOT_COUNT; s++) {
        piece *p = &pieces[s];
        memset(p, 0, sizeof(*p));
        if (!rp_model_has_slot(config, (rp_slot)s)) {
            continue;
        }
        rp_model_slot_name(name, sizeof(name), layer, (rp_slot)s);
        p->info = rp_weights_find(weights, name);
        if (p->info == NULL) {
            continue;
        }
        rp_model_slot_shape(config, (rp_slot)s, &p->rows, &p->cols);
        p->cols = RP_MAX(p->cols, 1);
        p->row_bytes = (size_t)p->cols * rp_dtype_bytes(p->info->dtype);
        p->at_bytes = at;
        p->at_elems = *n_elems;
        at += (size_t)p->rows * p->row_bytes;
        *n_elems += p->rows * p->cols;
    }
    return at;
}

/* First row of p that starts at or after byte `limit` of the layer. */
static int64_t row_at(const piece *p, size_t limit)
{
    if (limit <= p->at_bytes) {
        return 0;
    }
    return RP_MIN(p->rows, (int64_t)RP_DIV_UP(limit - p->at_bytes, p->row_bytes));
}

static size_t share_start(size_t total, int nranks, int rank)
{
    return (size_t)((unsigned __int128)total * (unsigned)rank / (unsigned)nranks);
}

/* Rows of p that `rank` reads. */
static void share_rows(const piece *p, size_t total, int nranks, int rank, int64_t *row0,
                       int64_t *nrows)
{
    const int64_t end = row_at(p, share_start(total, nranks, rank + 1));

    *row0 = row_at(p, share_start(total, nranks, rank));
    *nrows = end - *row0;
}

static size_t share_size(const piece pieces[RP_SLOT_COUNT], size_t total, int nranks, int rank)
{
    size_t nbytes = 0;

    for (int s = 0; s < RP_SLOT_COUNT; s++) {
        int64_t row0 = 0;
        int64_t nrows = 0;
        if (pieces[s].info != NULL) {
            share_rows(&pieces[s], total, nranks, rank, &row0, &nrows);
            nbytes += (size_t)nrows * pieces[s].row_bytes;
        }
    }
    return nbytes;
}

/* Largest layer: bytes in the file's type, f32 elements, and one rank's largest share. */
static void largest(const rp_weights *weights, int nranks, size_t *layer_bytes, size_t *share_bytes,
                    int64_t *n_elems)
{
    piece pieces[RP_SLOT_COUNT];

    *layer_bytes = 0;
    *share_bytes = 0;
    *n_elems = 0;
    for (int64_t l = 0; l < rp_weights_config(weights)->n_layers; l++) {
        int64_t elems = 0;
        const size_t total = lay_out(weights, l, pieces, &elems);
        *layer_bytes = RP_MAX(*layer_bytes, total);
        *n_elems = RP_MAX(*n_elems, elems);
        for (int r = 0; r < nranks; r++) {
            *share_bytes = RP_MAX(*share_bytes, share_size(pieces, total, nranks, r));
        }
    }
}

rp_place_bytes rp_layer_loader_bytes(const rp_weights *weights, int nranks)
{
    size_t layer_bytes = 0;
    size_t share_bytes = 0;
    int64_t n_elems = 0;

    largest(weights, nranks, &layer_bytes, &share_bytes, &n_elems);
    return (rp_place_bytes){layer_bytes + share_bytes, (size_t)n_elems * sizeof(float)};
}

rp_status rp_layer_loader_create(rp_layer_loader **out, rp_comm *comm, const rp_weights *weights,
                                 const rp_kernel_ops *ops, const rp_exec *exec)
{
    rp_status st = RP_OK;
    rp_layer_loader *loader = NULL;
    size_t layer_bytes = 0;
    size_t share_bytes = 0;
    int64_t n_elems = 0;

    *out = NULL;
    largest(weights, rp_comm_nranks(comm), &layer_bytes, &share_bytes, &n_elems);
    RP_TRY(rp_calloc(&loader, 1, sizeof(*loader)));
    loader->comm = comm;
    loader->weights = weights;
    loader->ops = ops;
    loader->exec = exec;
    loader->reading = -1;
    RP_TRY(rp_alloc(&loader->share, share_bytes));
    RP_TRY(rp_alloc(&loader->layer, layer_bytes));
    RP_TRY(rp_place_alloc(exec, &loader->values, (size_t)n_elems, sizeof(float)));
    RP_TRY(rp_calloc(&loader->share_bytes, (size_t)rp_comm_nranks(comm), sizeof(size_t)));
    *out = loader;
    loader = NULL;
out:
    rp_layer_loader_destroy(&loader);
    return st;
}

static void stop_reading(rp_layer_loader *loader)
{
    if (loader->is_reading) {
        pthread_join(loader->thread, NULL);
        loader->is_reading = false;
    }
}

void rp_layer_loader_destroy(rp_layer_loader **loader)
{
    rp_layer_loader *l = *loader;

    if (l == NULL) {
        return;
    }
    stop_reading(l);
    free(l->share);
    free(l->layer);
    rp_place_free(l->exec, l->values);
    free(l->share_bytes);
    free(l);
    *loader = NULL;
}

static rp_status read_share(rp_layer_loader *loader)
{
    rp_status st = RP_OK;
    piece pieces[RP_SLOT_COUNT];
    int64_t n_elems = 0;
    const size_t total = lay_out(loader->weights, loader->reading, pieces, &n_elems);
    size_t at = 0;

    for (int s = 0; s < RP_SLOT_COUNT; s++) {
        int64_t row0 = 0;
        int64_t nrows = 0;
        if (pieces[s].info == NULL) {
            continue;
        }
        share_rows(&pieces[s], total, rp_comm_nranks(loader->comm), rp_comm_rank(loader->comm),
                   &row0, &nrows);
        if (nrows > 0) {
            RP_TRY(rp_weights_read_rows(loader->weights, pieces[s].info, row0, nrows,
                                        loader->share + at));
            at += (size_t)nrows * pieces[s].row_bytes;
        }
    }
    loader->read_bytes += (int64_t)at;
out:
    return st;
}

static void *read_main(void *arg)
{
    rp_layer_loader *loader = arg;

    loader->read_status = read_share(loader);
    if (loader->read_status != RP_OK) {
        /* The message belongs to this thread; carry it over. */
        memcpy(loader->read_message, rp_error_message(), strlen(rp_error_message()) + 1);
    }
    return NULL;
}

void rp_layer_loader_prefetch(rp_layer_loader *loader, int64_t layer)
{
    stop_reading(loader);
    loader->reading = layer;
    loader->is_reading =
        !RP_FAULT("thread") && pthread_create(&loader->thread, NULL, read_main, loader) == 0;
    if (!loader->is_reading) {
        (void)read_main(loader);
    }
}

static rp_status widen_all(rp_layer_loader *loader, const piece pieces[RP_SLOT_COUNT],
                           float *out[RP_SLOT_COUNT])
{
    for (int s = 0; s < RP_SLOT_COUNT; s++) {
        const piece *p = &pieces[s];
        int64_t bad = -1;
        out[s] = NULL;
        if (p->info == NULL) {
            continue;
        }
        out[s] = loader->values + p->at_elems;
        bad = loader->ops->widen(loader->exec, out[s], loader->layer + p->at_bytes, p->info->dtype,
                                 p->rows * p->cols);
        if (bad >= 0) {
            return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: value %lld is not finite",
                           rp_weights_path(loader->weights), p->info->name, (long long)bad);
        }
    }
    return rp_place_check(loader->exec);
}

rp_status rp_layer_loader_get(rp_layer_loader *loader, int64_t layer, float *out[RP_SLOT_COUNT])
{
    rp_status st = RP_OK;
    const double start = rp_clock_seconds();
    const int nranks = rp_comm_nranks(loader->comm);
    piece pieces[RP_SLOT_COUNT];
    int64_t n_elems = 0;
    const size_t total = lay_out(loader->weights, layer, pieces, &n_elems);

    if (loader->reading != layer) {
        rp_layer_loader_prefetch(loader, layer);
    }
    stop_reading(loader);
    loader->wait_seconds += rp_clock_seconds() - start;
    loader->reading = -1;
    if (loader->read_status != RP_OK) {
        st = RP_FAIL(loader->read_status, "%s", loader->read_message);
    }
    RP_TRY(rp_agree(loader->comm, st));
    for (int r = 0; r < nranks; r++) {
        loader->share_bytes[r] = share_size(pieces, total, nranks, r);
    }
    rp_comm_allgatherv(loader->comm, loader->share, loader->layer, loader->share_bytes);
    RP_TRY(rp_agree(loader->comm, widen_all(loader, pieces, out)));
out:
    return st;
}

void rp_layer_loader_traffic(rp_traffic *traffic, const rp_weights *weights, int64_t layer)
{
    piece pieces[RP_SLOT_COUNT];
    int64_t n_elems = 0;
    const size_t total = lay_out(weights, layer, pieces, &n_elems);

    rp_traffic_agree(traffic);
    rp_traffic_allgatherv(traffic, total,
                          share_size(pieces, total, traffic->nranks, traffic->rank));
    rp_traffic_agree(traffic);
}

void rp_layer_loader_stats(const rp_layer_loader *loader, double *wait_seconds, int64_t *read_bytes)
{
    *wait_seconds = loader->wait_seconds;
    *read_bytes = loader->read_bytes;
}

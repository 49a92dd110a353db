/* The residual stream between layers: kept for the rank's blocks, embedded from ids, saved when
 * that is cheap. */
#include "jobs/activations.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

#define SAVE_SHARE 0.05
#define FIRST_GUESS_BYTES_PER_SECOND 3e8

static int64_t widest_site(const rp_model_config *config)
{
    int64_t most = 0;

    for (int s = 0; s < RP_SITE_COUNT; s++) {
        most = RP_MAX(most, rp_model_site_width(config, (rp_site)s));
    }
    return most;
}

static int64_t rows_of(const rp_blocks *blocks, rp_range range)
{
    int64_t seqs = 0;

    for (int64_t b = range.first; b < range.first + range.count; b++) {
        seqs += rp_blocks_seqs(blocks, b);
    }
    return seqs * blocks->seq_len;
}

size_t rp_activations_bytes(const rp_model_config *config, const rp_blocks *blocks, int n_streams,
                            int nranks)
{
    const rp_range largest = rp_partition(blocks->n_blocks, nranks, 0);

    return (size_t)n_streams *
           (size_t)(rows_of(blocks, largest) * (config->hidden_size + widest_site(config))) *
           sizeof(float);
}

rp_status rp_activations_create(rp_activations *out, const rp_model_config *config,
                                const rp_blocks *blocks, int n_streams, int nranks, int rank)
{
    rp_status st = RP_OK;
    rp_activations a = {.blocks = *blocks, .n_streams = n_streams, .saved_border = -1};
    size_t rows = 0;
    size_t n = 0;

    memset(out, 0, sizeof(*out));
    a.mine = rp_partition(blocks->n_blocks, nranks, rank);
    a.hidden = config->hidden_size;
    a.ld = widest_site(config);
    a.saved_at = rp_clock_seconds();
    rows = (size_t)rows_of(blocks, a.mine);
    for (int k = 0; k < n_streams; k++) {
        RP_TRY(rp_mul_size(&n, rows, (size_t)a.hidden));
        RP_TRY(rp_alloc_array(&a.stream[k].h, n, sizeof(float)));
        RP_TRY(rp_mul_size(&n, rows, (size_t)a.ld));
        RP_TRY(rp_alloc_array(&a.stream[k].buf, n, sizeof(float)));
    }
    *out = a;
    memset(&a, 0, sizeof(a));
out:
    rp_activations_destroy(&a);
    return st;
}

void rp_activations_destroy(rp_activations *activations)
{
    for (int k = 0; k < RP_STREAM_COUNT; k++) {
        free(activations->stream[k].h);
        free(activations->stream[k].buf);
    }
    memset(activations, 0, sizeof(*activations));
}

int64_t rp_activations_row(const rp_activations *activations, int64_t block)
{
    return (block - activations->mine.first) * activations->blocks.seqs_per_block *
           activations->blocks.seq_len;
}

rp_status rp_activations_embed(rp_activations *activations, const rp_weights *weights,
                               const int32_t *ids)
{
    rp_status st = RP_OK;
    const rp_weight_info *table = rp_weights_find(weights, "model.embed_tokens.weight");
    const int64_t n = rows_of(&activations->blocks, activations->mine);
    const int64_t first = rp_blocks_first_seq(&activations->blocks, activations->mine.first) *
                          activations->blocks.seq_len;

    for (int64_t i = 0; i < n; i++) {
        RP_TRY(rp_weights_read_f32(weights, table, ids[first + i], 1,
                                   activations->stream[0].h + i * activations->hidden));
    }
    for (int k = 1; k < activations->n_streams; k++) {
        memcpy(activations->stream[k].h, activations->stream[0].h,
               (size_t)(n * activations->hidden) * sizeof(float));
    }
out:
    return st;
}

static void unit_name(char *out, size_t out_bytes, int stream, int64_t border, int64_t block)
{
    static const char *const folder[RP_STREAM_COUNT] = {"activations", "full_activations"};

    (void)snprintf(out, out_bytes, "%s/%lld/%lld", folder[stream], (long long)border,
                   (long long)block);
}

/* Number `i` of the units of a border, streams over blocks. */
static void nth_unit_name(char *out, size_t out_bytes, const rp_activations *a, int64_t border,
                          int64_t i)
{
    unit_name(out, out_bytes, (int)(i / a->blocks.n_blocks), border, i % a->blocks.n_blocks);
}

int64_t rp_activations_find_saved(const rp_activations *activations, const rp_session *session,
                                  int64_t limit)
{
    const int64_t n_units = activations->n_streams * activations->blocks.n_blocks;
    char unit[64];

    for (int64_t border = limit; border > 0; border--) {
        int64_t i = 0;
        for (; i < n_units; i++) {
            nth_unit_name(unit, sizeof(unit), activations, border, i);
            if (!rp_checkpoint_has(session->checkpoint, unit)) {
                break;
            }
        }
        if (i == n_units) {
            return border;
        }
    }
    return -1;
}

static rp_status load_block(rp_activations *a, rp_session *session, int stream, int64_t border,
                            int64_t b)
{
    rp_status st = RP_OK;
    const int64_t want = rp_blocks_seqs(&a->blocks, b) * a->blocks.seq_len * a->hidden;
    float *values = NULL;
    int64_t n = 0;
    char unit[64];

    unit_name(unit, sizeof(unit), stream, border, b);
    RP_TRY(rp_checkpoint_get_array(session->checkpoint, unit, RP_F32, &values, &n));
    if (n != want) {
        st = RP_FAIL(RP_ERR_FORMAT, "checkpoint unit %s: want %lld values, got %lld", unit,
                     (long long)want, (long long)n);
        goto out;
    }
    memcpy(a->stream[stream].h + rp_activations_row(a, b) * a->hidden, values,
           (size_t)n * sizeof(float));
out:
    free(values);
    return st;
}

rp_status rp_activations_load(rp_activations *activations, rp_session *session, int64_t border)
{
    rp_status st = RP_OK;
    const rp_range mine = activations->mine;

    for (int k = 0; k < activations->n_streams; k++) {
        for (int64_t b = mine.first; b < mine.first + mine.count; b++) {
            RP_TRY(load_block(activations, session, k, border, b));
        }
    }
    activations->saved_border = border;
out:
    return st;
}

/* Rank 0 judges by its own measured rate; all follow. */
static bool is_cheap(const rp_activations *a, const rp_session *s)
{
    const rp_checkpoint_counts counts = rp_checkpoint_counts_get(s->checkpoint);
    const double bytes =
        (double)(a->n_streams * rows_of(&a->blocks, a->mine) * a->hidden) * sizeof(float);
    double rate = FIRST_GUESS_BYTES_PER_SECOND;
    double verdict = 0;

    if (counts.written_bytes > (1 << 20) && counts.write_seconds > 0) {
        rate = (double)counts.written_bytes / counts.write_seconds;
    }
    verdict = bytes / rate <= SAVE_SHARE * (rp_clock_seconds() - a->saved_at);
    rp_comm_bcast(s->comm, &verdict, sizeof(verdict), 0);
    return verdict > 0;
}

rp_status rp_activations_save_if_cheap(rp_activations *a, rp_session *session, int64_t border)
{
    rp_status st = RP_OK;
    const rp_range mine = a->mine;
    char unit[64];

    if (!is_cheap(a, session)) {
        return RP_OK;
    }
    for (int64_t i = 0; i < a->n_streams * mine.count; i++) {
        const int64_t b = mine.first + i % mine.count;
        const int stream = (int)(i / mine.count);
        const int64_t n = rp_blocks_seqs(&a->blocks, b) * a->blocks.seq_len * a->hidden;
        unit_name(unit, sizeof(unit), stream, border, b);
        RP_TRY(rp_checkpoint_put_array(session->checkpoint, unit, RP_F32,
                                       a->stream[stream].h + rp_activations_row(a, b) * a->hidden,
                                       n));
    }
    for (int64_t i = 0; a->saved_border >= 0 && i < a->n_streams * a->blocks.n_blocks; i++) {
        nth_unit_name(unit, sizeof(unit), a, a->saved_border, i);
        RP_TRY(rp_checkpoint_drop(session->checkpoint, unit));
    }
    a->saved_border = border;
    a->saved_at = rp_clock_seconds();
out:
    return st;
}

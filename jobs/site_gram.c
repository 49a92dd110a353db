/* Two passes over the blocks: the largest values, which may have been looked at while the blocks
 * were made, then the products.
 *
 * A sum that is not whole is saved by the owner as "gram/done" f32 [n_blocks] (1: the block is in),
 * "gram/max_abs" f32 [cols], which the exponents follow from, and "gram/sum/K" i64: the lower
 * triangle row after row in pieces of whole rows. */
#include "jobs/site_gram.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "kernels/place.h"

#define PIECE_ELEMS ((int64_t)8 << 20)

typedef struct summing {
    rp_gram *gram;
    rp_session *s;
    const rp_site_input *in;
    const rp_site_gram_opts *opts;
    float *done; /* [n_blocks] 1: this rank added it, or it was in what was saved */
} summing;

static rp_cmat block_of(const summing *m, int64_t b)
{
    return rp_site_block(m->in, m->in->rows, b, m->opts->cols);
}

static bool is_summed(const rp_blocks *blocks, const rp_site_gram_opts *opts, int64_t b)
{
    return !(opts->keeps_aside && rp_blocks_is_kept_aside(blocks, b));
}

void rp_site_gram_begin(rp_gram *gram, const rp_blocks *blocks, const rp_site_gram_opts *opts)
{
    const int64_t n_seqs = opts->keeps_aside ? rp_blocks_fitted_seqs(blocks) : blocks->n_seqs;

    rp_gram_begin(gram, opts->cols, n_seqs * blocks->seq_len,
                  blocks->seqs_per_block * blocks->seq_len);
}

rp_status rp_site_gram_observe(rp_gram *gram, const rp_blocks *blocks,
                               const rp_site_gram_opts *opts, int64_t b, rp_cmat block)
{
    return is_summed(blocks, opts, b) ? rp_gram_observe(gram, block) : RP_OK;
}

static rp_status observe_blocks(const summing *m)
{
    rp_status st = RP_OK;
    const rp_range mine = m->in->mine;

    rp_site_gram_begin(m->gram, &m->in->blocks, m->opts);
    for (int64_t b = mine.first; b < mine.first + mine.count; b++) {
        RP_TRY(rp_stop_poll(&m->s->stop));
        if (is_summed(&m->in->blocks, m->opts, b)) {
            RP_TRY(rp_gram_observe(m->gram, block_of(m, b)));
        }
    }
out:
    return st;
}

static rp_status add_blocks(summing *m)
{
    rp_status st = RP_OK;
    const rp_range mine = m->in->mine;

    for (int64_t b = mine.first; b < mine.first + mine.count; b++) {
        if (m->done[b] != 0 || !is_summed(&m->in->blocks, m->opts, b)) {
            continue;
        }
        RP_TRY(rp_stop_poll(&m->s->stop));
        rp_gram_add(m->gram, block_of(m, b));
        m->s->flop[RP_PHASE_GRAM] +=
            (double)rp_site_block_rows(m->in, b) * (double)m->opts->cols * (double)m->opts->cols;
        m->done[b] = 1;
    }
    RP_TRY(rp_place_check(m->s->exec));
out:
    return st;
}

/* ---- What is saved ---- */

/* Rows first .. *end - 1 of the triangle make piece number `piece`. */
static int64_t piece_elems(int64_t cols, int64_t first, int64_t *end)
{
    int64_t n = 0;

    for (*end = first; *end < cols && (n == 0 || n + *end + 1 <= PIECE_ELEMS); (*end)++) {
        n += *end + 1;
    }
    return n;
}

static rp_status get_floats(float *out, const summing *m, const char *name, int64_t n)
{
    rp_status st = RP_OK;
    char unit[RP_SITE_PART_BYTES];
    float *values = NULL;
    int64_t n_values = 0;

    rp_site_part_unit(unit, m->opts->part, "%s", name);
    RP_TRY(rp_checkpoint_get_array(m->s->checkpoint, unit, RP_F32, &values, &n_values));
    if (n_values != n) {
        st = RP_FAIL(RP_ERR_FORMAT, "checkpoint unit %s: want %lld values, got %lld", unit,
                     (long long)n, (long long)n_values);
        goto out;
    }
    memcpy(out, values, (size_t)n * sizeof(*out));
out:
    free(values);
    return st;
}

static rp_status get_sum(const summing *m)
{
    rp_status st = RP_OK;
    const int64_t cols = m->opts->cols;
    char unit[RP_SITE_PART_BYTES];
    int64_t *values = NULL;
    int64_t end = 0;
    int piece = 0;

    for (int64_t first = 0; first < cols; first = end) {
        const int64_t want = piece_elems(cols, first, &end);
        const int64_t *from = NULL;
        int64_t n = 0;
        rp_site_part_unit(unit, m->opts->part, "gram/sum/%d", piece++);
        RP_TRY(rp_checkpoint_get_array(m->s->checkpoint, unit, RP_I64, &values, &n));
        if (n != want) {
            st = RP_FAIL(RP_ERR_FORMAT, "checkpoint unit %s: want %lld values, got %lld", unit,
                         (long long)want, (long long)n);
            goto out;
        }
        from = values;
        for (int64_t i = first; i < end; i++) {
            rp_place_put(m->s->exec, m->gram->sum + i * cols, from,
                         (size_t)(i + 1) * sizeof(*from));
            from += i + 1;
        }
        free(values);
        values = NULL;
    }
out:
    free(values);
    return st;
}

static bool is_saved(const rp_site_part *part, int64_t cols)
{
    char name[32];
    int64_t end = 0;
    int piece = 0;

    if (part == NULL || !rp_site_part_has(part, "gram/done") ||
        !rp_site_part_has(part, "gram/max_abs")) {
        return false;
    }
    for (int64_t first = 0; first < cols; first = end) {
        (void)piece_elems(cols, first, &end);
        (void)snprintf(name, sizeof(name), "gram/sum/%d", piece++);
        if (!rp_site_part_has(part, name)) {
            return false;
        }
    }
    return true;
}

/* Takes the saved sum, if there is one and its exponents are these. */
static rp_status take_saved(summing *m)
{
    rp_status st = RP_OK;
    const rp_site_part *part = m->opts->part;
    const size_t cols = (size_t)m->opts->cols;
    float *max_abs = NULL;

    if (!is_saved(part, m->opts->cols)) {
        return RP_OK;
    }
    RP_TRY(rp_alloc_array(&max_abs, cols, sizeof(*max_abs)));
    RP_TRY(get_floats(max_abs, m, "gram/max_abs", m->opts->cols));
    if (memcmp(max_abs, m->gram->max_abs, cols * sizeof(*max_abs)) != 0) {
        RP_LOG(RP_LOG_WARN, "saved_sum_differs", rp_log_i64("layer", part->layer),
               rp_log_i64("site", part->site));
        goto out;
    }
    RP_TRY(get_floats(m->done, m, "gram/done", m->in->blocks.n_blocks));
    if (rp_comm_rank(m->s->comm) == m->opts->owner) {
        RP_TRY(get_sum(m));
    }
out:
    free(max_abs);
    return st;
}

size_t rp_site_gram_save_bytes(int64_t cols)
{
    return (size_t)RP_MIN(cols * (cols + 1) / 2, RP_MAX(PIECE_ELEMS, cols)) * sizeof(int64_t);
}

/* The owner's. Its memory is that of a factor, which nobody has yet. */
static rp_status put_sum(const summing *m)
{
    rp_status st = RP_OK;
    rp_checkpoint *c = m->s->checkpoint;
    const rp_exec *exec = m->s->exec;
    const int64_t cols = m->opts->cols;
    char unit[RP_SITE_PART_BYTES];
    int64_t *values = NULL;
    int64_t end = 0;
    int piece = 0;

    RP_TRY(rp_alloc(&values, rp_site_gram_save_bytes(cols)));
    for (int64_t first = 0; first < cols; first = end) {
        const int64_t n = piece_elems(cols, first, &end);
        int64_t at = 0;
        for (int64_t i = first; i < end; i++) {
            rp_place_get(exec, values + at, m->gram->sum + i * cols,
                         (size_t)(i + 1) * sizeof(*values));
            at += i + 1;
        }
        rp_site_part_unit(unit, m->opts->part, "gram/sum/%d", piece++);
        RP_TRY(rp_checkpoint_put_array(c, unit, RP_I64, values, n));
    }
    RP_TRY(rp_place_check(exec));
    rp_site_part_unit(unit, m->opts->part, "gram/max_abs");
    RP_TRY(rp_checkpoint_put_array(c, unit, RP_F32, m->gram->max_abs, cols));
    rp_site_part_unit(unit, m->opts->part, "gram/done");
    RP_TRY(rp_checkpoint_put_array(c, unit, RP_F32, m->done, m->in->blocks.n_blocks));
out:
    free(values);
    return st;
}

/* Collective. What is done so far, summed over the ranks, if it took longer than saving it will. */
static rp_status save(summing *m, double seconds)
{
    rp_status st = RP_OK;
    const rp_site_gram_opts *o = m->opts;
    const double bytes = (double)o->cols * (double)(o->cols + 1) / 2 * sizeof(int64_t);

    if (o->part == NULL || !rp_site_part_pays(m->s, bytes, seconds)) {
        return RP_OK;
    }
    rp_gram_reduce(m->gram, m->s->comm, o->owner, o->scratch);
    rp_comm_allreduce_max_f32(m->s->comm, m->done, m->in->blocks.n_blocks);
    if (rp_comm_rank(m->s->comm) == o->owner) {
        st = put_sum(m);
    }
    return rp_agree(m->s->comm, st);
}

rp_status rp_site_gram_sum(rp_gram *gram, rp_session *session, const rp_site_input *input,
                           const rp_site_gram_opts *opts)
{
    rp_status st = RP_OK;
    rp_session *s = session;
    const rp_blocks *blocks = &input->blocks;
    summing m = {gram, s, input, opts, NULL};
    double start = rp_clock_seconds();
    double begin = 0;

    RP_TRY(rp_agree(s->comm, rp_calloc(&m.done, (size_t)blocks->n_blocks, sizeof(*m.done))));
    RP_TRY(rp_agree(s->comm, opts->is_observed ? RP_OK : observe_blocks(&m)));
    rp_gram_fix_exponents(gram, s->comm);
    RP_TRY(rp_agree(s->comm, take_saved(&m)));
    begin = rp_clock_seconds();
    st = rp_agree(s->comm, add_blocks(&m));
    rp_session_lap(s, RP_PHASE_GRAM, &start);
    if (st == RP_ERR_STOPPED) {
        RP_TRY(save(&m, rp_clock_seconds() - begin));
        st = RP_ERR_STOPPED; /* its message is still there */
    }
    if (st != RP_OK) {
        goto out;
    }
    rp_gram_reduce(gram, s->comm, opts->owner, opts->scratch);
    rp_session_lap(s, RP_PHASE_REDUCE, &start);
out:
    free(m.done);
    return st;
}

void rp_site_gram_traffic(rp_traffic *traffic, int64_t cols, int owner)
{
    rp_traffic_agree(traffic); /* on memory, */
    rp_traffic_agree(traffic); /* on what was observed, */
    rp_gram_fix_exponents_traffic(traffic, cols);
    rp_traffic_agree(traffic); /* on what had been saved, */
    rp_traffic_agree(traffic); /* on what was added */
    rp_gram_reduce_traffic(traffic, cols, owner);
}

/* Block by block the input's drift, or the output's, is formed and its product with the input
 * summed; each rank then solves a share of the rows, and all gather them. */
#include "jobs/drift.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "jobs/calibration_text.h"
#include "jobs/site_linears.h"
#include "sharding/cross.h"

struct rp_drift {
    rp_session *session;
    rp_cross cross;
    double *bound;       /* [widest rows or cols] */
    float *input_bound;  /* [widest cols] largest |x - x_f| */
    float *stream_bound; /* [hidden] largest |h - h_f| */
    float *input_drift;  /* [place] [block tokens, widest cols] x - x_f */
    float *output_drift; /* [place] [block tokens, widest rows] a */
    float *map;          /* [place] [cols, cols] -D; NULL where no site shares one */
    float *send;         /* [place] a rank's rows of a target or of D; NULL with one rank */
    rp_range *rows_of;   /* [nranks] */
    size_t *nbytes;      /* [nranks] */
    double *kept;        /* [2, n_blocks] squared errors with W and with W* */
    /* Of the site in hand. */
    rp_site_input input;
    const rp_gram *gram;
    int64_t cols;
    bool is_shared; /* cross: the sum of (x - x_f) x^T */
    const rp_ldl *ldl;
    bool has_map; /* of this factor */
    /* Of the matrix in hand. */
    const float *w;
    float *target;
    int64_t tile_rows;
};

typedef struct sizes {
    int64_t rows, cols, sums, map, send, block_tokens;
} sizes;

/* Does the drift of the residual stream count as this linear's to repair. */
static bool corrects_stream(const rp_linear *linear)
{
    const rp_site site = rp_slot_info_of(linear->slot)->site;

    return linear->choice.drift == RP_DRIFT_FULL && (site == RP_SITE_O || site == RP_SITE_DOWN);
}

/* Do the site's linears share a D. */
static bool shares_map(const rp_linear *const linears[], int n)
{
    int64_t rows = 0;

    for (int i = 0; i < n; i++) {
        if (rp_linear_corrects_drift(linears[i]) && !corrects_stream(linears[i])) {
            rows += linears[i]->rows;
        }
    }
    return rows > 0 && 2 * rows > linears[0]->cols;
}

/* Rows of a tile, whose number decides the bits. A GPU's are as many as keep it busy. */
static int64_t rows_of_tile(const rp_session *session, int64_t rows)
{
    return session->backend == RP_BACKEND_CUDA ? 4096 : rp_site_tile_rows(session, rows);
}

/* Values of the largest share of a matrix that a rank gets; 0 when there is but one. */
static int64_t share_of(const rp_session *s, int64_t rows, int64_t cols, int nranks)
{
    const int64_t step = rows_of_tile(s, rows);

    return nranks > 1 ? RP_MIN(RP_DIV_UP(RP_DIV_UP(rows, step), nranks) * step, rows) * cols : 0;
}

static void add_site_sizes(sizes *most, const rp_session *s, const rp_linear *const linears[],
                           int n, int nranks)
{
    const bool is_shared = shares_map(linears, n);

    for (int i = 0; i < n; i++) {
        const int64_t rows = linears[i]->rows, cols = linears[i]->cols;
        if (!rp_linear_corrects_drift(linears[i])) {
            continue;
        }
        most->rows = RP_MAX(most->rows, RP_MAX(rows, s->config->hidden_size));
        most->cols = RP_MAX(most->cols, cols);
        most->sums = RP_MAX(most->sums, (is_shared ? cols : rows) * cols);
        most->map = RP_MAX(most->map, is_shared ? cols * cols : 0);
        most->send = RP_MAX(most->send, share_of(s, rows, cols, nranks));
        most->send = RP_MAX(most->send, is_shared ? share_of(s, cols, cols, nranks) : 0);
    }
}

static sizes sizes_of(const rp_session *s, int nranks)
{
    const rp_blocks blocks = rp_calibration_blocks(s->job, s->config);
    sizes most = {.block_tokens = RP_MIN(blocks.seqs_per_block, blocks.n_seqs) * blocks.seq_len};

    for (int64_t i = 0; i < s->config->n_layers * RP_SITE_COUNT; i++) {
        const rp_linear *linears[RP_SITE_LINEARS];
        const int n =
            rp_site_linears(linears, &s->linears, i / RP_SITE_COUNT, (rp_site)(i % RP_SITE_COUNT));
        add_site_sizes(&most, s, linears, n, nranks);
    }
    return most;
}

rp_place_bytes rp_drift_bytes(const rp_session *session, int nranks)
{
    const sizes n = sizes_of(session, nranks);
    rp_place_bytes bytes = rp_cross_bytes(RP_MAX(n.rows, n.cols), n.sums);

    bytes.place += (size_t)(n.block_tokens * (n.rows + n.cols) + n.map + n.send) * sizeof(float);
    return bytes;
}

static rp_status allocate(rp_drift *d, const sizes *n)
{
    rp_status st = RP_OK;
    const rp_session *s = d->session;
    const size_t nranks = (size_t)rp_comm_nranks(s->comm);
    const size_t tokens = (size_t)n->block_tokens;
    const size_t n_blocks = (size_t)rp_calibration_blocks(s->job, s->config).n_blocks;

    RP_TRY(rp_cross_create(&d->cross, s->exec, RP_MAX(n->rows, n->cols), n->sums));
    RP_TRY(rp_alloc_array(&d->bound, (size_t)RP_MAX(n->rows, n->cols), sizeof(*d->bound)));
    RP_TRY(rp_alloc_array(&d->input_bound, (size_t)n->cols, sizeof(float)));
    RP_TRY(rp_alloc_array(&d->stream_bound, (size_t)s->config->hidden_size, sizeof(float)));
    RP_TRY(rp_place_alloc(s->exec, &d->input_drift, tokens * (size_t)n->cols, sizeof(float)));
    RP_TRY(rp_place_alloc(s->exec, &d->output_drift, tokens * (size_t)n->rows, sizeof(float)));
    if (n->map > 0) {
        RP_TRY(rp_place_alloc(s->exec, &d->map, (size_t)n->map, sizeof(float)));
    }
    if (n->send > 0) {
        RP_TRY(rp_place_alloc(s->exec, &d->send, (size_t)n->send, sizeof(float)));
    }
    RP_TRY(rp_alloc_array(&d->rows_of, nranks, sizeof(*d->rows_of)));
    RP_TRY(rp_alloc_array(&d->nbytes, nranks, sizeof(*d->nbytes)));
    RP_TRY(rp_alloc_array(&d->kept, 2 * n_blocks, sizeof(*d->kept)));
out:
    return st;
}

rp_status rp_drift_create(rp_drift **out, rp_session *session)
{
    rp_status st = RP_OK;
    rp_drift *d = NULL;
    const sizes n = sizes_of(session, rp_comm_nranks(session->comm));

    *out = NULL;
    if (n.rows == 0) {
        return RP_OK;
    }
    RP_TRY(rp_calloc(&d, 1, sizeof(*d)));
    d->session = session;
    RP_TRY(allocate(d, &n));
    *out = d;
    d = NULL;
out:
    rp_drift_destroy(&d);
    return st;
}

void rp_drift_destroy(rp_drift **drift)
{
    rp_drift *d = *drift;

    if (d == NULL) {
        return;
    }
    rp_cross_destroy(&d->cross);
    free(d->bound);
    free(d->input_bound);
    free(d->stream_bound);
    rp_place_free(d->session->exec, d->input_drift);
    rp_place_free(d->session->exec, d->output_drift);
    rp_place_free(d->session->exec, d->map);
    rp_place_free(d->session->exec, d->send);
    free(d->rows_of);
    free(d->nbytes);
    free(d->kept);
    free(d);
    *drift = NULL;
}

/* out [rows, cols] contiguous := a - b. */
static rp_cmat subtract(const rp_drift *d, float *out, rp_cmat a, rp_cmat b)
{
    const rp_session *s = d->session;

    s->ops->subtract(s->exec, rp_mat_of(out, a.rows, a.cols, a.cols), a, b);
    return rp_cmat_of(out, a.rows, a.cols, a.cols);
}

static rp_cmat input_drift(rp_drift *d, int64_t b)
{
    const rp_site_input *in = &d->input;

    return subtract(d, d->input_drift, rp_site_block(in, in->rows, b, d->cols),
                    rp_site_block(in, in->full_rows, b, d->cols));
}

static rp_cmat stream_drift(const rp_drift *d, int64_t b, float *out)
{
    const rp_site_input *in = &d->input;

    return subtract(d, out, rp_site_block(in, in->h, b, in->hidden),
                    rp_site_block(in, in->full_h, b, in->hidden));
}

static void bound_drifts(rp_drift *d)
{
    const rp_session *s = d->session;
    const rp_site_input *in = &d->input;

    memset(d->input_bound, 0, (size_t)d->cols * sizeof(float));
    memset(d->stream_bound, 0, (size_t)in->hidden * sizeof(float));
    for (int64_t b = in->mine.first; b < in->mine.first + in->mine.count; b++) {
        (void)s->ops->max_abs(s->exec, input_drift(d, b), d->input_bound);
        (void)s->ops->max_abs(s->exec, stream_drift(d, b, d->output_drift), d->stream_bound);
    }
    rp_comm_allreduce_max_f32(s->comm, d->input_bound, d->cols);
    rp_comm_allreduce_max_f32(s->comm, d->stream_bound, in->hidden);
}

/* a = W (x - x_f) + (h - h_f) of one block. */
static rp_cmat output_drift(rp_drift *d, const rp_linear *linear, const float *w, int64_t b)
{
    const rp_session *s = d->session;
    const rp_cmat in = input_drift(d, b);
    const rp_mat out = rp_mat_of(d->output_drift, in.rows, linear->rows, linear->rows);
    const bool has_stream = corrects_stream(linear);

    if (has_stream) {
        (void)stream_drift(d, b, d->output_drift);
    }
    s->ops->linear(s->exec, out, in, rp_cmat_of(w, linear->rows, linear->cols, linear->cols), NULL,
                   has_stream);
    return rp_cmat_of(out.data, out.rows, out.cols, out.ld);
}

static bool is_any_positive(const float *x, int64_t n)
{
    int64_t i = 0;

    while (i < n && !(x[i] > 0)) {
        i++;
    }
    return i < n;
}

/* Do the streams differ: decided from what all ranks have alike, whatever becomes of one's GPU. */
static bool is_drifting(const rp_drift *d, const rp_linear *linear)
{
    return is_any_positive(d->input_bound, linear->cols) ||
           (corrects_stream(linear) && is_any_positive(d->stream_bound, linear->rows));
}

/* No |a| of a row is larger. */
static void bound_rows(rp_drift *d, const rp_linear *linear, const float *w)
{
    const rp_session *s = d->session;
    const bool has_stream = corrects_stream(linear);

    for (int64_t i = 0; i < linear->rows; i++) {
        d->bound[i] = has_stream ? (double)d->stream_bound[i] : 0;
    }
    s->ops->bound_rows(s->exec, rp_cmat_of(w, linear->rows, linear->cols, linear->cols),
                       d->input_bound, d->bound);
}

/* Collective. This rank's part of the sum; linear NULL: of the input's drift itself. */
static rp_status sum_products(rp_drift *d, const rp_linear *linear, const float *w)
{
    rp_status st = RP_OK;
    rp_session *s = d->session;
    const rp_site_input *in = &d->input;

    for (int64_t b = in->mine.first; b < in->mine.first + in->mine.count; b++) {
        RP_TRY(rp_stop_poll(&s->stop));
        if (!rp_blocks_is_kept_aside(&in->blocks, b)) {
            rp_cross_add(&d->cross,
                         linear == NULL ? input_drift(d, b) : output_drift(d, linear, w, b),
                         rp_site_block(in, in->rows, b, d->cols));
        }
    }
    RP_TRY(rp_place_check(s->exec));
out:
    return rp_agree(s->comm, st);
}

/* Rows of this rank's tile number `index`, in d->target. */
static rp_mat tile_rows(const rp_drift *d, int64_t index, int64_t *row0)
{
    const rp_range mine = d->rows_of[rp_comm_rank(d->session->comm)];

    *row0 = mine.first + index * d->tile_rows;
    return rp_mat_of(d->target + *row0 * d->cols,
                     RP_MIN(d->tile_rows, mine.first + mine.count - *row0), d->cols, d->cols);
}

/* target := -[sum] (H + lambda I)^-1 / n. */
static void solve_tile(void *ctx, int64_t index, int thread)
{
    const rp_drift *d = ctx;
    const rp_exec alone = rp_exec_alone(d->session->exec, thread);
    int64_t row0 = 0;
    const rp_mat rows = tile_rows(d, index, &row0);

    rp_cross_negative_mean(&d->cross, &alone, row0, rows);
    d->session->ops->solve_right(&alone, d->ldl, rows);
}

/* target := -W D. */
static void map_tile(void *ctx, int64_t index, int thread)
{
    const rp_drift *d = ctx;
    const rp_exec alone = rp_exec_alone(d->session->exec, thread);
    int64_t row0 = 0;
    const rp_mat rows = tile_rows(d, index, &row0);

    d->session->ops->multiply(&alone, rows,
                              rp_cmat_of(d->w + row0 * d->cols, rows.rows, d->cols, d->cols),
                              rp_cmat_of(d->map, d->cols, d->cols, d->cols));
}

/* Whole tiles to ranks, so that a tile's shape does not depend on them. */
static void deal_rows(rp_range *rows_of, const rp_session *session, int64_t rows, int nranks)
{
    const int64_t step = rows_of_tile(session, rows);

    for (int r = 0; r < nranks; r++) {
        const rp_range tiles = rp_partition(RP_DIV_UP(rows, step), nranks, r);
        rows_of[r].first = RP_MIN(tiles.first * step, rows);
        rows_of[r].count = RP_MIN((tiles.first + tiles.count) * step, rows) - rows_of[r].first;
    }
}

/* Of a rank's rows of the target. */
static size_t target_bytes(rp_range rows, int64_t cols)
{
    return (size_t)(rows.count * cols) * sizeof(float);
}

/* Collective. The whole sum of the rows that a rank solves goes there. */
static void scatter_sum(rp_drift *d)
{
    rp_session *s = d->session;
    double start = rp_clock_seconds();

    deal_rows(d->rows_of, s, d->cross.rows, rp_comm_nranks(s->comm));
    rp_cross_scatter(&d->cross, s->comm, d->rows_of);
    rp_session_lap(s, RP_PHASE_REDUCE, &start);
}

/* Collective. target [rows, cols] on every rank, of tiles that each makes its share of. */
static void make_rows(rp_drift *d, float *target, int64_t rows, rp_tile_fn make_tile)
{
    rp_session *s = d->session;
    const int nranks = rp_comm_nranks(s->comm);
    const rp_range *mine = &d->rows_of[rp_comm_rank(s->comm)];
    double start = rp_clock_seconds();

    d->target = target;
    d->tile_rows = rows_of_tile(s, rows);
    deal_rows(d->rows_of, s, rows, nranks);
    rp_pool_run(rp_exec_tile_pool(s->exec), RP_DIV_UP(mine->count, d->tile_rows), make_tile, d);
    rp_session_lap(s, RP_PHASE_SOLVE, &start);
    if (nranks > 1) {
        for (int r = 0; r < nranks; r++) {
            d->nbytes[r] = target_bytes(d->rows_of[r], d->cols);
        }
        rp_place_copy(s->exec, d->send, target + mine->first * d->cols,
                      target_bytes(*mine, d->cols));
        rp_comm_place_allgatherv(s->comm, s->exec, d->send, target, d->nbytes);
        rp_session_lap(s, RP_PHASE_EXCHANGE, &start);
    }
}

/* Collective. Squared errors a token on the blocks kept aside; target is W* - W. */
static void judge(rp_drift *d, const rp_linear *linear, const float *w, const float *target,
                  rp_drift_result *result)
{
    const rp_session *s = d->session;
    const rp_site_input *in = &d->input;
    const int64_t n_blocks = in->blocks.n_blocks;
    const int64_t n_kept = in->blocks.n_seqs - rp_blocks_fitted_seqs(&in->blocks);
    double *before = d->kept;
    double *after = d->kept + n_blocks;

    memset(d->kept, 0, (size_t)(2 * n_blocks) * sizeof(*d->kept));
    for (int64_t b = in->mine.first; b < in->mine.first + in->mine.count; b++) {
        if (rp_blocks_is_kept_aside(&in->blocks, b)) {
            const rp_cmat a = output_drift(d, linear, w, b);
            const rp_mat corrected = rp_mat_of(d->output_drift, a.rows, a.cols, a.ld);
            before[b] = s->ops->sum_squares(s->exec, a);
            s->ops->linear(s->exec, corrected, rp_site_block(in, in->rows, b, d->cols),
                           rp_cmat_of(target, linear->rows, linear->cols, linear->cols), NULL,
                           true);
            after[b] = s->ops->sum_squares(s->exec, a);
        }
    }
    rp_comm_allreduce_max_f64(s->comm, d->kept, 2 * n_blocks);
    for (int64_t b = 0; b < n_blocks && n_kept > 0; b++) {
        const double share = 1.0 / (double)(n_kept * in->blocks.seq_len);
        result->before += before[b] * share;
        result->after += after[b] * share;
    }
    result->is_measured = n_kept > 0;
    result->is_taken = n_kept > 0 && result->after < result->before;
}

rp_status rp_drift_begin_site(rp_drift *d, const rp_site_input *input, const rp_gram *gram,
                              const rp_linear *const linears[], int n)
{
    rp_status st = RP_OK;
    double start = rp_clock_seconds();

    d->input = *input;
    d->gram = gram;
    d->cols = gram->cols;
    bound_drifts(d);
    d->is_shared = shares_map(linears, n) && is_any_positive(d->input_bound, d->cols);
    if (d->is_shared) {
        for (int64_t i = 0; i < d->cols; i++) {
            d->bound[i] = (double)d->input_bound[i];
        }
        rp_cross_begin(&d->cross, gram, d->cols, d->bound);
        RP_TRY(sum_products(d, NULL, NULL));
    }
    rp_session_lap(d->session, RP_PHASE_GRAM, &start);
    if (d->is_shared) {
        scatter_sum(d);
    }
out:
    return st;
}

void rp_drift_begin_factor(rp_drift *d, const rp_ldl *ldl)
{
    d->ldl = ldl;
    d->has_map = false;
}

/* Collective. target := W* - W. */
static rp_status find_change(rp_drift *d, const rp_linear *linear, const float *w, float *target)
{
    rp_status st = RP_OK;
    double start = rp_clock_seconds();

    if (!d->is_shared || corrects_stream(linear)) {
        bound_rows(d, linear, w);
        rp_cross_begin(&d->cross, d->gram, linear->rows, d->bound);
        RP_TRY(sum_products(d, linear, w));
        rp_session_lap(d->session, RP_PHASE_GRAM, &start);
        scatter_sum(d);
        make_rows(d, target, linear->rows, solve_tile);
        return RP_OK;
    }
    if (!d->has_map) {
        make_rows(d, d->map, d->cols, solve_tile);
        d->has_map = true;
    }
    d->w = w;
    make_rows(d, target, linear->rows, map_tile);
out:
    return st;
}

rp_status rp_drift_target(rp_drift *d, const rp_linear *linear, const float *w, float *target,
                          rp_drift_result *result)
{
    rp_status st = RP_OK;
    rp_session *s = d->session;
    const int64_t rows = linear->rows, cols = linear->cols;

    memset(result, 0, sizeof(*result));
    if (is_drifting(d, linear)) {
        double start = 0;
        RP_TRY(find_change(d, linear, w, target));
        start = rp_clock_seconds();
        judge(d, linear, w, target, result);
        rp_session_lap(s, RP_PHASE_FORWARD, &start);
    }
    if (result->is_taken) {
        s->ops->add(s->exec, rp_mat_of(target, rows, cols, cols), rp_cmat_of(w, rows, cols, cols));
    } else {
        rp_place_copy(s->exec, target, w, (size_t)(rows * cols) * sizeof(float));
    }
out:
    return st;
}

/* ---- Work and traffic ---- */

bool rp_drift_is_expected(const rp_linears *linears, int64_t layer, rp_site site)
{
    for (int64_t i = 0; i < linears->n; i++) {
        const rp_linear *linear = &linears->items[i];
        const rp_site at = rp_slot_info_of(linear->slot)->site;
        if (linear->n_forms > 0 &&
            (linear->layer < layer || (linear->layer == layer && at < site))) {
            return true;
        }
    }
    return false;
}

/* Is linears[i] the first with its factor that takes the site's D. */
static bool is_first_of_map(const rp_linear *const linears[], int i)
{
    for (int j = 0; j < i; j++) {
        if (rp_linear_corrects_drift(linears[j]) && !corrects_stream(linears[j]) &&
            rp_linear_same_factor(linears[i], linears[j])) {
            return false;
        }
    }
    return true;
}

rp_drift_work rp_drift_work_of(const rp_linear *const linears[], int n, const rp_blocks *blocks)
{
    const int64_t fitted_seqs = rp_blocks_fitted_seqs(blocks);
    const double fitted = (double)(fitted_seqs * blocks->seq_len);
    const double kept = (double)((blocks->n_seqs - fitted_seqs) * blocks->seq_len);
    const double cols = n > 0 ? (double)linears[0]->cols : 0;
    const bool is_shared = shares_map(linears, n);
    rp_drift_work work = {is_shared ? 2 * fitted * cols * cols : 0, 0};

    for (int i = 0; i < n; i++) {
        const double elems = (double)linears[i]->rows * cols;
        const bool has_map = is_shared && !corrects_stream(linears[i]);
        if (rp_linear_corrects_drift(linears[i])) {
            work.sum_flop += 4 * elems * (has_map ? kept : kept + fitted);
            work.solve_flop += 2 * elems * cols;
            work.solve_flop += has_map && is_first_of_map(linears, i) ? 2 * cols * cols * cols : 0;
        }
    }
    return work;
}

static void rows_traffic(rp_traffic *t, const rp_range *rows_of, int64_t rows, int64_t cols)
{
    const rp_range all = {0, rows};

    if (t->nranks > 1) {
        rp_traffic_allgatherv(t, target_bytes(all, cols), target_bytes(rows_of[t->rank], cols));
    }
}

/* A sum of `rows` rows, agreed on and scattered. */
static void sum_traffic(rp_traffic *t, const rp_range *rows_of, int64_t cols)
{
    rp_traffic_agree(t);
    rp_cross_scatter_traffic(t, cols, rows_of);
}

/* rows_of [nranks]: scratch. */
static void targets_traffic(rp_traffic *t, rp_range *rows_of, const rp_session *s,
                            const rp_linear *const linears[], int n)
{
    const int64_t n_blocks = rp_calibration_blocks(s->job, s->config).n_blocks;
    const int64_t cols = linears[0]->cols;
    const bool is_shared = shares_map(linears, n);

    if (is_shared) {
        deal_rows(rows_of, s, cols, t->nranks);
        sum_traffic(t, rows_of, cols);
    }
    for (int i = 0; i < n; i++) {
        const bool has_map = is_shared && !corrects_stream(linears[i]);
        if (!rp_linear_corrects_drift(linears[i])) {
            continue;
        }
        if (has_map && is_first_of_map(linears, i)) {
            deal_rows(rows_of, s, cols, t->nranks);
            rows_traffic(t, rows_of, cols, cols);
        }
        deal_rows(rows_of, s, linears[i]->rows, t->nranks);
        if (!has_map) {
            sum_traffic(t, rows_of, cols);
        }
        rows_traffic(t, rows_of, linears[i]->rows, cols);
        rp_traffic_allreduce(t, (size_t)(2 * n_blocks) * sizeof(double));
    }
}

rp_status rp_drift_site_traffic(rp_traffic *of, const rp_session *session,
                                const rp_linear *const linears[], int n, bool is_expected)
{
    rp_status st = RP_OK;
    const int nranks = of[0].nranks;
    rp_range *rows_of = NULL;

    RP_TRY(rp_alloc_array(&rows_of, (size_t)nranks, sizeof(*rows_of)));
    for (int r = 0; r < nranks; r++) {
        rp_traffic_allreduce(&of[r], (size_t)linears[0]->cols * sizeof(float));
        rp_traffic_allreduce(&of[r], (size_t)session->config->hidden_size * sizeof(float));
        if (is_expected) {
            targets_traffic(&of[r], rows_of, session, linears, n);
        }
    }
out:
    free(rows_of);
    return st;
}

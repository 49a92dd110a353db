/* The drift-corrected target equals the textbook formula in double precision, has the same bits on
 * any number of ranks, and is not taken where it does not help on the blocks kept aside. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "jobs/drift.h"
#include "methods/site_factor.h"
#include "rank_check.h"
#include "tests/methods/eliminate.h"

enum { COLS = 48, ROWS = 40, SEQ = 64, N_SEQS = 24, TOKENS = SEQ * N_SEQS };
#define DAMPENING 0.01

typedef struct streams {
    float x[TOKENS * COLS], x_full[TOKENS * COLS];
    float h[TOKENS * ROWS], h_full[TOKENS * ROWS];
    float w[ROWS * COLS];
} streams;

static double noise(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(*state >> 11) / 9007199254740992.0 * 2 - 1;
}

/* x is a linear image of x_full and some noise, so that there is something to correct; with
 * `only_noise` there is nothing. */
static void fill(streams *s, bool only_noise)
{
    uint64_t seed = 5;

    for (int i = 0; i < ROWS * COLS; i++) {
        s->w[i] = (float)noise(&seed);
    }
    for (int t = 0; t < TOKENS; t++) {
        for (int c = 0; c < COLS; c++) {
            s->x_full[t * COLS + c] = (float)(noise(&seed) * (1 + c % 5));
        }
        for (int c = 0; c < COLS; c++) {
            const double other = only_noise ? noise(&seed) : s->x_full[t * COLS + (c + 1) % COLS];
            s->x[t * COLS + c] =
                (float)(s->x_full[t * COLS + c] + 0.1 * other + 0.02 * noise(&seed));
        }
        for (int r = 0; r < ROWS; r++) {
            s->h_full[t * ROWS + r] = (float)noise(&seed);
            s->h[t * ROWS + r] = (float)(s->h_full[t * ROWS + r] + 0.2 * noise(&seed) +
                                         (only_noise ? 0 : 0.1 * s->x_full[t * COLS + r % COLS]));
        }
    }
}

/* One linear that writes to the stream, as the calibration pass would have it. */
static void make_session(rp_session *s, rp_job *job, rp_model_config *config,
                         rp_linear linears[RP_SLOT_LINEARS], rp_drift_mode mode)
{
    rp_linear *linear = &linears[RP_SLOT_DOWN];

    memset(job, 0, sizeof(*job));
    memset(config, 0, sizeof(*config));
    memset(linears, 0, RP_SLOT_LINEARS * sizeof(*linears));
    job->calibration.num_samples = N_SEQS;
    job->calibration.max_seq_length = SEQ;
    job->calibration.block_tokens = SEQ;
    config->n_layers = 1;
    config->hidden_size = ROWS;
    config->max_position = SEQ;
    linear->slot = RP_SLOT_DOWN;
    linear->rows = ROWS;
    linear->cols = COLS;
    linear->n_forms = 1;
    linear->choice.drift = mode;
    s->job = job;
    s->config = config;
    s->ops = rp_kernels_cpu();
    s->linears.items = linears;
    s->linears.n = RP_SLOT_LINEARS;
}

static rp_window *window_of(const rp_exec *exec, rp_range mine, const float *values, int64_t cols)
{
    const rp_window_shape shape = {mine.count * SEQ, SEQ, cols};
    rp_window *window = NULL;

    CHECK(rp_window_create(&window, exec, &shape, false) == RP_OK);
    rp_window_put(window, 0, shape.rows, cols, values + mine.first * SEQ * cols);
    return window;
}

static rp_site_input input_of(const streams *s, const rp_exec *exec, rp_comm *comm)
{
    const rp_blocks blocks = rp_blocks_make(N_SEQS, SEQ, SEQ);
    const rp_range mine = rp_partition(blocks.n_blocks, rp_comm_nranks(comm), rp_comm_rank(comm));
    const rp_site_input input = {blocks,
                                 mine,
                                 window_of(exec, mine, s->x, COLS),
                                 window_of(exec, mine, s->x_full, COLS),
                                 window_of(exec, mine, s->h, ROWS),
                                 window_of(exec, mine, s->h_full, ROWS),
                                 ROWS};

    return input;
}

static void destroy_input(rp_site_input *in)
{
    rp_window_destroy(&in->rows);
    rp_window_destroy(&in->full_rows);
    rp_window_destroy(&in->h);
    rp_window_destroy(&in->full_h);
}

/* The site's statistics of the fitted blocks and their factor, on every rank. */
static void factor_of(rp_gram *gram, rp_site_factor *factor, const rp_session *s, const streams *of,
                      const rp_site_input *in)
{
    rp_damping_log log;

    CHECK(rp_gram_create(gram, s->ops, s->exec, COLS) == RP_OK);
    rp_gram_begin(gram, COLS, rp_blocks_fitted_seqs(&in->blocks) * SEQ, SEQ);
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t b = 0; b < in->blocks.n_blocks; b++) {
            const rp_cmat block = rp_cmat_of(of->x + b * SEQ * COLS, SEQ, COLS, COLS);
            if (rp_blocks_is_kept_aside(&in->blocks, b)) {
                continue;
            }
            if (pass == 0) {
                CHECK(rp_gram_observe(gram, block) == RP_OK);
            } else {
                rp_gram_add(gram, block);
            }
        }
        if (pass == 0) {
            rp_gram_fix_exponents(gram, s->comm);
        }
    }
    const rp_gram_view view = {COLS,           gram->n_tokens, gram->sum,
                               gram->exponent, gram->shift,    gram->max_abs};
    CHECK(rp_site_factor_build(factor, &log, s->ops, s->exec, &view, DAMPENING, false) == RP_OK);
    CHECK(!log.is_fallback);
}

/* W* of row r, in double precision from the definition. */
static void textbook_row(double *want, const streams *s, int r, bool with_stream)
{
    static double h[COLS * COLS];
    const rp_blocks blocks = rp_blocks_make(N_SEQS, SEQ, SEQ);
    double mean = 0;

    memset(h, 0, sizeof(h));
    memset(want, 0, COLS * sizeof(*want));
    for (int t = 0; t < TOKENS; t++) {
        double a = with_stream ? (double)s->h[t * ROWS + r] - (double)s->h_full[t * ROWS + r] : 0;
        if (rp_blocks_is_kept_aside(&blocks, t / SEQ)) {
            continue;
        }
        for (int c = 0; c < COLS; c++) {
            a += (double)s->w[r * COLS + c] *
                 ((double)s->x[t * COLS + c] - (double)s->x_full[t * COLS + c]);
        }
        for (int i = 0; i < COLS; i++) {
            want[i] -= a * (double)s->x[t * COLS + i];
            for (int j = 0; j < COLS; j++) {
                h[i * COLS + j] += (double)s->x[t * COLS + i] * (double)s->x[t * COLS + j];
            }
        }
    }
    for (int i = 0; i < COLS; i++) {
        mean += h[i * COLS + i] / COLS;
    }
    for (int i = 0; i < COLS; i++) {
        h[i * COLS + i] += DAMPENING * mean;
    }
    eliminate(h, COLS, want);
    for (int c = 0; c < COLS; c++) {
        want[c] += (double)s->w[r * COLS + c];
    }
}

static bool same_bits(const float *a, const float *b)
{
    for (int i = 0; i < ROWS * COLS; i++) {
        if (a[i] != b[i] || signbit(a[i]) != signbit(b[i])) {
            return false;
        }
    }
    return true;
}

static void target_of(float *target, rp_drift_result *result, const streams *s, rp_session *session,
                      rp_comm *comm)
{
    rp_site_input input = input_of(s, session->exec, comm);
    const rp_linear *linear = &session->linears.items[RP_SLOT_DOWN];
    rp_drift *drift = NULL;
    rp_site_factor factor;
    rp_ldl ldl;
    rp_gram gram;

    session->comm = comm;
    factor_of(&gram, &factor, session, s, &input);
    ldl = rp_site_factor_ldl(&factor);
    CHECK(rp_drift_create(&drift, session) == RP_OK && drift != NULL);
    session->stop = rp_stop_plan_make(comm, (rp_walltime){0}, 45);
    CHECK(rp_drift_begin_site(drift, &input, &gram, &linear, 1) == RP_OK);
    rp_drift_begin_factor(drift, &ldl);
    CHECK(rp_drift_target(drift, linear, s->w, target, result) == RP_OK);
    rp_drift_destroy(&drift);
    destroy_input(&input);
    rp_site_factor_destroy(&factor);
    rp_gram_destroy(&gram);
}

static void check_mode(rp_session *session, rp_drift_mode mode, const streams *s, rp_comm *world,
                       rp_comm *alone)
{
    static float shared[ROWS * COLS];
    static float serial[ROWS * COLS];
    rp_model_config config;
    rp_linear linears[RP_SLOT_LINEARS];
    rp_job job;
    rp_drift_result result;
    double want[COLS];

    make_session(session, &job, &config, linears, mode);
    target_of(serial, &result, s, session, alone);
    target_of(shared, &result, s, session, world);
    CHECK(same_bits(shared, serial));
    CHECK(result.is_measured && result.is_taken && result.after < 0.9 * result.before);
    for (int r = 0; r < ROWS; r++) {
        textbook_row(want, s, r, mode == RP_DRIFT_FULL);
        for (int c = 0; c < COLS; c++) {
            CHECK(fabs(want[c] - (double)serial[r * COLS + c]) < 2e-5);
        }
    }
}

/* FLOP of the site, by hand: the input's own products once, or W (x - x_f) and its product. */
static void check_work(rp_session *session)
{
    const rp_blocks blocks = rp_blocks_make(N_SEQS, SEQ, SEQ);
    const double fitted = (double)(rp_blocks_fitted_seqs(&blocks) * SEQ);
    const double elems = ROWS * COLS;
    rp_model_config config;
    rp_linear linears[RP_SLOT_LINEARS];
    const rp_linear *const down = &linears[RP_SLOT_DOWN];
    rp_drift_work work;
    rp_job job;

    make_session(session, &job, &config, linears, RP_DRIFT_FULL);
    work = rp_drift_work_of(&down, 1, &blocks);
    CHECK(work.sum_flop == 4 * TOKENS * elems && work.solve_flop == 2 * elems * COLS);
    make_session(session, &job, &config, linears, RP_DRIFT_ASYMMETRIC);
    work = rp_drift_work_of(&down, 1, &blocks);
    CHECK(work.sum_flop == 2 * fitted * COLS * COLS + 4 * (TOKENS - fitted) * elems);
    CHECK(work.solve_flop == 2 * elems * COLS + 2.0 * COLS * COLS * COLS);
    linears[RP_SLOT_DOWN].choice.drift = RP_DRIFT_NONE;
    work = rp_drift_work_of(&down, 1, &blocks);
    CHECK(work.sum_flop == 0 && work.solve_flop == 0);
}

static void check_refusal(rp_session *session, streams *s, rp_comm *world)
{
    static float target[ROWS * COLS];
    rp_model_config config;
    rp_linear linears[RP_SLOT_LINEARS];
    rp_job job;
    rp_drift_result result;

    /* Noise alone: what was fitted to it does not carry over. */
    fill(s, true);
    make_session(session, &job, &config, linears, RP_DRIFT_FULL);
    target_of(target, &result, s, session, world);
    CHECK(result.is_measured && !result.is_taken && result.after >= result.before);
    CHECK(same_bits(target, s->w));
    /* The same streams: nothing to correct. */
    memcpy(s->x, s->x_full, sizeof(s->x));
    memcpy(s->h, s->h_full, sizeof(s->h));
    target_of(target, &result, s, session, world);
    CHECK(!result.is_measured && !result.is_taken);
    CHECK(same_bits(target, s->w));
}

int main(void)
{
    rp_session session = {0};
    rp_comm *world = NULL;
    rp_comm *alone = NULL;
    rp_exec *exec = NULL;
    streams *s = calloc(1, sizeof(*s));

    CHECK(s != NULL);
    CHECK(rp_comm_create_world(&world) == RP_OK && rp_comm_create_serial(&alone) == RP_OK);
    CHECK(rp_exec_create(&exec, 1 + rp_comm_rank(world) % 2, RP_PRODUCTS_F32) == RP_OK);
    session.exec = exec;
    fill(s, false);
    check_mode(&session, RP_DRIFT_ASYMMETRIC, s, world, alone);
    check_mode(&session, RP_DRIFT_FULL, s, world, alone);
    check_work(&session);
    check_refusal(&session, s, world);
    rp_exec_destroy(&exec);
    rp_comm_destroy(&alone);
    rp_comm_destroy(&world);
    free(s);
    return 0;
}

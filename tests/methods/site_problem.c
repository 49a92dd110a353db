/* Inputs whose neighbouring columns are correlated, one of them dead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/exec.h"
#include "kernels/ops.h"
#include "methods/solver.h"
#include "mpi/comm.h"
#include "sharding/gram.h"
#include "site_problem.h"

static double uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) / 9007199254740992.0 * 2 - 1;
}

double site_problem_normal(uint64_t *state)
{
    double sum = 0;

    for (int i = 0; i < 12; i++) {
        sum += uniform(state) / 2;
    }
    return sum;
}

static void make_inputs(site_problem *p, h_kind kind)
{
    uint64_t state = 7;
    const int64_t n = p->cols;

    for (int64_t i = 0; i < PROBLEM_ROWS * n; i++) {
        p->w[i] = (float)(0.02 * site_problem_normal(&state));
    }
    if (kind == GAPS) {
        memset(p->w, 0, (size_t)(n + 256) * sizeof(float));
    }
    for (int64_t t = 0; t < PROBLEM_TOKENS; t++) {
        double carried = 0;
        if (kind == RANK_DEFICIENT && t >= n / 4) {
            memset(p->x + t * n, 0, (size_t)n * sizeof(float));
            continue;
        }
        for (int64_t j = 0; j < n; j++) { /* neighbours are correlated */
            carried = 0.8 * carried + site_problem_normal(&state);
            p->x[t * n + j] = (float)carried;
            if (kind == SPREAD) {
                p->x[t * n + j] *= (float)pow(10, (double)((j * 7) % 60) / 10 - 3);
            }
        }
        p->x[t * n + PROBLEM_DEAD] = 0;
        if (kind == GAPS) {
            memset(p->x + t * n + 32, 0, 32 * sizeof(float));
        }
        if (kind == MASSIVE) {
            p->x[t * n + 7] *= 1000;
        }
    }
}

static void build(site_problem *p, bool is_actorder)
{
    const int64_t n = p->cols;
    rp_gram gram;
    rp_comm *comm = NULL;
    rp_damping_log log;
    const rp_cmat x = rp_cmat_of(p->x, PROBLEM_TOKENS, n, n);

    assert_int_equal(rp_exec_create(&p->exec, 1, RP_PRODUCTS_F32), RP_OK);
    assert_int_equal(rp_comm_create_serial(&comm), RP_OK);
    assert_int_equal(rp_gram_create(&gram, rp_kernels_cpu(), p->exec, n), RP_OK);
    rp_gram_begin(&gram, n, PROBLEM_TOKENS, PROBLEM_TOKENS);
    assert_int_equal(rp_gram_observe(&gram, x), RP_OK);
    rp_gram_fix_exponents(&gram, comm);
    rp_gram_add(&gram, x);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j <= i; j++) {
            const double value = ldexp((double)gram.sum[i * n + j],
                                       gram.exponent[i] + gram.exponent[j] - gram.shift) /
                                 PROBLEM_TOKENS;
            p->h[i * n + j] = value;
            p->h[j * n + i] = value;
        }
    }
    const rp_gram_view view = {n,          PROBLEM_TOKENS, gram.sum, gram.exponent,
                               gram.shift, gram.max_abs};
    assert_int_equal(
        rp_site_factor_build(&p->factor, &log, rp_kernels_cpu(), p->exec, &view, 0.01, is_actorder),
        RP_OK);
    assert_false(log.is_fallback);
    assert_int_equal(log.n_steps, 1);
    rp_gram_destroy(&gram);
    rp_comm_destroy(&comm);
}

void site_problem_create(site_problem *p, h_kind kind, int64_t cols, bool is_actorder)
{
    const size_t n = (size_t)cols;

    memset(p, 0, sizeof(*p));
    p->cols = cols;
    p->w = calloc(PROBLEM_ROWS * n, sizeof(float));
    p->x = calloc(PROBLEM_TOKENS * n, sizeof(float));
    p->h = calloc(n * n, sizeof(double));
    assert_true(p->w != NULL && p->x != NULL && p->h != NULL);
    make_inputs(p, kind);
    build(p, is_actorder);
}

void site_problem_destroy(site_problem *p)
{
    rp_site_factor_destroy(&p->factor);
    rp_exec_destroy(&p->exec);
    free(p->w);
    free(p->x);
    free(p->h);
}

double site_problem_loss(const site_problem *p, const rp_form *form)
{
    const int64_t n = p->cols;
    float *decoded = calloc((size_t)n, sizeof(*decoded));
    double *e = calloc((size_t)n, sizeof(*e));
    double loss = 0;

    for (int64_t r = 0; r < form->rows; r++) {
        rp_form_decode_rows(form, r, 1, decoded);
        for (int64_t i = 0; i < n; i++) {
            e[i] = (double)p->w[r * n + i] - (double)decoded[i];
        }
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j < n; j++) {
                loss += e[i] * p->h[i * n + j] * e[j];
            }
        }
    }
    free(decoded);
    free(e);
    return loss;
}

rp_grid grid_of_case(const grid_case *c)
{
    rp_grid grid = {.ops = rp_grid_find(c->name), .scale_type = RP_F16};

    assert_non_null(grid.ops);
    grid.bits = grid.ops->fixed_bits != 0 ? grid.ops->fixed_bits : c->bits;
    grid.group = grid.ops->fixed_bits != 0 ? grid.ops->fixed_group : c->group;
    grid.is_symmetric = c->is_symmetric;
    grid.mse = c->mse;
    return grid;
}

double site_problem_solve(const site_problem *p, const rp_grid *grid, int64_t sweeps, int fill,
                          rp_form *form)
{
    const size_t nbytes = rp_solver_gptq.scratch_bytes(grid, PROBLEM_ROWS, p->cols, 64);
    const rp_ldl ldl = rp_site_factor_ldl(&p->factor);
    rp_tile_solve task = {
        .grid = grid, .ldl = &ldl, .block_cols = 64, .sweeps = sweeps, .w = p->w, .out = form};
    void *scratch = NULL;

    assert_int_equal(rp_form_create_codes(form, grid, PROBLEM_ROWS, p->cols), RP_OK);
    assert_int_equal(rp_alloc(&scratch, nbytes), RP_OK);
    memset(scratch, fill, nbytes);
    rp_solver_gptq.solve(&task, scratch);
    free(scratch);
    return task.loss;
}

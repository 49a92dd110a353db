/* GPTQ against the textbook form (upper Cholesky factor of the inverse, one column at a time, all
 * in f64): the codes agree but for rounding (spec: at most 0.3 % in f32), and the loss is equal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/exec.h"
#include "kernels/grid_affine.h"
#include "kernels/ops.h"
#include "methods/solver.h"
#include "mpi/comm.h"
#include "sharding/gram.h"

enum { ROWS = 48, TOKENS = 1024 };

typedef enum h_kind { MILD, MASSIVE, SPREAD, RANK_DEFICIENT } h_kind;

typedef struct gptq_case {
    h_kind kind;
    int64_t cols, group;
    int bits;
    bool is_symmetric, is_actorder, mse;
} gptq_case;

typedef struct problem {
    float *w, *x;
    double *h; /* [cols, cols] mean over tokens, undamped */
    rp_site_factor factor;
    rp_grid grid;
} problem;

static double uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) / 9007199254740992.0 * 2 - 1;
}

static double normal(uint64_t *state)
{
    double sum = 0;

    for (int i = 0; i < 12; i++) {
        sum += uniform(state) / 2;
    }
    return sum;
}

static void make_inputs(problem *p, const gptq_case *c)
{
    uint64_t state = 7;
    const int64_t n = c->cols;

    for (int64_t i = 0; i < ROWS * n; i++) {
        p->w[i] = (float)(0.02 * normal(&state));
    }
    for (int64_t t = 0; t < TOKENS; t++) {
        double carried = 0;
        if (c->kind == RANK_DEFICIENT && t >= n / 4) {
            memset(p->x + t * n, 0, (size_t)n * sizeof(float));
            continue;
        }
        for (int64_t j = 0; j < n; j++) { /* neighbours are correlated */
            carried = 0.8 * carried + normal(&state);
            p->x[t * n + j] = (float)carried;
            if (c->kind == SPREAD) {
                p->x[t * n + j] *= (float)pow(10, (double)((j * 7) % 60) / 10 - 3);
            }
        }
        p->x[t * n + 11] = 0; /* dead */
        if (c->kind == MASSIVE) {
            p->x[t * n + 7] *= 1000;
        }
    }
}

static void build(problem *p, const gptq_case *c, const rp_exec *exec)
{
    const int64_t n = c->cols;
    rp_gram gram;
    rp_comm *comm = NULL;
    rp_damping_log log;
    const rp_cmat x = rp_cmat_of(p->x, TOKENS, n, n);

    assert_int_equal(rp_comm_create_serial(&comm), RP_OK);
    assert_int_equal(rp_gram_create(&gram, n), RP_OK);
    rp_gram_begin(&gram, n, TOKENS, TOKENS);
    assert_int_equal(rp_gram_observe(&gram, rp_kernels_cpu(), exec, x), RP_OK);
    rp_gram_fix_exponents(&gram, comm);
    rp_gram_add(&gram, rp_kernels_cpu(), exec, x);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j <= i; j++) {
            const double value = ldexp((double)gram.sum[i * n + j],
                                       gram.exponent[i] + gram.exponent[j] - gram.shift) /
                                 TOKENS;
            p->h[i * n + j] = value;
            p->h[j * n + i] = value;
        }
    }
    const rp_gram_view view = {n, TOKENS, gram.sum, gram.exponent, gram.shift, gram.max_abs};
    assert_int_equal(rp_site_factor_build(&p->factor, &log, exec, &view, 0.01, c->is_actorder),
                     RP_OK);
    assert_false(log.is_fallback);
    assert_int_equal(log.n_steps, 1);
    rp_gram_destroy(&gram);
    rp_comm_destroy(&comm);
}

/* inverse := a^-1 for symmetric positive a, by Gauss-Jordan without pivoting. */
static void invert(double *a, int64_t n)
{
    for (int64_t k = 0; k < n; k++) {
        const double pivot = a[k * n + k];
        a[k * n + k] = 1;
        for (int64_t j = 0; j < n; j++) {
            a[k * n + j] /= pivot;
        }
        for (int64_t i = 0; i < n; i++) {
            const double f = a[i * n + k];
            if (i == k) {
                continue;
            }
            a[i * n + k] = 0;
            for (int64_t j = 0; j < n; j++) {
                a[i * n + j] -= f * a[k * n + j];
            }
        }
    }
}

/* a := upper U with U^T U = a. */
static void cholesky_upper(double *a, int64_t n)
{
    for (int64_t k = 0; k < n; k++) {
        for (int64_t j = k; j < n; j++) {
            double s = a[k * n + j];
            for (int64_t i = 0; i < k; i++) {
                s -= a[i * n + k] * a[i * n + j];
            }
            a[k * n + j] = j == k ? sqrt(s) : s / a[k * n + k];
        }
    }
}

/* The textbook's working set, in processing order. */
typedef struct book {
    const problem *p;
    const gptq_case *c;
    double *u, *w;       /* [cols, cols] upper factor of the inverse, [ROWS, cols] weights left */
    float *row, *weight; /* [cols] */
    float *params;       /* [ROWS, cols, 2] by group */
} book;

static book open_book(const problem *p, const gptq_case *c)
{
    const size_t n = (size_t)c->cols;
    const book b = {p,
                    c,
                    calloc(n * n, sizeof(double)),
                    calloc(ROWS * n, sizeof(double)),
                    calloc(n, sizeof(float)),
                    calloc(n, sizeof(float)),
                    calloc(ROWS * n * 2, sizeof(float))};

    return b;
}

static void close_book(book *b)
{
    free(b->u);
    free(b->w);
    free(b->row);
    free(b->weight);
    free(b->params);
}

/* Damped H and weights in processing order; then H's inverse factor. */
static void set_book(book *b)
{
    const problem *p = b->p;
    const int64_t n = b->c->cols;
    const int32_t *order = p->factor.order; /* reversed */
    double mean = 0;

    for (int64_t i = 0; i < n; i++) {
        mean += (p->factor.is_dead[i] ? 1 : p->h[i * n + i]) / (double)n;
    }
    for (int64_t a = 0; a < n; a++) {
        const int64_t i = order[n - 1 - a];
        for (int64_t k = 0; k < n; k++) {
            const int64_t j = order[n - 1 - k];
            b->u[a * n + k] = i == j && p->factor.is_dead[i] ? 1 : p->h[i * n + j];
        }
        b->u[a * n + a] += 0.01 * mean;
        for (int64_t r = 0; r < ROWS; r++) {
            b->w[r * n + a] = p->factor.is_dead[i] ? 0 : (double)p->w[r * n + i];
        }
    }
    invert(b->u, n);
    cholesky_upper(b->u, n);
}

/* Parameters of group k of row r: of the original weights (static), or of what is left of them. */
static void fit_group(book *b, int64_t r, int64_t k)
{
    const problem *p = b->p;
    const int64_t n = b->c->cols;
    const int64_t group = rp_grid_group_cols(&p->grid, n);
    const int64_t c0 = k * group;
    const int64_t m = RP_MIN(group, n - c0);

    for (int64_t i = 0; i < m; i++) {
        const double diagonal = b->u[(c0 + i) * n + c0 + i];
        if (b->c->is_actorder) {
            b->row[i] = p->factor.is_dead[c0 + i] ? 0 : p->w[r * n + c0 + i];
            b->weight[i] = p->factor.importance[c0 + i];
        } else {
            b->row[i] = (float)b->w[r * n + c0 + i];
            b->weight[i] = (float)(1 / (diagonal * diagonal));
        }
    }
    p->grid.ops->fit(&p->grid, m, b->row, b->weight, b->params + (r * n + k) * 2);
}

/* Codes of the textbook algorithm, original column order. */
static void textbook(const problem *p, const gptq_case *c, uint8_t *codes, double *quantised)
{
    const int64_t n = c->cols;
    const int64_t group = rp_grid_group_cols(&p->grid, n);
    book b = open_book(p, c);

    set_book(&b);
    for (int64_t r = 0; r < ROWS; r++) {
        for (int64_t k = 0; c->is_actorder && k * group < n; k++) {
            fit_group(&b, r, k);
        }
        for (int64_t a = 0; a < n; a++) {
            const int64_t column = p->factor.order[n - 1 - a];
            const float value = (float)b.w[r * n + a];
            float decoded = 0;
            if (!c->is_actorder && a % group == 0) {
                fit_group(&b, r, a / group);
            }
            p->grid.ops->round_column(&p->grid, 1, b.params + (r * n + column / group) * 2, 0,
                                      &value, &codes[r * n + column], &decoded);
            quantised[r * n + column] = (double)decoded;
            const double e = (b.w[r * n + a] - (double)decoded) / b.u[a * n + a];
            for (int64_t j = a + 1; j < n; j++) {
                b.w[r * n + j] -= e * b.u[a * n + j];
            }
        }
    }
    close_book(&b);
}

/* tr(dW H dW^T) with the undamped H. */
static double proxy_loss(const problem *p, int64_t n, const double *quantised)
{
    double loss = 0;

    for (int64_t r = 0; r < ROWS; r++) {
        for (int64_t i = 0; i < n; i++) {
            const double di = (double)p->w[r * n + i] - quantised[r * n + i];
            for (int64_t j = 0; j < n; j++) {
                loss += di * p->h[i * n + j] * ((double)p->w[r * n + j] - quantised[r * n + j]);
            }
        }
    }
    return loss;
}

static void check_case(const gptq_case *c)
{
    const int64_t n = c->cols;
    problem p = {.grid = {.ops = &rp_grid_affine,
                          .bits = c->bits,
                          .is_symmetric = c->is_symmetric,
                          .mse = c->mse,
                          .group = c->group,
                          .scale_type = RP_F16}};
    rp_exec *exec = NULL;
    rp_form form;
    float *decoded = calloc((size_t)(ROWS * n), sizeof(*decoded));
    uint8_t *codes = calloc((size_t)(ROWS * n), 1);
    double *want = calloc((size_t)(ROWS * n), sizeof(*want));
    double *got = calloc((size_t)(ROWS * n), sizeof(*got));
    int64_t n_differ = 0;

    p.w = calloc((size_t)(ROWS * n), sizeof(float));
    p.x = calloc((size_t)(TOKENS * n), sizeof(float));
    p.h = calloc((size_t)(n * n), sizeof(double));
    assert_int_equal(rp_exec_create(&exec, 1, RP_PRODUCTS_F32), RP_OK);
    make_inputs(&p, c);
    build(&p, c, exec);
    assert_int_equal(rp_form_create_codes(&form, &p.grid, ROWS, n), RP_OK);
    rp_solver_task task = {
        .grid = &p.grid, .factor = &p.factor, .block_cols = 64, .w = p.w, .out = &form};
    assert_int_equal(rp_alloc(&task.scratch, rp_solver_gptq.scratch_bytes(&p.grid, ROWS, n, 64)),
                     RP_OK);
    rp_solver_gptq.solve(&task);
    rp_form_decode_rows(&form, 0, ROWS, decoded);
    textbook(&p, c, codes, want);
    for (int64_t i = 0; i < ROWS * n; i++) {
        n_differ += codes[i] != form.codes[i];
        got[i] = (double)decoded[i];
    }
    const double loss = proxy_loss(&p, n, got);
    const double want_loss = proxy_loss(&p, n, want);
    print_message("kind %d cols %d group %d order %d: %.3f %% of codes differ, loss %.6g (%.6g)\n",
                  (int)c->kind, (int)n, (int)c->group, (int)c->is_actorder,
                  100.0 * (double)n_differ / (double)(ROWS * n), loss, want_loss);
    assert_true((double)n_differ <= 0.003 * (double)(ROWS * n));
    assert_true(fabs(loss - want_loss) <= 0.005 * want_loss);
    print_message("own %.6g\n", task.loss);
    assert_true(fabs(task.loss - loss) <= 1e-3 * loss);
    free(task.scratch);
    rp_form_destroy(&form);
    rp_site_factor_destroy(&p.factor);
    rp_exec_destroy(&exec);
    free(p.w);
    free(p.x);
    free(p.h);
    free(decoded);
    free(codes);
    free(want);
    free(got);
}

static void test_equals_textbook(void **state)
{
    static const gptq_case cases[] = {
        {MILD, 256, 128, 4, true, false, false},
        {MILD, 300, 32, 4, false, false, false},
        {MILD, 172, 32, 3, true, false, true},
        {MILD, 300, 0, 4, false, false, false},
        {MASSIVE, 256, 128, 4, true, false, false},
        {SPREAD, 256, 64, 4, true, false, false},
        {RANK_DEFICIENT, 256, 128, 4, true, false, false},
        {MILD, 256, 128, 4, true, true, false},
        {SPREAD, 300, 128, 4, false, true, false},
        {MILD, 172, 32, 2, true, true, true},
        {MILD, 256, 200, 8, true, false, false},
    };

    (void)state;
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        check_case(&cases[i]);
    }
}

/* U D U^T = damped, ordered H. */
static void test_factor_rebuilds_gram(void **state)
{
    enum { N = 6 };
    int64_t sum[N * N] = {0};
    double want[N * N];
    const int exponent[N] = {0};
    const float max_abs[N] = {1, 1, 0, 1, 1, 1};
    rp_exec *exec = NULL;
    rp_site_factor f;
    rp_damping_log log;

    (void)state;
    for (int i = 0; i < N; i++) {
        for (int j = 0; j <= i; j++) {
            sum[i * N + j] = i == 2 || j == 2 ? 0 : (i == j ? 1000 + 100 * i : 100 * (i - j));
            want[i * N + j] = want[j * N + i] = (double)sum[i * N + j] / 10;
        }
    }
    want[2 * N + 2] = 1;
    assert_int_equal(rp_exec_create(&exec, 1, RP_PRODUCTS_F32), RP_OK);
    const rp_gram_view view = {N, 10, sum, exponent, 0, max_abs};
    assert_int_equal(rp_site_factor_build(&f, &log, exec, &view, 0, true), RP_OK);
    assert_true(f.is_dead[2] && !f.is_dead[0]);
    assert_int_equal(f.order[N - 1], 5); /* largest diagonal first, so last by index */
    assert_int_equal(f.order[0], 2);
    for (int a = 0; a < N; a++) {
        for (int b = 0; b < N; b++) {
            double value = 0;
            for (int k = 0; k <= RP_MIN(a, b); k++) {
                const double la = k == a ? 1 : (double)f.l[a * N + k];
                const double lb = k == b ? 1 : (double)f.l[b * N + k];
                value += la * lb * (double)f.d[k];
            }
            assert_true(fabs(value - want[f.order[a] * N + f.order[b]]) < 1e-4);
        }
    }
    rp_site_factor_destroy(&f);
    rp_exec_destroy(&exec);
}

/* The undamped matrix above the diagonal and aside; the residual of t (H + damping I)^-1 in f64. */
static void check_solve_right(bool is_actorder)
{
    enum { N = 300, LD = N + 3 };
    const gptq_case c = {MILD, N, 128, 4, true, is_actorder, false};
    problem p = {.grid = {.ops = &rp_grid_affine, .bits = 4, .group = 128}};
    rp_exec *exec = NULL;
    uint64_t state = 3;
    float *want = calloc((size_t)ROWS * LD, sizeof(float));
    float *got = calloc((size_t)ROWS * LD, sizeof(float));
    double norm = 0;
    double residual = 0;

    p.w = calloc((size_t)ROWS * N, sizeof(float));
    p.x = calloc((size_t)TOKENS * N, sizeof(float));
    p.h = calloc((size_t)N * N, sizeof(double));
    assert_int_equal(rp_exec_create(&exec, 1, RP_PRODUCTS_F32), RP_OK);
    make_inputs(&p, &c);
    build(&p, &c, exec);
    const rp_site_factor *f = &p.factor;
    for (int64_t a = 0; a < N; a++) {
        const int64_t i = f->order[a];
        assert_true(f->diagonal[a] == (float)p.h[i * N + i]);
        for (int64_t b = a + 1; b < N; b++) {
            assert_true(f->l[a * N + b] == (float)p.h[i * N + f->order[b]]);
        }
    }
    for (int64_t i = 0; i < (int64_t)ROWS * LD; i++) {
        want[i] = got[i] = (float)normal(&state);
    }
    rp_site_factor_solve_right(f, ROWS, LD, got);
    for (int64_t r = 0; r < ROWS; r++) {
        for (int64_t j = 0; j < N; j++) {
            double value = f->damping * (double)got[r * LD + j];
            for (int64_t i = 0; i < N; i++) {
                value += (double)got[r * LD + i] * p.h[i * N + j];
            }
            if (f->is_dead[j]) {
                assert_true(got[r * LD + j] == 0);
                continue;
            }
            norm += (double)want[r * LD + j] * (double)want[r * LD + j];
            residual += pow(value - (double)want[r * LD + j], 2);
        }
        for (int64_t j = N; j < LD; j++) {
            assert_true(got[r * LD + j] == want[r * LD + j]);
        }
    }
    print_message("solve_right: residual %.2e\n", sqrt(residual / norm));
    assert_true(sqrt(residual / norm) < 1e-5);
    rp_site_factor_destroy(&p.factor);
    rp_exec_destroy(&exec);
    free(p.w);
    free(p.x);
    free(p.h);
    free(want);
    free(got);
}

static void test_solve_right(void **state)
{
    (void)state;
    check_solve_right(false);
    check_solve_right(true);
}

/* A singular matrix without damping climbs the ladder; an indefinite one ends in the fallback. */
static void test_damping_ladder(void **state)
{
    int64_t singular[4] = {100, 0, 100, 100};
    int64_t indefinite[4] = {1, 0, 1000, 1};
    const int exponent[2] = {0};
    const float max_abs[2] = {1, 1};
    rp_exec *exec = NULL;
    rp_site_factor f;
    rp_damping_log log;

    (void)state;
    assert_int_equal(rp_exec_create(&exec, 1, RP_PRODUCTS_F32), RP_OK);
    const rp_gram_view one = {2, 1, singular, exponent, 0, max_abs};
    assert_int_equal(rp_site_factor_build(&f, &log, exec, &one, 0, false), RP_OK);
    assert_false(log.is_fallback);
    assert_int_equal(log.n_steps, 2);
    rp_site_factor_destroy(&f);
    const rp_gram_view two = {2, 1, indefinite, exponent, 0, max_abs};
    assert_int_equal(rp_site_factor_build(&f, &log, exec, &two, 0.01, false), RP_OK);
    assert_true(log.is_fallback);
    assert_null(f.l);
    assert_true(log.n_steps > 2);
    rp_exec_destroy(&exec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_textbook),
        cmocka_unit_test(test_factor_rebuilds_gram),
        cmocka_unit_test(test_solve_right),
        cmocka_unit_test(test_damping_ladder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Solvers on a GPU against those of the CPU. Rounding to nearest and decoding give the same bits;
 * GPTQ and coordinate descent differ by how products are summed, which here and there decides a
 * near tie the other way. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/solver.h"
#include "site_problem.h"
#include "tests/kernels/gpu_pair.h"

enum { SKIPPED = 77 };

const size_t gpu_arena_bytes = (size_t)16 << 20;

static float *random_weights(int64_t n)
{
    float *w = malloc((size_t)n * sizeof(*w));
    uint64_t random = 17;

    assert_non_null(w);
    for (int64_t i = 0; i < n; i++) {
        w[i] = (float)(0.02 * site_problem_normal(&random));
    }
    return w;
}

/* A tile of a problem's matrix, of any number of rows. */
typedef struct tile {
    const site_problem *p;
    const rp_grid *grid;
    const float *w;
    int64_t rows, block_cols, sweeps;
} tile;

static rp_tile_solve task_of(const tile *t, const rp_ldl *ldl, rp_form *form)
{
    assert_int_equal(rp_form_create_codes(form, t->grid, t->rows, t->p->cols), RP_OK);
    return (rp_tile_solve){.grid = t->grid,
                           .ldl = ldl,
                           .block_cols = t->block_cols,
                           .sweeps = t->sweeps,
                           .w = t->w,
                           .out = form};
}

static double solve_on_cpu(const tile *t, rp_form *form)
{
    const rp_ldl ldl = rp_site_factor_ldl(&t->p->factor);
    rp_tile_solve task = task_of(t, &ldl, form);
    void *scratch = NULL;

    assert_int_equal(rp_alloc(&scratch, rp_solver_gptq.scratch_bytes(t->grid, t->rows, t->p->cols,
                                                                     t->block_cols)),
                     RP_OK);
    rp_solver_gptq.solve(&task, scratch);
    free(scratch);
    return task.loss;
}

static double solve_on_gpu(const tile *t, rp_form *form)
{
    const int64_t n = t->p->cols;
    rp_ldl ldl = rp_site_factor_ldl(&t->p->factor);
    rp_tile_solve task = task_of(t, &ldl, form);
    float *l = gpu_copy(ldl.l, (size_t)(n * n) * sizeof(float));
    float *w = gpu_copy(t->w, (size_t)(t->rows * n) * sizeof(float));

    ldl.l = l;
    task.w = w;
    rp_kernels_cuda()->solve_tile(&gpu, &task);
    assert_int_equal(rp_place_check(&gpu), RP_OK);
    rp_place_free(&gpu, l);
    rp_place_free(&gpu, w);
    return task.loss;
}

typedef struct differences {
    int64_t codes, rows; /* rows: with any */
} differences;

static differences compare(const rp_form *a, const rp_form *b)
{
    differences n = {0, 0};

    for (int64_t r = 0; r < a->rows; r++) {
        const int64_t before = n.codes;
        for (int64_t i = r * a->cols; i < (r + 1) * a->cols; i++) {
            n.codes += a->codes[i] != b->codes[i];
        }
        n.rows += n.codes > before;
    }
    return n;
}

/* tr(dW H dW^T) of the tile by the undamped H. */
static double loss_of(const tile *t, const rp_form *form)
{
    const int64_t n = t->p->cols;
    float *decoded = calloc((size_t)n, sizeof(*decoded));
    double loss = 0;

    assert_non_null(decoded);
    for (int64_t r = 0; r < t->rows; r++) {
        rp_form_decode_rows(form, r, 1, decoded);
        for (int64_t i = 0; i < n; i++) {
            decoded[i] = (t->p->factor.is_dead[i] ? 0 : t->w[r * n + i]) - decoded[i];
        }
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j < n; j++) {
                loss += (double)decoded[i] * t->p->h[i * n + j] * (double)decoded[j];
            }
        }
    }
    free(decoded);
    return loss;
}

static void check_tile(const grid_case *c, const tile *t)
{
    rp_form want;
    rp_form got;
    const double want_own = solve_on_cpu(t, &want);
    const double got_own = solve_on_gpu(t, &got);
    const double want_loss = loss_of(t, &want);
    const double got_loss = loss_of(t, &got);
    const differences n = compare(&want, &got);
    const bool two_levels = t->grid->ops->n_sub > 0;

    print_message("%s kind %d cols %d order %d rows %d block %d sweeps %d: %.3f %% of codes differ,"
                  " loss %.6g (%.6g), own %.6g (%.6g)\n",
                  c->name, (int)c->kind, (int)c->cols, (int)c->is_actorder, (int)t->rows,
                  (int)t->block_cols, (int)t->sweeps,
                  100 * (double)n.codes / (double)(t->rows * c->cols), got_loss, want_loss, got_own,
                  want_own);
    if (two_levels) { /* a near tie between two scales changes the rest of a row */
        assert_true(n.rows <= RP_DIV_UP(t->rows, 16));
    } else {
        assert_true((double)n.codes <= 0.005 * (double)(t->rows * c->cols));
    }
    assert_true(fabs(got_loss - want_loss) <= (two_levels ? 5e-3 : 1e-3) * want_loss);
    assert_true(fabs(got_own - got_loss) <= 1e-3 * got_loss);
    rp_form_destroy(&want);
    rp_form_destroy(&got);
}

static void check_case(const grid_case *c, int64_t rows, int64_t block_cols, int64_t sweeps)
{
    const rp_grid grid = grid_of_case(c);
    float *w = random_weights(rows * c->cols);
    site_problem p;

    site_problem_create(&p, c->kind, c->cols, c->is_actorder);
    const tile t = {&p, &grid, w, rows, block_cols, sweeps};
    check_tile(c, &t);
    site_problem_destroy(&p);
    free(w);
}

static const grid_case affine_cases[] = {
    {MILD, 384, false, "affine", 4, 128, true, false},
    {MILD, 300, false, "affine", 4, 32, false, false},
    {MILD, 172, false, "affine", 3, 0, true, true},
    {SPREAD, 300, false, "affine", 8, 0, false, false},
    {MASSIVE, 256, false, "affine", 4, 128, true, false},
    {RANK_DEFICIENT, 256, false, "affine", 4, 128, true, false},
    {GAPS, 320, false, "affine", 4, 64, false, true},
    {MILD, 256, true, "affine", 4, 128, true, false},
    {SPREAD, 300, true, "affine", 4, 128, false, false},
    {MILD, 172, true, "affine", 2, 32, true, true},
};

static void test_gptq_affine(void **state)
{
    (void)state;
    for (size_t i = 0; i < RP_COUNT(affine_cases); i++) {
        check_case(&affine_cases[i], 97, 128, 0);
    }
    check_case(&affine_cases[0], 1, 128, 0);
    check_case(&affine_cases[0], 32, 50, 0);
    check_case(&affine_cases[1], 130, 20, 0);
}

static const grid_case gguf_cases[] = {
    {MILD, 256, false, "Q4_0", OF_TYPE},
    {SPREAD, 288, false, "Q4_1", OF_TYPE},
    {MILD, 256, true, "Q5_0", OF_TYPE},
    {MILD, 256, false, "Q5_1", OF_TYPE},
    {RANK_DEFICIENT, 256, false, "Q8_0", OF_TYPE},
    {MILD, 512, false, "Q2_K", OF_TYPE},
    {SPREAD, 512, false, "Q3_K", OF_TYPE},
    {MILD, 256, false, "Q4_K", OF_TYPE},
    {MILD, 512, true, "Q4_K", OF_TYPE},
    {GAPS, 512, false, "Q3_K", OF_TYPE},
    {MASSIVE, 256, false, "Q5_K", OF_TYPE},
    {RANK_DEFICIENT, 512, false, "Q6_K", OF_TYPE},
    {MILD, 256, false, "IQ4_NL", OF_TYPE},
    {GAPS, 512, false, "IQ4_XS", OF_TYPE},
    {MILD, 256, false, "TQ1_0", OF_TYPE},
    {MILD, 256, true, "TQ2_0", OF_TYPE},
    {MILD, 256, false, "MXFP4", OF_TYPE},
};

static void test_gptq_gguf(void **state)
{
    (void)state;
    for (size_t i = 0; i < RP_COUNT(gguf_cases); i++) {
        check_case(&gguf_cases[i], 45, 128, 0);
    }
    check_case(&gguf_cases[0], 45, 20, 0);
    check_case(&gguf_cases[5], 45, 50, 0);
}

static void test_descent_gguf(void **state)
{
    (void)state;
    for (size_t i = 0; i < RP_COUNT(gguf_cases); i++) {
        check_case(&gguf_cases[i], 45, 128, 4);
    }
}

static void test_descent_affine(void **state)
{
    (void)state;
    check_case(&affine_cases[1], 70, 128, 4);
    check_case(&affine_cases[8], 70, 128, 2);
}

/* More rows than a small GPU's scratch holds at once. */
static void test_pieces(void **state)
{
    (void)state;
    check_case(&affine_cases[0], 1001, 128, 1);
}

/* ---- Round to nearest, and decoding ---- */

static void check_nearest(const grid_case *c, int64_t rows, bool is_weighted)
{
    const rp_grid grid = grid_of_case(c);
    float *w = random_weights(rows * c->cols);
    float *w_d = gpu_copy(w, (size_t)(rows * c->cols) * sizeof(float));
    float *importance = random_weights(c->cols);
    rp_form want;
    rp_form got;

    for (int64_t i = 0; i < c->cols; i++) {
        importance[i] *= importance[i];
    }
    assert_int_equal(rp_form_create_codes(&want, &grid, rows, c->cols), RP_OK);
    assert_int_equal(rp_form_create_codes(&got, &grid, rows, c->cols), RP_OK);
    grid.ops->quantise(&grid, rows, c->cols, w, is_weighted ? importance : NULL, want.params,
                       want.codes);
    rp_tile_solve task = {.grid = &grid,
                          .importance = is_weighted ? importance : NULL,
                          .w = w_d,
                          .out = &got,
                          .loss = 1};
    rp_kernels_cuda()->solve_tile(&gpu, &task);
    assert_int_equal(rp_place_check(&gpu), RP_OK);
    assert_true(task.loss == 0);
    assert_memory_equal(got.codes, want.codes, (size_t)(rows * c->cols));
    assert_memory_equal(got.params, want.params,
                        (size_t)(rows * rp_form_params_per_row(&want)) * sizeof(float));
    rp_place_free(&gpu, w_d);
    rp_form_destroy(&want);
    rp_form_destroy(&got);
    free(importance);
    free(w);
}

static void test_nearest_equals_cpu(void **state)
{
    (void)state;
    for (size_t i = 0; i < RP_COUNT(affine_cases); i++) {
        check_nearest(&affine_cases[i], 67, i % 2 == 0);
    }
    for (size_t i = 0; i < RP_COUNT(gguf_cases); i++) {
        check_nearest(&gguf_cases[i], 5, false);
        check_nearest(&gguf_cases[i], 19, true);
    }
}

static void check_decoded(const rp_form *form, int64_t row0, int64_t nrows)
{
    const int64_t n = nrows * form->cols;
    float *want = malloc((size_t)n * sizeof(*want));
    float *got = random_weights(n);
    float *got_d = gpu_copy(got, (size_t)(n) * sizeof(float));

    assert_non_null(want);
    rp_form_decode_rows(form, row0, nrows, want);
    rp_kernels_cuda()->decode_rows(&gpu, form, row0, nrows, got_d);
    rp_place_get(&gpu, got, got_d, (size_t)n * sizeof(*got));
    assert_int_equal(rp_place_check(&gpu), RP_OK);
    assert_memory_equal(got, want, (size_t)n * sizeof(*got));
    rp_place_free(&gpu, got_d);
    free(want);
    free(got);
}

static void check_decode(const grid_case *c)
{
    enum { ROWS = 40 };
    const rp_grid grid = grid_of_case(c);
    float *w = random_weights(ROWS * c->cols);
    rp_form form;

    assert_int_equal(rp_form_create_codes(&form, &grid, ROWS, c->cols), RP_OK);
    grid.ops->quantise(&grid, ROWS, c->cols, w, NULL, form.params, form.codes);
    check_decoded(&form, 0, ROWS);
    check_decoded(&form, 7, 5);
    rp_form_destroy(&form);
    free(w);
}

static void test_decode_equals_cpu(void **state)
{
    enum { ROWS = 9, COLS = 31 };
    float *values = random_weights(ROWS * COLS);
    const rp_form dense = {.kind = RP_FORM_DENSE, .rows = ROWS, .cols = COLS, .values = values};

    (void)state;
    check_decoded(&dense, 2, 6);
    for (size_t i = 0; i < RP_COUNT(affine_cases); i++) {
        check_decode(&affine_cases[i]);
    }
    for (size_t i = 0; i < RP_COUNT(gguf_cases); i++) {
        check_decode(&gguf_cases[i]);
    }
    free(values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gptq_affine),
        cmocka_unit_test(test_gptq_gguf),
        cmocka_unit_test(test_descent_affine),
        cmocka_unit_test(test_descent_gguf),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_nearest_equals_cpu),
        cmocka_unit_test(test_decode_equals_cpu),
    };

    if (rp_gpu_count() == 0) {
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

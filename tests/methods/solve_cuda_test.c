/* Solvers on a GPU against those of the CPU: the same bits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/ops_cuda.h"
#include "methods/solver.h"
#include "site_problem.h"
#include "tests/kernels/gpu_pair.h"

enum { SKIPPED = 77 };
#define LOSS_ERROR 1e-9 /* of sums in double, whose order is not fixed */

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

/* The rows as n tiles of rows_of[] each, as many at once as the operation takes: their form and
 * losses. Returns how often it was called. */
static int64_t solve_tiles(const tile *t, const int64_t *rows_of, int n, rp_form *form,
                           double *losses)
{
    enum { MAX_TILES = 8 };
    const int64_t cols = t->p->cols;
    rp_ldl ldl = rp_site_factor_ldl(&t->p->factor);
    const rp_tile_solve whole = task_of(t, &ldl, form);
    float *l = gpu_copy(ldl.l, (size_t)(cols * cols) * sizeof(float));
    float *w = gpu_copy(t->w, (size_t)(t->rows * cols) * sizeof(float));
    rp_tile_solve tasks[MAX_TILES];
    rp_form rows[MAX_TILES];
    int64_t at = 0;
    int64_t n_calls = 0;

    assert_in_range(n, 1, MAX_TILES);
    ldl.l = l;
    for (int i = 0; i < n; i++) {
        rows[i] = rp_form_view_rows(form, at, rows_of[i]);
        tasks[i] = whole;
        tasks[i].w = w + at * cols;
        tasks[i].out = &rows[i];
        at += rows_of[i];
    }
    assert_int_equal(at, t->rows);
    for (int64_t i = 0; i < n; n_calls++) {
        i += rp_kernels_cuda()->solve_tiles(&gpu, tasks + i, n - i);
    }
    assert_int_equal(rp_place_check(&gpu), RP_OK);
    for (int i = 0; i < n; i++) {
        losses[i] = tasks[i].loss;
    }
    rp_place_free(&gpu, l);
    rp_place_free(&gpu, w);
    return n_calls;
}

static double solve_on_gpu(const tile *t, rp_form *form)
{
    double loss = 0;

    assert_int_equal(solve_tiles(t, &t->rows, 1, form, &loss), 1);
    return loss;
}

static void same_rows(const rp_form *whole, int64_t row0, const rp_form *rows)
{
    const rp_form part = rp_form_view_rows(whole, row0, rows->rows);
    const int64_t per_row = rp_form_params_per_row(rows);

    assert_memory_equal(part.codes, rows->codes, (size_t)(rows->rows * rows->cols));
    assert_memory_equal(part.params, rows->params, (size_t)(rows->rows * per_row) * sizeof(float));
}

static void check_tile(const tile *t)
{
    rp_form want;
    rp_form got;
    const double want_loss = solve_on_cpu(t, &want);
    const double got_loss = solve_on_gpu(t, &got);

    same_rows(&want, 0, &got);
    assert_true(fabs(got_loss - want_loss) <= LOSS_ERROR * want_loss);
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
    check_tile(&t);
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

/* ---- Rows apart and together ---- */

/* Tiles solved together are to the bit what each is alone. */
static void check_rows(const tile *t, const int64_t *rows_of, int n)
{
    double losses[8];
    int64_t row0 = 0;
    rp_form together;

    assert_int_equal(solve_tiles(t, rows_of, n, &together, losses), 1);
    for (int i = 0; i < n; i++) {
        const tile part = {t->p,       t->grid,       t->w + row0 * t->p->cols,
                           rows_of[i], t->block_cols, t->sweeps};
        rp_form alone;
        const double loss = solve_on_gpu(&part, &alone);
        same_rows(&together, row0, &alone);
        assert_memory_equal(&loss, &losses[i], sizeof(loss));
        rp_form_destroy(&alone);
        row0 += rows_of[i];
    }
    rp_form_destroy(&together);
}

static void check_case_rows(const grid_case *c, int64_t block_cols)
{
    enum { ROWS = 35 };
    const int64_t rows_of[] = {33, 2};
    const rp_grid grid = grid_of_case(c);
    float *w = random_weights(ROWS * c->cols);
    site_problem p;

    site_problem_create(&p, c->kind, c->cols, c->is_actorder);
    for (int64_t sweeps = 0; sweeps <= 4; sweeps += 4) {
        const tile t = {&p, &grid, w, ROWS, block_cols, sweeps};
        check_rows(&t, rows_of, RP_COUNT(rows_of));
    }
    site_problem_destroy(&p);
    free(w);
}

static void test_rows_are_independent(void **state)
{
    (void)state;
    for (size_t i = 0; i < RP_COUNT(affine_cases); i++) {
        check_case_rows(&affine_cases[i], 128);
    }
    for (size_t i = 0; i < RP_COUNT(gguf_cases); i++) {
        check_case_rows(&gguf_cases[i], 128);
    }
    check_case_rows(&affine_cases[0], 50);
}

/* Tiles that a small GPU's scratch does not hold at once, and one that it does not hold alone. */
static void test_pieces(void **state)
{
    enum { ROWS = 1001, N = 4 };
    const int64_t rows_of[N] = {100, 500, 301, 100};
    const grid_case *c = &affine_cases[0];
    const rp_grid grid = grid_of_case(c);
    float *w = random_weights(ROWS * c->cols);
    double losses[N];
    double small_losses[N];
    double loss, small_loss;
    rp_form want, got, small;
    site_problem p;

    (void)state;
    site_problem_create(&p, c->kind, c->cols, c->is_actorder);
    const tile t = {&p, &grid, w, ROWS, 128, 1};
    (void)solve_tiles(&t, rows_of, N, &got, losses);
    loss = solve_on_gpu(&t, &want);
    same_rows(&want, 0, &got);
    rp_form_destroy(&got);
    rp_gpu_limit_scratch(gpu.gpu, (size_t)5 << 20);
    assert_in_range(solve_tiles(&t, rows_of, N, &got, small_losses), 2, N - 1);
    small_loss = solve_on_gpu(&t, &small);
    rp_gpu_limit_scratch(gpu.gpu, RP_GPU_NO_LIMIT);
    same_rows(&want, 0, &got);
    same_rows(&want, 0, &small);
    assert_memory_equal(small_losses, losses, sizeof(losses));
    assert_memory_equal(&small_loss, &loss, sizeof(loss));
    check_tile(&t);
    rp_form_destroy(&want);
    rp_form_destroy(&got);
    rp_form_destroy(&small);
    site_problem_destroy(&p);
    free(w);
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
    assert_int_equal(rp_kernels_cuda()->solve_tiles(&gpu, &task, 1), 1);
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
        cmocka_unit_test(test_gptq_affine),          cmocka_unit_test(test_gptq_gguf),
        cmocka_unit_test(test_descent_affine),       cmocka_unit_test(test_descent_gguf),
        cmocka_unit_test(test_rows_are_independent), cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_nearest_equals_cpu),   cmocka_unit_test(test_decode_equals_cpu),
    };

    if (rp_gpu_count() == 0) {
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* The CPU's operations on whole matrices: numbers made by hand, and the same at 1 and 3 threads. */
#include "base/mem.h"
#include "kernels/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static rp_exec *execs[2];
static const rp_kernel_ops *ops;

static int set_up(void **state)
{
    (void)state;
    ops = rp_kernels_cpu();
    return rp_exec_create(&execs[0], 1, RP_PRODUCTS_F32) == RP_OK &&
                   rp_exec_create(&execs[1], 3, RP_PRODUCTS_F32) == RP_OK
               ? 0
               : 1;
}

static int tear_down(void **state)
{
    (void)state;
    rp_exec_destroy(&execs[0]);
    rp_exec_destroy(&execs[1]);
    return 0;
}

static void widen_gives_the_stored_values(void **state)
{
    static const uint16_t half[] = {0x3C00, 0xC000, 0x3555, 0x0001};
    static const uint16_t bf16[] = {0x3F80, 0xC000, 0x3EAB, 0x0001};
    static const float single[] = {1, -2, 0.333F, 1e-40F};
    float out[4];

    (void)state;
    assert_int_equal(ops->widen(execs[0], out, half, RP_F16, 4), -1);
    assert_true(out[0] == 1 && out[1] == -2 && out[2] == 1365.0F / 4096 && out[3] == 0x1p-24F);
    assert_int_equal(ops->widen(execs[0], out, bf16, RP_BF16, 4), -1);
    assert_true(out[0] == 1 && out[1] == -2 && out[2] == 171.0F / 512 && out[3] == 0x1p-133F);
    assert_int_equal(ops->widen(execs[0], out, single, RP_F32, 4), -1);
    assert_memory_equal(out, single, sizeof(single));
}

static void widen_names_a_value_that_is_not_finite(void **state)
{
    static const int64_t at[] = {0, 65535, 65536, 150000};
    enum { N = 150001 };
    uint16_t *stored = calloc(N, sizeof(*stored));
    float *out = malloc(N * sizeof(*out));

    (void)state;
    assert_true(stored != NULL && out != NULL);
    for (size_t i = 0; i < 2 * RP_COUNT(at); i++) {
        stored[at[i / 2]] = i % 2 == 0 ? 0x7F80 : 0xFFC1; /* infinity, NaN */
        assert_int_equal(ops->widen(execs[1], out, stored, RP_BF16, N), at[i / 2]);
        stored[at[i / 2]] = 0x4040;
    }
    assert_int_equal(ops->widen(execs[1], out, stored, RP_BF16, N), -1);
    for (int64_t i = 0; i < N; i++) {
        assert_true(out[i] == (i == at[0] || i == at[1] || i == at[2] || i == at[3] ? 3 : 0));
    }
    free(out);
    free(stored);
}

static void loss_add_is_that_of_every_row(void **state)
{
    enum { ROWS = 3, COLS = 4, LD = 5 };
    static const float logits[ROWS * LD] = {1, 5, 2, 0, 99, -1, 0, 3, 3, 99, 2, 2, 2, 2, 99};
    static const float other[ROWS * LD] = {0, 1, 2, 3, 99, 4, 5, 6, 7, 99, 8, 9, 1, 2, 99};
    static const int32_t target[ROWS] = {11, 13, 40};

    (void)state;
    for (int has_other = 0; has_other < 2; has_other++) {
        rp_loss got[ROWS];
        for (int r = 0; r < ROWS; r++) {
            got[r] = rp_loss_start();
        }
        ops->loss_add(execs[1], got, rp_cmat_of(logits, ROWS, COLS, LD),
                      rp_cmat_of(has_other ? other : NULL, ROWS, COLS, LD), 10, target);
        for (int r = 0; r < ROWS; r++) {
            rp_loss want = rp_loss_start();
            rp_loss_add(&want, logits + (ptrdiff_t)r * LD,
                        has_other ? other + (ptrdiff_t)r * LD : NULL, 10, COLS, target[r]);
            assert_true(got[r].sum == want.sum && got[r].cross == want.cross &&
                        got[r].max == want.max && got[r].best == want.best);
            assert_true(r == 2 || got[r].target == want.target);
        }
        assert_true(got[0].max == 5 && got[0].best == 11 && got[0].target == 5);
        assert_true(got[1].max == 3 && got[1].best == 12 && got[1].target == 3);
    }
}

static void differences_and_sums_keep_to_their_columns(void **state)
{
    const float a[6] = {5, 7, 90, 1, -1, 91}, b[4] = {2, 4, 0.5F, 3};
    float out[8] = {70, 71, 72, 73, 74, 75, 76, 77};
    const float difference[8] = {3, 3, 72, 73, 0.5F, -4, 76, 77};
    const float sum[8] = {8, 10, 72, 73, 1.5F, -5, 76, 77};

    (void)state;
    ops->subtract(execs[1], rp_mat_of(out, 2, 2, 4), rp_cmat_of(a, 2, 2, 3),
                  rp_cmat_of(b, 2, 2, 2));
    assert_memory_equal(out, difference, sizeof(out));
    ops->add(execs[1], rp_mat_of(out, 2, 2, 4), rp_cmat_of(a, 2, 2, 3));
    assert_memory_equal(out, sum, sizeof(out));
}

static void sum_squares_sums_rows_first(void **state)
{
    const float x[6] = {1, 2, 90, -3, 4, 91};
    const float order[4] = {1e8F, 0, 1, 1}; /* 1e16 + 1 is 1e16 */

    (void)state;
    assert_true(ops->sum_squares(execs[1], rp_cmat_of(x, 2, 2, 3)) == 30);
    assert_true(ops->sum_squares(execs[1], rp_cmat_of(order, 2, 2, 2)) == 1e16 + 2);
    assert_true(ops->sum_squares(execs[1], rp_cmat_of(x, 0, 2, 3)) == 0);
}

static void bound_rows_adds_absolute_products(void **state)
{
    const float w[6] = {1, -2, 90, -3, 0, 91}, x[2] = {4, 5};
    double out[2] = {1, 0};

    (void)state;
    ops->bound_rows(execs[1], rp_cmat_of(w, 2, 2, 3), x, out);
    assert_true(out[0] == 15 && out[1] == 12);
}

static void cross_mean_scales_by_both_exponents(void **state)
{
    const int64_t sum[6] = {8, -8, 0, 3, (int64_t)1 << 60, 5};
    const int row_exponent[2] = {1, -2}, col_exponent[3] = {0, 2, -1};
    float out[8] = {70, 71, 72, 73, 74, 75, 76, 77};
    const float want[8] = {-1, 4, -0.0F, 73, -0.046875F, -0x1p56F, -0.0390625F, 77};

    (void)state;
    ops->cross_mean(execs[1], rp_mat_of(out, 2, 3, 4), sum, row_exponent, col_exponent, 3, -2);
    assert_memory_equal(out, want, sizeof(out));
}

/* Rows of a form at any offset are those of the whole. */
static void decode_at(const rp_grid *grid, int64_t rows, int64_t cols)
{
    const size_t n = (size_t)(rows * cols);
    float *x = malloc(n * sizeof(*x)), *want = malloc(n * sizeof(*want));
    float *got = malloc(n * sizeof(*got));
    rp_form form;

    assert_true(x != NULL && want != NULL && got != NULL);
    assert_int_equal(rp_form_create_codes(&form, grid, rows, cols), RP_OK);
    for (int64_t i = 0; i < rows * cols; i++) {
        x[i] = (float)sin((double)i);
    }
    grid->ops->quantise(grid, rows, cols, x, NULL, form.params, form.codes);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t g = 0; g < rp_grid_ngroups(grid, cols); g++) {
            const int64_t c = g * rp_grid_group_cols(grid, cols);
            const float *params = form.params + r * rp_form_params_per_row(&form);
            grid->ops->decode(grid, params + g * grid->ops->n_params,
                              RP_MIN(rp_grid_group_cols(grid, cols), cols - c),
                              form.codes + r * cols + c, want + r * cols + c);
        }
    }
    for (int e = 0; e < 2; e++) {
        const int64_t row0 = e * rows / 3;
        memset(got, 0xFF, n * sizeof(*got));
        ops->decode_rows(execs[e], &form, row0, rows - row0, got);
        assert_memory_equal(got, want + row0 * cols, (size_t)((rows - row0) * cols) * sizeof(*got));
    }
    rp_form_destroy(&form);
    free(got);
    free(want);
    free(x);
}

static void decode_rows_decodes_groups(void **state)
{
    const rp_grid affine = {
        .ops = rp_grid_find("affine"), .bits = 4, .group = 32, .scale_type = RP_F16};
    rp_grid q4_k = {.ops = rp_grid_find("Q4_K")};

    (void)state;
    q4_k.bits = q4_k.ops->fixed_bits;
    q4_k.group = q4_k.ops->fixed_group;
    decode_at(&affine, 1, 7);
    decode_at(&affine, 101, 75);
    decode_at(&q4_k, 67, 512);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(widen_gives_the_stored_values),
        cmocka_unit_test(widen_names_a_value_that_is_not_finite),
        cmocka_unit_test(loss_add_is_that_of_every_row),
        cmocka_unit_test(differences_and_sums_keep_to_their_columns),
        cmocka_unit_test(sum_squares_sums_rows_first),
        cmocka_unit_test(bound_rows_adds_absolute_products),
        cmocka_unit_test(cross_mean_scales_by_both_exponents),
        cmocka_unit_test(decode_rows_decodes_groups),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* The CPU's operations from integer sums to the factor and its solves: numbers made by hand. */
#include "kernels/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static rp_exec *exec;
static const rp_kernel_ops *ops;

static int set_up(void **state)
{
    (void)state;
    ops = rp_kernels_cpu();
    return rp_exec_create(&exec, 3, RP_PRODUCTS_F32) == RP_OK ? 0 : 1;
}

static int tear_down(void **state)
{
    (void)state;
    rp_exec_destroy(&exec);
    return 0;
}

static void triangle_packs_whole_rows_and_back(void **state)
{
    const int64_t square[16] = {11, 12, 13, 14, 21, 22, 23, 24, 31, 32, 33, 34, 41, 42, 43, 44};
    const int64_t want[10] = {21, 22, 31, 32, 33, 41, 42, 43, 44, -1};
    const int64_t back[16] = {0, 0, 0, 0, 21, 22, 0, 0, 31, 32, 33, 0, 0, 0, 0, 0};
    int64_t from[16], packed[10], to[16] = {0};

    (void)state;
    memcpy(from, square, sizeof(from));
    memset(packed, 0xFF, sizeof(packed));
    ops->triangle(exec, from, 4, 1, 4, packed, true);
    assert_memory_equal(packed, want, sizeof(packed));
    assert_memory_equal(from, square, sizeof(from));
    ops->triangle(exec, to, 4, 1, 3, packed, false);
    assert_memory_equal(to, back, sizeof(to));
}

static void gram_mean_is_a_token_s(void **state)
{
    enum { N = 3 };
    int64_t sum[N * N] = {40, -7, -8, -80, 60, -9, 0, 0, 0};
    const int exponent[N] = {1, -1, 0};
    const uint8_t is_dead[N] = {0, 0, 1};
    const double want[N * N] = {4, 0, 0, -2, 0.375, 0, 0, 0, 1};
    double h[N * N], diagonal[N];

    (void)state;
    ops->gram_mean(exec, N, sum, exponent, 2, 10, is_dead, diagonal);
    memcpy(h, sum, sizeof(h));
    for (int i = 0; i < N; i++) {
        for (int j = 0; j <= i; j++) {
            assert_true(h[i * N + j] == want[i * N + j]);
        }
        assert_true(diagonal[i] == want[i * N + i]);
    }
    assert_int_equal(sum[1], -7);
    assert_int_equal(sum[2], -8);
    assert_int_equal(sum[5], -9);
}

static void permute_upper_takes_the_lower_in_order(void **state)
{
    enum { N = 4 };
    const double before[N * N] = {1, 0, 0, 0, 21, 2, 0, 0, 31, 32, 3, 0, 41, 42, 43, 4};
    const int32_t order[N] = {2, 0, 3, 1};
    const double want[N * N] = {1, 31, 43, 32, 21, 2, 41, 21, 31, 32, 3, 42, 41, 42, 43, 4};
    double h[N * N];

    (void)state;
    memcpy(h, before, sizeof(h));
    ops->permute_upper(exec, N, h, order);
    assert_memory_equal(h, want, sizeof(h));
}

static void mirror_lower_takes_the_upper(void **state)
{
    enum { N = 3 };
    double h[N * N] = {1, 12, 13, 0, 2, 23, 0, 0, 3};
    const double diagonal[N] = {7, 8, 9};
    const double want[N * N] = {7, 12, 13, 12, 8, 23, 13, 23, 9};

    (void)state;
    ops->mirror_lower(exec, N, h, diagonal);
    assert_memory_equal(h, want, sizeof(h));
}

/* From L L^T to unit L and D, with what lies above kept. */
static void ldl_divides_columns(void **state)
{
    enum { N = 3 };
    const double h[N * N] = {2, 12, 13, 4, 3, 23, -1, 6, 0.5};
    const float want[N * N] = {1, 12, 13, 2, 1, 23, -0.5F, 2, 1};
    const float want_d[N] = {4, 9, 0.25F};
    float l[N * N], d[N];

    (void)state;
    ops->ldl(exec, N, h, l, d);
    assert_memory_equal(l, want, sizeof(l));
    assert_memory_equal(d, want_d, sizeof(d));
}

static void cholesky_of_a_matrix_by_hand(void **state)
{
    double good[9] = {4, -7, -7, 8, 25, -7, -2, 14, 21.25};
    const double want[9] = {2, -7, -7, 4, 3, -7, -1, 6, -15.75};
    double bad[4] = {1, 0, 2, 4};
    int64_t failed_at = 7;

    (void)state;
    ops->cholesky(exec, 2, bad, &failed_at); /* singular */
    assert_int_equal(failed_at, 1);
    good[8] = 1 + 36 + 15.75 * 15.75;
    ops->cholesky(exec, 3, good, &failed_at);
    assert_int_equal(failed_at, -1);
    for (int i = 0; i < 8; i++) {
        assert_true(good[i] == want[i]);
    }
    assert_true(good[8] == 15.75);
}

/* t := x H by definition, in whole numbers; then t H^-1 is x, but for the dead column. */
static void solve_right_undoes_a_product(void **state)
{
    enum { N = 4, ROWS = 2, LD = 5 };
    static const float l[N * N] = {1, 50, 51, 52, 2, 1, 53, 54, -1, 3, 1, 55, 0, 0, 0, 1};
    static const float d[N] = {2, 4, 8, 1}, x[ROWS * N] = {1, -2, 9, 3, 4, 5, -9, 6};
    static const int32_t order[N] = {3, 0, 1, 2}; /* a cycle; column 2 is dead */
    static const uint8_t is_dead[N] = {0, 0, 1, 0};
    const rp_ldl ldl = {.n = N, .l = l, .d = d, .order = order, .is_dead = is_dead};
    float t[ROWS * LD] = {0, 0, 0, 0, 70, 0, 0, 0, 0, 71};

    (void)state;
    for (int a = 0; a < N; a++) {
        for (int b = 0; b < N; b++) {
            float h = 0;
            for (int k = 0; k <= (a < b ? a : b); k++) {
                h += (k == a ? 1 : l[a * N + k]) * d[k] * (k == b ? 1 : l[b * N + k]);
            }
            for (int r = 0; r < ROWS; r++) {
                t[r * LD + order[b]] += x[r * N + order[a]] * h;
            }
        }
    }
    ops->solve_right(exec, &ldl, rp_mat_of(t, ROWS, N, LD));
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < N; c++) {
            assert_true(t[r * LD + c] == (c == 2 ? 0 : x[r * N + c]));
        }
        assert_true(t[r * LD + N] == 70.0F + (float)r);
    }
}

static void multiply_by_hand(void **state)
{
    static const float a[] = {1, 2, 3, 90, 4, 5, 6, 91}, b[] = {1, 0, 0, 2, -1, 1};
    float out[] = {7, 7, 70, 7, 7, 71};

    (void)state;
    ops->multiply(exec, rp_mat_of(out, 2, 2, 3), rp_cmat_of(a, 2, 3, 4), rp_cmat_of(b, 3, 2, 2));
    static const float want[] = {-2, 7, 70, -2, 16, 71};
    assert_memory_equal(out, want, sizeof(want));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(triangle_packs_whole_rows_and_back),
        cmocka_unit_test(gram_mean_is_a_token_s),
        cmocka_unit_test(permute_upper_takes_the_lower_in_order),
        cmocka_unit_test(mirror_lower_takes_the_upper),
        cmocka_unit_test(ldl_divides_columns),
        cmocka_unit_test(cholesky_of_a_matrix_by_hand),
        cmocka_unit_test(solve_right_undoes_a_product),
        cmocka_unit_test(multiply_by_hand),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

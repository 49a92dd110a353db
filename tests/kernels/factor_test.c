/* The tiled Cholesky factorisation: L L^T gives the matrix back, bits do not depend on threads, bad
 * pivots are named. */
#include "base/mem.h"
#include "kernels/factor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static rp_exec *one_thread, *three_threads;

static int set_up(void **state)
{
    (void)state;
    return rp_exec_create(&one_thread, 1, RP_PRODUCTS_F32) == RP_OK &&
                   rp_exec_create(&three_threads, 3, RP_PRODUCTS_F32) == RP_OK
               ? 0
               : 1;
}

static int tear_down(void **state)
{
    (void)state;
    rp_exec_destroy(&one_thread);
    rp_exec_destroy(&three_threads);
    return 0;
}

/* A positive matrix by formula; the upper triangle holds a mark that nobody may touch. */
static double *matrix(int64_t n)
{
    double *a = malloc((size_t)(n * n) * sizeof(*a));

    assert_non_null(a);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++) {
            a[i * n + j] = j > i ? -7.0 : cos((double)(i - j)) + (i == j ? 1.0 : 0.0);
        }
    }
    return a;
}

static void factor_at(int64_t n)
{
    double *a = matrix(n), *l[2] = {matrix(n), matrix(n)};
    const rp_exec *execs[2] = {one_thread, three_threads};

    for (int e = 0; e < 2; e++) {
        int64_t failed_at = 0;
        rp_factor_cholesky(execs[e], n, l[e], &failed_at);
        assert_int_equal(failed_at, -1);
    }
    assert_memory_equal(l[0], l[1], (size_t)(n * n) * sizeof(double));
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j += 1 + n / 100) {
            double got = 0.0;
            for (int64_t k = 0; j <= i && k <= j; k++) {
                got += l[0][i * n + k] * l[0][j * n + k];
            }
            got = j <= i ? got : l[0][i * n + j];
            assert_true(fabs(got - a[i * n + j]) <= 1e-12 * (double)n);
        }
    }
    free(a);
    free(l[0]);
    free(l[1]);
}

static void factor_gives_the_matrix_back(void **state)
{
    (void)state;
    factor_at(1);
    factor_at(172);
    factor_at(256);
    factor_at(257);
    factor_at(800);
}

static void bad_pivots_are_named(void **state)
{
    enum { N = 600 };
    const struct {
        int at;
        double value;
    } cases[] = {{0, 0.0}, {130, -1.0}, {300, 0.5}, {599, -2.0}, {410, NAN}, {3, NAN}};

    (void)state;
    for (size_t c = 0; c < RP_COUNT(cases); c++) {
        double *a = matrix(N);
        int64_t failed_at = -1;

        a[cases[c].at * N + cases[c].at] = cases[c].value;
        rp_factor_cholesky(three_threads, N, a, &failed_at);
        assert_int_equal(failed_at, cases[c].at);
        free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factor_gives_the_matrix_back),
        cmocka_unit_test(bad_pivots_are_named),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* The bench of products measures every kind; the arithmetic class names library, core and
 * products. */
#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/gemm_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void every_kind_has_a_rate(void **state)
{
    const rp_bench_shape shape = {.m = 70, .n = 40, .k = 33};
    rp_exec *exec = NULL;

    (void)state;
    assert_int_equal(rp_exec_create(&exec, 2, RP_PRODUCTS_F32), RP_OK);
    for (int kind = 0; kind < RP_BENCH_COUNT; kind++) {
        double rate = 0.0;
        assert_int_equal(rp_gemm_bench(&rate, exec, (rp_bench_kind)kind, &shape, 0.0), RP_OK);
        assert_true(rate > 0.0);
        assert_true(strlen(rp_bench_kind_name((rp_bench_kind)kind)) > 0);
    }
    rp_exec_destroy(&exec);
}

static void class_names_library_core_and_products(void **state)
{
    char name[128], short_name[6];

    (void)state;
    rp_cpu_arith_class(name, sizeof(name), RP_PRODUCTS_F32);
    assert_int_equal(strncmp(name, "cpu/openblas-", 13), 0);
    assert_string_equal(strrchr(name, '/'), "/f32");
    assert_true(strchr(name + 13, '-') != NULL);
    rp_cpu_arith_class(short_name, sizeof(short_name), RP_PRODUCTS_F32);
    assert_string_equal(short_name, "cpu/o");
}

static void core_type_is_a_known_one(void **state)
{
    const char *core = rp_cpu_openblas_coretype();

    (void)state;
    assert_true(core == NULL || strcmp(core, "SkylakeX") == 0 || strcmp(core, "Haswell") == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_has_a_rate),
        cmocka_unit_test(class_names_library_core_and_products),
        cmocka_unit_test(core_type_is_a_known_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

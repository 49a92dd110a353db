/* Functions of a library that is opened when it is needed. */
#include "base/mem.h"
#include "kernels/lazy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* zlib's, which the test is not linked with */
unsigned long crc32(unsigned long crc, const unsigned char *bytes, unsigned n);
const char *zlibVersion(void);
void rp_no_such_function(void);

#define FUNCTIONS(ROW) ROW(crc32) ROW(zlibVersion)
FUNCTIONS(RP_LAZY_FUNCTION)
RP_LAZY_FUNCTION(rp_no_such_function)

static void functions_are_the_library_s(void **state)
{
    static const rp_lazy_function functions[] = {FUNCTIONS(RP_LAZY_ROW)};

    (void)state;
    assert_int_equal(rp_lazy_load("libz.so.1", functions, RP_COUNT(functions)), RP_OK);
    assert_int_equal(crc32(0, (const unsigned char *)"123456789", 9), 0xcbf43926);
    assert_int_equal(zlibVersion()[0], '1');
}

static void what_is_missing_is_named(void **state)
{
    static const rp_lazy_function functions[] = {RP_LAZY_ROW(rp_no_such_function)};

    (void)state;
    assert_int_equal(rp_lazy_load("libz.so.1", functions, 1), RP_ERR_MEMORY);
    assert_non_null(strstr(rp_error_message(), "rp_no_such_function"));
    assert_int_equal(rp_lazy_load("librp_nothing.so.7", functions, 1), RP_ERR_MEMORY);
    assert_non_null(strstr(rp_error_message(), "librp_nothing.so.7"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_are_the_library_s),
        cmocka_unit_test(what_is_missing_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

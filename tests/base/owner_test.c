/* An owner's memory lives until the owner goes, and every failed allocation is clean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/owner.h"

static rp_status fill(rp_owner *owner)
{
    rp_status st = RP_OK;
    char *text = NULL;
    int *numbers = NULL;

    for (int i = 0; i < 20; i++) {
        RP_TRY(rp_owner_strndup(owner, &text, "abcdef", 3));
        assert_string_equal(text, "abc");
        RP_TRY(rp_owner_calloc(owner, &numbers, 10, sizeof(*numbers)));
        assert_int_equal(numbers[9], 0);
    }
out:
    return st;
}

static void test_life(void **state)
{
    rp_owner owner = {0};

    (void)state;
    assert_int_equal(fill(&owner), RP_OK);
    assert_int_equal(owner.n, 40);
    rp_owner_destroy(&owner);
    assert_int_equal(owner.n, 0);
    assert_int_equal(fill(&owner), RP_OK);
    rp_owner_destroy(&owner);
}

static void test_faults(void **state)
{
    int64_t n = 1;
    rp_status st = RP_ERR_MEMORY;

    (void)state;
    for (; st != RP_OK; n++) {
        rp_owner owner = {0};
        rp_fault_arm("alloc", n, false);
        st = fill(&owner);
        rp_fault_arm(NULL, 0, false);
        assert_true(st == RP_OK || st == RP_ERR_MEMORY);
        rp_owner_destroy(&owner);
    }
    assert_true(n > 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Pieces of an arena: first fit, aligned, joined again. */
#include "kernels/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void pieces_are_the_first_that_fit(void **state)
{
    rp_arena *arena = NULL;
    size_t a = 1, b = 1, c = 1, d = 1;

    (void)state;
    assert_int_equal(rp_arena_create(&arena, 10 * 256 + 255), RP_OK);
    assert_int_equal(rp_arena_take(&a, arena, 257), RP_OK);
    assert_int_equal(rp_arena_take(&b, arena, 0), RP_OK);
    assert_int_equal(rp_arena_take(&c, arena, 7 * 256), RP_OK);
    assert_int_equal(a, 0);
    assert_int_equal(b, 512);
    assert_int_equal(c, 768);
    assert_int_equal(rp_arena_taken_bytes(arena), 10 * 256);
    assert_int_equal(rp_arena_take(&d, arena, 1), RP_ERR_MEMORY);
    assert_non_null(strstr(rp_error_message(), "wanted 1 bytes of an arena of 2560: 0 left"));
    rp_arena_give(arena, a);
    assert_int_equal(rp_arena_take(&d, arena, 256), RP_OK);
    assert_int_equal(d, 0);
    rp_arena_give(arena, c);
    assert_int_equal(rp_arena_take(&c, arena, 8 * 256), RP_ERR_MEMORY);
    assert_non_null(strstr(rp_error_message(), "2048 left, 1792 in one piece"));
    rp_arena_give(arena, b); /* joins what is before and behind it */
    assert_int_equal(rp_arena_take(&c, arena, 9 * 256), RP_OK);
    assert_int_equal(c, 256);
    assert_int_equal(rp_arena_peak_bytes(arena), 10 * 256);
    rp_arena_destroy(&arena);
    assert_null(arena);
}

static void sizes_that_do_not_exist_are_refused(void **state)
{
    rp_arena *arena = NULL;
    size_t offset = 1;

    (void)state;
    assert_int_equal(rp_arena_create(&arena, 0), RP_OK);
    assert_int_equal(rp_arena_take(&offset, arena, 0), RP_ERR_MEMORY);
    assert_int_equal(rp_arena_take(&offset, arena, SIZE_MAX), RP_ERR_MEMORY);
    rp_arena_destroy(&arena);
}

/* No two pieces overlap, and all comes back, in any order of takes and gives. */
static void pieces_never_overlap(void **state)
{
    enum { UNITS = 400, PIECES = 24 };
    static unsigned char owner[UNITS];
    size_t begin[PIECES], units[PIECES] = {0}, taken = 0;
    rp_arena *arena = NULL;
    uint32_t seed = 1;

    (void)state;
    assert_int_equal(rp_arena_create(&arena, UNITS * 256), RP_OK);
    for (int step = 0; step < 20000; step++) {
        seed = seed * 1664525U + 1013904223U;
        const size_t p = seed >> 8 & 15, want = (seed >> 16) % 60 + 1;
        if (units[p] > 0) {
            for (size_t u = 0; u < units[p]; u++) {
                assert_int_equal(owner[begin[p] / 256 + u], p + 1);
                owner[begin[p] / 256 + u] = 0;
            }
            rp_arena_give(arena, begin[p]);
            taken -= units[p];
            units[p] = 0;
        } else if (rp_arena_take(&begin[p], arena, want * 256 - 3) == RP_OK) {
            units[p] = want;
            taken += want;
            for (size_t u = 0; u < want; u++) {
                assert_int_equal(owner[begin[p] / 256 + u], 0);
                owner[begin[p] / 256 + u] = (unsigned char)(p + 1);
            }
        }
        assert_int_equal(rp_arena_taken_bytes(arena), taken * 256);
    }
    for (int p = 0; p < PIECES; p++) {
        if (units[p] > 0) {
            rp_arena_give(arena, begin[p]);
        }
    }
    assert_int_equal(rp_arena_take(&begin[0], arena, UNITS * 256), RP_OK);
    rp_arena_destroy(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_the_first_that_fit),
        cmocka_unit_test(sizes_that_do_not_exist_are_refused),
        cmocka_unit_test(pieces_never_overlap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

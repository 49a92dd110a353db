/* Progress lines: silent without a stream, the last line always, plain lines off a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/progress.h"

static void test_silent(void **state)
{
    rp_progress *p = NULL;

    (void)state;
    assert_int_equal(rp_progress_create(&p, NULL, "solve", "layers", 10), RP_OK);
    rp_progress_update(p, 3);
    rp_progress_note(p, "a note");
    rp_progress_finish(&p);
    assert_null(p);
    rp_progress_finish(&p);
    rp_progress_update(NULL, 1);
    rp_progress_note(NULL, "x");
}

/* A memory stream is no terminal: nothing between the notes and the end within 30 s. */
static void test_lines(void **state)
{
    rp_progress *p = NULL;
    FILE *f = tmpfile();
    char text[512] = "";

    (void)state;
    assert_non_null(f);
    assert_int_equal(rp_progress_create(&p, f, "solve", "layers", 4), RP_OK);
    for (int i = 0; i <= 4; i++) {
        rp_progress_update(p, i);
    }
    rp_progress_note(p, "layer 2: damping raised");
    rp_progress_finish(&p);
    rewind(f);
    assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
    assert_string_equal(text, "layer 2: damping raised\nsolve  4/4 layers  0 s\n");
    (void)fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silent),
        cmocka_unit_test(test_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

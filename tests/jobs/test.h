/* What the tests of this folder share: cmocka and checks of statuses with their messages. */
#ifndef RP_TESTS_JOBS_TEST_H
#define RP_TESTS_JOBS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/status.h"

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        const rp_status ok_status = (call);                                                        \
        if (ok_status != RP_OK) {                                                                  \
            fail_msg("%s: %s", rp_status_name(ok_status), rp_error_message());                     \
        }                                                                                          \
    } while (0)

/* The last message contains `part`. */
#define assert_message(part)                                                                       \
    do {                                                                                           \
        if (strstr(rp_error_message(), (part)) == NULL) {                                          \
            fail_msg("message \"%s\" has no \"%s\"", rp_error_message(), (part));                  \
        }                                                                                          \
    } while (0)

#define assert_fails(call, status, part)                                                           \
    do {                                                                                           \
        const rp_status failed_status = (call);                                                    \
        assert_int_equal(failed_status, (status));                                                 \
        assert_message(part);                                                                      \
    } while (0)

#endif

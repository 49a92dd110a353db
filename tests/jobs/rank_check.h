/* CHECK for programs that run under mpirun: a check that fails ends the process, and with it the
 * launch. */
#ifndef RP_TESTS_JOBS_RANK_CHECK_H
#define RP_TESTS_JOBS_RANK_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"

#define CHECK(fact)                                                                                \
    do {                                                                                           \
        if (!(fact)) {                                                                             \
            (void)fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #fact,                   \
                          rp_error_message());                                                     \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#endif

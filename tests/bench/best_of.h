/* How benchmarks take time. */
#ifndef RP_TESTS_BENCH_BEST_OF_H
#define RP_TESTS_BENCH_BEST_OF_H

#include <math.h>
#include <time.h>

/* Of this thread: other work on the machine does not count. */
static inline double thread_seconds(void)
{
    struct timespec now = {0, 0};

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The best of `reps` runs of one statement by a clock of this kind. */
#define BEST_OF(seconds, reps, clock, statement)                                                   \
    do {                                                                                           \
        (seconds) = HUGE_VAL;                                                                      \
        for (int rep = 0; rep < (reps); rep++) {                                                   \
            const double start_s = clock();                                                        \
            statement;                                                                             \
            (seconds) = fmin((seconds), clock() - start_s);                                        \
        }                                                                                          \
    } while (0)

#endif

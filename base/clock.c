/* Monotonic time: never steps back when the machine's date is set. */
#include "base/clock.h"

#include <time.h>

double rp_clock_seconds(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

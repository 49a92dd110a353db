/* A source for every width of vectors that processors have. Expects LANES_SOURCE, a header to be
 * included with LANES defined that ends in a table of functions_<LANES>, and LANES_TABLE, the
 * table's type; defines functions_of(lanes), NULL where the processor lacks that width, and
 * functions(), the widest. */
#ifdef LANES_SOURCE
#include <stddef.h>

#define LANES 4
#include LANES_SOURCE
#include "kernels/lanes_end.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
#define LANES 8
#include LANES_SOURCE
#include "kernels/lanes_end.h"
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4")
#define LANES 16
#include LANES_SOURCE
#include "kernels/lanes_end.h"
#pragma GCC pop_options

static const LANES_TABLE *functions_of(int lanes)
{
    if (lanes == 16) {
        return __builtin_cpu_supports("x86-64-v4") ? &functions_16 : NULL;
    }
    if (lanes == 8) {
        return __builtin_cpu_supports("x86-64-v3") ? &functions_8 : NULL;
    }
    return &functions_4;
}
#else
static const LANES_TABLE *functions_of(int lanes)
{
    return lanes == 4 ? &functions_4 : NULL;
}
#endif

static const LANES_TABLE *functions(void)
{
    const LANES_TABLE *widest = functions_of(16);

    widest = widest != NULL ? widest : functions_of(8);
    return widest != NULL ? widest : functions_of(4);
}

#undef LANES_SOURCE
#undef LANES_TABLE
#endif

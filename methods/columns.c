/* Vectors of GCC's: the loop over columns inside, the sums in registers. */
#include "methods/columns.h"

#include "kernels/clones.h"

typedef float lanes
    __attribute__((vector_size(RP_COLUMN_LANES * sizeof(float)), aligned(sizeof(float))));

RP_CLONES void rp_columns_pull(int64_t ld, int64_t n, const float *a, const float *b,
                               const float *columns, const float *multiplier, float *out)
{
    for (int64_t r = 0; r < ld; r += RP_COLUMN_LANES) {
        lanes sum = *(const lanes *)(const void *)(a + r) + *(const lanes *)(const void *)(b + r);
        for (int64_t s = 0; s < n; s++) {
            sum += multiplier[s] * *(const lanes *)(const void *)(columns + s * ld + r);
        }
        *(lanes *)(void *)(out + r) = sum;
    }
}

/* Linear systems the plain way, for tests. */
#ifndef RP_TESTS_METHODS_ELIMINATE_H
#define RP_TESTS_METHODS_ELIMINATE_H

#include <stdint.h>

/* Solves a z = x by elimination without pivoting: a [n, n] is destroyed, x [n] becomes z. */
static inline void eliminate(double *a, int64_t n, double *x)
{
    for (int64_t k = 0; k < n; k++) {
        for (int64_t i = k + 1; i < n; i++) {
            const double factor = a[i * n + k] / a[k * n + k];
            for (int64_t j = k; j < n; j++) {
                a[i * n + j] -= factor * a[k * n + j];
            }
            x[i] -= factor * x[k];
        }
    }
    for (int64_t k = n - 1; k >= 0; k--) {
        for (int64_t j = k + 1; j < n; j++) {
            x[k] -= a[k * n + j] * x[j];
        }
        x[k] /= a[k * n + k];
    }
}

#endif

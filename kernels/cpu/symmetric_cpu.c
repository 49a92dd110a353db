/* From exact integer sums to the LDL factor, inside one matrix of doubles: its lower triangle is
 * worked on, the upper keeps the reordered matrix, so that a failed factorisation can be repeated
 * with more damping. */
#include "kernels/cpu/ops_cpu.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/factor.h"

void rp_triangle_cpu(const rp_exec *exec, int64_t *square, int64_t n, int64_t first, int64_t end,
                     int64_t *packed, bool is_packing)
{
    int64_t at = 0;

    (void)exec;
    for (int64_t i = first; i < end; i++) {
        int64_t *row = square + i * n;
        memcpy(is_packing ? packed + at : row, is_packing ? row : packed + at,
               (size_t)(i + 1) * sizeof(int64_t));
        at += i + 1;
    }
}

void rp_gram_mean_cpu(const rp_exec *exec, int64_t n, int64_t *sum, const int *exponent, int shift,
                      int64_t n_tokens, const uint8_t *is_dead, double *diagonal)
{
    (void)exec;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j <= i; j++) {
            double value =
                ldexp((double)sum[i * n + j], exponent[i] + exponent[j] - shift) / (double)n_tokens;
            if (i == j) {
                value = is_dead[i] != 0 ? 1 : value;
                diagonal[i] = value;
            }
            memcpy(&sum[i * n + j], &value, sizeof(value));
        }
    }
}

void rp_permute_upper_cpu(const rp_exec *exec, int64_t n, double *h, const int32_t *order)
{
    (void)exec;
    for (int64_t s = 0; s < n; s++) {
        for (int64_t t = s + 1; t < n; t++) {
            const int64_t i = RP_MAX(order[s], order[t]);
            const int64_t j = RP_MIN(order[s], order[t]);
            h[s * n + t] = h[i * n + j];
        }
    }
}

void rp_mirror_lower_cpu(const rp_exec *exec, int64_t n, double *h, const double *diagonal)
{
    (void)exec;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < i; j++) {
            h[i * n + j] = h[j * n + i];
        }
        h[i * n + i] = diagonal[i];
    }
}

void rp_ldl_cpu(const rp_exec *exec, int64_t n, const double *h, float *l, float *d)
{
    (void)exec;
    for (int64_t j = 0; j < n; j++) {
        d[j] = (float)(h[j * n + j] * h[j * n + j]);
    }
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j <= i; j++) {
            l[i * n + j] = (float)(h[i * n + j] / h[j * n + j]);
        }
        for (int64_t j = i + 1; j < n; j++) {
            l[i * n + j] = (float)h[i * n + j];
        }
    }
}

/* Where the value for position t is once positions before t have been swapped into place. */
static int64_t position_of(const int32_t *order, int64_t t)
{
    int64_t from = order[t];

    while (from < t) {
        from = order[from];
    }
    return from;
}

static void swap_columns(rp_mat x, int64_t a, int64_t b)
{
    for (int64_t r = 0; r < x.rows && a != b; r++) {
        const float kept = x.data[r * x.ld + a];
        x.data[r * x.ld + a] = x.data[r * x.ld + b];
        x.data[r * x.ld + b] = kept;
    }
}

void rp_solve_right_cpu(const rp_exec *exec, const rp_ldl *ldl, rp_mat t)
{
    const int64_t n = ldl->n;

    (void)exec;
    for (int64_t k = 0; k < n; k++) {
        swap_columns(t, k, position_of(ldl->order, k));
    }
    cblas_strsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasUnit, (int)t.rows, (int)n,
                1.0f, ldl->l, (int)n, t.data, (int)t.ld);
    for (int64_t r = 0; r < t.rows; r++) {
        for (int64_t k = 0; k < n; k++) {
            float *value = &t.data[r * t.ld + k];
            *value = ldl->is_dead[ldl->order[k]] != 0 ? 0 : *value / ldl->d[k];
        }
    }
    cblas_strsm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasUnit, (int)t.rows, (int)n,
                1.0f, ldl->l, (int)n, t.data, (int)t.ld);
    for (int64_t k = n - 1; k >= 0; k--) {
        swap_columns(t, k, position_of(ldl->order, k));
    }
}

/* The solvers' products, with vectors of every width, against loops of fused multiply-adds in
 * ascending k: the same bits. */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "kernels/product.h"
#include "random_floats.h"

enum { BEHIND = 64 };

typedef struct shape {
    int64_t m, k, ld;
    int64_t left_ld; /* beyond what it must be */
    int chain;
    rp_product_use use;
    bool is_transposed;
} shape;

static float *copy_of(const float *x, int64_t n)
{
    float *copy = malloc((size_t)n * sizeof(*copy));

    assert_non_null(copy);
    memcpy(copy, x, (size_t)n * sizeof(*copy));
    return copy;
}

static void multiply(const shape *s, rp_left left, const float *from, float *to)
{
    for (int64_t i = 0; i < s->m; i++) {
        for (int64_t r = 0; r < s->ld; r++) {
            float total = s->use == RP_PRODUCT_SET ? 0 : to[i * s->ld + r];
            for (int64_t first = 0; first < s->k; first += s->chain) {
                float sum = 0;
                for (int64_t j = first; j < RP_MIN(first + s->chain, s->k); j++) {
                    const int64_t at = left.is_transposed ? j * left.ld + i : i * left.ld + j;
                    sum = fmaf(left.at[at], from[j * s->ld + r], sum);
                }
                total += s->use == RP_PRODUCT_SUBTRACT ? -sum : sum;
            }
            to[i * s->ld + r] = total;
        }
    }
}

static void check_product(const shape *s)
{
    const int64_t left_ld = (s->is_transposed ? s->m : s->k) + s->left_ld;
    const int64_t n = s->m * s->ld + BEHIND;
    float *at = random_floats((s->is_transposed ? s->k : s->m) * left_ld);
    float *from = random_floats(s->k * s->ld);
    float *start = random_floats(n);
    float *want = copy_of(start, n);
    float *got = copy_of(start, n);
    const rp_left left = {at, left_ld, s->is_transposed};

    multiply(s, left, from, want);
    rp_product(s->m, s->k, s->ld, left, from, s->chain, s->use, got);
    assert_memory_equal(got, want, (size_t)n * sizeof(float));
    for (int lanes = 4; lanes <= 16 && s->use != RP_PRODUCT_SET; lanes *= 2) {
        const rp_product_functions *functions = rp_product_functions_of(lanes);
        if (functions == NULL) {
            print_message("skipped: vectors of %d\n", lanes);
            continue;
        }
        memcpy(got, start, (size_t)n * sizeof(float));
        functions->multiply(s->m, s->k, s->ld, left, from, s->chain,
                            s->use == RP_PRODUCT_SUBTRACT ? -1.0f : 1.0f, got);
        assert_memory_equal(got, want, (size_t)n * sizeof(float));
    }
    free(at);
    free(from);
    free(start);
    free(want);
    free(got);
}

static void product_equals_loop(void **state)
{
    static const shape shapes[] = {
        {64, 32, 64, 0, 128, RP_PRODUCT_SET, true},
        {64, 32, 64, 0, 128, RP_PRODUCT_ADD, false},
        {1, 1, 16, 0, 128, RP_PRODUCT_ADD, true},
        {1, 1, 16, 1, 128, RP_PRODUCT_SUBTRACT, false},
        {7, 5, 32, 2, 32, RP_PRODUCT_ADD, true},
        {33, 96, 176, 2, 32, RP_PRODUCT_SUBTRACT, true},
        {128, 300, 128, 7, 128, RP_PRODUCT_SET, true},
        {129, 300, 112, 7, 128, RP_PRODUCT_ADD, true},
        {200, 97, 224, 3, 128, RP_PRODUCT_ADD, false},
        {256, 257, 80, 5, 32, RP_PRODUCT_SUBTRACT, false},
        {0, 4, 16, 0, 128, RP_PRODUCT_ADD, true},
        {4, 0, 16, 0, 128, RP_PRODUCT_SET, true},
    };

    (void)state;
    for (size_t i = 0; i < RP_COUNT(shapes); i++) {
        check_product(&shapes[i]);
    }
}

static void check_pull(const rp_product_functions *functions, int64_t ld, int64_t n)
{
    float *start = random_floats(ld + BEHIND);
    float *columns = random_floats(n * ld);
    float *multiplier = random_floats(n);
    float *want = copy_of(start, ld + BEHIND);

    for (int64_t s = 0; s < n; s++) {
        for (int64_t r = 0; r < ld; r++) {
            want[r] = fmaf(multiplier[s], columns[s * ld + r], want[r]);
        }
    }
    functions->pull(ld, n, start, columns, multiplier, start);
    assert_memory_equal(start, want, (size_t)(ld + BEHIND) * sizeof(float));
    free(start);
    free(columns);
    free(multiplier);
    free(want);
}

static void pull_equals_loop(void **state)
{
    (void)state;
    for (int lanes = 4; lanes <= 16; lanes *= 2) {
        const rp_product_functions *functions = rp_product_functions_of(lanes);
        for (int64_t ld = 16; ld <= 176 && functions != NULL; ld += 16) {
            check_pull(functions, ld, 0);
            check_pull(functions, ld, 31);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(product_equals_loop),
        cmocka_unit_test(pull_equals_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

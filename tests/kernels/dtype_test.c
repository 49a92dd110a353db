/* Conversions against the definition: every half, and rounding at every tie between two halves. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/dtype.h"

#define HALVES 65536

/* The value of a half by its definition. */
static double half_value(uint16_t h)
{
    const int sign = h >> 15 ? -1 : 1;
    const int exponent = (h >> 10) & 31;
    const int fraction = h & 1023;

    if (exponent == 31) {
        return fraction != 0 ? (double)NAN : sign * (double)INFINITY;
    }
    return sign * (exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25));
}

static void every_half_reads_and_writes_back(void **state)
{
    (void)state;
    for (int i = 0; i < HALVES; i++) {
        const uint16_t h = (uint16_t)i;
        const float x = rp_f16_to_f32(h);
        if (isnan(half_value(h))) {
            assert_true(isnan(x));
            assert_true(isnan(half_value(rp_f32_to_f16(x))));
            continue;
        }
        assert_true((double)x == half_value(h));
        assert_int_equal(rp_f32_to_f16(x), h);
    }
}

static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    for (int i = 0; i < 0x7bff; i++) {
        const float low = (float)half_value((uint16_t)i);
        const float high = (float)half_value((uint16_t)(i + 1));
        const float tie = low + (high - low) / 2;
        const int even = i % 2 == 0 ? i : i + 1;
        assert_int_equal(rp_f32_to_f16(tie), even);
        assert_int_equal(rp_f32_to_f16(-tie), even | 0x8000);
        assert_int_equal(rp_f32_to_f16(nextafterf(tie, 0)), i);
        assert_int_equal(rp_f32_to_f16(nextafterf(tie, INFINITY)), i + 1);
    }
}

static void halves_overflow_to_infinity(void **state)
{
    (void)state;
    assert_int_equal(rp_f32_to_f16(65504), 0x7bff);
    assert_int_equal(rp_f32_to_f16(nextafterf(65520, 0)), 0x7bff);
    assert_int_equal(rp_f32_to_f16(65520), 0x7c00);
    assert_int_equal(rp_f32_to_f16(-3e38f), 0xfc00);
    assert_int_equal(rp_f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(rp_f32_to_f16(0x1p-25f), 0); /* the tie with zero */
    assert_int_equal(rp_f32_to_f16(0x1.000002p-25f), 1);
    assert_int_equal(rp_f32_to_f16(-0x1p-149f), 0x8000);
}

static void bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (int i = 0; i < HALVES; i++) {
        const float x = rp_bf16_to_f32((uint16_t)i);
        if (isnan(x)) {
            assert_true(isnan(rp_bf16_to_f32(rp_f32_to_bf16(x))));
        } else {
            assert_int_equal(rp_f32_to_bf16(x), i);
        }
    }
    assert_int_equal(rp_f32_to_bf16(0x1.01p0f), 0x3f80); /* ties */
    assert_int_equal(rp_f32_to_bf16(0x1.03p0f), 0x3f82);
    assert_int_equal(rp_f32_to_bf16(0x1.010002p0f), 0x3f81);
    assert_int_equal(rp_f32_to_bf16(0x1.fffffep127f), 0x7f80);
    assert_true(isnan(rp_bf16_to_f32(rp_f32_to_bf16(-NAN))));
}

static void bulk_equals_single(void **state)
{
    static const rp_dtype halves[] = {RP_F16, RP_BF16};
    static uint16_t source[HALVES];
    static uint16_t back[HALVES];
    static float values[HALVES];

    (void)state;
    for (int i = 0; i < HALVES; i++) {
        source[i] = (uint16_t)i;
    }
    for (int t = 0; t < 2; t++) {
        rp_to_f32(values, source, halves[t], HALVES);
        for (int i = 0; i < HALVES; i++) {
            const uint16_t h = (uint16_t)i;
            const float x = halves[t] == RP_F16 ? rp_f16_to_f32(h) : rp_bf16_to_f32(h);
            assert_memory_equal(&x, &values[i], sizeof(x));
            values[i] = isnan(x) ? x : x * 1.0003f;
        }
        rp_from_f32(back, values, halves[t], HALVES);
        for (int i = 0; i < HALVES; i++) {
            const uint16_t h =
                halves[t] == RP_F16 ? rp_f32_to_f16(values[i]) : rp_f32_to_bf16(values[i]);
            assert_int_equal(back[i], h);
        }
    }
    assert_true(rp_round_to_dtype(1.0003f, RP_F32) == 1.0003f);
    assert_true(rp_round_to_dtype(1.0003f, RP_F16) == 1.0f);
    assert_true(rp_round_to_dtype(1.005f, RP_BF16) == 1.0078125f);
}

static void non_finite_is_found(void **state)
{
    static float x[3000];

    (void)state;
    assert_int_equal(rp_find_non_finite(x, 3000), -1);
    x[2999] = NAN;
    assert_int_equal(rp_find_non_finite(x, 3000), 2999);
    assert_int_equal(rp_find_non_finite(x, 2999), -1);
    x[1023] = -INFINITY;
    assert_int_equal(rp_find_non_finite(x, 3000), 1023);
    assert_int_equal(rp_find_non_finite(x, 0), -1);
}

static void names_go_both_ways(void **state)
{
    (void)state;
    for (int i = 0; i < RP_DTYPE_COUNT; i++) {
        rp_dtype dtype = RP_DTYPE_COUNT;
        assert_true(rp_dtype_parse(&dtype, rp_dtype_name((rp_dtype)i)));
        assert_int_equal(dtype, i);
        assert_true(rp_dtype_bytes(dtype) > 0);
        assert_int_equal(rp_dtype_is_float(dtype), i <= RP_BF16);
    }
    assert_false(rp_dtype_parse(&(rp_dtype){0}, "BF17"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_reads_and_writes_back),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(halves_overflow_to_infinity),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(bulk_equals_single),
        cmocka_unit_test(non_finite_is_found),
        cmocka_unit_test(names_go_both_ways),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

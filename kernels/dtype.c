/* Storage types of tensor elements and conversion to and from f32.
 *
 * The half conversions use integer arithmetic and selects only, so that the bulk loops vectorise on
 * any processor and give the same bits on all (IEEE 754 binary16, round to nearest even). They
 * assume the default rounding mode, and do not depend on how the processor treats subnormal f32. */
#include "kernels/dtype.h"

#include "kernels/clones.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    size_t nbytes;
} dtype_table[RP_DTYPE_COUNT] = {
    [RP_F32] = {"F32", 4}, [RP_F16] = {"F16", 2}, [RP_BF16] = {"BF16", 2},
    [RP_I8] = {"I8", 1},   [RP_U8] = {"U8", 1},   [RP_I16] = {"I16", 2},
    [RP_I32] = {"I32", 4}, [RP_I64] = {"I64", 8}, [RP_F64] = {"F64", 8},
};

size_t rp_dtype_bytes(rp_dtype dtype)
{
    return (unsigned)dtype < RP_DTYPE_COUNT ? dtype_table[dtype].nbytes : 0;
}

const char *rp_dtype_name(rp_dtype dtype)
{
    return (unsigned)dtype < RP_DTYPE_COUNT ? dtype_table[dtype].name : "unknown";
}

bool rp_dtype_parse(rp_dtype *out, const char *name)
{
    for (int i = 0; i < RP_DTYPE_COUNT; i++) {
        if (strcmp(dtype_table[i].name, name) == 0) {
            *out = (rp_dtype)i;
            return true;
        }
    }
    return false;
}

bool rp_dtype_is_float(rp_dtype dtype)
{
    return dtype == RP_F32 || dtype == RP_F16 || dtype == RP_BF16;
}

RP_INLINE int32_t bits_of(float x)
{
    int32_t u;

    memcpy(&u, &x, sizeof(u));
    return u;
}

RP_INLINE float float_of(int32_t u)
{
    float x;

    memcpy(&x, &u, sizeof(x));
    return x;
}

RP_INLINE uint16_t to_f16(float x)
{
    const int32_t u = bits_of(x);
    const int32_t sign = (u >> 16) & 0x8000;
    const int32_t a = u & 0x7fffffff;
    /* Normal: round at bit 13 and rebias the exponent. Below 2^-14 the sum with 0.5, whose last bit
     * is 2^-24, rounds to a multiple of the smallest half. */
    const int32_t normal =
        (int32_t)(((uint32_t)a + 0xfff + (uint32_t)((a >> 13) & 1) - (112u << 23)) >> 13);
    const int32_t small = bits_of(float_of(a) + 0.5f) - 0x3f000000;
    const int32_t finite = a < 0x38800000 ? small : normal;
    const int32_t clamped = a >= 0x477ff000 ? 0x7c00 : finite; /* 65520 and above */
    const int32_t magnitude = a > 0x7f800000 ? 0x7e00 : clamped;

    return (uint16_t)(sign | magnitude);
}

RP_INLINE float from_f16(uint16_t h)
{
    const int32_t sign = (int32_t)((uint32_t)(h & 0x8000) << 16);
    const int32_t a = h & 0x7fff;
    const int32_t normal = (a << 13) + (112 << 23);
    const int32_t small = bits_of((float)a * 0x1p-24f);
    const int32_t finite = a < 0x400 ? small : normal;
    const int32_t magnitude = a >= 0x7c00 ? (a << 13) | 0x7f800000 : finite;

    return float_of(sign | magnitude);
}

RP_INLINE uint16_t to_bf16(float x)
{
    const uint32_t u = (uint32_t)bits_of(x);
    const uint32_t rounded = u + 0x7fff + ((u >> 16) & 1);
    const uint32_t kept = (u & 0x7fffffff) > 0x7f800000 ? u | 0x400000 : rounded;

    return (uint16_t)(kept >> 16);
}

RP_INLINE float from_bf16(uint16_t h)
{
    return float_of((int32_t)((uint32_t)h << 16));
}

uint16_t rp_f32_to_f16(float x)
{
    return to_f16(x);
}

float rp_f16_to_f32(uint16_t h)
{
    return from_f16(h);
}

uint16_t rp_f32_to_bf16(float x)
{
    return to_bf16(x);
}

float rp_bf16_to_f32(uint16_t h)
{
    return from_bf16(h);
}

RP_CLONES void rp_to_f32(float *restrict dst, const void *restrict src, rp_dtype dtype, int64_t n)
{
    const uint16_t *restrict half = src;

    RP_ASSERT(rp_dtype_is_float(dtype));
    if (dtype == RP_F16) {
        for (int64_t i = 0; i < n; i++) {
            dst[i] = from_f16(half[i]);
        }
    } else if (dtype == RP_BF16) {
        for (int64_t i = 0; i < n; i++) {
            dst[i] = from_bf16(half[i]);
        }
    } else {
        memcpy(dst, src, (size_t)n * sizeof(float));
    }
}

RP_CLONES void rp_from_f32(void *restrict dst, const float *restrict src, rp_dtype dtype, int64_t n)
{
    uint16_t *restrict half = dst;

    RP_ASSERT(rp_dtype_is_float(dtype));
    if (dtype == RP_F16) {
        for (int64_t i = 0; i < n; i++) {
            half[i] = to_f16(src[i]);
        }
    } else if (dtype == RP_BF16) {
        for (int64_t i = 0; i < n; i++) {
            half[i] = to_bf16(src[i]);
        }
    } else {
        memcpy(dst, src, (size_t)n * sizeof(float));
    }
}

float rp_round_to_dtype(float x, rp_dtype dtype)
{
    switch (dtype) {
    case RP_F16:
        return from_f16(to_f16(x));
    case RP_BF16:
        return from_bf16(to_bf16(x));
    default:
        return x;
    }
}

RP_CLONES int64_t rp_find_non_finite(const float *x, int64_t n)
{
    enum { BLOCK = 1024 };

    /* Whole blocks without a branch inside; only a block at fault is searched. */
    for (int64_t first = 0; first < n; first += BLOCK) {
        const int64_t end = n - first < BLOCK ? n : first + BLOCK;
        int32_t is_bad = 0;
        for (int64_t i = first; i < end; i++) {
            is_bad |= (bits_of(x[i]) & 0x7f800000) == 0x7f800000;
        }
        for (int64_t i = first; is_bad && i < end; i++) {
            if (!isfinite(x[i])) {
                return i;
            }
        }
    }
    return -1;
}

/* LANES floats side by side, with names that end in LANES: included once for every width. Each lane
 * carries out a sequential computation of its own; branches become masks. One lane is plain C, for
 * the threads of GPUs.
 *
 * GNU vectors do the arithmetic. Comparisons of sixteen lanes need the processor's mask registers,
 * which GNU vectors do not reach, and maxima its own instructions. */
#ifndef LANES
#define LANES 4
#endif

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/clones.h"
#include "kernels/grid_params.h"

#if defined(__x86_64__) && LANES > 1
#include <immintrin.h>
#endif

#ifndef LANES_NAME
#define LANES_PASTE2(name, lanes) name##_##lanes
#define LANES_PASTE(name, lanes) LANES_PASTE2(name, lanes)
#define LANES_NAME(name) LANES_PASTE(name, LANES)

#define VEC LANES_NAME(vec)
#define INTS LANES_NAME(ints)
#define MASK LANES_NAME(mask)
#define BYTES LANES_NAME(bytes) /* of four vectors */

#define MAGIC 12582912.0f /* 1.5 * 2^23: a sum with it has the nearest integer in its low bits */

#if LANES == 1
typedef float VEC;
typedef bool MASK;
#define ALL_OF(value) (value)
#define LANE(v, k) (v)
#define LESS(a, b) ((a) < (b))
#define AT_MOST(a, b) ((a) <= (b))
#define DIFFER(a, b) ((a) != (b))
#define SELECT(mask, a, b) ((mask) ? (a) : (b))
#define MAX_OF(a, b) SELECT((a) > (b), a, b)
#define MIN_OF(a, b) SELECT((a) < (b), a, b)
#define MULTIPLY_ADD(a, b, c) fmaf(a, b, c)

RP_INLINE bool LANES_NAME(any)(MASK mask)
{
    return mask;
}

RP_INLINE VEC LANES_NAME(magnitude)(VEC v)
{
    return fabsf(v);
}

/* The nearest integer for any v. As ggml rounds: beyond 2^22 the low bits are something else, which
 * is kept, too. */
RP_INLINE VEC LANES_NAME(nearest)(VEC v)
{
    return (float)rp_nearest_int(v);
}

/* The low byte of integers. */
RP_INLINE VEC LANES_NAME(byte_of)(VEC l)
{
    return (float)((int32_t)l & 255);
}
#else
typedef float VEC __attribute__((vector_size(LANES * sizeof(float)), may_alias));
typedef int32_t INTS __attribute__((vector_size(LANES * sizeof(float)), may_alias));
typedef uint8_t BYTES __attribute__((vector_size(4 * LANES), may_alias));
#define ALL_OF(value) ((value) - (VEC){0}) /* x - 0 is x, even of -0: nothing is left to do */
#define LANE(v, k) ((v)[k])

#if LANES == 16
typedef __mmask16 MASK;
#define LESS(a, b) _mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_LT_OQ)
#define AT_MOST(a, b) _mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_LE_OQ)
#define DIFFER(a, b) _mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_NEQ_UQ)
#define SELECT(mask, a, b) ((VEC)_mm512_mask_blend_ps(mask, (__m512)(b), (__m512)(a)))
#define MAX_OF(a, b) ((VEC)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define MIN_OF(a, b) ((VEC)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define MAX_INTS(a, b) ((INTS)_mm512_max_epi32((__m512i)(a), (__m512i)(b)))
#define MULTIPLY_ADD(a, b, c) ((VEC)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
/* The lower halves of two vectors, lane by lane, and their upper halves. */
#define ZIP_LOW(a, b)                                                                              \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define ZIP_HIGH(a, b)                                                                             \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#else
#define LESS(a, b) ((a) < (b))
#define AT_MOST(a, b) ((a) <= (b))
#define DIFFER(a, b) ((a) != (b))
typedef INTS MASK;
#if LANES == 8
#define SELECT(mask, a, b) ((VEC)_mm256_blendv_ps((__m256)(b), (__m256)(a), (__m256)(mask)))
#define MAX_OF(a, b) ((VEC)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define MIN_OF(a, b) ((VEC)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define MAX_INTS(a, b) ((INTS)_mm256_max_epi32((__m256i)(a), (__m256i)(b)))
#define MULTIPLY_ADD(a, b, c) ((VEC)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define SELECT(mask, a, b) ((VEC)(((mask) & (INTS)(a)) | (~(mask) & (INTS)(b))))
#define MAX_OF(a, b) SELECT((a) > (b), a, b)
#define MIN_OF(a, b) SELECT((a) < (b), a, b)
#define MAX_INTS(a, b) ((INTS)SELECT((a) > (b), a, b))
#define MULTIPLY_ADD(a, b, c) LANES_NAME(multiply_add)(a, b, c)
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#endif
#endif

#if LANES == 4
RP_INLINE VEC LANES_NAME(multiply_add)(VEC a, VEC b, VEC c)
{
    for (int k = 0; k < LANES; k++) {
        c[k] = fmaf(a[k], b[k], c[k]);
    }
    return c;
}
#endif

RP_INLINE bool LANES_NAME(any)(MASK mask)
{
#if LANES == 16
    return mask != 0;
#else
    int32_t any = 0;
    for (int k = 0; k < LANES; k++) {
        any |= mask[k];
    }
    return any != 0;
#endif
}

RP_INLINE VEC LANES_NAME(magnitude)(VEC v)
{
    return (VEC)((INTS)v & INT32_MAX);
}

RP_INLINE VEC LANES_NAME(nearest)(VEC v)
{
    const INTS bits = ((INTS)(v + MAGIC) & 0x7fffff) | 0x4b000000;

    return (VEC)bits - MAGIC;
}

RP_INLINE VEC LANES_NAME(byte_of)(VEC l)
{
    return __builtin_convertvector(__builtin_convertvector(l, INTS) & 255, VEC);
}
#endif

/* The nearest integer, ties to even, within lo .. hi; |v| < 2^22. */
RP_INLINE VEC LANES_NAME(nearest_in)(VEC v, float lo, float hi)
{
    const VEC l = (v + MAGIC) - MAGIC;

    return MIN_OF(MAX_OF(l, ALL_OF(lo)), ALL_OF(hi));
}

RP_INLINE VEC LANES_NAME(any_nearest_in)(VEC v, float lo, float hi)
{
    return MIN_OF(MAX_OF(LANES_NAME(nearest)(v), ALL_OF(lo)), ALL_OF(hi));
}

/* Held to lo .. hi first: for any v, where it need not be what ggml finds. NaN gives lo. */
RP_INLINE VEC LANES_NAME(clamped_nearest)(VEC v, float lo, float hi)
{
    return (MIN_OF(MAX_OF(v, ALL_OF(lo)), ALL_OF(hi)) + MAGIC) - MAGIC;
}

#if LANES > 1
/* Four vectors without their fractions, as bytes: held to -128 .. 127 or to 0 .. top. NaN gives the
 * lowest. */
RP_INLINE BYTES LANES_NAME(truncated)(const VEC *v, bool is_signed, uint8_t top)
{
#if LANES == 16
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i low =
        _mm512_packs_epi32(_mm512_cvttps_epi32((__m512)v[0]), _mm512_cvttps_epi32((__m512)v[1]));
    const __m512i high =
        _mm512_packs_epi32(_mm512_cvttps_epi32((__m512)v[2]), _mm512_cvttps_epi32((__m512)v[3]));
    const __m512i bytes =
        is_signed ? _mm512_packs_epi16(low, high)
                  : _mm512_min_epu8(_mm512_packus_epi16(low, high), _mm512_set1_epi8((char)top));
    return (BYTES)_mm512_permutexvar_epi32(order, bytes);
#elif LANES == 8
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i low =
        _mm256_packs_epi32(_mm256_cvttps_epi32((__m256)v[0]), _mm256_cvttps_epi32((__m256)v[1]));
    const __m256i high =
        _mm256_packs_epi32(_mm256_cvttps_epi32((__m256)v[2]), _mm256_cvttps_epi32((__m256)v[3]));
    const __m256i bytes =
        is_signed ? _mm256_packs_epi16(low, high)
                  : _mm256_min_epu8(_mm256_packus_epi16(low, high), _mm256_set1_epi8((char)top));
    return (BYTES)_mm256_permutevar8x32_epi32(bytes, order);
#else
    BYTES bytes;
    for (int k = 0; k < 4 * LANES; k++) {
        const float lo = is_signed ? -128.0f : 0.0f;
        const float hi = is_signed ? 127.0f : (float)top;
        const float above = v[k / LANES][k % LANES] > lo ? v[k / LANES][k % LANES] : lo;
        bytes[k] = (uint8_t)(int)(above < hi ? above : hi);
    }
    return bytes;
#endif
}
#endif
#endif /* LANES_NAME */

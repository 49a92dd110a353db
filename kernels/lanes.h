/* LANES floats side by side, with names that end in LANES: included once for every width. Each lane
 * carries out a sequential computation of its own; branches become masks.
 *
 * GNU vectors do the arithmetic. Comparisons of sixteen lanes need the processor's mask registers,
 * which GNU vectors do not reach, and maxima its own instructions. */
#ifndef LANES
#define LANES 4
#endif

#include <stdbool.h>
#include <stdint.h>

#include "kernels/clones.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define LANES_PASTE2(name, lanes) name##_##lanes
#define LANES_PASTE(name, lanes) LANES_PASTE2(name, lanes)
#define LANES_NAME(name) LANES_PASTE(name, LANES)

#define VEC LANES_NAME(vec)
#define INTS LANES_NAME(ints)
#define MASK LANES_NAME(mask)

typedef float VEC __attribute__((vector_size(LANES * sizeof(float)), may_alias));
typedef int32_t INTS __attribute__((vector_size(LANES * sizeof(float)), may_alias));

#if LANES == 16
typedef __mmask16 MASK;
#define LESS(a, b) _mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_LT_OQ)
#define AT_MOST(a, b) _mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_LE_OQ)
#define DIFFER(a, b) _mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_NEQ_UQ)
#define SELECT(mask, a, b) ((VEC)_mm512_mask_blend_ps(mask, (__m512)(b), (__m512)(a)))
#define MAX_OF(a, b) ((VEC)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define MIN_OF(a, b) ((VEC)_mm512_min_ps((__m512)(a), (__m512)(b)))
#else
typedef INTS MASK;
#define LESS(a, b) ((a) < (b))
#define AT_MOST(a, b) ((a) <= (b))
#define DIFFER(a, b) ((a) != (b))
#if LANES == 8
#define SELECT(mask, a, b) ((VEC)_mm256_blendv_ps((__m256)(b), (__m256)(a), (__m256)(mask)))
#define MAX_OF(a, b) ((VEC)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define MIN_OF(a, b) ((VEC)_mm256_min_ps((__m256)(a), (__m256)(b)))
#else
#define SELECT(mask, a, b) ((VEC)(((mask) & (INTS)(a)) | (~(mask) & (INTS)(b))))
#define MAX_OF(a, b) SELECT((a) > (b), a, b)
#define MIN_OF(a, b) SELECT((a) < (b), a, b)
#endif
#endif

#define MAGNITUDE(v) ((VEC)((INTS)(v)&INT32_MAX))
#define ALL_OF(value) ((VEC){0} + (value))
#define MAGIC 12582912.0f /* 1.5 * 2^23: a sum with it has the nearest integer in its low bits */

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

/* The nearest integer, ties to even, within lo .. hi; |v| < 2^22. */
RP_INLINE VEC LANES_NAME(nearest_in)(VEC v, float lo, float hi)
{
    const VEC l = (v + MAGIC) - MAGIC;

    return MIN_OF(MAX_OF(l, ALL_OF(lo)), ALL_OF(hi));
}

/* The same for any v. As ggml rounds: beyond 2^22 the low bits are something else, which is kept,
 * too. */
RP_INLINE VEC LANES_NAME(nearest)(VEC v)
{
    const INTS bits = ((INTS)(v + MAGIC) & 0x7fffff) | 0x4b000000;

    return (VEC)bits - MAGIC;
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

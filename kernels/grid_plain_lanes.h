/* Blocks of 32 values rounded without a search, for one width of vectors: included by
 * grid_search_lanes.h for every processor, with LANES defined.
 *
 * Runs of blocks stay in the first-level cache: first every block's scale, then all their inverses
 * side by side, then the codes. What one step stores the next loads in pieces of the same size or
 * smaller: others would wait until all stores before are in the cache, those of finished blocks
 * that go to memory among them. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/grid_gguf.h"
#include "kernels/grid_params.h"
#include "kernels/lanes.h"

#ifndef RP_KERNELS_GRID_PLAIN_LANES_H
#define RP_KERNELS_GRID_PLAIN_LANES_H
#define PLAIN_RUN 64 /* blocks, a multiple of all widths */
#define Q8_ZERO 128
#define Q8_MAX 127.0f

/* Codes are those of (x - m) * inverse + shift. */
typedef struct plain_run {
    int nblocks;
    __attribute__((aligned(64))) float d[PLAIN_RUN];
    float m[PLAIN_RUN], inverse[PLAIN_RUN], shift[PLAIN_RUN];
} plain_run;
#endif

/* ---- Scales ---- */

/* Maxima of the lanes of LANES vectors, that of v[k] in lane k. */
RP_INLINE INTS LANES_NAME(maxima)(INTS *v)
{
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int k = 0; k < half; k++) {
            const INTS low = ZIP_LOW(v[k], v[k + half]);
            const INTS high = ZIP_HIGH(v[k], v[k + half]);
            v[k] = MAX_INTS(low, high);
        }
    }
    return v[0];
}

RP_INLINE INTS LANES_NAME(load_bits)(const float *x)
{
    INTS bits;

    memcpy(&bits, x, sizeof(bits));
    return bits;
}

/* Block k of a run, the last one for those beyond. */
RP_INLINE const float *LANES_NAME(block_of)(const plain_run *r, const float *x, int k)
{
    return x + (int64_t)RP_MIN(k, r->nblocks - 1) * RP_GGUF_BLOCK;
}

/* Magnitudes of floats order as their bits do. */
RP_INLINE VEC LANES_NAME(largest_magnitudes)(const plain_run *r, const float *x, int first)
{
    INTS largest[LANES];

    for (int k = 0; k < LANES; k++) {
        const float *block = LANES_NAME(block_of)(r, x, first + k);
        largest[k] = LANES_NAME(load_bits)(block) & INT32_MAX;
        for (int i = LANES; i < RP_GGUF_BLOCK; i += LANES) {
            const INTS bits = LANES_NAME(load_bits)(block + i) & INT32_MAX;
            largest[k] = MAX_INTS(bits, largest[k]);
        }
    }
    return (VEC)LANES_NAME(maxima)(largest);
}

/* The first element of largest magnitude where both signs have it. */
static void LANES_NAME(settle_ties)(const plain_run *r, const float *x, int first, INTS up,
                                    INTS down, VEC *max)
{
    for (int k = 0; k < LANES; k++) {
        const float *block = LANES_NAME(block_of)(r, x, first + k);
        for (int i = 0; i < RP_GGUF_BLOCK && up[k] > 0 && up[k] == down[k]; i++) {
            if (fabsf(block[i]) == (*max)[k]) {
                (*max)[k] = block[i];
                break;
            }
        }
    }
}

/* The first elements of largest magnitude; 0 for zeros. */
RP_INLINE VEC LANES_NAME(signed_maxima)(const plain_run *r, const float *x, int first)
{
    INTS positive[LANES]; /* the bits of the largest */
    INTS negative[LANES]; /* the same with signs flipped */

    for (int k = 0; k < LANES; k++) {
        const float *block = LANES_NAME(block_of)(r, x, first + k);
        positive[k] = negative[k] = (INTS){0};
        for (int i = 0; i < RP_GGUF_BLOCK; i += LANES) {
            const INTS bits = LANES_NAME(load_bits)(block + i);
            positive[k] = MAX_INTS(bits, positive[k]);
            negative[k] = MAX_INTS(bits ^ INT32_MIN, negative[k]);
        }
    }
    const INTS up = LANES_NAME(maxima)(positive);
    const INTS down = LANES_NAME(maxima)(negative);
    VEC max = (VEC)(MAX_INTS(up, down) | ((up - down) & INT32_MIN));
    const MASK ties =
        LESS(ALL_OF(0.0f), (VEC)up) & AT_MOST((VEC)up, (VEC)down) & AT_MOST((VEC)down, (VEC)up);
    if (LANES_NAME(any)(ties)) {
        LANES_NAME(settle_ties)(r, x, first, up, down, &max);
    }
    return max;
}

/* Floats to integers of the same order, which swaps back, too. */
RP_INLINE INTS LANES_NAME(ordered)(INTS bits)
{
    return bits ^ ((bits >> 31) & INT32_MAX);
}

/* The least values, of zeros the first, and the largest. */
RP_INLINE void LANES_NAME(find_ranges)(const plain_run *r, const float *x, int first, VEC *low,
                                       VEC *high)
{
    INTS up[LANES];
    INTS down[LANES];

    for (int k = 0; k < LANES; k++) {
        const float *block = LANES_NAME(block_of)(r, x, first + k);
        up[k] = LANES_NAME(ordered)(LANES_NAME(load_bits)(block));
        down[k] = ~up[k];
        for (int i = LANES; i < RP_GGUF_BLOCK; i += LANES) {
            const INTS v = LANES_NAME(ordered)(LANES_NAME(load_bits)(block + i));
            up[k] = MAX_INTS(v, up[k]);
            down[k] = MAX_INTS(~v, down[k]);
        }
    }
    *high = (VEC)LANES_NAME(ordered)(LANES_NAME(maxima)(up));
    *low = (VEC)LANES_NAME(ordered)(~LANES_NAME(maxima)(down));
    for (int k = 0; k < LANES; k++) {
        const float *block = LANES_NAME(block_of)(r, x, first + k);
        for (int i = 0; (*low)[k] == 0.0f && i < RP_GGUF_BLOCK; i++) {
            if (block[i] == 0.0f) {
                (*low)[k] = block[i];
                break;
            }
        }
    }
}

/* An inverse may be infinite near the end of fp32's range: ggml's conversion of the products gives
 * 0 then. Codes are those of the fp32 parameters, which are rounded here. */
RP_INLINE void LANES_NAME(invert)(plain_run *r, float bias, int n_params, float *params)
{
    for (int k = 0; k < r->nblocks; k++) {
        const float inverse = rp_inverse(r->d[k]);
        r->inverse[k] = isinf(inverse) ? 0.0f : inverse;
        r->shift[k] = isinf(inverse) ? 0.0f : bias;
    }
    for (int k = 0; k < r->nblocks; k++) {
        params[(int64_t)k * n_params] = rp_nearest_f16(r->d[k]);
    }
    for (int k = 0; k < r->nblocks && n_params == 2; k++) {
        params[2 * k + 1] = rp_nearest_f16(r->m[k]);
    }
}

/* ---- Codes ---- */

/* Half away from zero (ggml never makes -128), by an addend below 0.5: with 0.5 itself 0.49999997
 * would become 1. */
RP_INLINE VEC LANES_NAME(with_half)(VEC v)
{
    const INTS below_half = (INTS)ALL_OF(0x1.fffffep-2f);

    return v + (VEC)(((INTS)v & INT32_MIN) | below_half);
}

/* Elements at .. at + 4 LANES - 1 of n: the last vector for those beyond. */
RP_INLINE BYTES LANES_NAME(round_four)(const plain_run *r, bool is_q8, uint8_t top, const float *x,
                                       int at, int n)
{
    VEC v[4];

    for (int k = 0; k < 4; k++) {
        const int i = RP_MIN(at + k * LANES, n - LANES);
        const int block = i / RP_GGUF_BLOCK;
        memcpy(&v[k], x + i, sizeof(v[k]));
        if (is_q8) {
            v[k] = LANES_NAME(with_half)(v[k] * r->inverse[block]);
        } else {
            v[k] = (v[k] - r->m[block]) * r->inverse[block] + r->shift[block];
        }
    }
    BYTES bytes = LANES_NAME(truncated)(v, is_q8, top);
    if (is_q8) {
        bytes ^= Q8_ZERO;
    }
    return bytes;
}

RP_INLINE void LANES_NAME(round_run)(const plain_run *r, bool is_q8, int top, const float *x,
                                     uint8_t *codes)
{
    const int n = r->nblocks * RP_GGUF_BLOCK;
    int at = 0;

    for (; at + 4 * LANES <= n; at += 4 * LANES) {
        const BYTES bytes = LANES_NAME(round_four)(r, is_q8, (uint8_t)top, x, at, at + 4 * LANES);
        memcpy(codes + at, &bytes, sizeof(bytes));
    }
    if (at < n) {
        const BYTES bytes = LANES_NAME(round_four)(r, is_q8, (uint8_t)top, x, at, n);
        memcpy(codes + at, &bytes, (size_t)(n - at));
    }
}

/* ---- Blocks ---- */

static void LANES_NAME(plain_q8)(int64_t nblocks, const float *x, float *params, uint8_t *codes)
{
    plain_run r;

    for (int64_t first = 0; first < nblocks; first += PLAIN_RUN) {
        const float *own = x + first * RP_GGUF_BLOCK;
        r.nblocks = (int)RP_MIN(PLAIN_RUN, nblocks - first);
        for (int k = 0; k < r.nblocks; k += LANES) {
            const VEC d = LANES_NAME(largest_magnitudes)(&r, own, k) / Q8_MAX;
            memcpy(&r.d[k], &d, sizeof(d));
        }
        LANES_NAME(invert)(&r, 0.0f, 1, params + first);
        LANES_NAME(round_run)(&r, true, 0, own, codes + first * RP_GGUF_BLOCK);
    }
}

static void LANES_NAME(plain_symmetric)(int64_t nblocks, int half, const float *x, float *params,
                                        uint8_t *codes)
{
    plain_run r;

    memset(r.m, 0, sizeof(r.m));
    for (int64_t first = 0; first < nblocks; first += PLAIN_RUN) {
        const float *own = x + first * RP_GGUF_BLOCK;
        r.nblocks = (int)RP_MIN(PLAIN_RUN, nblocks - first);
        for (int k = 0; k < r.nblocks; k += LANES) {
            const VEC d = LANES_NAME(signed_maxima)(&r, own, k) / (float)-half;
            memcpy(&r.d[k], &d, sizeof(d));
        }
        LANES_NAME(invert)(&r, (float)half + 0.5f, 1, params + first);
        LANES_NAME(round_run)(&r, false, 2 * half - 1, own, codes + first * RP_GGUF_BLOCK);
    }
}

static void LANES_NAME(plain_min)(int64_t nblocks, int top, const float *x, float *params,
                                  uint8_t *codes)
{
    plain_run r;

    for (int64_t first = 0; first < nblocks; first += PLAIN_RUN) {
        const float *own = x + first * RP_GGUF_BLOCK;
        r.nblocks = (int)RP_MIN(PLAIN_RUN, nblocks - first);
        for (int k = 0; k < r.nblocks; k += LANES) {
            VEC low, high;
            LANES_NAME(find_ranges)(&r, own, k, &low, &high);
            const VEC d = (high - low) / (float)top;
            memcpy(&r.m[k], &low, sizeof(low));
            memcpy(&r.d[k], &d, sizeof(d));
        }
        LANES_NAME(invert)(&r, 0.5f, 2, params + 2 * first);
        LANES_NAME(round_run)(&r, false, top, own, codes + first * RP_GGUF_BLOCK);
    }
}

/* The products of product.h for one width of vectors, with LANES defined: included by product.c for
 * every kind of processor. A tile's sums stay in registers, as many as the processor has. */
#include <string.h>

#include "base/mem.h"
#include "kernels/lanes.h"
#include "kernels/product.h"

#if LANES == 16
#define TILE_ROWS 8
#define TILE_VECS 3
#elif LANES == 8
#define TILE_ROWS 4
#define TILE_VECS 3
#else
#define TILE_ROWS 4
#define TILE_VECS 4
#endif
#define TILE_COLS ((int64_t)TILE_VECS * LANES)

#ifndef RP_KERNELS_PRODUCT_LANES_H
#define RP_KERNELS_PRODUCT_LANES_H
#define LEFT_ROWS (int64_t)128 /* at hand at once */
#define PULL_VECS 4            /* chains side by side */
#endif

RP_INLINE VEC LANES_NAME(load)(const float *from)
{
    VEC v;

    memcpy(&v, from, sizeof(v));
    return v;
}

RP_INLINE void LANES_NAME(store)(float *to, VEC v)
{
    memcpy(to, &v, sizeof(v));
}

/* to [rows][vecs] += left [depth][TILE_ROWS] transposed, times from [depth][TILE_COLS]. */
RP_INLINE void LANES_NAME(add_tile)(int vecs, int64_t depth, const float *left, const float *from,
                                    int64_t rows, int64_t ld, float *to)
{
    VEC sums[TILE_ROWS][TILE_VECS];

    RP_UNROLL(8)
    for (int64_t i = 0; i < TILE_ROWS; i++) {
        RP_UNROLL(4)
        for (int64_t j = 0; j < vecs; j++) {
            sums[i][j] = ALL_OF(0.0f);
        }
    }
    for (int64_t k = 0; k < depth; k++) {
        RP_UNROLL(8)
        for (int64_t i = 0; i < TILE_ROWS; i++) {
            const VEC a = ALL_OF(left[k * TILE_ROWS + i]);
            RP_UNROLL(4)
            for (int64_t j = 0; j < vecs; j++) {
                const VEC b = LANES_NAME(load)(from + k * TILE_COLS + j * LANES);
                sums[i][j] = MULTIPLY_ADD(a, b, sums[i][j]);
            }
        }
    }
    RP_UNROLL(8)
    for (int64_t i = 0; i < TILE_ROWS; i++) {
        RP_UNROLL(4)
        for (int64_t j = 0; j < vecs; j++) {
            float *const at = to + i * ld + j * LANES;
            if (i < rows) {
                LANES_NAME(store)(at, LANES_NAME(load)(at) + sums[i][j]);
            }
        }
    }
}

/* The same with as many vectors as are there. */
static void LANES_NAME(add_some)(int vecs, int64_t depth, const float *left, const float *from,
                                 int64_t rows, int64_t ld, float *to)
{
    if (vecs == TILE_VECS) {
        LANES_NAME(add_tile)(TILE_VECS, depth, left, from, rows, ld, to);
        return;
    }
    for (int64_t j = 0; j < vecs; j++) {
        LANES_NAME(add_tile)(1, depth, left, from + j * LANES, rows, ld, to + j * LANES);
    }
}

/* m <= LEFT_ROWS rows of left, depth terms from term k on, by tiles: [tile][depth][TILE_ROWS], 0
 * beyond. */
static void LANES_NAME(pack_left)(int64_t m, int64_t k, int64_t depth, rp_left left, int64_t row,
                                  float sign, float *to)
{
    const int64_t step_m = left.is_transposed ? 1 : left.ld;
    const int64_t step_k = left.is_transposed ? left.ld : 1;
    const float *at = left.at + row * step_m + k * step_k;

    for (int64_t i = 0; i < m; i += TILE_ROWS) {
        const int64_t rows = RP_MIN(TILE_ROWS, m - i);
        for (int64_t j = 0; j < depth; j++) {
            float *tile = to + i * depth + j * TILE_ROWS;
            for (int64_t r = 0; r < TILE_ROWS; r++) {
                tile[r] = r < rows ? sign * at[(i + r) * step_m + j * step_k] : 0.0f;
            }
        }
    }
}

static void LANES_NAME(multiply)(int64_t m, int64_t k, int64_t ld, rp_left left, const float *from,
                                 int chain, float sign, float *to)
{
    float rows[LEFT_ROWS * RP_PRODUCT_CHAIN] __attribute__((aligned(64)));
    float panel[TILE_COLS * RP_PRODUCT_CHAIN] __attribute__((aligned(64)));

    for (int64_t k0 = 0, depth = 0; k0 < k; k0 += depth) {
        depth = RP_MIN(chain, k - k0);
        for (int64_t m0 = 0; m0 < m; m0 += LEFT_ROWS) {
            const int64_t most = RP_MIN(LEFT_ROWS, m - m0);
            LANES_NAME(pack_left)(most, k0, depth, left, m0, sign, rows);
            for (int64_t n0 = 0; n0 < ld; n0 += TILE_COLS) {
                const int64_t cols = RP_MIN(TILE_COLS, ld - n0);
                for (int64_t j = 0; j < depth; j++) {
                    memcpy(panel + j * TILE_COLS, from + (k0 + j) * ld + n0,
                           (size_t)cols * sizeof(float));
                }
                for (int64_t i = 0; i < most; i += TILE_ROWS) {
                    float *const tile = to + (m0 + i) * ld + n0;
                    LANES_NAME(add_some)
                    ((int)(cols / LANES), depth, rows + i * depth, panel, most - i, ld, tile);
                }
            }
        }
    }
}

RP_INLINE void LANES_NAME(pull_some)(int vecs, int64_t ld, int64_t n, const float *start,
                                     const float *columns, const float *multiplier, float *out)
{
    VEC sums[PULL_VECS];

    RP_UNROLL(4)
    for (int64_t j = 0; j < vecs; j++) {
        sums[j] = LANES_NAME(load)(start + j * LANES);
    }
    for (int64_t s = 0; s < n; s++) {
        const VEC a = ALL_OF(multiplier[s]);
        RP_UNROLL(4)
        for (int64_t j = 0; j < vecs; j++) {
            sums[j] = MULTIPLY_ADD(a, LANES_NAME(load)(columns + s * ld + j * LANES), sums[j]);
        }
    }
    RP_UNROLL(4)
    for (int64_t j = 0; j < vecs; j++) {
        LANES_NAME(store)(out + j * LANES, sums[j]);
    }
}

static void LANES_NAME(pull)(int64_t ld, int64_t n, const float *start, const float *columns,
                             const float *multiplier, float *out)
{
    int64_t r = 0;

    for (; r + (int64_t)PULL_VECS * LANES <= ld; r += (int64_t)PULL_VECS * LANES) {
        LANES_NAME(pull_some)(PULL_VECS, ld, n, start + r, columns + r, multiplier, out + r);
    }
    for (; r < ld; r += LANES) {
        LANES_NAME(pull_some)(1, ld, n, start + r, columns + r, multiplier, out + r);
    }
}

static const rp_product_functions LANES_NAME(functions) = {LANES_NAME(multiply), LANES_NAME(pull)};

#undef TILE_ROWS
#undef TILE_VECS
#undef TILE_COLS

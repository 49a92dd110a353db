/* Rounding and decoding with parameters as they are stored: value = step * level - offset. */
#ifndef RP_KERNELS_GRID_ROUND_H
#define RP_KERNELS_GRID_ROUND_H

#include <stdint.h>

#include "kernels/clones.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_ROUND_ROWS 256 /* rows that the callers pass at once, so that steps fit on the stack */

/* The levels of IQ4 and, in the same order, halfway between neighbours: a value on it takes the
 * upper level. */
extern const float rp_iq4_levels[16];
#define RP_IQ4_LEVELS                                                                              \
    {                                                                                              \
        -127.0f, -104.0f, -83.0f, -65.0f, -49.0f, -35.0f, -22.0f, -10.0f, 1.0f, 13.0f, 25.0f,      \
            38.0f, 53.0f, 69.0f, 89.0f, 113.0f,                                                    \
    }
#define RP_IQ4_BOUNDS                                                                              \
    {                                                                                              \
        -115.5f, -93.5f, -74.0f, -57.0f, -42.0f, -28.5f, -16.0f, -4.5f, 7.0f, 19.0f, 31.5f, 45.5f, \
            61.0f, 79.0f, 101.0f,                                                                  \
    }
RP_INLINE float rp_iq4_level(int code)
{
    static const float levels[16] = RP_IQ4_LEVELS;

    return levels[code];
}

RP_INLINE float rp_iq4_bound(int code)
{
    static const float bounds[15] = RP_IQ4_BOUNDS;

    return bounds[code];
}

/* The code of the nearest level; NaN gives the last, as in ggml. */
RP_INLINE int rp_iq4_code(float v)
{
    int code = 0;

    for (int k = 0; k < 15; k++) {
        code += v < rp_iq4_bound(k) ? 0 : 1;
    }
    return code;
}

/* The integers -128 .. 127: grids of uniform levels point into it. */
extern const float rp_integer_levels[256];

/* Levels are the integers lo .. hi, code = level + zero. */
typedef struct rp_uniform {
    int lo, hi, zero;
} rp_uniform;

/* All local. Row i has step[i] and offset[i]; offset NULL: 0. */
void rp_round_uniform(const rp_uniform *levels, int64_t rows, const float *step,
                      const float *offset, const float *x, uint8_t *code, float *decoded);
void rp_round_iq4(int64_t rows, const float *step, const float *x, uint8_t *code, float *decoded);
/* Codes of x[n] times inverse. */
void rp_round_iq4_values(float inverse, int64_t n, const float *x, uint8_t *code);

void rp_decode_uniform(float step, float offset, int zero, int64_t n, const uint8_t *code,
                       float *out);
/* levels [16] */
void rp_decode_levels(float step, const float *levels, int64_t n, const uint8_t *code, float *out);

#ifdef __cplusplus
}
#endif
#endif

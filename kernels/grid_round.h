/* Rounding and decoding with parameters as they are stored: value = step * level - offset. */
#ifndef RP_KERNELS_GRID_ROUND_H
#define RP_KERNELS_GRID_ROUND_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RP_ROUND_ROWS 256 /* rows that the callers pass at once, so that steps fit on the stack */

/* The levels of IQ4 and, in the same order, halfway between neighbours: a value on it takes the
 * upper level. */
extern const float rp_iq4_levels[16];
extern const float rp_iq4_bounds[15];
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

/* Rounding of columns and decoding; the levels that are not uniform. */
#include "kernels/grid_round.h"

#include <stddef.h>

#include "kernels/grid_params.h"

#define MAGIC 12582912.0f /* 1.5 * 2^23: added and subtracted it rounds to nearest */

const float rp_iq4_levels[16] = RP_IQ4_LEVELS;

#define FOUR(n) (float)(n), (float)((n) + 1), (float)((n) + 2), (float)((n) + 3)
#define SIXTEEN(n) FOUR(n), FOUR((n) + 4), FOUR((n) + 8), FOUR((n) + 12)
#define SIXTY_FOUR(n) SIXTEEN(n), SIXTEEN((n) + 16), SIXTEEN((n) + 32), SIXTEEN((n) + 48)

const float rp_integer_levels[256] = {SIXTY_FOUR(-128), SIXTY_FOUR(-64), SIXTY_FOUR(0),
                                      SIXTY_FOUR(64)};

RP_CLONES void rp_round_uniform(const rp_uniform *levels, int64_t rows, const float *step,
                                const float *offset, const float *x, uint8_t *code, float *decoded)
{
    const float lo = (float)levels->lo;
    const float hi = (float)levels->hi;
    const int zero = levels->zero;

    for (int64_t i = 0; i < rows; i++) {
        const float shift = offset == NULL ? 0.0f : offset[i];
        const float v = (x[i] + shift) * rp_inverse(step[i]);
        const float level = (rp_clamp(v, lo, hi) + MAGIC) - MAGIC;
        code[i] = (uint8_t)((int)level + zero);
        decoded[i] = step[i] * level - shift;
    }
}

RP_CLONES void rp_round_iq4(int64_t rows, const float *step, const float *x, uint8_t *code,
                            float *decoded)
{
    for (int64_t i = 0; i < rows; i++) {
        code[i] = (uint8_t)rp_iq4_code(x[i] * rp_inverse(step[i]));
    }
    for (int64_t i = 0; i < rows; i++) {
        decoded[i] = step[i] * rp_iq4_level(code[i]);
    }
}

RP_CLONES void rp_round_iq4_values(float inverse, int64_t n, const float *x, uint8_t *code)
{
    for (int64_t i = 0; i < n; i++) {
        code[i] = (uint8_t)rp_iq4_code(inverse * x[i]);
    }
}

RP_CLONES void rp_decode_uniform(float step, float offset, int zero, int64_t n, const uint8_t *code,
                                 float *out)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = step * (float)((int)code[i] - zero) - offset;
    }
}

RP_CLONES void rp_decode_levels(float step, const float *levels, int64_t n, const uint8_t *code,
                                float *out)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = step * levels[code[i] & 15];
    }
}

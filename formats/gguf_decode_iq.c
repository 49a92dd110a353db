/* Values of the codebook types.
 *
 * All have blocks of 256 elements in 32 groups of eight, which are one entry of a codebook (IQ3:
 * two of four elements). A digit of an entry stands for a small number; signs and scales come
 * beside it:
 *
 *   IQ2_XXS  d:f16 {4 entries:u8 [4], 4 signs of 7 bits and scale:u4}[8]
 *   IQ2_XS   d:f16 {entry:u9 sign:u7}[32] scale:u4[16]
 *   IQ2_S    d:f16 entry:u8[32] sign:u8[32] entry's high bits:u2[32] scale:u4[16]
 *   IQ3_XXS  d:f16 entry:u8[64] {4 signs of 7 bits and scale:u4}[8]
 *   IQ3_S    d:f16 entry:u8[64] entry's high bit:u1[64] sign:u8[32] scale:u4[8]
 *   IQ1_S    d:f16 entry:u8[32] {4 high bits:u3, scale:u3, shift:u1}[8]
 *   IQ1_M    entry:u8[32] {entry's high bits:u3, shift:u1}[32] {4 scales:u3, 4 bits of d}:u16[4]
 *
 * Source: ggml's dequantize_row_iq* of src/ggml-quants.c; products in the same order, so that the
 * values are the same bits. */
#include "formats/gguf_decode_iq.h"

#include <stdbool.h>
#include <string.h>

#include "formats/gguf_codebooks.h"
#include "kernels/clones.h"
#include "kernels/dtype.h"

enum { GROUPS = 32, GROUP = 8, BLOCK = GROUPS * GROUP };

/* The 32 groups of a block. */
typedef struct groups {
    uint32_t digits[GROUPS]; /* of eight elements, the first lowest */
    uint8_t sign[GROUPS];    /* bit j: element j is negative */
    uint8_t scale[GROUPS];
    uint8_t is_below[GROUPS]; /* the shift is negative */
} groups;

/* value = d * (scale_base + scale_step * scale) * factor
 *         * (sign * (base + step * digit + (digit == top ? extra : 0)) +- shift) */
struct rp_gguf_codebook_type {
    float (*get)(const uint8_t *src, groups *out); /* gives d */
    size_t bytes;
    int bits; /* of a digit */
    int base, step, extra;
    bool has_even_signs; /* seven are stored; the eighth makes the number of negatives even */
    float scale_base, scale_step, factor;
    float shift;
};

static unsigned get16(const uint8_t *src)
{
    return src[0] | (unsigned)src[1] << 8;
}

static uint32_t get32(const uint8_t *src)
{
    return get16(src) | (uint32_t)get16(src + 2) << 16;
}

static float get_half(const uint8_t *src)
{
    return rp_f16_to_f32((uint16_t)get16(src));
}

static uint8_t nibble(const uint8_t *src, size_t index)
{
    return src[index / 2] >> (index % 2 * 4) & 15;
}

/* Four signs of seven bits and a scale, of groups g .. g + 3. */
static void get_signs(uint32_t word, size_t g, groups *out)
{
    for (size_t l = 0; l < 4; l++) {
        out->sign[g + l] = (uint8_t)(word >> (7 * l) & 127);
        out->scale[g + l] = (uint8_t)(word >> 28);
    }
}

static float get_iq2_xxs(const uint8_t *src, groups *out)
{
    for (size_t g = 0; g < GROUPS; g++) {
        out->digits[g] = rp_gguf_codebook_iq2_xxs[src[2 + g / 4 * 8 + g % 4]];
    }
    for (size_t g = 0; g < GROUPS; g += 4) {
        get_signs(get32(src + 6 + g * 2), g, out);
    }
    return get_half(src);
}

static float get_iq2_xs(const uint8_t *src, groups *out)
{
    for (size_t g = 0; g < GROUPS; g++) {
        const unsigned word = get16(src + 2 + g * 2);
        out->digits[g] = rp_gguf_codebook_iq2_xs[word & 511];
        out->sign[g] = (uint8_t)(word >> 9);
        out->scale[g] = nibble(src + 66, g / 2);
    }
    return get_half(src);
}

static float get_iq2_s(const uint8_t *src, groups *out)
{
    for (size_t g = 0; g < GROUPS; g++) {
        const unsigned high = src[66 + g / 4] >> (g % 4 * 2) & 3U;
        out->digits[g] = rp_gguf_codebook_iq2_s[src[2 + g] | high << 8];
        out->sign[g] = src[34 + g];
        out->scale[g] = nibble(src + 74, g / 2);
    }
    return get_half(src);
}

static float get_iq3_xxs(const uint8_t *src, groups *out)
{
    for (size_t g = 0; g < GROUPS; g++) {
        const unsigned first = rp_gguf_codebook_iq3_xxs[src[2 + g * 2]];
        const unsigned second = rp_gguf_codebook_iq3_xxs[src[3 + g * 2]];
        out->digits[g] = first | second << 12;
    }
    for (size_t g = 0; g < GROUPS; g += 4) {
        get_signs(get32(src + 66 + g), g, out);
    }
    return get_half(src);
}

static float get_iq3_s(const uint8_t *src, groups *out)
{
    for (size_t g = 0; g < GROUPS; g++) {
        const unsigned high = src[66 + g / 4] >> (g % 4 * 2);
        const unsigned first = rp_gguf_codebook_iq3_s[src[2 + g * 2] | (high & 1) << 8];
        const unsigned second = rp_gguf_codebook_iq3_s[src[3 + g * 2] | (high & 2) << 7];
        out->digits[g] = first | second << 12;
        out->sign[g] = src[74 + g];
        out->scale[g] = nibble(src + 106, g / 4);
    }
    return get_half(src);
}

static float get_iq1_s(const uint8_t *src, groups *out)
{
    for (size_t g = 0; g < GROUPS; g++) {
        const unsigned word = get16(src + 34 + g / 4 * 2);
        const unsigned high = word >> (g % 4 * 3) & 7;
        out->digits[g] = rp_gguf_codebook_iq1[src[2 + g] | high << 8];
        out->scale[g] = (uint8_t)(word >> 12 & 7);
        out->is_below[g] = (uint8_t)(word >> 15);
    }
    return get_half(src);
}

static float get_iq1_m(const uint8_t *src, groups *out)
{
    unsigned d = 0;

    for (size_t g = 0; g < GROUPS; g++) {
        const unsigned high = nibble(src + 32, g);
        const unsigned scales = get16(src + 48 + g / 8 * 2);
        out->digits[g] = rp_gguf_codebook_iq1[src[g] | (high & 7) << 8];
        out->scale[g] = (uint8_t)(scales >> (g / 2 % 4 * 3) & 7);
        out->is_below[g] = (uint8_t)(high >> 3);
        d |= scales >> 12 << (g / 8 * 4);
    }
    return rp_f16_to_f32((uint16_t)d);
}

#define IQ1(how, nbytes)                                                                           \
    {                                                                                              \
        .get = (how), .bytes = (nbytes), .bits = 2, .base = -1, .step = 1, .scale_base = 1.0F,     \
        .scale_step = 2.0F, .factor = 1.0F, .shift = 0.125F,                                       \
    }
#define IQ2(how, nbytes, even)                                                                     \
    {                                                                                              \
        .get = (how), .bytes = (nbytes), .bits = 2, .base = 8, .step = 17, .extra = 1,             \
        .has_even_signs = (even), .scale_base = 0.5F, .scale_step = 1.0F, .factor = 0.25F,         \
    }

const rp_gguf_codebook_type rp_gguf_iq1_s = IQ1(get_iq1_s, 50);
const rp_gguf_codebook_type rp_gguf_iq1_m = IQ1(get_iq1_m, 56);
const rp_gguf_codebook_type rp_gguf_iq2_xxs = IQ2(get_iq2_xxs, 66, true);
const rp_gguf_codebook_type rp_gguf_iq2_xs = IQ2(get_iq2_xs, 74, true);
const rp_gguf_codebook_type rp_gguf_iq2_s = IQ2(get_iq2_s, 82, false);
const rp_gguf_codebook_type rp_gguf_iq3_xxs = {.get = get_iq3_xxs,
                                               .bytes = 98,
                                               .bits = 3,
                                               .base = 4,
                                               .step = 8,
                                               .extra = 2,
                                               .has_even_signs = true,
                                               .scale_base = 0.5F,
                                               .scale_step = 1.0F,
                                               .factor = 0.5F};
const rp_gguf_codebook_type rp_gguf_iq3_s = {.get = get_iq3_s,
                                             .bytes = 110,
                                             .bits = 3,
                                             .base = 1,
                                             .step = 2,
                                             .scale_base = 1.0F,
                                             .scale_step = 2.0F,
                                             .factor = 1.0F};

RP_INLINE void emit(const rp_gguf_codebook_type *type, int bits, const groups *from,
                    const float *scale, const float *shift, float *restrict dst)
{
    const int top = bits == 2 ? 2 : 7;
    const int base = type->base;
    const int step = type->step;
    const int extra = type->extra;

    for (int g = 0; g < GROUPS; g++, dst += GROUP) {
        for (int j = 0; j < GROUP; j++) {
            const int digit = (int)(from->digits[g] >> (bits * j)) & ((1 << bits) - 1);
            const int size = base + step * digit + (digit == top ? extra : 0);
            const int value = from->sign[g] >> j & 1 ? -size : size;
            dst[j] = scale[g] * ((float)value + shift[g]);
        }
    }
}

RP_CLONES static void emit_block(const rp_gguf_codebook_type *type, float d, groups *from,
                                 float *dst)
{
    float scale[GROUPS];
    float shift[GROUPS];

    for (int g = 0; g < GROUPS; g++) {
        const unsigned sign = from->sign[g];
        const unsigned two = sign ^ sign >> 1;
        const unsigned four = two ^ two >> 2;
        const unsigned parity = (four ^ four >> 4) & 1;
        from->sign[g] = (uint8_t)(sign | (type->has_even_signs ? parity << 7 : 0));
        scale[g] = d * (type->scale_base + type->scale_step * (float)from->scale[g]) * type->factor;
        shift[g] = from->is_below[g] != 0 ? -type->shift : type->shift;
    }
    if (type->bits == 2) {
        emit(type, 2, from, scale, shift, dst);
    } else {
        emit(type, 3, from, scale, shift, dst);
    }
}

void rp_gguf_decode_codebook(const rp_gguf_codebook_type *type, int64_t nblocks, const uint8_t *src,
                             float *dst)
{
    groups from;

    memset(&from, 0, sizeof(from)); /* IQ1 has no signs, the others no shifts */
    for (int64_t b = 0; b < nblocks; b++, src += type->bytes, dst += BLOCK) {
        const float d = type->get(src, &from);
        emit_block(type, d, &from, dst);
    }
}

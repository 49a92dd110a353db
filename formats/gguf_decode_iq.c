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
enum { QUAD = 4 }; /* groups that share words */

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

static uint8_t nibble(uint8_t byte, size_t index)
{
    return index == 0 ? byte & 15 : byte >> 4;
}

/* Four signs of seven bits and a scale. */
static void get_signs(uint32_t word, size_t g, groups *out)
{
    for (size_t l = 0; l < QUAD; l++) {
        out->sign[g + l] = (uint8_t)(word >> (7 * l) & 127);
        out->scale[g + l] = (uint8_t)(word >> 28);
    }
}

static float get_iq2_xxs(const uint8_t *src, groups *out)
{
    for (size_t g = 0; g < GROUPS; g += QUAD) {
        const uint8_t *entry = src + 2 + g * 2;
        for (size_t l = 0; l < QUAD; l++) {
            out->digits[g + l] = rp_gguf_codebook_iq2_xxs[entry[l]];
        }
        get_signs(get32(entry + 4), g, out);
    }
    return get_half(src);
}

static float get_iq2_xs(const uint8_t *src, groups *out)
{
    for (size_t g = 0; g < GROUPS; g += QUAD) {
        const uint8_t scales = src[66 + g / QUAD];
        for (size_t l = 0; l < QUAD; l++) {
            const unsigned word = get16(src + 2 + (g + l) * 2);
            out->digits[g + l] = rp_gguf_codebook_iq2_xs[word & 511];
            out->sign[g + l] = (uint8_t)(word >> 9);
            out->scale[g + l] = nibble(scales, l / 2);
        }
    }
    return get_half(src);
}

static float get_iq2_s(const uint8_t *src, groups *out)
{
    memcpy(out->sign, src + 34, GROUPS);
    for (size_t g = 0; g < GROUPS; g += QUAD) {
        const unsigned high = src[66 + g / QUAD];
        const uint8_t scales = src[74 + g / QUAD];
        for (size_t l = 0; l < QUAD; l++) {
            const unsigned entry = src[2 + g + l] | (high >> (2 * l) & 3) << 8;
            out->digits[g + l] = rp_gguf_codebook_iq2_s[entry];
            out->scale[g + l] = nibble(scales, l / 2);
        }
    }
    return get_half(src);
}

static float get_iq3_xxs(const uint8_t *src, groups *out)
{
    for (size_t g = 0; g < GROUPS; g += QUAD) {
        const uint8_t *entry = src + 2 + g * 2;
        for (size_t l = 0; l < QUAD; l++) {
            const unsigned first = rp_gguf_codebook_iq3_xxs[entry[2 * l]];
            const unsigned second = rp_gguf_codebook_iq3_xxs[entry[2 * l + 1]];
            out->digits[g + l] = first | second << 12;
        }
        get_signs(get32(src + 66 + g), g, out);
    }
    return get_half(src);
}

static float get_iq3_s(const uint8_t *src, groups *out)
{
    memcpy(out->sign, src + 74, GROUPS);
    for (size_t g = 0; g < GROUPS; g += QUAD) {
        const uint8_t *entry = src + 2 + g * 2;
        const unsigned high = (unsigned)src[66 + g / QUAD] << 8;
        const uint8_t scale = nibble(src[106 + g / QUAD / 2], g / QUAD % 2);
        for (size_t l = 0; l < QUAD; l++) {
            const unsigned bit = 2 * (unsigned)l;
            const unsigned first = rp_gguf_codebook_iq3_s[entry[bit] | (high >> bit & 256)];
            const unsigned second =
                rp_gguf_codebook_iq3_s[entry[bit + 1] | (high >> (bit + 1) & 256)];
            out->digits[g + l] = first | second << 12;
            out->scale[g + l] = scale;
        }
    }
    return get_half(src);
}

static float get_iq1_s(const uint8_t *src, groups *out)
{
    for (size_t g = 0; g < GROUPS; g += QUAD) {
        const unsigned word = get16(src + 34 + g / QUAD * 2);
        for (size_t l = 0; l < QUAD; l++) {
            const unsigned entry = src[2 + g + l] | (word >> (3 * l) & 7) << 8;
            out->digits[g + l] = rp_gguf_codebook_iq1[entry];
            out->scale[g + l] = (uint8_t)(word >> 12 & 7);
            out->is_below[g + l] = (uint8_t)(word >> 15);
        }
    }
    return get_half(src);
}

static float get_iq1_m(const uint8_t *src, groups *out)
{
    unsigned d = 0;

    for (size_t g = 0; g < GROUPS; g += QUAD) {
        const unsigned high = get16(src + 32 + g / 2);
        const unsigned scales = get16(src + 48 + g / QUAD / 2 * 2);
        const unsigned own = scales >> (g / QUAD % 2 * 6);
        for (size_t l = 0; l < QUAD; l++) {
            const unsigned entry = src[g + l] | (high >> (4 * l) & 7) << 8;
            out->digits[g + l] = rp_gguf_codebook_iq1[entry];
            out->scale[g + l] = (uint8_t)(own >> (l / 2 * 3) & 7);
            out->is_below[g + l] = (uint8_t)(high >> (4 * l + 3) & 1);
        }
        d |= scales >> 12 << (g / QUAD / 2 * 4);
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

/* The eight elements of a group, side by side. */
typedef int32_t int_lanes __attribute__((vector_size(GROUP * sizeof(int32_t))));
typedef float float_lanes __attribute__((vector_size(GROUP * sizeof(float))));

RP_INLINE void emit(const rp_gguf_codebook_type *type, int bits, const groups *from,
                    const float *scale, const float *shift, float *restrict dst)
{
    const int_lanes at = {0, 1, 2, 3, 4, 5, 6, 7};
    const int_lanes none = {0};
    const int32_t top = bits == 2 ? 2 : 7;

    for (int g = 0; g < GROUPS; g++, dst += GROUP) {
        const int_lanes digit =
            (none + (int32_t)from->digits[g]) >> (at * bits) & ((1 << bits) - 1);
        const int_lanes size = type->base + type->step * digit + ((digit == top) & type->extra);
        const int_lanes minus = -((none + from->sign[g]) >> at & 1);
        const int_lanes value = (size ^ minus) - minus;
        const float_lanes out = scale[g] * (__builtin_convertvector(value, float_lanes) + shift[g]);
        memcpy(dst, &out, sizeof(out));
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

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

#include <string.h>

#include "formats/gguf_codebooks.h"
#include "kernels/clones.h"
#include "kernels/dtype.h"

enum { GROUPS = 32, GROUP = 8, BLOCK = GROUPS * GROUP };

#define IQ1_SHIFT 0.125F

/* The 32 groups of a block. */
typedef struct groups {
    uint32_t digits[GROUPS]; /* of eight elements, the first lowest */
    uint8_t sign[GROUPS];    /* bit j: element j is negative */
    float scale[GROUPS], shift[GROUPS];
} groups;

/* value = scale * (sign * (base + step * digit + (digit == top ? extra : 0)) + shift) */
struct rp_gguf_codebook_type {
    void (*get)(const uint8_t *src, groups *out);
    size_t bytes;
    int bits; /* of a digit */
    int base, step, extra;
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

/* Seven signs; the eighth makes their number even. */
static uint8_t even_signs(unsigned seven)
{
    const unsigned folded = seven ^ seven >> 4;

    return (uint8_t)(seven | ((0x6996U >> (folded & 15)) & 1U) << 7);
}

static float iq2_scale(float d, unsigned s)
{
    return d * (0.5F + (float)s) * 0.25F;
}

static unsigned nibble(const uint8_t *src, size_t index)
{
    return src[index / 2] >> (index % 2 * 4) & 15U;
}

static void get_iq2_xxs(const uint8_t *src, groups *out)
{
    const float d = get_half(src);

    for (size_t g = 0; g < GROUPS; g++) {
        const uint8_t *part = src + 2 + g / 4 * 8;
        const uint32_t rest = get32(part + 4);
        out->digits[g] = rp_gguf_codebook_iq2_xxs[part[g % 4]];
        out->sign[g] = even_signs(rest >> (7 * (g % 4)) & 127);
        out->scale[g] = iq2_scale(d, rest >> 28);
    }
}

static void get_iq2_xs(const uint8_t *src, groups *out)
{
    const float d = get_half(src);

    for (size_t g = 0; g < GROUPS; g++) {
        const unsigned word = get16(src + 2 + g * 2);
        out->digits[g] = rp_gguf_codebook_iq2_xs[word & 511];
        out->sign[g] = even_signs(word >> 9);
        out->scale[g] = iq2_scale(d, nibble(src + 66, g / 2));
    }
}

static void get_iq2_s(const uint8_t *src, groups *out)
{
    const float d = get_half(src);

    for (size_t g = 0; g < GROUPS; g++) {
        const unsigned high = src[66 + g / 4] >> (g % 4 * 2) & 3U;
        out->digits[g] = rp_gguf_codebook_iq2_s[src[2 + g] | high << 8];
        out->sign[g] = src[34 + g];
        out->scale[g] = iq2_scale(d, nibble(src + 74, g / 2));
    }
}

static uint32_t two_of_four(unsigned first, unsigned second)
{
    return first | second << 12;
}

static void get_iq3_xxs(const uint8_t *src, groups *out)
{
    const float d = get_half(src);

    for (size_t g = 0; g < GROUPS; g++) {
        const uint8_t *entry = src + 2 + g * 2;
        const uint32_t rest = get32(src + 66 + g / 4 * 4);
        out->digits[g] =
            two_of_four(rp_gguf_codebook_iq3_xxs[entry[0]], rp_gguf_codebook_iq3_xxs[entry[1]]);
        out->sign[g] = even_signs(rest >> (7 * (g % 4)) & 127);
        out->scale[g] = d * (0.5F + (float)(rest >> 28)) * 0.5F;
    }
}

static void get_iq3_s(const uint8_t *src, groups *out)
{
    const float d = get_half(src);

    for (size_t g = 0; g < GROUPS; g++) {
        const uint8_t *entry = src + 2 + g * 2;
        const unsigned high = src[66 + g / 4] >> (g % 4 * 2);
        out->digits[g] = two_of_four(rp_gguf_codebook_iq3_s[entry[0] | (high & 1) << 8],
                                     rp_gguf_codebook_iq3_s[entry[1] | (high & 2) << 7]);
        out->sign[g] = src[74 + g];
        out->scale[g] = d * (float)(1 + 2 * nibble(src + 106, g / 4));
    }
}

static void get_iq1_s(const uint8_t *src, groups *out)
{
    const float d = get_half(src);

    for (size_t g = 0; g < GROUPS; g++) {
        const unsigned word = get16(src + 34 + g / 4 * 2);
        const unsigned high = word >> (g % 4 * 3) & 7;
        out->digits[g] = rp_gguf_codebook_iq1[src[2 + g] | high << 8];
        out->scale[g] = d * (float)(2 * (word >> 12 & 7) + 1);
        out->shift[g] = word >> 15 ? -IQ1_SHIFT : IQ1_SHIFT;
    }
}

static void get_iq1_m(const uint8_t *src, groups *out)
{
    unsigned bits = 0;

    for (size_t i = 0; i < 4; i++) {
        bits |= get16(src + 48 + i * 2) >> 12 << (4 * i);
    }
    const float d = rp_f16_to_f32((uint16_t)bits);
    for (size_t g = 0; g < GROUPS; g++) {
        const unsigned high = nibble(src + 32, g);
        const unsigned scale = get16(src + 48 + g / 8 * 2) >> (g / 2 % 4 * 3) & 7;
        out->digits[g] = rp_gguf_codebook_iq1[src[g] | (high & 7) << 8];
        out->scale[g] = d * (float)(2 * scale + 1);
        out->shift[g] = high >> 3 ? -IQ1_SHIFT : IQ1_SHIFT;
    }
}

const rp_gguf_codebook_type rp_gguf_iq1_s = {get_iq1_s, 50, 2, -1, 1, 0};
const rp_gguf_codebook_type rp_gguf_iq1_m = {get_iq1_m, 56, 2, -1, 1, 0};
const rp_gguf_codebook_type rp_gguf_iq2_xxs = {get_iq2_xxs, 66, 2, 8, 17, 1};
const rp_gguf_codebook_type rp_gguf_iq2_xs = {get_iq2_xs, 74, 2, 8, 17, 1};
const rp_gguf_codebook_type rp_gguf_iq2_s = {get_iq2_s, 82, 2, 8, 17, 1};
const rp_gguf_codebook_type rp_gguf_iq3_xxs = {get_iq3_xxs, 98, 3, 4, 8, 2};
const rp_gguf_codebook_type rp_gguf_iq3_s = {get_iq3_s, 110, 3, 1, 2, 0};

RP_INLINE void emit(const rp_gguf_codebook_type *type, int bits, const groups *from,
                    float *restrict dst)
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
            dst[j] = from->scale[g] * ((float)value + from->shift[g]);
        }
    }
}

RP_CLONES static void emit_block(const rp_gguf_codebook_type *type, const groups *from, float *dst)
{
    if (type->bits == 2) {
        emit(type, 2, from, dst);
    } else {
        emit(type, 3, from, dst);
    }
}

void rp_gguf_decode_codebook(const rp_gguf_codebook_type *type, int64_t nblocks, const uint8_t *src,
                             float *dst)
{
    groups from;

    memset(&from, 0, sizeof(from)); /* some types have no signs, most no shifts */
    for (int64_t b = 0; b < nblocks; b++, src += type->bytes, dst += BLOCK) {
        type->get(src, &from);
        emit_block(type, &from, dst);
    }
}

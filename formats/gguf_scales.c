/* How GGUF's two-level types pack the integer scales and minima of sub-blocks.
 *
 * Source: ggml's dequantize_row_* of src/ggml-quants.c. */
#include "formats/gguf_pack.h"

#include <string.h>

/* Q2_K: 16 bytes, scale in the low nibble, minimum in the high one. */
static void get_q2_k(const uint8_t *src, float *s, float *m)
{
    for (int k = 0; k < 16; k++) {
        s[k] = (float)(src[k] & 15);
        m[k] = (float)(src[k] >> 4);
    }
}

static void put_q2_k(uint8_t *dst, const float *s, const float *m)
{
    for (int k = 0; k < 16; k++) {
        dst[k] = (uint8_t)((int)s[k] | (int)m[k] << 4);
    }
}

/* Q3_K: 16 numbers of 6 bits, biased by 32: the low four as nibbles of bytes 0..7 (k and k + 8),
 * the high two in bytes 8..11 (k, k + 4, k + 8, k + 12). */
static void get_q3_k(const uint8_t *src, float *s, float *m)
{
    (void)m;
    for (int k = 0; k < 16; k++) {
        const int low = src[k % 8] >> (k / 8 * 4) & 15;
        const int high = src[8 + k % 4] >> (k / 4 * 2) & 3;
        s[k] = (float)((low | high << 4) - 32);
    }
}

static void put_q3_k(uint8_t *dst, const float *s, const float *m)
{
    (void)m;
    memset(dst, 0, 12);
    for (int k = 0; k < 16; k++) {
        const int biased = (int)s[k] + 32;
        dst[k % 8] = (uint8_t)(dst[k % 8] | (biased & 15) << (k / 8 * 4));
        dst[8 + k % 4] = (uint8_t)(dst[8 + k % 4] | biased >> 4 << (k / 4 * 2));
    }
}

/* Q4_K, Q5_K: 8 scales and 8 minima of 6 bits. Bytes 0..3 and 4..7 hold the first four scales and
 * minima, and in their top two bits the high bits of the last four, whose low bits are the nibbles
 * of bytes 8..11. */
static void get_q4_k(const uint8_t *src, float *s, float *m)
{
    for (int k = 0; k < 4; k++) {
        s[k] = (float)(src[k] & 63);
        m[k] = (float)(src[k + 4] & 63);
        s[k + 4] = (float)((src[k + 8] & 15) | src[k] >> 6 << 4);
        m[k + 4] = (float)(src[k + 8] >> 4 | src[k + 4] >> 6 << 4);
    }
}

static void put_q4_k(uint8_t *dst, const float *s, const float *m)
{
    for (int k = 0; k < 4; k++) {
        const int late_s = (int)s[k + 4];
        const int late_m = (int)m[k + 4];
        dst[k] = (uint8_t)((int)s[k] | late_s >> 4 << 6);
        dst[k + 4] = (uint8_t)((int)m[k] | late_m >> 4 << 6);
        dst[k + 8] = (uint8_t)((late_s & 15) | (late_m & 15) << 4);
    }
}

/* Q6_K: 16 signed bytes. */
static void get_q6_k(const uint8_t *src, float *s, float *m)
{
    (void)m;
    for (int k = 0; k < 16; k++) {
        s[k] = (float)((src[k] ^ 0x80) - 128);
    }
}

static void put_q6_k(uint8_t *dst, const float *s, const float *m)
{
    (void)m;
    for (int k = 0; k < 16; k++) {
        dst[k] = (uint8_t)((int)s[k] & 255);
    }
}

/* IQ4_XS: 8 numbers of 6 bits, biased by 32: a 16-bit integer of their high two bits, then nibbles
 * of their low four. */
static void get_iq4_xs(const uint8_t *src, float *s, float *m)
{
    (void)m;
    for (int k = 0; k < 8; k++) {
        const int high = src[k / 4] >> (k % 4 * 2) & 3;
        const int low = src[2 + k / 2] >> (k % 2 * 4) & 15;
        s[k] = (float)((low | high << 4) - 32);
    }
}

static void put_iq4_xs(uint8_t *dst, const float *s, const float *m)
{
    (void)m;
    memset(dst, 0, 6);
    for (int k = 0; k < 8; k++) {
        const int biased = (int)s[k] + 32;
        dst[k / 4] = (uint8_t)(dst[k / 4] | biased >> 4 << (k % 4 * 2));
        dst[2 + k / 2] = (uint8_t)(dst[2 + k / 2] | (biased & 15) << (k % 2 * 4));
    }
}

/* NVFP4: four floats of 4 bits of exponent and 3 of mantissa, without a sign, halved because the
 * levels are doubled. The sign bit is ignored; 0x7f, which would be NaN, counts as 0. */
static void get_nvfp4(const uint8_t *src, float *s, float *m)
{
    (void)m;
    for (int k = 0; k < 4; k++) {
        const uint32_t exponent = src[k] >> 3 & 15;
        const uint32_t mantissa = src[k] & 7;
        const uint32_t power_bits = (exponent + (exponent == 0) + 127 - 11) << 23;
        float power = 0.0F;
        memcpy(&power, &power_bits, sizeof(power));
        s[k] = src[k] == 0x7f ? 0.0F : power * (float)(exponent == 0 ? mantissa : mantissa + 8);
    }
}

const rp_gguf_scales rp_gguf_scales_q2_k = {16, get_q2_k, put_q2_k};
const rp_gguf_scales rp_gguf_scales_q3_k = {16, get_q3_k, put_q3_k};
const rp_gguf_scales rp_gguf_scales_q4_k = {8, get_q4_k, put_q4_k};
const rp_gguf_scales rp_gguf_scales_q6_k = {16, get_q6_k, put_q6_k};
const rp_gguf_scales rp_gguf_scales_iq4_xs = {8, get_iq4_xs, put_iq4_xs};
const rp_gguf_scales rp_gguf_scales_nvfp4 = {4, get_nvfp4, NULL};

/* Eight codes at a time in one 64-bit word: three steps that halve the gaps between the fields
 * (bytes to pairs, to fours, to all eight), the same for every width. Little-endian hosts. */
#include "formats/bitpack.h"

#include <string.h>

#include "kernels/clones.h"

RP_INLINE uint64_t low_mask(int bits)
{
    return ((uint64_t)1 << bits) - 1;
}

/* Eight bytes below 2^bits to 8 * bits low bits. */
RP_INLINE uint64_t squeeze(uint64_t x, int bits)
{
    const int gap = 8 - bits;

    x = (x & 0x00ff00ff00ff00ff) | (x & 0xff00ff00ff00ff00) >> gap;
    x = (x & 0x0000ffff0000ffff) | (x & 0xffff0000ffff0000) >> (2 * gap);
    return (x & 0xffffffff) | (x & 0xffffffff00000000) >> (4 * gap);
}

RP_INLINE uint64_t spread(uint64_t x, int bits)
{
    const int gap = 8 - bits;
    const uint64_t pairs = low_mask(2 * bits) * 0x0000000100000001;
    const uint64_t singles = low_mask(bits) * 0x0001000100010001;

    x = (x & low_mask(4 * bits)) | (x & low_mask(4 * bits) << (4 * bits)) << (4 * gap);
    x = (x & pairs) | (x & pairs << (2 * bits)) << (2 * gap);
    return (x & singles) | (x & singles << bits) << gap;
}

int64_t rp_bits_words(int64_t n, int bits)
{
    return (n * bits + 31) / 32;
}

RP_INLINE void pack(uint32_t *words, const uint8_t *codes, int64_t n, int bits)
{
    const size_t nbytes = (size_t)rp_bits_words(n, bits) * sizeof(*words);
    uint8_t *dst = (uint8_t *)words;
    int64_t i = 0;
    uint64_t x = 0;

    for (; i + 8 <= n; i += 8, dst += bits) {
        memcpy(&x, codes + i, 8);
        x = squeeze(x, bits);
        memcpy(dst, &x, (size_t)bits);
    }
    /* The last few, and zeros to the end of the last word. */
    const size_t rest_bytes = nbytes - (size_t)(dst - (uint8_t *)words);
    uint64_t tail[2] = {0, 0};
    memcpy(tail, codes + i, (size_t)(n - i));
    tail[0] = squeeze(tail[0], bits);
    memcpy(dst, tail, rest_bytes);
}

/* The common widths as constants: the copies become single stores, and the loop vectors. */
RP_CLONES static void pack4(uint32_t *words, const uint8_t *codes, int64_t n)
{
    pack(words, codes, n, 4);
}

RP_CLONES static void pack_any(uint32_t *words, const uint8_t *codes, int64_t n, int bits)
{
    pack(words, codes, n, bits);
}

void rp_bits_pack(uint32_t *words, const uint8_t *codes, int64_t n, int bits)
{
    if (bits == 4) {
        pack4(words, codes, n);
    } else {
        pack_any(words, codes, n, bits);
    }
}

RP_INLINE void unpack(uint8_t *codes, const uint32_t *words, int64_t n, int bits)
{
    const uint8_t *src = (const uint8_t *)words;
    int64_t i = 0;
    uint64_t x = 0;

    for (; i + 8 <= n; i += 8, src += bits) {
        x = 0;
        memcpy(&x, src, (size_t)bits);
        x = spread(x, bits);
        memcpy(codes + i, &x, 8);
    }
    x = 0;
    memcpy(&x, src, (size_t)(((n - i) * bits + 7) / 8));
    x = spread(x, bits);
    memcpy(codes + i, &x, (size_t)(n - i));
}

RP_CLONES static void unpack4(uint8_t *codes, const uint32_t *words, int64_t n)
{
    unpack(codes, words, n, 4);
}

RP_CLONES static void unpack_any(uint8_t *codes, const uint32_t *words, int64_t n, int bits)
{
    unpack(codes, words, n, bits);
}

void rp_bits_unpack(uint8_t *codes, const uint32_t *words, int64_t n, int bits)
{
    if (bits == 4) {
        unpack4(codes, words, n);
    } else {
        unpack_any(codes, words, n, bits);
    }
}

/* Eight codes at a time in one 64-bit word: three steps that halve the gaps between the fields
 * (bytes to pairs, to fours, to all eight), the same for every width. Each width has loops of its
 * own: with shifts and sizes known, those of 1, 2, 4 and 8 bits become vectors. Little-endian
 * hosts. */
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

/* nbytes, 1 to 8, low bytes: as loads and stores of 8, or 4, 2 and 1 bytes, never by way of memory.
 */
RP_INLINE uint64_t load(const uint8_t *src, int nbytes)
{
    uint64_t x = 0;
    uint32_t four = 0;
    uint16_t two = 0;

    if (nbytes == 8) {
        memcpy(&x, src, 8);
        return x;
    }
    if (nbytes & 1) {
        x = src[nbytes - 1];
    }
    if (nbytes & 2) {
        memcpy(&two, src + (nbytes & 4), 2);
        x = x << 16 | two;
    }
    if (nbytes & 4) {
        memcpy(&four, src, 4);
        x = x << 32 | four;
    }
    return x;
}

RP_INLINE void store(uint8_t *dst, uint64_t x, int nbytes)
{
    const uint32_t four = (uint32_t)x;
    const uint16_t two = (uint16_t)(nbytes & 4 ? x >> 32 : x);

    if (nbytes == 8) {
        memcpy(dst, &x, 8);
        return;
    }
    if (nbytes & 4) {
        memcpy(dst, &four, 4);
    }
    if (nbytes & 2) {
        memcpy(dst + (nbytes & 4), &two, 2);
    }
    if (nbytes & 1) {
        dst[nbytes - 1] = (uint8_t)(x >> (8 * (nbytes - 1)));
    }
}

/* Eight codes are `bits` bytes. */
#define WIDTH(bits)                                                                                \
    RP_CLONES static void pack_##bits(uint8_t *restrict dst, const uint8_t *restrict codes,        \
                                      int64_t eights)                                              \
    {                                                                                              \
        for (int64_t i = 0; i < eights; i++) {                                                     \
            store(dst + (bits)*i, squeeze(load(codes + 8 * i, 8), bits), bits);                    \
        }                                                                                          \
    }                                                                                              \
    RP_CLONES static void unpack_##bits(uint8_t *restrict codes, const uint8_t *restrict src,      \
                                        int64_t eights)                                            \
    {                                                                                              \
        for (int64_t i = 0; i < eights; i++) {                                                     \
            store(codes + 8 * i, spread(load(src + (bits)*i, bits), bits), 8);                     \
        }                                                                                          \
    }
WIDTH(1)
WIDTH(2)
WIDTH(3)
WIDTH(4)
WIDTH(5)
WIDTH(6)
WIDTH(7)
WIDTH(8)

typedef void (*eights_fn)(uint8_t *restrict dst, const uint8_t *restrict src, int64_t eights);
static const eights_fn pack_eights[9] = {NULL,   pack_1, pack_2, pack_3, pack_4,
                                         pack_5, pack_6, pack_7, pack_8};
static const eights_fn unpack_eights[9] = {NULL,     unpack_1, unpack_2, unpack_3, unpack_4,
                                           unpack_5, unpack_6, unpack_7, unpack_8};

int64_t rp_bits_words(int64_t n, int bits)
{
    return (n * bits + 31) / 32;
}

void rp_bits_pack(uint32_t *words, const uint8_t *codes, int64_t n, int bits)
{
    const int64_t eights = n / 8;
    const size_t at = (size_t)(eights * bits);
    uint64_t tail[2] = {0, 0}; /* the last few, and zeros to the end of the last word */

    pack_eights[bits]((uint8_t *)words, codes, eights);
    memcpy(tail, codes + 8 * eights, (size_t)(n % 8));
    tail[0] = squeeze(tail[0], bits);
    memcpy((uint8_t *)words + at, tail, (size_t)rp_bits_words(n, bits) * sizeof(*words) - at);
}

void rp_bits_unpack(uint8_t *codes, const uint32_t *words, int64_t n, int bits)
{
    const uint8_t *src = (const uint8_t *)words;
    const int64_t eights = n / 8;
    uint64_t tail = 0;

    unpack_eights[bits](codes, src, eights);
    memcpy(&tail, src + eights * bits, (size_t)((n % 8 * bits + 7) / 8));
    tail = spread(tail, bits);
    memcpy(codes + 8 * eights, &tail, (size_t)(n % 8));
}

/* Codes of 1..8 bits as a dense stream, first code in the lowest bits, in little-endian 32-bit
 * words: the packing of GPTQ (any width, 3 bits too) and of compressed-tensors.
 *
 *     8 codes of b bits are exactly b bytes; 32 codes are b words. */
#ifndef RP_FORMATS_BITPACK_H
#define RP_FORMATS_BITPACK_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. Words that hold n codes. */
int64_t rp_bits_words(int64_t n, int bits);
/* Local. words [rp_bits_words(n, bits)]; codes [n] below 2^bits; unused high bits are 0. */
void rp_bits_pack(uint32_t *words, const uint8_t *codes, int64_t n, int bits);
void rp_bits_unpack(uint8_t *codes, const uint32_t *words, int64_t n, int bits);

#ifdef __cplusplus
}
#endif
#endif

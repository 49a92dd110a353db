/* Codebooks of GGUF's types IQ1_S .. IQ3_S: facts of the format, from ggml's src/ggml-common.h. An
 * entry is the digits of its elements, the first lowest: 8 of 2 bits (IQ1, IQ2) or 4 of 3 bits
 * (IQ3). */
#ifndef RP_FORMATS_GGUF_CODEBOOKS_H
#define RP_FORMATS_GGUF_CODEBOOKS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

extern const uint16_t rp_gguf_codebook_iq1[2048];
extern const uint16_t rp_gguf_codebook_iq2_xxs[256];
extern const uint16_t rp_gguf_codebook_iq2_xs[512];
extern const uint16_t rp_gguf_codebook_iq2_s[1024];
extern const uint16_t rp_gguf_codebook_iq3_xxs[256];
extern const uint16_t rp_gguf_codebook_iq3_s[512];

#ifdef __cplusplus
}
#endif
#endif

/* Values of GGUF's codebook types IQ1_S .. IQ3_S, which this program reads and does not write.
 * Private to formats/. */
#ifndef RP_FORMATS_GGUF_DECODE_IQ_H
#define RP_FORMATS_GGUF_DECODE_IQ_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Blocks of 256 elements. */
typedef struct rp_gguf_codebook_type rp_gguf_codebook_type;

extern const rp_gguf_codebook_type rp_gguf_iq1_s, rp_gguf_iq1_m, rp_gguf_iq2_xxs, rp_gguf_iq2_xs,
    rp_gguf_iq2_s, rp_gguf_iq3_xxs, rp_gguf_iq3_s;

/* Local, thread-safe. dst [nblocks, 256]. */
void rp_gguf_decode_codebook(const rp_gguf_codebook_type *type, int64_t nblocks, const uint8_t *src,
                             float *dst);

#ifdef __cplusplus
}
#endif
#endif

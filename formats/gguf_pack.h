/* Codes and parameters of GGUF's grids to bytes of blocks and back. Private to formats/ and to the
 * tests.
 *
 * Every block of these types is a few bit planes and some scales, so a type is data: a layout. A
 * plane holds `bits` bits of each code: a stretch of `span` bytes holds span * 8 / bits elements,
 * element m + span * n in byte m at bit bits * n, and stretches follow one another.
 *
 *   Q4_0   {2, 4, 16}            low nibble of byte j: element j, high nibble: element j + 16
 *   Q5_0   {6, 4, 16} {2, 1, 1}  fifth bits as in a 32-bit integer
 *   Q4_K   {16, 4, 32}           64 elements in 32 bytes
 *   Q6_K   {0, 4, 64} {128, 2, 32}
 *
 * Source of the layouts: ggml's src/ggml-common.h and dequantize_row_* of src/ggml-quants.c. */
#ifndef RP_FORMATS_GGUF_PACK_H
#define RP_FORMATS_GGUF_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RP_GGUF_NONE (-1)

typedef struct rp_gguf_plane {
    uint8_t at, bits, span; /* bits 0: no plane. 8: signed bytes, code - 128 */
} rp_gguf_plane;

/* Integer scales (and minima) of sub-blocks. s [n], m [n]; m is NULL where there are none. */
typedef struct rp_gguf_scales {
    int n;
    void (*get)(const uint8_t *src, float *s, float *m);
    void (*put)(uint8_t *dst, const float *s, const float *m); /* NULL: only read */
} rp_gguf_scales;

extern const rp_gguf_scales rp_gguf_scales_q2_k, rp_gguf_scales_q3_k, rp_gguf_scales_q4_k,
    rp_gguf_scales_q6_k, rp_gguf_scales_iq4_xs, rp_gguf_scales_nvfp4;

typedef struct rp_gguf_layout {
    int elems, bytes;             /* of a block */
    int d, min;                   /* where the block's scale and minimum lie, or RP_GGUF_NONE */
    bool is_power;                /* d is a power of two in the first byte (E8M0), else fp16 */
    bool is_ternary;              /* five codes a byte, in base 3, instead of planes */
    const rp_gguf_scales *scales; /* NULL: one level */
    int scales_at;
    rp_gguf_plane low, high; /* high: the bits above those of low */
    int zero;                /* value: code - zero */
    const int8_t *levels;    /* [2^bits]: value of a code, where it is no line */
} rp_gguf_layout;

/* Local. Floats of a block's parameters, as in kernels/grid.h. */
int rp_gguf_layout_params(const rp_gguf_layout *layout);
/* Local, thread-safe. nblocks blocks into dst. The first block that has a parameter which the type
 * cannot hold (not finite as fp16), or -1. */
int64_t rp_gguf_pack(const rp_gguf_layout *layout, int64_t nblocks, const float *params,
                     const uint8_t *codes, uint8_t *dst);
/* Local, thread-safe. The way back: params [nblocks, rp_gguf_layout_params],
 * codes [nblocks, elems]. */
void rp_gguf_unpack(const rp_gguf_layout *layout, int64_t nblocks, const uint8_t *src,
                    float *params, uint8_t *codes);
/* Local, thread-safe. Values of nblocks blocks, dst [nblocks, elems]. */
void rp_gguf_decode(const rp_gguf_layout *layout, int64_t nblocks, const uint8_t *src, float *dst);

#ifdef __cplusplus
}
#endif
#endif

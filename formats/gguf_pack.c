/* Packing, unpacking and decoding of blocks, in runs that stay in the first-level cache: planes,
 * parameters and values are each one loop over all blocks of a run, of constant shape. */
#include "formats/gguf_pack.h"

#include <string.h>

#include "base/mem.h"
#include "kernels/clones.h"
#include "kernels/dtype.h"

enum {
    RUN_ELEMS = 2048,
    MIN_BLOCK = 32, /* elements */
    MIN_SUB = 16,
    RUN_BLOCKS = RUN_ELEMS / MIN_BLOCK,
    RUN_SUBS = RUN_ELEMS / MIN_SUB,
    MAX_PARAMS = RUN_ELEMS / 256 * 34, /* of a run; one level has fewer: 2 a block */
};

#define ONES UINT64_C(0x0101010101010101) /* a number in each of eight bytes */

int rp_gguf_layout_params(const rp_gguf_layout *layout)
{
    const int per_scale = layout->min == RP_GGUF_NONE ? 1 : 2;

    return per_scale * (1 + (layout->scales == NULL ? 0 : layout->scales->n));
}

/* ---- Planes ---- */

/* A run of blocks. */
typedef struct run {
    int64_t nblocks;
    size_t bytes; /* of a block */
    int elems;
} run;

#define SHAPE(bits, span) ((bits) << 8 | (span))

RP_INLINE void get_plane(int bits, int span, int shift, const run *r, const uint8_t *restrict src,
                         uint8_t *restrict codes)
{
    const int mask = (1 << bits) - 1;
    const int per_byte = 8 / bits;

    for (int64_t b = 0; b < r->nblocks; b++, src += r->bytes) {
        const uint8_t *from = src;
        for (int i = 0; i < r->elems; i += span * per_byte, from += span) {
            for (int n = 0; n < per_byte; n++, codes += span) {
                for (int m = 0; m < span; m++) {
                    const uint8_t field = (uint8_t)((from[m] >> (bits * n) & mask) << shift);
                    codes[m] = shift == 0 ? field : codes[m] | field;
                }
            }
        }
    }
}

RP_INLINE void put_plane(int bits, int span, int shift, const run *r, uint8_t *restrict dst,
                         const uint8_t *restrict codes)
{
    const int mask = (1 << bits) - 1;
    const int per_byte = 8 / bits;

    for (int64_t b = 0; b < r->nblocks; b++, dst += r->bytes) {
        uint8_t *to = dst;
        for (int i = 0; i < r->elems; i += span * per_byte, to += span) {
            for (int m = 0; m < span; m++) {
                int byte = 0;
                for (int n = 0; n < per_byte; n++) {
                    byte |= (codes[i + m + n * span] >> shift & mask) << (bits * n);
                }
                to[m] = (uint8_t)byte;
            }
        }
        codes += r->elems;
    }
}

/* Signed bytes: code - 128. */
RP_INLINE void get_bytes(const run *r, const uint8_t *restrict src, uint8_t *restrict codes)
{
    for (int64_t b = 0; b < r->nblocks; b++, src += r->bytes, codes += MIN_BLOCK) {
        for (int i = 0; i < MIN_BLOCK; i++) {
            codes[i] = src[i] ^ 0x80U;
        }
    }
}

RP_INLINE void put_bytes(const run *r, uint8_t *restrict dst, const uint8_t *restrict codes)
{
    for (int64_t b = 0; b < r->nblocks; b++, dst += r->bytes, codes += MIN_BLOCK) {
        for (int i = 0; i < MIN_BLOCK; i++) {
            dst[i] = codes[i] ^ 0x80U;
        }
    }
}

/* Eight single bits of a byte, for one byte of each of eight codes: the product puts the byte into
 * all, the mask keeps bit j in byte j, and the sum moves it to the top. */
RP_INLINE void get_bits(int shift, const run *r, const uint8_t *restrict src,
                        uint8_t *restrict codes)
{
    for (int64_t b = 0; b < r->nblocks; b++, src += r->bytes) {
        for (int i = 0; i < r->elems / 8; i++, codes += 8) {
            const uint64_t own = src[i] * ONES & UINT64_C(0x8040201008040201);
            uint64_t eight = 0;
            memcpy(&eight, codes, sizeof(eight));
            eight |= ((own + 0x7f * ONES) >> 7 & ONES) << shift;
            memcpy(codes, &eight, sizeof(eight));
        }
    }
}

/* The way back: the product moves the bit of byte j, 8 j, to 56 + j, and no two of its terms meet.
 */
RP_INLINE void put_bits(int shift, const run *r, uint8_t *restrict dst,
                        const uint8_t *restrict codes)
{
    for (int64_t b = 0; b < r->nblocks; b++, dst += r->bytes) {
        for (int i = 0; i < r->elems / 8; i++, codes += 8) {
            uint64_t eight = 0;
            memcpy(&eight, codes, sizeof(eight));
            dst[i] = (uint8_t)((eight >> shift & ONES) * UINT64_C(0x0102040810204080) >> 56);
        }
    }
}

/* Shapes of the types that are written have loops of their own; the rest are only read. */
RP_CLONES static void get_low(const rp_gguf_plane *plane, const run *r, const uint8_t *src,
                              uint8_t *codes)
{
    src += plane->at;
    switch (SHAPE(plane->bits, plane->span)) {
    case SHAPE(4, 16):
        get_plane(4, 16, 0, r, src, codes);
        break;
    case SHAPE(4, 32):
        get_plane(4, 32, 0, r, src, codes);
        break;
    case SHAPE(4, 64):
        get_plane(4, 64, 0, r, src, codes);
        break;
    case SHAPE(2, 32):
        get_plane(2, 32, 0, r, src, codes);
        break;
    case SHAPE(8, 32):
        get_bytes(r, src, codes);
        break;
    default:
        get_plane(plane->bits, plane->span, 0, r, src, codes);
        break;
    }
}

RP_CLONES static void put_low(const rp_gguf_plane *plane, const run *r, uint8_t *dst,
                              const uint8_t *codes)
{
    dst += plane->at;
    switch (SHAPE(plane->bits, plane->span)) {
    case SHAPE(4, 16):
        put_plane(4, 16, 0, r, dst, codes);
        break;
    case SHAPE(4, 32):
        put_plane(4, 32, 0, r, dst, codes);
        break;
    case SHAPE(4, 64):
        put_plane(4, 64, 0, r, dst, codes);
        break;
    case SHAPE(2, 32):
        put_plane(2, 32, 0, r, dst, codes);
        break;
    case SHAPE(8, 32):
        put_bytes(r, dst, codes);
        break;
    default:
        RP_ASSERT(false);
        break;
    }
}

/* A high plane stands above 2 or 4 bits. */
RP_CLONES static void get_high(const rp_gguf_plane *plane, int shift, const run *r,
                               const uint8_t *src, uint8_t *codes)
{
    src += plane->at;
    if (plane->span == 1) {
        get_bits(shift, r, src, codes);
    } else if (plane->bits == 2) {
        get_plane(2, 32, 4, r, src, codes);
    } else if (shift == 2) {
        get_plane(1, 32, 2, r, src, codes);
    } else {
        get_plane(1, 32, 4, r, src, codes);
    }
}

RP_CLONES static void put_high(const rp_gguf_plane *plane, int shift, const run *r, uint8_t *dst,
                               const uint8_t *codes)
{
    dst += plane->at;
    if (plane->span == 1) {
        put_bits(shift, r, dst, codes);
    } else if (plane->bits == 2) {
        put_plane(2, 32, 4, r, dst, codes);
    } else if (shift == 2) {
        put_plane(1, 32, 2, r, dst, codes);
    } else {
        put_plane(1, 32, 4, r, dst, codes);
    }
}

/* ---- Ternary codes (TQ1_0) ----
 * `span` bytes hold `count` codes each, element m + span * n in byte m. A byte is the number with
 * these digits in base 3 (the first most significant, of five), as a fraction of 243 in 1/256,
 * rounded up: multiplying by 3 brings the next digit out at the top. */

enum { TRIT_PIECES = 3, TRITS = 5, MAX_SPAN = 32 };

static const struct {
    size_t at, span;
    int count;
} trit_pieces[TRIT_PIECES] = {{0, 32, 5}, {32, 16, 5}, {48, 4, 4}};

RP_CLONES static void get_trits(const run *r, const uint8_t *src, uint8_t *restrict codes)
{
    for (int64_t b = 0; b < r->nblocks; b++, src += r->bytes) {
        for (int p = 0; p < TRIT_PIECES; p++) {
            const uint8_t *restrict from = src + trit_pieces[p].at;
            unsigned power = 1;
            for (int n = 0; n < trit_pieces[p].count; n++, power *= 3) {
                for (size_t m = 0; m < trit_pieces[p].span; m++) {
                    const uint16_t rest = (uint16_t)(from[m] * power & 255U);
                    codes[m] = (uint8_t)(rest * 3U >> 8);
                }
                codes += trit_pieces[p].span;
            }
        }
    }
}

RP_CLONES static void put_trits(const run *r, uint8_t *dst, const uint8_t *restrict codes)
{
    for (int64_t b = 0; b < r->nblocks; b++, dst += r->bytes) {
        for (int p = 0; p < TRIT_PIECES; p++) {
            const size_t span = trit_pieces[p].span;
            uint8_t *restrict to = dst + trit_pieces[p].at;
            uint16_t number[MAX_SPAN] = {0};
            for (int n = 0; n < trit_pieces[p].count; n++, codes += span) {
                for (size_t m = 0; m < span; m++) {
                    number[m] = (uint16_t)(3 * number[m] + codes[m]);
                }
            }
            const unsigned rest = trit_pieces[p].count < TRITS ? 3 : 1;
            for (size_t m = 0; m < span; m++) {
                to[m] = (uint8_t)((number[m] * rest * 256 + 242) / 243);
            }
        }
    }
}

/* ---- Parameters ---- */

static void get_halves(const uint8_t *src, size_t stride, int64_t n, float *out, int out_stride)
{
    uint16_t half[RUN_BLOCKS] = {0};
    float value[RUN_BLOCKS] = {0};

    for (int64_t i = 0; i < n; i++) {
        memcpy(&half[i], src + (size_t)i * stride, sizeof(half[i]));
    }
    rp_to_f32(value, half, RP_F16, n);
    for (int64_t i = 0; i < n; i++) {
        out[i * out_stride] = value[i];
    }
}

/* The first that is not finite as fp16, or n. */
static int64_t put_halves(uint8_t *dst, size_t stride, int64_t n, const float *in, int in_stride)
{
    uint16_t half[RUN_BLOCKS] = {0};
    float value[RUN_BLOCKS] = {0};
    int64_t bad = n;

    for (int64_t i = 0; i < n; i++) {
        value[i] = in[i * in_stride];
    }
    rp_from_f32(half, value, RP_F16, n);
    for (int64_t i = n - 1; i >= 0; i--) {
        memcpy(dst + (size_t)i * stride, &half[i], sizeof(half[i]));
        bad = (half[i] & 0x7c00U) == 0x7c00U ? i : bad;
    }
    return bad;
}

/* 2^(byte - 128); the first two are subnormal. */
static float get_power(uint8_t byte)
{
    const uint32_t bits = byte < 2 ? UINT32_C(0x200000) << byte : (uint32_t)(byte - 1) << 23;
    float power = 0.0F;

    memcpy(&power, &bits, sizeof(power));
    return power;
}

/* False when it is no power of two from 2^-128 to 2^126. */
static bool put_power(uint8_t *dst, float power)
{
    uint32_t bits = 0;

    memcpy(&bits, &power, sizeof(bits));
    *dst = (uint8_t)(bits < 0x800000 ? bits >> 22 : (bits >> 23) + 1);
    return *dst != 255 && get_power(*dst) == power;
}

static void get_params(const rp_gguf_layout *layout, int64_t nblocks, const uint8_t *src,
                       float *params)
{
    const size_t bytes = (size_t)layout->bytes;
    const int stride = rp_gguf_layout_params(layout);
    const int first = layout->min == RP_GGUF_NONE ? 1 : 2;

    if (layout->d != RP_GGUF_NONE && !layout->is_power) {
        get_halves(src + layout->d, bytes, nblocks, params, stride);
    }
    if (layout->min != RP_GGUF_NONE) {
        get_halves(src + layout->min, bytes, nblocks, params + 1, stride);
    }
    for (int64_t b = 0; b < nblocks; b++, src += bytes, params += stride) {
        if (layout->is_power) {
            params[0] = get_power(src[layout->d]);
        } else if (layout->d == RP_GGUF_NONE) {
            params[0] = 1.0F;
        }
        if (layout->scales != NULL) {
            float *s = params + first;
            layout->scales->get(src + layout->scales_at, s,
                                layout->min == RP_GGUF_NONE ? NULL : s + layout->scales->n);
        }
    }
}

/* The first block with a parameter that cannot be stored, or nblocks. */
static int64_t put_params(const rp_gguf_layout *layout, int64_t nblocks, const float *params,
                          uint8_t *dst)
{
    const size_t bytes = (size_t)layout->bytes;
    const int stride = rp_gguf_layout_params(layout);
    const int first = layout->min == RP_GGUF_NONE ? 1 : 2;
    int64_t bad = nblocks;

    if (!layout->is_power) {
        bad = put_halves(dst + layout->d, bytes, nblocks, params, stride);
    }
    if (layout->min != RP_GGUF_NONE) {
        bad = RP_MIN(bad, put_halves(dst + layout->min, bytes, nblocks, params + 1, stride));
    }
    for (int64_t b = 0; b < nblocks; b++, dst += bytes, params += stride) {
        if (layout->is_power && !put_power(dst + layout->d, params[0])) {
            bad = RP_MIN(bad, b);
        }
        if (layout->scales != NULL) {
            const float *s = params + first;
            layout->scales->put(dst + layout->scales_at, s, s + layout->scales->n);
        }
    }
    return bad;
}

/* ---- Values ---- */

/* value = scale * level - offset, each for `sub` elements. */
typedef struct lines {
    float scale[RUN_SUBS], offset[RUN_SUBS];
} lines;

static void find_lines(const rp_gguf_layout *layout, int64_t nblocks, const float *params,
                       lines *out)
{
    const int stride = rp_gguf_layout_params(layout);
    const bool has_min = layout->min != RP_GGUF_NONE;
    float *scale = out->scale;
    float *offset = out->offset;

    for (int64_t b = 0; b < nblocks; b++, params += stride) {
        if (layout->scales == NULL) {
            *scale++ = params[0];
            *offset++ = has_min ? -params[1] : 0.0F;
            continue;
        }
        const int n = layout->scales->n;
        const float *s = params + 1 + has_min;
        for (int k = 0; k < n; k++) {
            scale[k] = params[0] * s[k];
            offset[k] = has_min ? params[1] * s[n + k] : 0.0F;
        }
        scale += n;
        offset += n;
    }
}

RP_INLINE void line_values(int sub, int64_t nsubs, const lines *line, float zero,
                           const uint8_t *restrict codes, float *restrict out)
{
    for (int64_t k = 0; k < nsubs; k++, codes += sub, out += sub) {
        const float scale = line->scale[k];
        const float offset = line->offset[k];
        for (int i = 0; i < sub; i++) {
            out[i] = scale * ((float)codes[i] - zero) - offset;
        }
    }
}

RP_CLONES static void emit_line(int sub, int64_t nsubs, const lines *line, float zero,
                                const uint8_t *codes, float *out)
{
    if (sub == 16) {
        line_values(16, nsubs, line, zero, codes, out);
    } else if (sub == 32) {
        line_values(32, nsubs, line, zero, codes, out);
    } else {
        line_values(sub, nsubs, line, zero, codes, out);
    }
}

RP_CLONES static void emit_levels(int sub, int64_t nsubs, const lines *line, const float *levels,
                                  const uint8_t *codes, float *restrict out)
{
    for (int64_t k = 0; k < nsubs; k++, codes += sub, out += sub) {
        const float scale = line->scale[k];
        for (int i = 0; i < sub; i++) {
            out[i] = scale * levels[codes[i]];
        }
    }
}

/* ---- Runs ---- */

static void unpack_run(const rp_gguf_layout *layout, int64_t nblocks, const uint8_t *src,
                       float *params, uint8_t *codes)
{
    const run r = {nblocks, (size_t)layout->bytes, layout->elems};

    get_params(layout, nblocks, src, params);
    if (layout->is_ternary) {
        get_trits(&r, src, codes);
        return;
    }
    get_low(&layout->low, &r, src, codes);
    if (layout->high.bits > 0) {
        get_high(&layout->high, layout->low.bits, &r, src, codes);
    }
}

static int64_t pack_run(const rp_gguf_layout *layout, int64_t nblocks, const float *params,
                        const uint8_t *codes, uint8_t *dst)
{
    const run r = {nblocks, (size_t)layout->bytes, layout->elems};

    if (layout->is_ternary) {
        put_trits(&r, dst, codes);
    } else {
        put_low(&layout->low, &r, dst, codes);
    }
    if (layout->high.bits > 0) {
        put_high(&layout->high, layout->low.bits, &r, dst, codes);
    }
    return put_params(layout, nblocks, params, dst);
}

typedef struct scratch {
    float params[MAX_PARAMS];
    uint8_t codes[RUN_ELEMS];
    lines line;
} scratch;

static void decode_run(const rp_gguf_layout *layout, int64_t nblocks, const uint8_t *src,
                       scratch *own, float *dst)
{
    const int sub = layout->elems / (layout->scales == NULL ? 1 : layout->scales->n);
    const int64_t nsubs = nblocks * layout->elems / sub;

    unpack_run(layout, nblocks, src, own->params, own->codes);
    find_lines(layout, nblocks, own->params, &own->line);
    if (layout->levels != NULL) {
        emit_levels(sub, nsubs, &own->line, layout->levels, own->codes, dst);
    } else {
        emit_line(sub, nsubs, &own->line, (float)layout->zero, own->codes, dst);
    }
}

int64_t rp_gguf_pack(const rp_gguf_layout *layout, int64_t nblocks, const float *params,
                     const uint8_t *codes, uint8_t *dst)
{
    const int64_t step = RUN_ELEMS / layout->elems;
    const int n_params = rp_gguf_layout_params(layout);

    for (int64_t b = 0; b < nblocks; b += step) {
        const int64_t n = RP_MIN(step, nblocks - b);
        const int64_t bad = pack_run(layout, n, params + b * n_params, codes + b * layout->elems,
                                     dst + b * layout->bytes);
        if (bad < n) {
            return b + bad;
        }
    }
    return -1;
}

void rp_gguf_unpack(const rp_gguf_layout *layout, int64_t nblocks, const uint8_t *src,
                    float *params, uint8_t *codes)
{
    const int64_t step = RUN_ELEMS / layout->elems;
    const int n_params = rp_gguf_layout_params(layout);

    for (int64_t b = 0; b < nblocks; b += step) {
        unpack_run(layout, RP_MIN(step, nblocks - b), src + b * layout->bytes,
                   params + b * n_params, codes + b * layout->elems);
    }
}

void rp_gguf_decode(const rp_gguf_layout *layout, int64_t nblocks, const uint8_t *src, float *dst)
{
    const int64_t step = RUN_ELEMS / layout->elems;
    scratch own = {.line.scale = {0.0F}};

    for (int64_t b = 0; b < nblocks; b += step) {
        decode_run(layout, RP_MIN(step, nblocks - b), src + b * layout->bytes, &own,
                   dst + b * layout->elems);
    }
}

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
    MAX_BLOCK = 256,
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

RP_INLINE void get_plane(int elems, int bits, int span, int shift, const run *r,
                         const uint8_t *restrict src, uint8_t *restrict codes)
{
    const int mask = (1 << bits) - 1;
    const int per_byte = 8 / bits;

    for (int64_t b = 0; b < r->nblocks; b++, src += r->bytes) {
        const uint8_t *from = src;
        for (int i = 0; i < elems; i += span * per_byte, from += span) {
            for (int n = 0; n < per_byte; n++, codes += span) {
                for (int m = 0; m < span; m++) {
                    const uint8_t field = (uint8_t)((from[m] >> (bits * n) & mask) << shift);
                    codes[m] = shift == 0 ? field : codes[m] | field;
                }
            }
        }
    }
}

RP_INLINE void put_plane(int elems, int bits, int span, int shift, const run *r,
                         uint8_t *restrict dst, const uint8_t *restrict codes)
{
    const int mask = (1 << bits) - 1;
    const int per_byte = 8 / bits;

    for (int64_t b = 0; b < r->nblocks; b++, dst += r->bytes) {
        uint8_t *to = dst;
        for (int i = 0; i < elems; i += span * per_byte, to += span) {
            for (int m = 0; m < span; m++) {
                int byte = 0;
                for (int n = 0; n < per_byte; n++) {
                    byte |= (codes[i + m + n * span] >> shift & mask) << (bits * n);
                }
                to[m] = (uint8_t)byte;
            }
        }
        codes += elems;
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

/* Single bits in the order of their elements, read 32 at a time. */
RP_INLINE void get_bits(int shift, const run *r, const uint8_t *restrict src,
                        uint8_t *restrict codes)
{
    for (int64_t b = 0; b < r->nblocks; b++, src += r->bytes) {
        const uint8_t *from = src;
        for (int i = 0; i < r->elems; i += 32, from += sizeof(uint32_t), codes += 32) {
            uint32_t bits = 0;
            memcpy(&bits, from, sizeof(bits));
            for (int j = 0; j < 32; j++) {
                codes[j] = (uint8_t)(codes[j] | (bits >> j & 1) << shift);
            }
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

/* Every shape has a loop of its own; these are read and written alike. `step` is get_plane or
 * put_plane. */
#define PLANE_CASES(step, r, bytes, codes)                                                         \
    case SHAPE(4, 16):                                                                             \
        if ((r)->elems == MIN_BLOCK) {                                                             \
            step(MIN_BLOCK, 4, 16, 0, r, bytes, codes);                                            \
        } else {                                                                                   \
            step(MAX_BLOCK, 4, 16, 0, r, bytes, codes);                                            \
        }                                                                                          \
        break;                                                                                     \
    case SHAPE(4, 32):                                                                             \
        step(MAX_BLOCK, 4, 32, 0, r, bytes, codes);                                                \
        break;                                                                                     \
    case SHAPE(4, 64):                                                                             \
        step(MAX_BLOCK, 4, 64, 0, r, bytes, codes);                                                \
        break;                                                                                     \
    case SHAPE(2, 32):                                                                             \
        step(MAX_BLOCK, 2, 32, 0, r, bytes, codes);                                                \
        break

RP_CLONES static void get_low(const rp_gguf_plane *plane, const run *r, const uint8_t *src,
                              uint8_t *codes)
{
    src += plane->at;
    switch (SHAPE(plane->bits, plane->span)) {
        PLANE_CASES(get_plane, r, src, codes);
    case SHAPE(8, 32):
        get_bytes(r, src, codes);
        break;
    case SHAPE(4, 8):
        get_plane(64, 4, 8, 0, r, src, codes);
        break;
    case SHAPE(2, 1):
        get_plane(64, 2, 1, 0, r, src, codes);
        break;
    case SHAPE(1, 1):
        memset(codes, 0, (size_t)(r->nblocks * r->elems));
        get_bits(0, r, src, codes);
        break;
    default:
        RP_ASSERT(false);
        break;
    }
}

RP_CLONES static void put_low(const rp_gguf_plane *plane, const run *r, uint8_t *dst,
                              const uint8_t *codes)
{
    dst += plane->at;
    switch (SHAPE(plane->bits, plane->span)) {
        PLANE_CASES(put_plane, r, dst, codes);
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
        get_plane(MAX_BLOCK, 2, 32, 4, r, src, codes);
    } else if (shift == 2) {
        get_plane(MAX_BLOCK, 1, 32, 2, r, src, codes);
    } else {
        get_plane(MAX_BLOCK, 1, 32, 4, r, src, codes);
    }
}

RP_CLONES static void put_high(const rp_gguf_plane *plane, int shift, const run *r, uint8_t *dst,
                               const uint8_t *codes)
{
    dst += plane->at;
    if (plane->span == 1) {
        put_bits(shift, r, dst, codes);
    } else if (plane->bits == 2) {
        put_plane(MAX_BLOCK, 2, 32, 4, r, dst, codes);
    } else if (shift == 2) {
        put_plane(MAX_BLOCK, 1, 32, 2, r, dst, codes);
    } else {
        put_plane(MAX_BLOCK, 1, 32, 4, r, dst, codes);
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

RP_INLINE void get_trit_piece(size_t span, int count, const uint8_t *restrict src,
                              uint8_t *restrict codes)
{
    uint8_t rest[MAX_SPAN];

    memcpy(rest, src, span);
    for (int n = 0; n < count; n++, codes += span) {
        for (size_t m = 0; m < span; m++) {
            const uint16_t tripled = (uint16_t)(rest[m] * 3);
            codes[m] = (uint8_t)(tripled >> 8);
            rest[m] = (uint8_t)tripled;
        }
    }
}

RP_CLONES static void get_trits(const run *r, const uint8_t *src, uint8_t *codes)
{
    for (int64_t b = 0; b < r->nblocks; b++, src += r->bytes, codes += r->elems) {
        get_trit_piece(32, 5, src, codes);
        get_trit_piece(16, 5, src + 32, codes + 160);
        get_trit_piece(4, 4, src + 48, codes + 240);
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

/* n floats that are `stride` apart, side by side: where they are or in own. */
static const float *gathered(const float *in, int stride, int64_t n, float *own)
{
    for (int64_t i = 0; i < n && stride > 1; i++) {
        own[i] = in[i * stride];
    }
    return stride > 1 ? own : in;
}

/* The first that is not finite as fp16, or n. */
static int64_t put_halves(uint8_t *dst, size_t stride, int64_t n, const float *in, int in_stride)
{
    uint16_t half[RUN_BLOCKS] = {0};
    float own[RUN_BLOCKS] = {0};
    bool is_bad = false;

    rp_from_f32(half, gathered(in, in_stride, n, own), RP_F16, n);
    for (int64_t i = 0; i < n; i++) {
        memcpy(dst + (size_t)i * stride, &half[i], sizeof(half[i]));
        is_bad |= (half[i] & 0x7c00U) == 0x7c00U;
    }
    for (int64_t i = 0; i < n && is_bad; i++) {
        if ((half[i] & 0x7c00U) == 0x7c00U) {
            return i;
        }
    }
    return n;
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
    const bool has_min = layout->min != RP_GGUF_NONE;
    const rp_gguf_scales *scales = layout->scales;

    if (layout->is_power || layout->d == RP_GGUF_NONE) {
        for (int64_t b = 0; b < nblocks; b++) {
            params[b * stride] = layout->is_power ? get_power(src[b * bytes]) : 1.0F;
        }
    } else {
        get_halves(src + layout->d, bytes, nblocks, params, stride);
    }
    if (has_min) {
        get_halves(src + layout->min, bytes, nblocks, params + 1, stride);
    }
    for (int64_t b = 0; scales != NULL && b < nblocks; b++, src += bytes, params += stride) {
        float *s = params + 1 + has_min;
        scales->get(src + layout->scales_at, s, has_min ? s + scales->n : NULL);
    }
}

/* The first block with a parameter that cannot be stored, or nblocks. */
static int64_t put_params(const rp_gguf_layout *layout, int64_t nblocks, const float *params,
                          uint8_t *dst)
{
    const size_t bytes = (size_t)layout->bytes;
    const int stride = rp_gguf_layout_params(layout);
    const bool has_min = layout->min != RP_GGUF_NONE;
    const rp_gguf_scales *scales = layout->scales;
    int64_t bad = nblocks;

    if (layout->is_power) {
        for (int64_t b = nblocks - 1; b >= 0; b--) {
            bad = put_power(dst + b * bytes, params[b * stride]) ? bad : b;
        }
    } else {
        bad = put_halves(dst + layout->d, bytes, nblocks, params, stride);
    }
    if (has_min) {
        bad = RP_MIN(bad, put_halves(dst + layout->min, bytes, nblocks, params + 1, stride));
    }
    for (int64_t b = 0; scales != NULL && b < nblocks; b++, dst += bytes, params += stride) {
        const float *s = params + 1 + has_min;
        scales->put(dst + layout->scales_at, s, has_min ? s + scales->n : NULL);
    }
    return bad;
}

/* ---- Values ---- */

/* value = scale * level - offset, each for `sub` elements. */
typedef struct lines {
    float scale[RUN_SUBS], offset[RUN_SUBS];
} lines;

RP_CLONES static void find_lines(const rp_gguf_layout *layout, int64_t nblocks,
                                 const float *restrict params, lines *restrict out)
{
    const int stride = rp_gguf_layout_params(layout);
    const bool has_min = layout->min != RP_GGUF_NONE;
    const int n = layout->scales == NULL ? 0 : layout->scales->n;

    for (int64_t b = 0; n == 0 && b < nblocks; b++) {
        out->scale[b] = params[b * stride];
        out->offset[b] = has_min ? -params[b * stride + 1] : 0.0F;
    }
    for (int64_t b = 0; n > 0 && b < nblocks; b++, params += stride) {
        const float *s = params + 1 + has_min;
        for (int k = 0; k < n; k++) {
            out->scale[b * n + k] = params[0] * s[k];
            out->offset[b * n + k] = has_min ? params[1] * s[n + k] : 0.0F;
        }
    }
}

/* Sixteen elements side by side, what every sub-block is a multiple of. */
enum { LANES = 16 };
typedef int8_t byte_lanes __attribute__((vector_size(LANES)));
typedef int32_t int_lanes __attribute__((vector_size(LANES * sizeof(int32_t))));
typedef float float_lanes __attribute__((vector_size(LANES * sizeof(float))));

/* Entries of a table of 16. GCC makes one byte shuffle of it where there is one. */
RP_INLINE void look_up(const int8_t *levels, byte_lanes *code)
{
#if defined(__GNUC__) && !defined(__clang__)
    byte_lanes table;

    memcpy(&table, levels, sizeof(table));
    *code = __builtin_shuffle(table, *code);
#else
    for (int i = 0; i < LANES; i++) {
        (*code)[i] = levels[(*code)[i]];
    }
#endif
}

/* Bytes widen to integers quickly when they have a sign, so those that use all eight bits get one.
 */
RP_INLINE void emit_values(bool has_levels, const rp_gguf_layout *layout, int64_t nsubs, int sub,
                           const lines *line, const uint8_t *restrict codes, float *restrict out)
{
    const int8_t flip = layout->low.bits == 8 ? INT8_MIN : 0;
    const int zero = layout->zero + flip;

    for (int64_t k = 0; k < nsubs; k++) {
        const float scale = line->scale[k];
        const float offset = line->offset[k];
        for (int i = 0; i < sub; i += LANES, codes += LANES, out += LANES) {
            byte_lanes code;
            memcpy(&code, codes, sizeof(code));
            if (has_levels) {
                look_up(layout->levels, &code);
            } else {
                code ^= flip;
            }
            const int_lanes level = __builtin_convertvector(code, int_lanes) - zero;
            const float_lanes value = __builtin_convertvector(level, float_lanes) * scale - offset;
            memcpy(out, &value, sizeof(value));
        }
    }
}

RP_CLONES static void emit_run(const rp_gguf_layout *layout, int64_t nblocks, const lines *line,
                               const uint8_t *codes, float *out)
{
    const int nsubs = layout->scales == NULL ? 1 : layout->scales->n;
    const int sub = layout->elems / nsubs;

    if (layout->levels != NULL) {
        emit_values(true, layout, nblocks * nsubs, sub, line, codes, out);
    } else {
        emit_values(false, layout, nblocks * nsubs, sub, line, codes, out);
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
    unpack_run(layout, nblocks, src, own->params, own->codes);
    find_lines(layout, nblocks, own->params, &own->line);
    emit_run(layout, nblocks, &own->line, own->codes, dst);
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

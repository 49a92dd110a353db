/* GGUF's tensor types: bytes of blocks to values and back.
 *
 * The table lists every type that llama.cpp writes, with its size; this program encodes and decodes
 * the float types and the 32-element blocks:
 *   Q4_0  d:f16              qs[16]     low nibble of byte j: element j, high nibble: element j +
 * 16 Q4_1  d:f16 m:f16        qs[16] Q5_0  d:f16       qh:u32 qs[16]     bit e of qh: fifth bit of
 * element e Q5_1  d:f16 m:f16 qh:u32 qs[16] Q8_0  d:f16              qs[32]     signed bytes */
#ifndef RP_FORMATS_GGUF_BLOCKS_H
#define RP_FORMATS_GGUF_BLOCKS_H

#include "kernels/form.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_gguf_block_type {
    const char *name;        /* "F16", "Q4_0": what recipes and reports say */
    uint32_t id;             /* ggml's number in the file */
    int64_t block_elems;     /* elements of a block */
    size_t block_bytes;      /* bytes of a block */
    bool is_float;           /* F32, F16, BF16 */
    rp_dtype dtype;          /* of a float type */
    const rp_grid_ops *grid; /* NULL: not a grid of this program */
    int32_t file_type;       /* general.file_type of a file of mainly this type; -1: none */
} rp_gguf_block_type;

/* Local. By name (in any case, as llama.cpp has it) or by ggml's number; NULL when unknown. The
 * table ends with a NULL name. */
const rp_gguf_block_type *rp_gguf_block_type_find(const char *name);
const rp_gguf_block_type *rp_gguf_block_type_of(uint32_t id);
const rp_gguf_block_type *rp_gguf_block_type_table(void);

/* Local. Can be encoded and decoded here. */
bool rp_gguf_is_supported(const rp_gguf_block_type *type);
/* Local. Bytes of a row of cols elements; cols must be a multiple of the block. */
size_t rp_gguf_row_bytes(const rp_gguf_block_type *type, int64_t cols);
/* Local. The grid of a quantised type for solvers. RP_ERR_CONFIG for any other type. */
RP_CHECKED rp_status rp_gguf_grid(rp_grid *out, const rp_gguf_block_type *type);

/* Local, thread-safe. Rows row0 .. row0 + nrows - 1 of form into dst [nrows * row bytes]. A float
 * type takes any form (its decoded values); a quantised type takes codes on its own grid as they
 * are, and quantises dense values with the grid's plain fit. RP_ERR_FORMAT when a stored value
 * would not be finite, RP_ERR_CONFIG for codes of another grid or cols that do not fill blocks. */
RP_CHECKED rp_status rp_gguf_encode_rows(const rp_gguf_block_type *type, const rp_form *form,
                                         int64_t row0, int64_t nrows, void *dst);
/* Local, thread-safe. nrows rows of cols elements, stored as a supported type, to f32. */
void rp_gguf_decode_rows(const rp_gguf_block_type *type, const void *src, int64_t nrows,
                         int64_t cols, float *dst);

#ifdef __cplusplus
}
#endif
#endif

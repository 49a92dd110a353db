/* GGUF's tensor types: bytes of blocks to values and back.
 *
 * The table lists every type that llama.cpp has, with its size. This program decodes all that occur
 * in files but the integers and F64, and encodes the float types and those with a grid. */
#ifndef RP_FORMATS_GGUF_BLOCKS_H
#define RP_FORMATS_GGUF_BLOCKS_H

#include "kernels/form.h"

#ifdef __cplusplus
extern "C" {
#endif

struct rp_gguf_layout;
struct rp_gguf_codebook_type;

typedef struct rp_gguf_block_type {
    const char *name;    /* "F16", "Q4_0": what recipes and reports say; also the grid's name */
    uint32_t id;         /* ggml's number in the file */
    int64_t block_elems; /* elements of a block */
    size_t block_bytes;  /* bytes of a block */
    bool is_float;       /* F32, F16, BF16 */
    rp_dtype dtype;      /* of a float type */
    const struct rp_gguf_layout *layout;          /* private: how codes lie in a block */
    const struct rp_gguf_codebook_type *codebook; /* private: types that are only read */
} rp_gguf_block_type;

/* Local. By name (in any case, as llama.cpp has it) or by ggml's number; NULL when unknown. The
 * table ends with a NULL name. */
const rp_gguf_block_type *rp_gguf_block_type_find(const char *name);
const rp_gguf_block_type *rp_gguf_block_type_of(uint32_t id);
const rp_gguf_block_type *rp_gguf_block_type_table(void);

/* Local. Read here; written here. */
bool rp_gguf_can_decode(const rp_gguf_block_type *type);
bool rp_gguf_can_encode(const rp_gguf_block_type *type);
/* Local. The grid whose codes the type stores; NULL for float types and those that are only read.
 */
const rp_grid_ops *rp_gguf_grid_ops(const rp_gguf_block_type *type);
/* Local. Bytes of a row of cols elements; cols must be a multiple of the block. */
size_t rp_gguf_row_bytes(const rp_gguf_block_type *type, int64_t cols);
/* Local. The grid of a quantised type for solvers. RP_ERR_CONFIG for any other type. */
RP_CHECKED rp_status rp_gguf_grid(rp_grid *out, const rp_gguf_block_type *type);

/* Local, thread-safe. Rows row0 .. row0 + nrows - 1 of form into dst [nrows * row bytes]. A float
 * type takes any form (its decoded values); a quantised type takes codes on its own grid as they
 * are, and rounds dense values with the grid's `quantise`, weighted with importance [cols] unless
 * it is NULL. RP_ERR_FORMAT when a stored value would not be finite, RP_ERR_CONFIG for codes of
 * another grid or cols that do not fill blocks. */
RP_CHECKED rp_status rp_gguf_encode_rows(const rp_gguf_block_type *type, const rp_form *form,
                                         int64_t row0, int64_t nrows, const float *importance,
                                         void *dst);
/* Local, thread-safe. nrows rows of cols elements, stored as a type that can be decoded, to f32. */
void rp_gguf_decode_rows(const rp_gguf_block_type *type, const void *src, int64_t nrows,
                         int64_t cols, float *dst);
/* Local, thread-safe. The same rows as codes and parameters of the type's grid. */
void rp_gguf_unpack_rows(const rp_gguf_block_type *type, const void *src, int64_t nrows,
                         int64_t cols, float *params, uint8_t *codes);

#ifdef __cplusplus
}
#endif
#endif

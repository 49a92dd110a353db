/* A piece: rows of a unit as they are stored, their datasets and sizes
 * (docs/formats/checkpoint.md).
 *
 * A row of codes of b bits is a stream of codes (formats/bitpack.h) in whole 32-bit words, so that
 * rows are read and written in any number. */
#ifndef RP_JOBS_PIECE_H
#define RP_JOBS_PIECE_H

#include "base/pool.h"
#include "kernels/form.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rp_piece_kind {
    RP_PIECE_DENSE = 0, /* values f32 [rows, cols] */
    RP_PIECE_CODES,     /* packed_codes u8 [rows, bytes a row], params f32 [rows, params a row] */
    RP_PIECE_ARRAY,     /* data of dtype [rows] */
    RP_PIECE_TEXT,      /* data u8 [rows], without a final NUL */
    RP_PIECE_KIND_COUNT
} rp_piece_kind;

/* What a piece is, apart from its data. */
typedef struct rp_piece {
    rp_piece_kind kind;
    rp_dtype dtype; /* of the first dataset */
    int64_t row0, rows, total_rows, cols;
    rp_grid grid; /* RP_PIECE_CODES */
} rp_piece;

/* One dataset of a piece. */
typedef struct rp_piece_part {
    const char *name;
    rp_dtype dtype;
    int64_t cols; /* elements of a row */
    bool is_matrix;
} rp_piece_part;
#define RP_PIECE_MAX_PARTS 2

/* Local. "dense", "codes", "array", "text". */
const char *rp_piece_kind_name(rp_piece_kind kind);
/* Local. How rows of a form are stored; its arrays are not looked at. */
rp_piece rp_piece_of_form(const rp_form *rows, int64_t row0, int64_t total_rows);
/* Local. The datasets of a piece; returns how many. */
int rp_piece_parts(const rp_piece *piece, rp_piece_part out[RP_PIECE_MAX_PARTS]);
size_t rp_piece_part_row_bytes(const rp_piece_part *part);
/* Local. Bytes of all its datasets: what a manifest says and a plan counts. */
size_t rp_piece_bytes(const rp_piece *piece);

/* Local. The codes of form from and to their dataset, whose rows are the form's. pool NULL: the
 * caller's thread. Caller frees *out; packed NULL leaves the form alone. */
RP_CHECKED rp_status rp_piece_pack_codes(void **out, const rp_form *form, rp_pool *pool);
void rp_piece_unpack_codes(const rp_form *form, const void *packed);

#ifdef __cplusplus
}
#endif
#endif

/* HDF5 file of row pieces of units: written once by one rank, then only read.
 *
 * Layout (docs/formats/checkpoint.md): group /<unit>/@<row0> with attributes and one or two
 * datasets. HDF5 format of 1.10, chunks with fletcher32, no compression, no file locking. */
#ifndef RP_JOBS_PIECE_FILE_H
#define RP_JOBS_PIECE_FILE_H

#include "base/hash.h"
#include "kernels/form.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_piece_file rp_piece_file;

typedef enum rp_piece_kind {
    RP_PIECE_DENSE = 0, /* values f32 [rows, cols] */
    RP_PIECE_CODES,     /* codes u8 [rows, cols], params f32 [rows, params a row] */
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
/* Local. The datasets of a piece; returns how many. */
int rp_piece_parts(const rp_piece *piece, rp_piece_part out[RP_PIECE_MAX_PARTS]);

/* Local. A new file; an old one of that name is replaced. */
RP_CHECKED rp_status rp_piece_file_create(rp_piece_file **out, const char *path);
/* Local. For reading. */
RP_CHECKED rp_status rp_piece_file_open(rp_piece_file **out, const char *path);
/* Local. Flushes and closes a new file; destroys *file on failure too. */
RP_CHECKED rp_status rp_piece_file_finish(rp_piece_file **file);
/* Local. Closes. Accepts NULL. */
void rp_piece_file_close(rp_piece_file **file);

/* Local. Writes a piece; data: one array a part. hash and nbytes: of the data, for the manifest. */
RP_CHECKED rp_status rp_piece_file_put(rp_piece_file *file, const char *unit, const rp_piece *piece,
                                       const void *const *data, rp_hash *hash, size_t *nbytes);
/* Local. What the piece is, checked against the datasets that are there. hash (as stored) may be
 * NULL. */
RP_CHECKED rp_status rp_piece_file_stat(rp_piece_file *file, const char *unit, int64_t row0,
                                        rp_piece *out, rp_hash *hash);
/* Local. Rows first .. first + nrows - 1 of the piece (counted from its own first) of one part. */
RP_CHECKED rp_status rp_piece_file_read(rp_piece_file *file, const char *unit,
                                        const rp_piece *piece, int part, int64_t first,
                                        int64_t nrows, void *dst);
/* Local. Reads all data of the piece in bounded memory and compares its hash and size. */
RP_CHECKED rp_status rp_piece_file_check(rp_piece_file *file, const char *unit, int64_t row0,
                                         rp_hash want, size_t want_bytes);

/* Local. Calls fn(ctx, unit, row0) for every piece of the file. A failure of fn ends the walk. */
typedef rp_status (*rp_piece_visit_fn)(void *ctx, const char *unit, int64_t row0);
RP_CHECKED rp_status rp_piece_file_visit(rp_piece_file *file, rp_piece_visit_fn fn, void *ctx);

#ifdef __cplusplus
}
#endif
#endif

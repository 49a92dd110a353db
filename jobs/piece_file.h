/* HDF5 file of row pieces of units: written once by one rank, then only read.
 *
 * Layout (docs/formats/checkpoint.md): group /<unit>/@<row0> with attributes and one or two
 * datasets. HDF5 format of 1.10, chunks with fletcher32, no compression, no file locking. */
#ifndef RP_JOBS_PIECE_FILE_H
#define RP_JOBS_PIECE_FILE_H

#include "base/hash.h"
#include "jobs/piece.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_piece_file rp_piece_file;

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

/* A checkpoint's files as JSON. */
#include "jobs/checkpoint_inspect.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "jobs/manifest.h"
#include "jobs/piece_file.h"

static const char hdf5_signature[8] = {'\x89', 'H', 'D', 'F', '\r', '\n', '\x1a', '\n'};
static const char manifest_start[] = "{\"format\": \"rankpress checkpoint\"";

static bool starts_with(const char *path, const char *start, size_t nbytes)
{
    char head[64];
    int fd = -1;
    bool is_equal = false;

    if (rp_fs_open_read(&fd, path) != RP_OK) {
        return false;
    }
    is_equal = pread(fd, head, nbytes, 0) == (ssize_t)nbytes && memcmp(head, start, nbytes) == 0;
    (void)close(fd);
    return is_equal;
}

static bool is_hdf5(const char *path)
{
    return starts_with(path, hdf5_signature, sizeof(hdf5_signature));
}

bool rp_checkpoint_is_file(const char *path)
{
    return is_hdf5(path) || starts_with(path, manifest_start, sizeof(manifest_start) - 1);
}

static rp_status need(const void *made)
{
    return made != NULL ? RP_OK : RP_FAIL(RP_ERR_MEMORY, "no memory for JSON");
}

typedef struct inspection {
    rp_piece_file *file;
    json_t *units;
} inspection;

static rp_status describe_piece(json_t **out, rp_piece_file *file, const char *unit, int64_t row0)
{
    rp_status st = RP_OK;
    rp_piece piece;
    rp_hash hash = {0, 0};
    char hex[RP_HASH_HEX_BYTES];
    char grid[64] = "";
    size_t nbytes = 0;
    bool is_good = false;

    RP_TRY(rp_piece_file_stat(file, unit, row0, &piece, &hash));
    nbytes = rp_piece_bytes(&piece);
    is_good = rp_piece_file_check(file, unit, row0, hash, nbytes) == RP_OK;
    rp_hash_hex(hex, hash);
    if (piece.kind == RP_PIECE_CODES) {
        rp_grid_describe(&piece.grid, grid, sizeof(grid));
    }
    *out = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:s*, s:s, s:b}", "unit", unit,
                     "kind", rp_piece_kind_name(piece.kind), "dtype", rp_dtype_name(piece.dtype),
                     "row0", (json_int_t)piece.row0, "rows", (json_int_t)piece.rows, "total_rows",
                     (json_int_t)piece.total_rows, "cols", (json_int_t)piece.cols, "bytes",
                     (json_int_t)nbytes, "grid", grid[0] == '\0' ? NULL : grid, "xxh3", hex,
                     "is_good", is_good);
    RP_TRY(need(*out));
out:
    return st;
}

/* A piece that cannot even be described is listed as bad with the cause. */
static rp_status add_piece(void *ctx, const char *unit, int64_t row0)
{
    inspection *in = ctx;
    json_t *piece = NULL;
    const rp_status st = describe_piece(&piece, in->file, unit, row0);

    if (st == RP_ERR_FORMAT) {
        piece = json_pack("{s:s, s:I, s:b, s:s}", "unit", unit, "row0", (json_int_t)row0, "is_good",
                          0, "error", rp_error_message());
    } else if (st != RP_OK) {
        return st;
    }
    return need(json_array_append_new(in->units, piece) == 0 ? in->units : NULL);
}

static rp_status inspect_pieces(json_t **out, const char *path)
{
    rp_status st = RP_OK;
    inspection in = {.units = json_array()};
    size_t nbytes = 0;
    int fd = -1;

    RP_TRY(need(in.units));
    RP_TRY(rp_fs_open_read(&fd, path));
    RP_TRY(rp_fs_size(&nbytes, fd, path));
    RP_TRY(rp_piece_file_open(&in.file, path));
    RP_TRY(rp_piece_file_visit(in.file, add_piece, &in));
    *out = json_pack("{s:s, s:I, s:O}", "format", "rankpress checkpoint pieces (HDF5)", "bytes",
                     (json_int_t)nbytes, "units", in.units);
    RP_TRY(need(*out));
out:
    rp_piece_file_close(&in.file);
    if (fd >= 0) {
        (void)close(fd);
    }
    json_decref(in.units);
    return st;
}

/* The manifest is judged whole by its parser, then given as it stands. */
static rp_status inspect_manifest(json_t **out, const char *path)
{
    rp_status st = RP_OK;
    rp_manifest manifest = {0};
    char *text = NULL;
    size_t nbytes = 0;
    json_t *whole = NULL;
    json_t *body = NULL;

    RP_TRY(rp_fs_read_file(&text, &nbytes, path, (size_t)1 << 30));
    RP_TRY(rp_manifest_parse(&manifest, text, nbytes, path));
    whole = json_loadb(text, nbytes, 0, NULL);
    body = json_object_get(whole, "body");
    RP_TRY(need(body));
    if (json_object_set_new(body, "format", json_string("rankpress checkpoint manifest")) != 0) {
        RP_TRY(need(NULL));
    }
    *out = json_incref(body);
out:
    json_decref(whole);
    free(text);
    rp_manifest_clear(&manifest);
    return st;
}

rp_status rp_checkpoint_inspect(json_t **out, const char *path)
{
    *out = NULL;
    return is_hdf5(path) ? inspect_pieces(out, path) : inspect_manifest(out, path);
}

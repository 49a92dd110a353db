/* Row pieces in HDF5. A piece's description is two tables of attributes (whole numbers and words);
 * the same tables make the text that its hash begins with, so that a damaged attribute shows like
 * damaged data.
 *
 * A write that fails inside HDF5 leaves its tables in disorder, so the space of a piece is reserved
 * before HDF5 hears of it: a full disk shows there. Where a file system cannot reserve, a failed
 * write still is a failure and no more: HDF5 is told not to visit its tables at exit.
 *
 * A file is data to judge: extents and attribute shapes are checked before anything is read, and
 * stored sizes before anything is allocated. Fault points: "h5" at every call of HDF5
 * that can fail, "open", "fallocate", "ftruncate". */
#include "jobs/piece_file.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"

#define CHUNK_BYTES ((int64_t)1 << 20) /* fits HDF5's default cache of a dataset */
#define SLAB_BYTES ((int64_t)4 << 20)  /* part of the format: hashed piece by piece of this size */
#define TEXT_BYTES 64
/* What HDF5 may need beside the data of a piece: headers, and the index of the chunks. */
#define RESERVE_PIECE_BYTES ((size_t)64 << 10)
#define RESERVE_CHUNK_BYTES ((size_t)64)

/* What HDF5 gives back, an id or a status: negative on failure. */
#define H5(call) (RP_FAULT("h5") ? -1 : (call))

struct rp_piece_file {
    hid_t id;
    int fd; /* of a new file, to reserve space; else -1 */
    char *path;
};

enum { N_NUMBERS = 9, N_TEXTS = 4 };
enum { ROW0 = 0, ROWS, TOTAL_ROWS, COLS, BITS, SYMMETRIC, MSE, ZERO_MIN, GROUP };
enum { KIND = 0, DTYPE, GRID, SCALE_TYPE };
static const char *const number_names[N_NUMBERS] = {
    "row0", "rows", "total_rows", "cols", "bits", "symmetric", "mse", "zero_min", "group"};
static const char *const text_names[N_TEXTS] = {"kind", "dtype", "grid", "scale_type"};
static const char *const hash_name = "xxh3";

typedef struct piece_attrs {
    int64_t numbers[N_NUMBERS];
    char texts[N_TEXTS][TEXT_BYTES];
} piece_attrs;

static void attrs_of_piece(piece_attrs *out, const rp_piece *piece)
{
    const bool has_grid = piece->kind == RP_PIECE_CODES;
    const rp_grid *grid = &piece->grid;

    memset(out, 0, sizeof(*out));
    out->numbers[ROW0] = piece->row0;
    out->numbers[ROWS] = piece->rows;
    out->numbers[TOTAL_ROWS] = piece->total_rows;
    out->numbers[COLS] = piece->cols;
    (void)snprintf(out->texts[KIND], TEXT_BYTES, "%s", rp_piece_kind_name(piece->kind));
    (void)snprintf(out->texts[DTYPE], TEXT_BYTES, "%s", rp_dtype_name(piece->dtype));
    if (has_grid) {
        out->numbers[BITS] = grid->bits;
        out->numbers[SYMMETRIC] = grid->is_symmetric;
        out->numbers[MSE] = grid->mse;
        out->numbers[ZERO_MIN] = grid->zero_min;
        out->numbers[GROUP] = grid->group;
        (void)snprintf(out->texts[GRID], TEXT_BYTES, "%s", grid->ops->name);
        (void)snprintf(out->texts[SCALE_TYPE], TEXT_BYTES, "%s", rp_dtype_name(grid->scale_type));
    }
}

static bool grid_of_attrs(rp_grid *out, const piece_attrs *attrs)
{
    const int64_t *n = attrs->numbers;

    out->ops = rp_grid_find(attrs->texts[GRID]);
    out->bits = (int)n[BITS];
    out->is_symmetric = n[SYMMETRIC] != 0;
    out->mse = n[MSE] != 0;
    out->zero_min = (int)n[ZERO_MIN];
    out->group = n[GROUP];
    return out->ops != NULL && n[BITS] >= 1 && n[BITS] <= 8 && n[ZERO_MIN] >= 0 &&
           n[ZERO_MIN] <= 255 && n[GROUP] >= 0 &&
           rp_dtype_parse(&out->scale_type, attrs->texts[SCALE_TYPE]);
}

/* False when the attributes do not describe a piece. */
static bool piece_of_attrs(rp_piece *out, const piece_attrs *attrs)
{
    const int64_t *n = attrs->numbers;
    int kind = 0;

    memset(out, 0, sizeof(*out));
    while (kind < RP_PIECE_KIND_COUNT &&
           strcmp(attrs->texts[KIND], rp_piece_kind_name((rp_piece_kind)kind)) != 0) {
        kind++;
    }
    if (kind == RP_PIECE_KIND_COUNT || !rp_dtype_parse(&out->dtype, attrs->texts[DTYPE]) ||
        n[ROW0] < 0 || n[ROWS] < 0 || n[ROW0] > n[TOTAL_ROWS] ||
        n[ROWS] > n[TOTAL_ROWS] - n[ROW0] || n[COLS] < 1 || n[COLS] > INT32_MAX) {
        return false;
    }
    out->kind = (rp_piece_kind)kind;
    out->row0 = n[ROW0];
    out->rows = n[ROWS];
    out->total_rows = n[TOTAL_ROWS];
    out->cols = n[COLS];
    return kind != RP_PIECE_CODES || grid_of_attrs(&out->grid, attrs);
}

/* The hash's beginning: "name=value" lines in the tables' order. */
static rp_hash hash_attrs(const piece_attrs *attrs)
{
    char text[2048];
    size_t n = 0;

    for (int i = 0; i < N_NUMBERS; i++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s=%" PRId64 "\n", number_names[i],
                              attrs->numbers[i]);
    }
    for (int i = 0; i < N_TEXTS; i++) {
        n +=
            (size_t)snprintf(text + n, sizeof(text) - n, "%s=%s\n", text_names[i], attrs->texts[i]);
    }
    return rp_hash_bytes(text, n);
}

static int64_t slab_rows(const rp_piece_part *part)
{
    return RP_MAX(1, SLAB_BYTES / RP_MAX(1, (int64_t)rp_piece_part_row_bytes(part)));
}

static herr_t keep_first_error(unsigned n, const H5E_error2_t *error, void *ctx)
{
    char *text = ctx;

    if (n == 0 && error->desc != NULL) {
        (void)snprintf(text, 256, "%s", error->desc);
    }
    return 0;
}

/* A failure with HDF5's innermost reason. */
static rp_status fail(const rp_piece_file *file, rp_status status, const char *what,
                      const char *name)
{
    char reason[256] = "no reason given";

    (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first_error, reason);
    return RP_FAIL(status, "%s: cannot %s %s: %s", file->path, what, name, reason);
}

/* HDF5's access properties; H5I_INVALID_HID on failure. */
static hid_t access_list(void)
{
    const hid_t list = H5(H5Pcreate(H5P_FILE_ACCESS));

    if (list >= 0 && (H5(H5Pset_libver_bounds(list, H5F_LIBVER_V110, H5F_LIBVER_V110)) < 0 ||
                      H5(H5Pset_file_locking(list, false, true)) < 0 ||
                      H5(H5Pset_fclose_degree(list, H5F_CLOSE_STRONG)) < 0)) {
        (void)H5Pclose(list);
        return H5I_INVALID_HID;
    }
    return list;
}

static rp_status open_file(rp_piece_file **out, const char *path, bool is_new)
{
    rp_status st = RP_OK;
    rp_piece_file *file = NULL;
    hid_t list = H5I_INVALID_HID;

    *out = NULL;
    (void)H5dont_atexit(); /* before any other call; later ones have no effect */
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* we say what is wrong ourselves */
    RP_TRY(rp_calloc(&file, 1, sizeof(*file)));
    file->id = H5I_INVALID_HID;
    file->fd = -1;
    RP_TRY(rp_strdup(&file->path, path));
    list = access_list();
    if (list >= 0) {
        file->id = is_new ? H5(H5Fcreate(path, H5F_ACC_EXCL, H5P_DEFAULT, list))
                          : H5(H5Fopen(path, H5F_ACC_RDONLY, list));
    }
    if (file->id < 0) {
        st = fail(file, is_new ? RP_ERR_IO : RP_ERR_FORMAT, is_new ? "create" : "open", "the file");
        goto out;
    }
    if (is_new) {
        file->fd =
            RP_FAULT("open") ? -1 : open(path, O_WRONLY | O_CLOEXEC); /* -1: no reservation */
    }
    *out = file;
    file = NULL;
out:
    if (list >= 0) {
        (void)H5Pclose(list);
    }
    rp_piece_file_close(&file);
    return st;
}

rp_status rp_piece_file_create(rp_piece_file **out, const char *path)
{
    return open_file(out, path, true);
}

rp_status rp_piece_file_open(rp_piece_file **out, const char *path)
{
    return open_file(out, path, false);
}

void rp_piece_file_close(rp_piece_file **file)
{
    if (*file == NULL) {
        return;
    }
    if ((*file)->id >= 0) {
        (void)H5Fclose((*file)->id);
    }
    if ((*file)->fd >= 0) {
        (void)close((*file)->fd);
    }
    free((*file)->path);
    free(*file);
    *file = NULL;
}

/* What was reserved and not used goes back. */
static void trim(const rp_piece_file *file)
{
    struct stat info;

    if (file->fd >= 0 && fstat(file->fd, &info) == 0) {
        (void)!ftruncate(file->fd, info.st_size);
    }
}

rp_status rp_piece_file_finish(rp_piece_file **file)
{
    rp_status st = RP_OK;

    if (H5(H5Fflush((*file)->id, H5F_SCOPE_GLOBAL)) < 0) {
        st = fail(*file, RP_ERR_IO, "flush", "the file");
        goto out;
    }
    if (H5Fclose((*file)->id) < 0 || RP_FAULT("h5")) {
        st = fail(*file, RP_ERR_IO, "close", "the file");
    }
    (*file)->id = H5I_INVALID_HID;
    trim(*file);
out:
    rp_piece_file_close(file);
    return st;
}

/* Closed type ids are none of these: all are HDF5's own. */
static hid_t h5_type(rp_dtype dtype)
{
    switch (dtype) {
    case RP_F32:
        return H5T_IEEE_F32LE;
    case RP_F64:
        return H5T_IEEE_F64LE;
    case RP_I8:
        return H5T_STD_I8LE;
    case RP_U8:
        return H5T_STD_U8LE;
    case RP_I16:
        return H5T_STD_I16LE;
    case RP_I32:
        return H5T_STD_I32LE;
    case RP_I64:
        return H5T_STD_I64LE;
    default: /* F16 and BF16: their bits */
        return H5T_STD_U16LE;
    }
}

static hid_t text_type(void)
{
    const hid_t type = H5(H5Tcopy(H5T_C_S1));

    if (type >= 0 && H5(H5Tset_size(type, TEXT_BYTES)) < 0) {
        (void)H5Tclose(type);
        return H5I_INVALID_HID;
    }
    return type;
}

static bool write_attr(hid_t group, const char *name, hid_t type, const void *value)
{
    const hid_t space = H5(H5Screate(H5S_SCALAR));
    const hid_t attr = H5(H5Acreate2(group, name, type, space, H5P_DEFAULT, H5P_DEFAULT));
    const bool is_good = attr >= 0 && H5(H5Awrite(attr, type, value)) >= 0;

    if (attr >= 0) {
        (void)H5Aclose(attr);
    }
    (void)H5Sclose(space);
    return is_good;
}

/* Only a scalar of the wanted class is read: an array would not fit behind `value`. */
static bool read_attr(hid_t group, const char *name, hid_t type, void *value)
{
    const hid_t attr = H5(H5Aopen(group, name, H5P_DEFAULT));
    const hid_t space = attr >= 0 ? H5(H5Aget_space(attr)) : H5I_INVALID_HID;
    const hid_t stored = attr >= 0 ? H5(H5Aget_type(attr)) : H5I_INVALID_HID;
    const bool is_good = space >= 0 && stored >= 0 &&
                         H5(H5Sget_simple_extent_npoints(space)) == 1 &&
                         H5Tget_class(stored) == H5Tget_class(type) &&
                         H5Tis_variable_str(stored) <= 0 && H5(H5Aread(attr, type, value)) >= 0;

    if (stored >= 0) {
        (void)H5Tclose(stored);
    }
    if (space >= 0) {
        (void)H5Sclose(space);
    }
    if (attr >= 0) {
        (void)H5Aclose(attr);
    }
    return is_good;
}

static bool write_attrs(hid_t group, const piece_attrs *attrs, const char *hash_hex)
{
    const hid_t type = text_type();
    char hash[TEXT_BYTES] = "";
    bool is_good = type >= 0;

    (void)snprintf(hash, sizeof(hash), "%s", hash_hex);
    for (int i = 0; i < N_NUMBERS && is_good; i++) {
        is_good = write_attr(group, number_names[i], H5T_STD_I64LE, &attrs->numbers[i]);
    }
    for (int i = 0; i < N_TEXTS && is_good; i++) {
        is_good = write_attr(group, text_names[i], type, attrs->texts[i]);
    }
    is_good = is_good && write_attr(group, hash_name, type, hash);
    if (type >= 0) {
        (void)H5Tclose(type);
    }
    return is_good;
}

static bool read_attrs(hid_t group, piece_attrs *attrs, rp_hash *hash)
{
    const hid_t type = text_type();
    char hex[TEXT_BYTES] = "";
    bool is_good = type >= 0;

    memset(attrs, 0, sizeof(*attrs));
    for (int i = 0; i < N_NUMBERS && is_good; i++) {
        is_good = read_attr(group, number_names[i], H5T_STD_I64LE, &attrs->numbers[i]);
    }
    for (int i = 0; i < N_TEXTS && is_good; i++) {
        is_good = read_attr(group, text_names[i], type, attrs->texts[i]);
        attrs->texts[i][TEXT_BYTES - 1] = '\0';
    }
    is_good = is_good && read_attr(group, hash_name, type, hex);
    hex[TEXT_BYTES - 1] = '\0';
    if (type >= 0) {
        (void)H5Tclose(type);
    }
    return is_good && rp_hash_parse(hash, hex);
}

static rp_status group_name(char **out, const char *unit, int64_t row0)
{
    return rp_strprintf(out, "/%s/@%" PRId64, unit, row0);
}

/* n in shares of at most `most`: the last chunk is stored whole, too, and should be nearly full. */
static int64_t even_share(int64_t n, int64_t most)
{
    return RP_DIV_UP(n, RP_DIV_UP(n, most));
}

/* Extents and chunk of a part of nrows rows. */
static int part_extents(const rp_piece_part *part, int64_t nrows, hsize_t dims[2], hsize_t chunk[2])
{
    const int64_t elem = (int64_t)rp_dtype_bytes(part->dtype);

    dims[0] = (hsize_t)nrows;
    dims[1] = (hsize_t)part->cols;
    chunk[1] = (hsize_t)even_share(part->cols, CHUNK_BYTES / elem);
    chunk[0] = (hsize_t)even_share(nrows, RP_MAX(1, CHUNK_BYTES / ((int64_t)chunk[1] * elem)));
    return part->is_matrix ? 2 : 1;
}

/* Room for the piece behind the file's end, or a failure that says what is missing. */
static rp_status reserve(const rp_piece_file *file, const rp_piece *piece,
                         const rp_piece_part *parts, int n_parts)
{
    size_t need_bytes = RESERVE_PIECE_BYTES;
    hsize_t end = 0;
    struct statvfs info;

    for (int i = 0; i < n_parts && piece->rows > 0; i++) {
        hsize_t dims[2];
        hsize_t chunk[2];
        const int ndim = part_extents(&parts[i], piece->rows, dims, chunk);
        const size_t n_chunks =
            (size_t)(RP_DIV_UP(dims[0], chunk[0]) * (ndim == 2 ? RP_DIV_UP(dims[1], chunk[1]) : 1));
        const size_t chunk_bytes =
            (size_t)(chunk[0] * (ndim == 2 ? chunk[1] : 1)) * rp_dtype_bytes(parts[i].dtype);
        need_bytes += n_chunks * (chunk_bytes + RESERVE_CHUNK_BYTES);
    }
    if (file->fd < 0 || H5(H5Fget_filesize(file->id, &end)) < 0) {
        return RP_OK;
    }
    errno = EIO;
    if (!RP_FAULT("fallocate") &&
        (fallocate(file->fd, FALLOC_FL_KEEP_SIZE, (off_t)end, (off_t)need_bytes) == 0 ||
         errno == EOPNOTSUPP || errno == ENOSYS)) {
        return RP_OK;
    }
    if (errno != ENOSPC && errno != EDQUOT) {
        return RP_FAIL(rp_status_from_errno(errno), "%s: cannot reserve %zu bytes: %s", file->path,
                       need_bytes, strerror(errno));
    }
    memset(&info, 0, sizeof(info));
    (void)fstatvfs(file->fd, &info);
    return RP_FAIL(RP_ERR_IO, "%s: no space: needs %zu bytes, %zu are free", file->path, need_bytes,
                   (size_t)info.f_bavail * (size_t)info.f_frsize);
}

static bool write_part(hid_t group, const rp_piece_part *part, int64_t nrows, const void *data)
{
    hsize_t dims[2];
    hsize_t chunk[2];
    const int ndim = part_extents(part, nrows, dims, chunk);
    const hid_t type = h5_type(part->dtype);
    const hid_t space = H5(H5Screate_simple(ndim, dims, NULL));
    const hid_t list = H5(H5Pcreate(H5P_DATASET_CREATE));
    hid_t set = H5I_INVALID_HID;
    bool is_good = space >= 0 && list >= 0 && H5(H5Pset_chunk(list, ndim, chunk)) >= 0 &&
                   H5(H5Pset_fletcher32(list)) >= 0 &&
                   H5(H5Pset_fill_time(list, H5D_FILL_TIME_NEVER)) >= 0;

    if (is_good) {
        set = H5(H5Dcreate2(group, part->name, type, space, H5P_DEFAULT, list, H5P_DEFAULT));
        is_good = set >= 0 && H5(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data)) >= 0;
    }
    /* Closing writes what the chunk cache still holds. */
    if (set >= 0) {
        is_good = H5Dclose(set) >= 0 && !RP_FAULT("h5") && is_good;
    }
    if (list >= 0) {
        (void)H5Pclose(list);
    }
    if (space >= 0) {
        (void)H5Sclose(space);
    }
    return is_good;
}

/* The group of a new piece: parents made on the way, attributes kept in its header. */
static hid_t create_group(hid_t file, const char *name)
{
    const hid_t links = H5(H5Pcreate(H5P_LINK_CREATE));
    const hid_t list = H5(H5Pcreate(H5P_GROUP_CREATE));
    hid_t group = H5I_INVALID_HID;

    if (links >= 0 && list >= 0 && H5(H5Pset_create_intermediate_group(links, 1)) >= 0 &&
        H5(H5Pset_attr_phase_change(list, N_NUMBERS + N_TEXTS + 1, 0)) >= 0) {
        group = H5(H5Gcreate2(file, name, links, list, H5P_DEFAULT));
    }
    if (list >= 0) {
        (void)H5Pclose(list);
    }
    if (links >= 0) {
        (void)H5Pclose(links);
    }
    return group;
}

static rp_hash hash_part(rp_hash hash, const rp_piece_part *part, int64_t nrows, const void *data)
{
    const size_t row_bytes = rp_piece_part_row_bytes(part);
    const int64_t step = slab_rows(part);

    for (int64_t row = 0; row < nrows; row += step) {
        const size_t n = (size_t)RP_MIN(step, nrows - row) * row_bytes;
        hash = rp_hash_chain(hash, (const char *)data + (size_t)row * row_bytes, n);
    }
    return hash;
}

rp_status rp_piece_file_put(rp_piece_file *file, const char *unit, const rp_piece *piece,
                            const void *const *data, rp_hash *hash, size_t *nbytes)
{
    rp_status st = RP_OK;
    rp_piece_part parts[RP_PIECE_MAX_PARTS];
    const int n_parts = rp_piece_parts(piece, parts);
    piece_attrs attrs;
    char hex[RP_HASH_HEX_BYTES];
    char *name = NULL;
    hid_t group = H5I_INVALID_HID;
    bool is_good = true;

    RP_TRY(group_name(&name, unit, piece->row0));
    RP_TRY(reserve(file, piece, parts, n_parts));
    attrs_of_piece(&attrs, piece);
    *hash = hash_attrs(&attrs);
    *nbytes = rp_piece_bytes(piece);
    for (int i = 0; i < n_parts; i++) {
        *hash = hash_part(*hash, &parts[i], piece->rows, data[i]);
    }
    rp_hash_hex(hex, *hash);
    group = create_group(file->id, name);
    is_good = group >= 0 && write_attrs(group, &attrs, hex);
    /* HDF5 has no chunks of an empty dataset: what has no data has no dataset. */
    for (int i = 0; i < n_parts && is_good && piece->rows > 0; i++) {
        is_good = write_part(group, &parts[i], piece->rows, data[i]);
    }
    if (!is_good) {
        st = fail(file, RP_ERR_IO, "write", name);
    }
out:
    if (group >= 0) {
        (void)H5Gclose(group);
    }
    free(name);
    return st;
}

/* The dataset, when it has the part's extents and as many stored bytes as they need. */
static hid_t open_part(hid_t group, const rp_piece_part *part, int64_t nrows)
{
    hsize_t dims[2] = {0, 0};
    const hid_t set = H5(H5Dopen2(group, part->name, H5P_DEFAULT));
    const hid_t space = set >= 0 ? H5(H5Dget_space(set)) : H5I_INVALID_HID;
    const bool is_good =
        space >= 0 && H5Sget_simple_extent_ndims(space) == (part->is_matrix ? 2 : 1) &&
        H5(H5Sget_simple_extent_dims(space, dims, NULL)) >= 0 && dims[0] == (hsize_t)nrows &&
        (!part->is_matrix || dims[1] == (hsize_t)part->cols) &&
        H5Dget_storage_size(set) / rp_piece_part_row_bytes(part) >= (hsize_t)nrows;

    if (space >= 0) {
        (void)H5Sclose(space);
    }
    if (!is_good && set >= 0) {
        (void)H5Dclose(set);
    }
    return is_good ? set : H5I_INVALID_HID;
}

static bool read_rows(hid_t set, const rp_piece_part *part, int64_t first, int64_t nrows, void *dst)
{
    const int ndim = part->is_matrix ? 2 : 1;
    const hsize_t start[2] = {(hsize_t)first, 0};
    const hsize_t count[2] = {(hsize_t)nrows, (hsize_t)part->cols};
    const hid_t memory = H5(H5Screate_simple(ndim, count, NULL));
    const hid_t space = H5(H5Dget_space(set));
    const bool is_good =
        memory >= 0 && space >= 0 &&
        H5(H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL)) >= 0 &&
        H5(H5Dread(set, h5_type(part->dtype), memory, space, H5P_DEFAULT, dst)) >= 0;

    if (space >= 0) {
        (void)H5Sclose(space);
    }
    if (memory >= 0) {
        (void)H5Sclose(memory);
    }
    return is_good;
}

rp_status rp_piece_file_stat(rp_piece_file *file, const char *unit, int64_t row0, rp_piece *out,
                             rp_hash *hash)
{
    rp_status st = RP_OK;
    rp_piece_part parts[RP_PIECE_MAX_PARTS];
    piece_attrs attrs;
    rp_hash stored = {0, 0};
    char *name = NULL;
    hid_t group = H5I_INVALID_HID;

    RP_TRY(group_name(&name, unit, row0));
    group = H5(H5Gopen2(file->id, name, H5P_DEFAULT));
    if (group < 0 || !read_attrs(group, &attrs, &stored)) {
        st = fail(file, RP_ERR_FORMAT, "read the attributes of", name);
        goto out;
    }
    if (!piece_of_attrs(out, &attrs) || out->row0 != row0) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: the attributes of %s do not describe a piece", file->path,
                     name);
        goto out;
    }
    for (int i = 0; i < rp_piece_parts(out, parts) && out->rows > 0; i++) {
        const hid_t set = open_part(group, &parts[i], out->rows);
        if (set < 0) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: %s/%s is not there or has not its extents", file->path,
                         name, parts[i].name);
            goto out;
        }
        (void)H5Dclose(set);
    }
    if (hash != NULL) {
        *hash = stored;
    }
out:
    if (group >= 0) {
        (void)H5Gclose(group);
    }
    free(name);
    return st;
}

static rp_status open_part_at(hid_t *set, const rp_piece_file *file, const char *unit,
                              const rp_piece *piece, const rp_piece_part *part)
{
    rp_status st = RP_OK;
    char *name = NULL;
    hid_t group = H5I_INVALID_HID;

    *set = H5I_INVALID_HID;
    RP_TRY(group_name(&name, unit, piece->row0));
    group = H5(H5Gopen2(file->id, name, H5P_DEFAULT));
    if (group >= 0) {
        *set = open_part(group, part, piece->rows);
        (void)H5Gclose(group);
    }
    if (*set < 0) {
        st = fail(file, RP_ERR_FORMAT, "open", name);
    }
out:
    free(name);
    return st;
}

rp_status rp_piece_file_read(rp_piece_file *file, const char *unit, const rp_piece *piece, int part,
                             int64_t first, int64_t nrows, void *dst)
{
    rp_status st = RP_OK;
    rp_piece_part parts[RP_PIECE_MAX_PARTS];
    hid_t set = H5I_INVALID_HID;

    if (nrows == 0) {
        return RP_OK;
    }
    (void)rp_piece_parts(piece, parts);
    RP_TRY(open_part_at(&set, file, unit, piece, &parts[part]));
    if (!read_rows(set, &parts[part], first, nrows, dst)) {
        st = fail(file, RP_ERR_FORMAT, "read rows of", unit);
    }
out:
    if (set >= 0) {
        (void)H5Dclose(set);
    }
    return st;
}

/* Adds a stored part to the hash, slab by slab. */
static rp_status hash_stored_part(rp_hash *hash, rp_piece_file *file, const char *unit,
                                  const rp_piece *piece, const rp_piece_part *part)
{
    rp_status st = RP_OK;
    const int64_t step = RP_MIN(slab_rows(part), piece->rows);
    const size_t row_bytes = rp_piece_part_row_bytes(part);
    hid_t set = H5I_INVALID_HID;
    char *slab = NULL;

    RP_TRY(open_part_at(&set, file, unit, piece, part));
    RP_TRY(rp_alloc_array(&slab, (size_t)step, row_bytes));
    for (int64_t row = 0; row < piece->rows; row += step) {
        const int64_t n = RP_MIN(step, piece->rows - row);
        if (!read_rows(set, part, row, n, slab)) {
            st = fail(file, RP_ERR_FORMAT, "read rows of", unit);
            goto out;
        }
        *hash = rp_hash_chain(*hash, slab, (size_t)n * row_bytes);
    }
out:
    free(slab);
    if (set >= 0) {
        (void)H5Dclose(set);
    }
    return st;
}

rp_status rp_piece_file_check(rp_piece_file *file, const char *unit, int64_t row0, rp_hash want,
                              size_t want_bytes)
{
    rp_status st = RP_OK;
    rp_piece piece;
    rp_piece_part parts[RP_PIECE_MAX_PARTS];
    piece_attrs attrs;
    rp_hash hash = {0, 0};
    int n_parts = 0;

    RP_TRY(rp_piece_file_stat(file, unit, row0, &piece, NULL));
    n_parts = rp_piece_parts(&piece, parts);
    attrs_of_piece(&attrs, &piece);
    hash = hash_attrs(&attrs);
    for (int i = 0; i < n_parts && piece.rows > 0; i++) {
        RP_TRY(hash_stored_part(&hash, file, unit, &piece, &parts[i]));
    }
    if (rp_piece_bytes(&piece) != want_bytes || !rp_hash_equal(hash, want)) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: piece %s/@%" PRId64 " has not the content it had",
                     file->path, unit, row0);
    }
out:
    return st;
}

typedef struct visit_context {
    rp_piece_visit_fn fn;
    void *ctx;
    rp_status st;
} visit_context;

static herr_t visit_object(hid_t root, const char *name, const H5O_info_t *info, void *ctx)
{
    visit_context *visit = ctx;
    const char *slash = strrchr(name, '/');
    char unit[512];
    char *end = NULL;
    long long row0 = 0;

    (void)root;
    if (info->type != H5O_TYPE_GROUP || slash == NULL || slash[1] != '@' ||
        (size_t)(slash - name) >= sizeof(unit)) {
        return 0;
    }
    row0 = strtoll(slash + 2, &end, 10);
    if (end == slash + 2 || *end != '\0') {
        return 0;
    }
    (void)snprintf(unit, sizeof(unit), "%.*s", (int)(slash - name), name);
    visit->st = visit->fn(visit->ctx, unit, row0);
    return visit->st == RP_OK ? 0 : 1;
}

rp_status rp_piece_file_visit(rp_piece_file *file, rp_piece_visit_fn fn, void *ctx)
{
    visit_context visit = {fn, ctx, RP_OK};

    if (H5(H5Ovisit2(file->id, H5_INDEX_NAME, H5_ITER_INC, visit_object, &visit, H5O_INFO_BASIC)) <
            0 &&
        visit.st == RP_OK) {
        return fail(file, RP_ERR_FORMAT, "walk through", "the file");
    }
    return visit.st;
}

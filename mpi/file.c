/* A file written by all ranks: NAME.part until all of it is on disk, then NAME.
 *
 * Rank 0 makes the file and reserves its space, so that a full disk shows before any work. With
 * several ranks each opens it through MPI-IO on its own (MPI_COMM_SELF): what a rank writes is its
 * own ranges, and an open, sync or close that fails on one rank stays a local failure that
 * rp_agree can carry, where a collective MPI-IO call would leave the other ranks waiting. One rank
 * uses plain pwrite and needs no MPI. Fault points: "mpi_open", "mpi_write", "mpi_sync",
 * "mpi_close" (plain calls too), "unlink", "open", "statvfs", "fallocate", "ftruncate", "rename",
 * and those of base/fs.c. */
#include "mpi/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "mpi/comm_private.h"

/* One MPI-IO call is kept below its int count. */
#define MAX_CHUNK_BYTES ((size_t)1 << 30)

typedef struct file_ops {
    rp_status (*open)(rp_file *file);
    rp_status (*write_at)(rp_file *file, size_t offset_bytes, const void *data, size_t nbytes);
    rp_status (*sync)(rp_file *file);
    bool (*close)(rp_file *file); /* true when it went well, or was not open */
} file_ops;

struct rp_file {
    const file_ops *ops;
    rp_comm *comm;
    char *path, *part_path;
    size_t total_bytes;
    int fd;       /* one rank; -1: not open */
    MPI_File mpi; /* several; MPI_FILE_NULL: not open */
};

static rp_status posix_open(rp_file *file)
{
    file->fd = RP_FAULT("mpi_open") ? -1 : open(file->part_path, O_WRONLY | O_CLOEXEC);
    if (file->fd < 0) {
        return RP_FAIL(rp_status_from_errno(errno), "%s: cannot open: %s", file->part_path,
                       strerror(errno));
    }
    return RP_OK;
}

static rp_status posix_write_at(rp_file *file, size_t offset_bytes, const void *data, size_t nbytes)
{
    if (RP_FAULT("mpi_write")) {
        return RP_FAIL(RP_ERR_IO, "%s: cannot write %zu bytes at %zu", file->part_path, nbytes,
                       offset_bytes);
    }
    return rp_fs_pwrite(file->fd, file->part_path, data, nbytes, offset_bytes);
}

static rp_status posix_sync(rp_file *file)
{
    if (RP_FAULT("mpi_sync") || fsync(file->fd) != 0) {
        return RP_FAIL(rp_status_from_errno(errno), "%s: cannot sync: %s", file->part_path,
                       strerror(errno));
    }
    return RP_OK;
}

static bool posix_close(rp_file *file)
{
    const int fd = file->fd;

    file->fd = -1;
    return fd < 0 || (close(fd) == 0 && !RP_FAULT("mpi_close"));
}

static const file_ops posix_ops = {posix_open, posix_write_at, posix_sync, posix_close};

/* The failure that an MPI-IO error code stands for. */
static rp_status mpi_failure(const rp_file *file, const char *what, int code)
{
    char text[MPI_MAX_ERROR_STRING] = "injected fault";
    int length = 0;
    int class = MPI_ERR_IO;

    if (code != MPI_SUCCESS) {
        (void)MPI_Error_string(code, text, &length);
        (void)MPI_Error_class(code, &class);
    }
    return RP_FAIL(class == MPI_ERR_ACCESS || class == MPI_ERR_READ_ONLY ? RP_ERR_PERM : RP_ERR_IO,
                   "%s: cannot %s: %s", file->part_path, what, text);
}

static rp_status mpi_open(rp_file *file)
{
    const int code =
        MPI_File_open(MPI_COMM_SELF, file->part_path, MPI_MODE_WRONLY, MPI_INFO_NULL, &file->mpi);

    if (code != MPI_SUCCESS) {
        file->mpi = MPI_FILE_NULL;
    }
    if (code != MPI_SUCCESS || RP_FAULT("mpi_open")) {
        return mpi_failure(file, "open", code);
    }
    return RP_OK;
}

static rp_status mpi_write_at(rp_file *file, size_t offset_bytes, const void *data, size_t nbytes)
{
    size_t done = 0;

    while (done < nbytes) {
        const int want = (int)RP_MIN(nbytes - done, MAX_CHUNK_BYTES);
        MPI_Status status;
        int got = 0;
        const int code = MPI_File_write_at(file->mpi, (MPI_Offset)(offset_bytes + done),
                                           (const char *)data + done, want, MPI_BYTE, &status);
        if (code != MPI_SUCCESS || RP_FAULT("mpi_write")) {
            return mpi_failure(file, "write", code);
        }
        (void)MPI_Get_count(&status, MPI_BYTE, &got);
        if (got <= 0 || got > want) {
            return RP_FAIL(RP_ERR_IO, "%s: cannot write %d bytes at %zu: %d written",
                           file->part_path, want, offset_bytes + done, got);
        }
        done += (size_t)got;
    }
    return RP_OK;
}

static rp_status mpi_sync(rp_file *file)
{
    const int code = MPI_File_sync(file->mpi);

    if (code != MPI_SUCCESS || RP_FAULT("mpi_sync")) {
        return mpi_failure(file, "sync", code);
    }
    return RP_OK;
}

static bool mpi_close(rp_file *file)
{
    int code = MPI_SUCCESS;

    if (file->mpi == MPI_FILE_NULL) {
        return true;
    }
    code = MPI_File_close(&file->mpi);
    file->mpi = MPI_FILE_NULL;
    return code == MPI_SUCCESS && !RP_FAULT("mpi_close");
}

static const file_ops mpi_ops = {mpi_open, mpi_write_at, mpi_sync, mpi_close};

static void destroy(rp_file **file)
{
    if (*file != NULL) {
        free((*file)->path);
        free((*file)->part_path);
        free(*file);
        *file = NULL;
    }
}

static rp_status fail_no_space(const rp_file *file, size_t free_bytes)
{
    return RP_FAIL(RP_ERR_IO, "%s: no space: needs %zu bytes, %zu are free", file->path,
                   file->total_bytes, free_bytes);
}

/* statvfs first: it costs nothing and finds what a file system without reservation would not. */
static rp_status reserve_space(const rp_file *file, int fd)
{
    struct statvfs info;
    size_t free_bytes = SIZE_MAX;

    if (!RP_FAULT("statvfs") && fstatvfs(fd, &info) == 0) {
        free_bytes = (size_t)info.f_bavail * (size_t)info.f_frsize;
    }
    if (file->total_bytes > free_bytes) {
        return fail_no_space(file, free_bytes);
    }
    if (file->total_bytes == 0) {
        return RP_OK;
    }
    /* Not posix_fallocate: without support it would write every block. */
    if (RP_FAULT("fallocate") || (fallocate(fd, 0, 0, (off_t)file->total_bytes) != 0 &&
                                  errno != EOPNOTSUPP && errno != ENOSYS)) {
        return errno == ENOSPC || errno == EDQUOT
                   ? fail_no_space(file, free_bytes)
                   : RP_FAIL(rp_status_from_errno(errno), "%s: cannot reserve %zu bytes: %s",
                             file->part_path, file->total_bytes, strerror(errno));
    }
    if (RP_FAULT("ftruncate") || ftruncate(fd, (off_t)file->total_bytes) != 0) {
        return RP_FAIL(rp_status_from_errno(errno), "%s: cannot set the size to %zu bytes: %s",
                       file->part_path, file->total_bytes, strerror(errno));
    }
    return RP_OK;
}

/* Rank 0: the empty file of full size. */
static rp_status make_part(const rp_file *file)
{
    rp_status st = RP_OK;
    int fd = -1;

    if ((RP_FAULT("unlink") || unlink(file->part_path) != 0) && errno != ENOENT) {
        st = RP_FAIL(rp_status_from_errno(errno), "%s: cannot remove: %s", file->part_path,
                     strerror(errno));
        goto out;
    }
    fd = RP_FAULT("open") ? -1
                          : open(file->part_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        st = RP_FAIL(rp_status_from_errno(errno), "%s: cannot create: %s", file->part_path,
                     strerror(errno));
        goto out;
    }
    RP_TRY(reserve_space(file, fd));
out:
    if (fd >= 0) {
        (void)close(fd);
    }
    return st;
}

static rp_status prepare(rp_file **out, rp_comm *comm, const char *path, size_t total_bytes)
{
    rp_status st = RP_OK;
    rp_file *file = NULL;

    RP_TRY(rp_calloc(&file, 1, sizeof(*file)));
    file->comm = comm;
    file->ops = rp_comm_nranks(comm) == 1 ? &posix_ops : &mpi_ops;
    file->total_bytes = total_bytes;
    file->fd = -1;
    file->mpi = MPI_FILE_NULL;
    RP_TRY(rp_strdup(&file->path, path));
    RP_TRY(rp_strprintf(&file->part_path, "%s.part", path));
    if (rp_comm_rank(comm) == 0) {
        RP_TRY(make_part(file));
    }
out:
    *out = file;
    return st;
}

/* Local. Closes what is open; rank 0 removes the file. Every rank has closed it, or owns the only
 * handle left, when the others have agreed on a failure. */
static void discard(rp_file **file)
{
    if (*file == NULL) {
        return;
    }
    (void)(*file)->ops->close(*file);
    if (rp_comm_rank((*file)->comm) == 0 && (*file)->part_path != NULL) {
        (void)unlink((*file)->part_path);
    }
    destroy(file);
}

rp_status rp_file_create(rp_file **out, rp_comm *comm, const char *path, size_t total_bytes)
{
    rp_status st = RP_OK;
    rp_file *file = NULL;

    *out = NULL;
    RP_TRY(rp_agree(comm, prepare(&file, comm, path, total_bytes)));
    RP_TRY(rp_agree(comm, file->ops->open(file)));
    *out = file;
    file = NULL;
out:
    discard(&file);
    return st;
}

bool rp_file_takes_threads(const rp_file *file)
{
    return file->ops == &posix_ops;
}

rp_status rp_file_write_at(rp_file *file, size_t offset_bytes, const void *data, size_t nbytes)
{
    size_t end_bytes = 0;

    if (__builtin_add_overflow(offset_bytes, nbytes, &end_bytes) || end_bytes > file->total_bytes) {
        return RP_FAIL(RP_ERR_INTERNAL, "%s: %zu bytes at %zu lie behind the end at %zu",
                       file->path, nbytes, offset_bytes, file->total_bytes);
    }
    return file->ops->write_at(file, offset_bytes, data, nbytes);
}

static rp_status sync_and_close(rp_file *file)
{
    rp_status st = RP_OK;

    RP_TRY(file->ops->sync(file));
    if (!file->ops->close(file)) {
        st = RP_FAIL(RP_ERR_IO, "%s: cannot close", file->part_path);
    }
out:
    return st;
}

/* Rank 0. */
static rp_status publish(const rp_file *file)
{
    rp_status st = RP_OK;

    if (RP_FAULT("rename") || rename(file->part_path, file->path) != 0) {
        return RP_FAIL(rp_status_from_errno(errno), "%s: cannot rename to %s: %s", file->part_path,
                       file->path, strerror(errno));
    }
    st = rp_fs_sync_parent(file->path);
    if (st != RP_OK) {
        (void)unlink(file->path);
    }
    return st;
}

/* Rank 0. From the last to the first: where the first file is, all are. */
static rp_status publish_all(rp_file *const *files, int64_t n)
{
    rp_status st = RP_OK;
    int64_t i = n;

    while (i > 0) {
        RP_TRY(publish(files[i - 1]));
        i--;
    }
out:
    for (; st != RP_OK && i < n; i++) {
        (void)unlink(files[i]->path);
    }
    return st;
}

static rp_status sync_all(rp_file *const *files, int64_t n)
{
    rp_status st = RP_OK;

    for (int64_t i = 0; i < n; i++) {
        RP_TRY(sync_and_close(files[i]));
    }
out:
    return st;
}

rp_status rp_files_finish(rp_file **files, int64_t n, rp_comm *comm, rp_status local,
                          double *fsync_seconds)
{
    rp_status st = RP_OK;
    double start = 0;

    RP_TRY(rp_agree(comm, local));
    start = rp_clock_seconds(); /* not before: the ranks come here at different times */
    RP_TRY(rp_agree(comm, sync_all(files, n)));
    RP_TRY(rp_agree(comm, rp_comm_rank(comm) == 0 ? publish_all(files, n) : RP_OK));
    if (fsync_seconds != NULL) {
        *fsync_seconds = rp_clock_seconds() - start;
    }
out:
    for (int64_t i = 0; i < n; i++) {
        if (st != RP_OK) {
            discard(&files[i]);
        }
        destroy(&files[i]);
    }
    return st;
}

rp_status rp_file_finish(rp_file **file, rp_status local, double *fsync_seconds)
{
    return rp_files_finish(file, 1, (*file)->comm, local, fsync_seconds);
}

/* POSIX calls with their failures turned into messages. Fault points: "open", "stat", "read",
 * "write", "fsync", "close", "rename", "mkdir". */
#include "base/fs.h"

#include "base/fault.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One pread or pwrite is kept below the kernel's 2 GiB limit. */
#define MAX_CHUNK_BYTES ((size_t)1 << 30)

rp_status rp_fs_open_read_at(const char *site, int *fd, const char *path)
{
    *fd = RP_FAULT_AT("open", site) ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) {
        const rp_status status =
            errno == ENOENT || errno == ENOTDIR ? RP_ERR_FORMAT : rp_status_from_errno(errno);
        return RP_FAIL(status, "%s: cannot open: %s", path, strerror(errno));
    }
    return RP_OK;
}

rp_status rp_fs_size_at(const char *site, size_t *nbytes, int fd, const char *path)
{
    struct stat info;

    if (RP_FAULT_AT("stat", site) || fstat(fd, &info) != 0) {
        return RP_FAIL(rp_status_from_errno(errno), "%s: cannot stat: %s", path, strerror(errno));
    }
    if (!S_ISREG(info.st_mode)) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: %s, not a regular file", path,
                       S_ISDIR(info.st_mode) ? "a folder" : "a device or pipe");
    }
    *nbytes = (size_t)info.st_size;
    return RP_OK;
}

rp_status rp_fs_pread_at(const char *site, int fd, const char *path, void *dst, size_t nbytes,
                         size_t offset)
{
    size_t done = 0;

    while (done < nbytes) {
        const size_t chunk = RP_MIN(nbytes - done, MAX_CHUNK_BYTES);
        const ssize_t got = RP_FAULT_AT("read", site)
                                ? -1
                                : pread(fd, (char *)dst + done, chunk, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return RP_FAIL(rp_status_from_errno(errno), "%s: cannot read %zu bytes at %zu: %s",
                           path, chunk, offset + done, strerror(errno));
        }
        if (got == 0) {
            return RP_FAIL(RP_ERR_FORMAT, "%s: cut file: want %zu bytes at %zu, got %zu", path,
                           nbytes, offset, done);
        }
        done += (size_t)got;
    }
    return RP_OK;
}

rp_status rp_fs_pwrite_at(const char *site, int fd, const char *path, const void *src,
                          size_t nbytes, size_t offset)
{
    size_t done = 0;

    while (done < nbytes) {
        const size_t chunk = RP_MIN(nbytes - done, MAX_CHUNK_BYTES);
        const ssize_t got = RP_FAULT_AT("write", site) ? -1
                                                       : pwrite(fd, (const char *)src + done, chunk,
                                                                (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return RP_FAIL(rp_status_from_errno(errno), "%s: cannot write %zu bytes at %zu: %s",
                           path, chunk, offset + done, strerror(errno));
        }
        done += (size_t)got;
    }
    return RP_OK;
}

rp_status rp_fs_read_file_at(const char *site, char **out, size_t *nbytes, const char *path,
                             size_t max_bytes)
{
    rp_status st = RP_OK;
    int fd = -1;
    char *data = NULL;
    size_t size = 0;

    *out = NULL;
    RP_TRY(rp_fs_open_read_at(site, &fd, path));
    RP_TRY(rp_fs_size_at(site, &size, fd, path));
    if (size > max_bytes) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: %zu bytes, more than the %zu allowed", path, size,
                     max_bytes);
        goto out;
    }
    RP_TRY(rp_alloc_at(site, &data, size + 1));
    RP_TRY(rp_fs_pread_at(site, fd, path, data, size, 0));
    data[size] = '\0';
    *out = data;
    *nbytes = size;
    data = NULL;
out:
    free(data);
    if (fd >= 0) {
        (void)close(fd);
    }
    return st;
}

rp_status rp_fs_sync_parent_at(const char *site, const char *path)
{
    rp_status st = RP_OK;
    char *dir = NULL;
    char *slash = NULL;
    int fd = -1;

    RP_TRY(rp_strdup_at(site, &dir, path));
    slash = strrchr(dir, '/');
    if (slash == NULL) {
        (void)snprintf(dir, strlen(path) + 1, ".");
    } else {
        slash[slash == dir ? 1 : 0] = '\0';
    }
    fd = RP_FAULT_AT("open", site) ? -1 : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || RP_FAULT_AT("fsync", site) || fsync(fd) != 0) {
        st = RP_FAIL(rp_status_from_errno(errno), "%s: cannot sync folder: %s", dir,
                     strerror(errno));
    }
out:
    if (fd >= 0) {
        (void)close(fd);
    }
    free(dir);
    return st;
}

rp_status rp_fs_write_file_at(const char *site, const char *path, const void *data, size_t nbytes)
{
    rp_status st = RP_OK;
    char *part = NULL;
    int fd = -1;

    RP_TRY(rp_strprintf_at(site, &part, "%s.tmp", path));
    fd =
        RP_FAULT_AT("open", site) ? -1 : open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        st = RP_FAIL(rp_status_from_errno(errno), "%s: cannot create: %s", part, strerror(errno));
        goto out;
    }
    RP_TRY(rp_fs_pwrite_at(site, fd, part, data, nbytes, 0));
    if (RP_FAULT_AT("fsync", site) || fsync(fd) != 0) {
        st = RP_FAIL(rp_status_from_errno(errno), "%s: cannot sync: %s", part, strerror(errno));
        goto out;
    }
    if (close(fd) != 0 || RP_FAULT_AT("close", site)) {
        fd = -1;
        st = RP_FAIL(rp_status_from_errno(errno), "%s: cannot close: %s", part, strerror(errno));
        goto out;
    }
    fd = -1;
    if (RP_FAULT_AT("rename", site) || rename(part, path) != 0) {
        st = RP_FAIL(rp_status_from_errno(errno), "%s: cannot rename to %s: %s", part, path,
                     strerror(errno));
        goto out;
    }
    RP_TRY(rp_fs_sync_parent_at(site, path));
out:
    if (fd >= 0) {
        (void)close(fd);
    }
    if (st != RP_OK && part != NULL) {
        (void)unlink(part);
    }
    free(part);
    return st;
}

rp_status rp_fs_rename_at(const char *site, const char *from, const char *to)
{
    if (RP_FAULT_AT("rename", site) || rename(from, to) != 0) {
        return RP_FAIL(rp_status_from_errno(errno), "%s: cannot rename to %s: %s", from, to,
                       strerror(errno));
    }
    return rp_fs_sync_parent_at(site, to);
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *place)
{
    (void)info, (void)type, (void)place;
    return remove(path);
}

rp_status rp_fs_remove_tree_at(const char *site, const char *path)
{
    struct stat info;

    if (lstat(path, &info) != 0) {
        return RP_OK;
    }
    if (RP_FAULT_AT("remove", site) || nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0) {
        return RP_FAIL(rp_status_from_errno(errno), "%s: cannot remove: %s", path, strerror(errno));
    }
    return RP_OK;
}

bool rp_fs_is_dir(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool rp_fs_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

rp_status rp_fs_make_dirs_at(const char *site, const char *path)
{
    rp_status st = RP_OK;
    char *copy = NULL;

    RP_TRY(rp_strdup_at(site, &copy, path));
    for (char *c = copy + 1;; c++) {
        const char kept = *c;
        if (kept != '/' && kept != '\0') {
            continue;
        }
        *c = '\0';
        if ((RP_FAULT_AT("mkdir", site) || mkdir(copy, 0777) != 0) &&
            !(errno == EEXIST && rp_fs_is_dir(copy))) {
            st = RP_FAIL(rp_status_from_errno(errno), "%s: cannot make folder: %s", copy,
                         strerror(errno));
            goto out;
        }
        *c = kept;
        if (kept == '\0') {
            break;
        }
    }
out:
    free(copy);
    return st;
}

rp_status rp_fs_join_at(const char *site, char **out, const char *dir, const char *name)
{
    return rp_strprintf_at(site, out, "%s/%s", dir, name);
}

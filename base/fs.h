/* Local files: whole reads, durable small writes, folders. Messages name the path. */
#ifndef RP_BASE_FS_H
#define RP_BASE_FS_H

#include "base/fault.h"
#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. Opens for reading; RP_ERR_FORMAT when there is no such file, PERM when not allowed. */
#define rp_fs_open_read(fd, path) rp_fs_open_read_at(RP_SITE, (fd), (path))
#define rp_fs_size(nbytes, fd, path) rp_fs_size_at(RP_SITE, (nbytes), (fd), (path))
/* Local, thread-safe. Exactly nbytes at offset; fewer is RP_ERR_FORMAT "cut file". */
#define rp_fs_pread(fd, path, dst, nbytes, offset)                                                 \
    rp_fs_pread_at(RP_SITE, (fd), (path), (dst), (nbytes), (offset))
#define rp_fs_pwrite(fd, path, src, nbytes, offset)                                                \
    rp_fs_pwrite_at(RP_SITE, (fd), (path), (src), (nbytes), (offset))
/* Local. The whole file and a NUL behind it; RP_ERR_FORMAT when larger than max_bytes. Caller
 * frees. */
#define rp_fs_read_file(out, nbytes, path, max_bytes)                                              \
    rp_fs_read_file_at(RP_SITE, (out), (nbytes), (path), (max_bytes))
/* Local. Durable replacement: temporary name, write, fsync, close, rename, fsync of the folder. */
#define rp_fs_write_file(path, data, nbytes) rp_fs_write_file_at(RP_SITE, (path), (data), (nbytes))
/* Local. fsync of the folder that holds path. */
#define rp_fs_sync_parent(path) rp_fs_sync_parent_at(RP_SITE, (path))
/* Local. Makes a folder and its parents; fine when it is there. */
#define rp_fs_make_dirs(path) rp_fs_make_dirs_at(RP_SITE, (path))
/* Local. Rename and fsync of the folder. */
#define rp_fs_rename(from, to) rp_fs_rename_at(RP_SITE, (from), (to))
/* Local. Removes a file or a folder with all in it; fine when it is not there. */
#define rp_fs_remove_tree(path) rp_fs_remove_tree_at(RP_SITE, (path))
bool rp_fs_is_dir(const char *path);
bool rp_fs_exists(const char *path);
/* Local. "dir/name" into new memory. */
#define rp_fs_join(out, dir, name) rp_fs_join_at(RP_SITE, (out), (dir), (name))

/* Local. What these stand for; `site` is the fault point's. */
RP_CHECKED rp_status rp_fs_open_read_at(const char *site, int *fd, const char *path);
RP_CHECKED rp_status rp_fs_size_at(const char *site, size_t *nbytes, int fd, const char *path);
RP_CHECKED rp_status rp_fs_pread_at(const char *site, int fd, const char *path, void *dst,
                                    size_t nbytes, size_t offset);
RP_CHECKED rp_status rp_fs_pwrite_at(const char *site, int fd, const char *path, const void *src,
                                     size_t nbytes, size_t offset);
RP_CHECKED rp_status rp_fs_read_file_at(const char *site, char **out, size_t *nbytes,
                                        const char *path, size_t max_bytes);
RP_CHECKED rp_status rp_fs_write_file_at(const char *site, const char *path, const void *data,
                                         size_t nbytes);
RP_CHECKED rp_status rp_fs_sync_parent_at(const char *site, const char *path);
RP_CHECKED rp_status rp_fs_make_dirs_at(const char *site, const char *path);
RP_CHECKED rp_status rp_fs_rename_at(const char *site, const char *from, const char *to);
RP_CHECKED rp_status rp_fs_remove_tree_at(const char *site, const char *path);
RP_CHECKED rp_status rp_fs_join_at(const char *site, char **out, const char *dir, const char *name);

#ifdef __cplusplus
}
#endif
#endif

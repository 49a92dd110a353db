/* Local files: whole reads, durable small writes, folders. Messages name the path. */
#ifndef RP_BASE_FS_H
#define RP_BASE_FS_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. Opens for reading; RP_ERR_FORMAT when there is no such file, PERM when not allowed. */
RP_CHECKED rp_status rp_fs_open_read(int *fd, const char *path);
RP_CHECKED rp_status rp_fs_size(size_t *nbytes, int fd, const char *path);
/* Local, thread-safe. Exactly nbytes at offset; fewer is RP_ERR_FORMAT "cut file". */
RP_CHECKED rp_status rp_fs_pread(int fd, const char *path, void *dst, size_t nbytes, size_t offset);
RP_CHECKED rp_status rp_fs_pwrite(int fd, const char *path, const void *src, size_t nbytes,
                                  size_t offset);
/* Local. The whole file and a NUL behind it; RP_ERR_FORMAT when larger than max_bytes. Caller
 * frees. */
RP_CHECKED rp_status rp_fs_read_file(char **out, size_t *nbytes, const char *path,
                                     size_t max_bytes);
/* Local. Durable replacement: temporary name, write, fsync, close, rename, fsync of the folder. */
RP_CHECKED rp_status rp_fs_write_file(const char *path, const void *data, size_t nbytes);
/* Local. fsync of the folder that holds path. */
RP_CHECKED rp_status rp_fs_sync_parent(const char *path);
/* Local. Makes a folder and its parents; fine when it is there. */
RP_CHECKED rp_status rp_fs_make_dirs(const char *path);
/* Local. Rename and fsync of the folder. */
RP_CHECKED rp_status rp_fs_rename(const char *from, const char *to);
/* Local. Removes a file or a folder with all in it; fine when it is not there. */
RP_CHECKED rp_status rp_fs_remove_tree(const char *path);
bool rp_fs_is_dir(const char *path);
bool rp_fs_exists(const char *path);
/* Local. "dir/name" into new memory. */
RP_CHECKED rp_status rp_fs_join(char **out, const char *dir, const char *name);

#ifdef __cplusplus
}
#endif
#endif

/* A file written by all ranks, each its own byte ranges; it has its final name only when all of it
 * is on disk. */
#ifndef RP_MPI_FILE_H
#define RP_MPI_FILE_H

#include "mpi/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_file rp_file;

/* Collective on comm. Makes `path`.part of total_bytes (removes an older one; space is reserved so
 * that a full disk shows now: RP_ERR_IO "no space ..."). MPI-IO with several ranks, plain pwrite
 * with one. */
RP_CHECKED rp_status rp_file_create(rp_file **out, rp_comm *comm, const char *path,
                                    size_t total_bytes);
/* Local. Any size; ranges of different ranks must not overlap. */
RP_CHECKED rp_status rp_file_write_at(rp_file *file, size_t offset_bytes, const void *data,
                                      size_t nbytes);
/* Local. Whether several threads may be in rp_file_write_at at once (plain pwrite, not MPI-IO). */
bool rp_file_takes_threads(const rp_file *file);
/* Collective on comm. `local`: this rank's outcome so far. When all are OK: sync and close on every
 * rank, agree, rank 0 renames to the final name and syncs the folder. Otherwise the .part is
 * removed. Destroys *file in both cases. fsync_seconds may be NULL. */
RP_CHECKED rp_status rp_file_finish(rp_file **file, rp_status local, double *fsync_seconds);
/* Collective on comm. The same for files that belong together: none has its final name before all
 * of them are on disk, and the first gets it last. Entries may be NULL after a failure. */
RP_CHECKED rp_status rp_files_finish(rp_file **files, int64_t n, rp_comm *comm, rp_status local,
                                     double *fsync_seconds);

#ifdef __cplusplus
}
#endif
#endif

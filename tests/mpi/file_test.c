/* A file written by all ranks: equal bytes at any number of ranks, and no file under any name after
 * a failure at any point on any rank. Arguments: a folder for scratch
 * files; "serial" to run without MPI. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/hash.h"
#include "mpi/file.h"
#include "tests/jobs/rank_check.h"

enum { BLOCK_BYTES = 1 << 16, N_BLOCKS = 37, TAIL_BYTES = 123 };
#define TOTAL_BYTES ((size_t)BLOCK_BYTES * N_BLOCKS + TAIL_BYTES)

static char path[512];
static char part_path[520];

static void fill(unsigned char *out, size_t nbytes, size_t offset_bytes)
{
    for (size_t i = 0; i < nbytes; i++) {
        out[i] = (unsigned char)((offset_bytes + i) * 2654435761u >> 11);
    }
}

/* Blocks are dealt round-robin; the ragged tail is the last rank's. */
static rp_status write_all(rp_comm *comm)
{
    rp_status st = RP_OK;
    rp_file *file = NULL;
    static unsigned char block[BLOCK_BYTES];
    const int nranks = rp_comm_nranks(comm);
    double seconds = -1;

    RP_TRY(rp_file_create(&file, comm, path, TOTAL_BYTES));
    for (int b = rp_comm_rank(comm); b <= N_BLOCKS && st == RP_OK; b += nranks) {
        const size_t offset = (size_t)b * BLOCK_BYTES;
        const size_t nbytes = b == N_BLOCKS ? TAIL_BYTES : BLOCK_BYTES;
        fill(block, nbytes, offset);
        st = rp_file_write_at(file, offset, block, nbytes);
    }
    RP_TRY(rp_file_finish(&file, st, &seconds));
    CHECK(seconds >= 0);
out:
    CHECK(file == NULL);
    return st;
}

static void check_content(void)
{
    static unsigned char want[TOTAL_BYTES];
    char *got = NULL;
    size_t nbytes = 0;

    CHECK(rp_fs_read_file(&got, &nbytes, path, (size_t)1 << 30) == RP_OK);
    CHECK(nbytes == TOTAL_BYTES);
    fill(want, TOTAL_BYTES, 0);
    CHECK(memcmp(got, want, TOTAL_BYTES) == 0);
    free(got);
}

static void check_write(rp_comm *comm)
{
    if (rp_comm_rank(comm) == 0) { /* an older part, longer than the file, must not show through */
        CHECK(rp_fs_write_file(part_path, part_path, sizeof(part_path)) == RP_OK);
        CHECK(truncate(part_path, 2 * (off_t)TOTAL_BYTES) == 0);
    }
    rp_comm_barrier(comm);
    CHECK(write_all(comm) == RP_OK);
    check_content();
    rp_comm_barrier(comm);
    CHECK(write_all(comm) == RP_OK); /* over an old final file */
    check_content();
    rp_comm_barrier(comm);
    if (rp_comm_rank(comm) == 0) {
        CHECK(unlink(path) == 0);
    }
    CHECK(!rp_fs_exists(part_path));
    rp_comm_barrier(comm);
}

static void check_local_failure(rp_comm *comm)
{
    rp_file *file = NULL;
    const int last = rp_comm_nranks(comm) - 1;
    const bool is_last = rp_comm_rank(comm) == last;
    rp_status st = RP_OK;

    CHECK(rp_file_create(&file, comm, path, 10) == RP_OK);
    if (is_last) {
        st = RP_FAIL(RP_ERR_FORMAT, "bad weight");
    } else {
        CHECK(rp_file_write_at(file, 5, "12345", 5) == RP_OK);
        CHECK(rp_file_write_at(file, 5, "123456", 6) == RP_ERR_INTERNAL);
        CHECK(rp_file_write_at(file, SIZE_MAX, "1", 1) == RP_ERR_INTERNAL);
    }
    st = rp_file_finish(&file, st, NULL);
    CHECK(st == (is_last ? RP_ERR_FORMAT : RP_ERR_PEER));
    CHECK(strstr(rp_error_message(), "bad weight") != NULL);
    rp_comm_barrier(comm);
    CHECK(!rp_fs_exists(path) && !rp_fs_exists(part_path));
    rp_comm_barrier(comm);
}

static void check_no_space(rp_comm *comm)
{
    rp_file *file = NULL;

    CHECK(rp_file_create(&file, comm, path, (size_t)1 << 60) != RP_OK);
    CHECK(file == NULL);
    CHECK(strstr(rp_error_message(), "no space: needs 1152921504606846976 bytes, ") != NULL);
    CHECK(rp_status_exit_code(rp_comm_rank(comm) == 0 ? RP_ERR_IO : RP_ERR_PEER) == 74);
    rp_comm_barrier(comm);
    CHECK(!rp_fs_exists(path) && !rp_fs_exists(part_path));
    rp_comm_barrier(comm);
}

static void check_missing_folder(rp_comm *comm)
{
    rp_file *file = NULL;
    char missing[600];

    (void)snprintf(missing, sizeof(missing), "%s.none/file", path);
    CHECK(rp_file_create(&file, comm, missing, 1) != RP_OK);
    CHECK(strstr(rp_error_message(), missing) != NULL);
    CHECK(rp_file_create(&file, comm, path, 0) == RP_OK);
    CHECK(rp_file_finish(&file, RP_OK, NULL) == RP_OK);
    CHECK(rp_fs_exists(path));
    rp_comm_barrier(comm);
    if (rp_comm_rank(comm) == 0) {
        CHECK(unlink(path) == 0);
    }
    rp_comm_barrier(comm);
}

/* Fails the n-th occurrence of each site on each rank until it is no longer reached. */
static void check_faults(rp_comm *comm)
{
    static const char *const sites[] = {"alloc",     "unlink",   "open",      "fallocate",
                                        "ftruncate", "mpi_open", "mpi_write", "mpi_sync",
                                        "mpi_close", "rename",   "fsync"};
    int64_t n_failed = 0;

    for (size_t s = 0; s < sizeof(sites) / sizeof(sites[0]); s++) {
        for (int at = 0; at < rp_comm_nranks(comm); at++) {
            bool was_hit = true;
            for (int64_t n = 1; was_hit; n++) {
                rp_status st = RP_OK;
                rp_fault_arm(rp_comm_rank(comm) == at ? sites[s] : NULL, n, false);
                st = write_all(comm);
                was_hit = rp_comm_any(comm, rp_comm_rank(comm) == at && rp_fault_count() >= n);
                rp_fault_arm(NULL, 0, false);
                CHECK((st != RP_OK) == was_hit);
                CHECK(!rp_fs_exists(part_path) && rp_fs_exists(path) == !was_hit);
                n_failed += was_hit;
                rp_comm_barrier(comm);
                if (!was_hit && rp_comm_rank(comm) == 0) {
                    CHECK(unlink(path) == 0);
                }
                rp_comm_barrier(comm);
            }
        }
    }
    CHECK(n_failed >= N_BLOCKS + 8);
}

int main(int argc, char **argv)
{
    rp_comm *comm = NULL;

    CHECK(argc >= 2);
    CHECK((argc > 2 ? rp_comm_create_serial(&comm) : rp_comm_create_world(&comm)) == RP_OK);
    if (rp_comm_rank(comm) == 0) {
        CHECK(rp_fs_make_dirs(argv[1]) == RP_OK);
    }
    (void)snprintf(path, sizeof(path), "%s/file_r%d", argv[1], rp_comm_nranks(comm));
    (void)snprintf(part_path, sizeof(part_path), "%s.part", path);
    rp_comm_barrier(comm);
    check_write(comm);
    check_local_failure(comm);
    check_no_space(comm);
    check_missing_folder(comm);
    check_faults(comm);
    rp_comm_destroy(&comm);
    return 0;
}

/* Checkpoints at any number of ranks. Arguments: a scratch folder, and "all" (default), "serial"
 * (all, without MPI), "write" or "read" (one launch writes, launches of other sizes read). */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "formats/json.h"
#include "jobs/manifest.h"
#include "tests/jobs/checkpoint_units.h"
#include "tests/jobs/rank_check.h"

static const char *const job = "model=booklm\nrecipe.0.gptq.bits=4\nrecipe.0.gptq.group_size=128\n";

/* Files in dir whose name ends so; -1 without the folder. */
static int count_files(const char *dir, const char *end)
{
    DIR *d = opendir(dir);
    const struct dirent *entry = NULL;
    int n = 0;

    if (d == NULL) {
        return -1;
    }
    while ((entry = readdir(d)) != NULL) {
        const size_t length = strlen(entry->d_name);
        n += length >= strlen(end) && strcmp(entry->d_name + length - strlen(end), end) == 0;
    }
    (void)closedir(d);
    return n;
}

static void empty_folder(rp_comm *comm, const char *dir)
{
    rp_comm_barrier(comm);
    if (rp_comm_rank(comm) == 0) {
        char command[700];
        (void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
        CHECK(system(command) == 0);
    }
    rp_comm_barrier(comm);
}

static void test_generations(rp_comm *comm, const char *dir)
{
    const int nranks = rp_comm_nranks(comm);
    rp_checkpoint *c = NULL;
    int n_units = 0;
    int n_warnings = 0;

    empty_folder(comm, dir);
    CHECK(units_open(&c, comm, dir, job, NULL) == RP_OK);
    CHECK(rp_checkpoint_generation(c) == 0 && units_check(c, NULL) == 0);
    CHECK(units_commit(c, comm, 9) == RP_OK);
    CHECK(units_check(c, &n_units) == 9 && n_units == UNITS_COUNT);
    CHECK(rp_checkpoint_drop(c, "layer/0/wide") == RP_OK);
    CHECK(rp_checkpoint_commit(c, RP_OK) == RP_OK);
    CHECK(!rp_checkpoint_has(c, "layer/0/wide"));
    for (int version = 1; version <= 3; version++) {
        CHECK(units_commit(c, comm, version) == RP_OK);
        CHECK(units_check(c, &n_units) == version && n_units == UNITS_COUNT - 1);
    }
    CHECK(rp_checkpoint_generation(c) == 5 && rp_checkpoint_n_units(c) == UNITS_COUNT - 1);
    CHECK(strcmp(rp_checkpoint_unit_name(c, 0), "layer/0") == 0);
    CHECK(rp_checkpoint_unit_name(c, UNITS_COUNT - 1) == NULL);
    CHECK(rp_checkpoint_counts_get(c).commits == 5 &&
          rp_checkpoint_counts_get(c).written_bytes > 0);
    /* Nothing new: no new manifest. What was begun and not committed is forgotten. */
    CHECK(rp_checkpoint_commit(c, RP_OK) == RP_OK && rp_checkpoint_generation(c) == 5);
    CHECK(rp_checkpoint_begin(c) == RP_OK && units_put(c, comm, 7) == RP_OK);
    CHECK(rp_checkpoint_begin(c) == RP_OK && rp_checkpoint_commit(c, RP_OK) == RP_OK);
    CHECK(units_check(c, NULL) == 3);
    rp_checkpoint_close(&c);

    rp_comm_barrier(comm);
    CHECK(count_files(dir, ".json") == 2); /* keep */
    CHECK(count_files(dir, ".h5") == 2 * nranks && count_files(dir, ".part") == 0);
    rp_comm_barrier(comm);
    if (rp_comm_rank(comm) == 0) {
        char *orphan = NULL;
        CHECK(rp_fs_join(&orphan, dir, "g000099-r0000.h5") == RP_OK);
        CHECK(rp_fs_write_file(orphan, "x", 1) == RP_OK);
        free(orphan);
    }
    rp_comm_barrier(comm);
    CHECK(units_open(&c, comm, dir, job, &n_warnings) == RP_OK);
    CHECK(n_warnings == 0 && rp_checkpoint_generation(c) == 5);
    CHECK(units_check(c, &n_units) == 3 && n_units == UNITS_COUNT - 1);
    CHECK(count_files(dir, ".h5") == 2 * nranks);
    rp_comm_barrier(comm);
    CHECK(rp_checkpoint_remove(c) == RP_OK);
    rp_checkpoint_close(&c);
    CHECK(!rp_fs_exists(dir));
}

/* The values of generation `border` pass when those of the next one come; their text stays. */
static void commit_border(rp_checkpoint *c, rp_comm *comm, int border)
{
    const double value = border;
    char unit[64];

    CHECK(rp_checkpoint_begin(c) == RP_OK);
    (void)snprintf(unit, sizeof(unit), "text/%d/%d", border, rp_comm_rank(comm));
    CHECK(rp_checkpoint_put_text(c, unit, "stays") == RP_OK);
    for (int rank = 0; rank < rp_comm_nranks(comm) && border > 1; rank++) {
        (void)snprintf(unit, sizeof(unit), RP_UNIT_PASSING "%d/%d", border - 1, rank);
        CHECK(rp_checkpoint_drop(c, unit) == RP_OK);
    }
    (void)snprintf(unit, sizeof(unit), RP_UNIT_PASSING "%d/%d", border, rp_comm_rank(comm));
    CHECK(rp_checkpoint_put_array(c, unit, RP_F64, &value, 1) == RP_OK);
    CHECK(rp_checkpoint_commit(c, RP_OK) == RP_OK);
}

/* What passes leaves no file behind once no kept manifest names it. */
static void test_passing(rp_comm *comm, const char *dir)
{
    rp_checkpoint *c = NULL;
    const int nranks = rp_comm_nranks(comm);
    char unit[64];
    double *value = NULL;
    int64_t n = 0;

    empty_folder(comm, dir);
    CHECK(units_open(&c, comm, dir, job, NULL) == RP_OK);
    for (int border = 1; border <= 6; border++) {
        commit_border(c, comm, border);
    }
    rp_checkpoint_close(&c);
    rp_comm_barrier(comm);
    CHECK(count_files(dir, "p.h5") == 2 * nranks); /* keep */
    CHECK(count_files(dir, ".h5") == (2 + 6) * nranks);
    rp_comm_barrier(comm);
    CHECK(units_open(&c, comm, dir, job, NULL) == RP_OK);
    (void)snprintf(unit, sizeof(unit), RP_UNIT_PASSING "6/%d", nranks - 1);
    CHECK(rp_checkpoint_get_array(c, unit, RP_F64, &value, &n) == RP_OK);
    CHECK(n == 1 && value[0] == 6 && rp_checkpoint_has(c, "text/1/0"));
    free(value);
    rp_checkpoint_close(&c);
}

static void test_misuse(rp_comm *comm, const char *dir)
{
    rp_checkpoint *c = NULL;
    rp_form form;
    void *data = NULL;
    int64_t n = 0;
    const int rank = rp_comm_rank(comm);
    rp_status local = RP_OK;

    empty_folder(comm, dir);
    CHECK(units_open(&c, comm, dir, job, NULL) == RP_OK);
    CHECK(rp_checkpoint_put_text(c, "a//b", "x") == RP_ERR_INTERNAL);
    CHECK(rp_checkpoint_put_text(c, "../b", "x") == RP_ERR_INTERNAL);
    CHECK(rp_checkpoint_put_text(c, "b/@0", "x") == RP_ERR_INTERNAL);
    CHECK(rp_checkpoint_put_text(c, "", "x") == RP_ERR_INTERNAL);
    CHECK(rp_checkpoint_get_form(c, "none", 0, 1, &form) == RP_ERR_INTERNAL);
    CHECK(units_commit(c, comm, 1) == RP_OK);
    CHECK(rp_checkpoint_get_form(c, "layer/0/gram", 0, 1, &form) == RP_ERR_INTERNAL);
    CHECK(rp_checkpoint_get_array(c, "layer/0/gram", RP_F32, &data, &n) == RP_ERR_INTERNAL);
    CHECK(rp_checkpoint_get_form(c, "layer/0/self_attn.q_proj/dense", 19, 2, &form) ==
          RP_ERR_INTERNAL);
    /* One rank's failure is all ranks', and leaves the last generation. */
    CHECK(rp_checkpoint_begin(c) == RP_OK && units_put(c, comm, 2) == RP_OK);
    if (rank == rp_comm_nranks(comm) - 1) {
        local = RP_FAIL(RP_ERR_IO, "sun spots");
    }
    CHECK(rp_checkpoint_commit(c, local) != RP_OK);
    CHECK(strstr(rp_error_message(), "sun spots") != NULL);
    CHECK(units_check(c, NULL) == 1 && count_files(dir, ".part") <= 0 + rp_comm_nranks(comm));
    /* The same rows twice. */
    CHECK(rp_checkpoint_begin(c) == RP_OK);
    if (rp_comm_nranks(comm) > 1) {
        CHECK(rp_checkpoint_put_text(c, "twice", "x") == RP_OK);
        CHECK(rp_checkpoint_commit(c, RP_OK) != RP_OK);
        CHECK(strstr(rp_error_message(), "twice") != NULL);
    }
    rp_checkpoint_close(&c);
    /* Ranks that see different folders. */
    if (rp_comm_nranks(comm) > 1) {
        char other[600];
        (void)snprintf(other, sizeof(other), "%s.other%d", dir, rank);
        CHECK(rp_fs_make_dirs(other) == RP_OK);
        CHECK(units_open(&c, comm, rank == 1 ? other : dir, job, NULL) != RP_OK);
        CHECK(strstr(rp_error_message(), "not the same folder") != NULL);
        CHECK(rmdir(other) == 0);
    }
}

static void test_other_job(rp_comm *comm, const char *dir)
{
    rp_checkpoint *c = NULL;

    empty_folder(comm, dir);
    CHECK(units_open(&c, comm, dir, job, NULL) == RP_OK);
    CHECK(units_commit(c, comm, 1) == RP_OK);
    rp_checkpoint_close(&c);
    CHECK(units_open(&c, comm, dir, "model=booklm\nrecipe.0.gptq.bits=3\nseed=1\n", NULL) != RP_OK);
    CHECK(c == NULL);
    CHECK(strstr(rp_error_message(), "made by another job: recipe.0.gptq.bits: 4 -> 3; "
                                     "recipe.0.gptq.group_size: 128 -> (none); seed: (none) -> 1"));
    CHECK(rp_status_exit_code(rp_comm_rank(comm) == 0 ? RP_ERR_CONFIG : RP_ERR_PEER) == 78);
    if (rp_comm_nranks(comm) > 1) {
        const bool is_last = rp_comm_rank(comm) == rp_comm_nranks(comm) - 1;
        CHECK(units_open(&c, comm, dir, is_last ? "arithmetic=avx2\n" : "arithmetic=avx512\n",
                         NULL) != RP_OK);
        CHECK(strstr(rp_error_message(), "as rank 0: arithmetic: avx512 -> avx2") != NULL);
    }
    CHECK(units_open(&c, comm, dir, job, NULL) == RP_OK);
    CHECK(units_check(c, NULL) == 1);
    rp_checkpoint_close(&c);
}

static rp_status open_loose(rp_checkpoint **out, rp_comm *comm, const char *dir, const char *text,
                            const char *loose_key)
{
    rp_checkpoint_opts opts = rp_checkpoint_opts_default();

    opts.loose_key = loose_key;
    return rp_checkpoint_open(out, comm, dir, rp_hash_bytes(text, strlen(text)), text, &opts);
}

static void test_loose_key(rp_comm *comm, const char *dir)
{
    static const char *const before = "bits=4\narithmetic=cpu\n";
    rp_checkpoint *c = NULL;
    const float sum = 1;

    CHECK(rp_manifest_job_differs_only_in(before, "arithmetic=cuda\nbits=4\n", "arithmetic"));
    CHECK(rp_manifest_job_differs_only_in("bits=4\n", before, "arithmetic"));
    CHECK(!rp_manifest_job_differs_only_in(before, "bits=3\narithmetic=cpu\n", "arithmetic"));
    CHECK(!rp_manifest_job_differs_only_in(before, "bits=4\narithmetic=cpu\nx=1\n", "arithmetic"));
    empty_folder(comm, dir);
    CHECK(open_loose(&c, comm, dir, before, NULL) == RP_OK);
    CHECK(rp_checkpoint_begin(c) == RP_OK);
    if (rp_comm_rank(comm) == 0) {
        CHECK(rp_checkpoint_put_text(c, "finished", "facts") == RP_OK);
        CHECK(rp_checkpoint_put_array(c, RP_UNIT_PASSING "sum", RP_F32, &sum, 1) == RP_OK);
    }
    CHECK(rp_checkpoint_commit(c, RP_OK) == RP_OK);
    rp_checkpoint_close(&c);
    CHECK(open_loose(&c, comm, dir, "bits=4\narithmetic=cuda\n", NULL) != RP_OK);
    CHECK(open_loose(&c, comm, dir, "bits=3\narithmetic=cuda\n", "arithmetic") != RP_OK);
    CHECK(open_loose(&c, comm, dir, "bits=4\narithmetic=cuda\n", "arithmetic") == RP_OK);
    CHECK(rp_checkpoint_has(c, "finished"));
    CHECK(!rp_checkpoint_has(c, RP_UNIT_PASSING "sum"));
    rp_checkpoint_close(&c);
}

/* A sealed generation is no part of the checkpoint before it is settled, whatever is put meanwhile;
 * one that was not is gone. */
static void test_sealed(rp_comm *comm, const char *dir)
{
    rp_checkpoint *c = NULL;

    empty_folder(comm, dir);
    CHECK(units_open(&c, comm, dir, job, NULL) == RP_OK);
    CHECK(units_commit(c, comm, 1) == RP_OK);
    CHECK(rp_checkpoint_settle(c, true) == RP_OK && rp_checkpoint_generation(c) == 1);
    CHECK(units_put(c, comm, 2) == RP_OK && rp_checkpoint_is_dirty(c));
    CHECK(rp_checkpoint_seal(c, RP_OK) == RP_OK && !rp_checkpoint_is_dirty(c));
    CHECK(rp_checkpoint_generation(c) == 1 && units_check(c, NULL) == 1);
    CHECK(units_put(c, comm, 3) == RP_OK);
    while (rp_checkpoint_generation(c) == 1) {
        CHECK(rp_checkpoint_settle(c, false) == RP_OK);
    }
    CHECK(units_check(c, NULL) == 2);
    CHECK(rp_checkpoint_seal(c, RP_OK) == RP_OK && units_check(c, NULL) == 2);
    CHECK(units_put(c, comm, 4) == RP_OK);
    CHECK(rp_checkpoint_seal(c, RP_OK) == RP_OK && units_check(c, NULL) == 3);
    rp_checkpoint_close(&c);

    rp_comm_barrier(comm);
    CHECK(count_files(dir, ".h5") == 2 * rp_comm_nranks(comm) && count_files(dir, ".part") == 0);
    CHECK(units_open(&c, comm, dir, job, NULL) == RP_OK);
    CHECK(rp_checkpoint_generation(c) == 3 && units_check(c, NULL) == 3);
    rp_checkpoint_close(&c);
}

/* What fails in the background is said by what comes next, on all ranks; both generations in the
 * making are lost and no other. */
static void test_sealed_fails(rp_comm *comm, const char *dir)
{
    const bool is_last = rp_comm_rank(comm) == rp_comm_nranks(comm) - 1;
    rp_checkpoint *c = NULL;
    rp_status local = RP_OK;

    empty_folder(comm, dir);
    CHECK(units_open(&c, comm, dir, job, NULL) == RP_OK);
    CHECK(units_commit(c, comm, 1) == RP_OK);
    rp_fault_arm(is_last ? "fsync" : NULL, 1, false);
    CHECK(units_put(c, comm, 2) == RP_OK);
    CHECK(rp_checkpoint_seal(c, RP_OK) == RP_OK);
    local = units_put(c, comm, 3);
    CHECK(rp_checkpoint_commit(c, local) != RP_OK);
    CHECK(strstr(rp_error_message(), "cannot sync") != NULL);
    rp_fault_arm(NULL, 0, false);
    CHECK(units_check(c, NULL) == 1);
    rp_checkpoint_close(&c);

    rp_comm_barrier(comm);
    CHECK(count_files(dir, ".h5") == rp_comm_nranks(comm) && count_files(dir, ".part") == 0);
    CHECK(units_open(&c, comm, dir, job, NULL) == RP_OK);
    CHECK(units_check(c, NULL) == 1 && units_commit(c, comm, 4) == RP_OK);
    rp_checkpoint_close(&c);
}

/* One attempt: version 1 is committed, then version 2 with the n-th occurrence of a site failing on
 * rank `at`. Returns whether it was reached. */
static bool fail_once(rp_comm *comm, const char *dir, const char *site, int at, int64_t n)
{
    rp_checkpoint *c = NULL;
    rp_status st = RP_OK;
    bool was_hit = false;
    bool is_any_ok = false;
    int n_units = 0;
    int version = 0;

    CHECK(units_open(&c, comm, dir, job, NULL) == RP_OK);
    CHECK(units_commit(c, comm, 1) == RP_OK);
    rp_fault_arm(rp_comm_rank(comm) == at ? site : NULL, n, false);
    st = units_commit(c, comm, 2);
    was_hit = rp_comm_any(comm, rp_fault_count() >= n);
    rp_fault_arm(NULL, 0, false);
    is_any_ok = rp_comm_any(comm, st == RP_OK);
    CHECK(is_any_ok == (st == RP_OK)); /* all ranks or none */
    CHECK(was_hit || st == RP_OK);
    CHECK(units_check(c, &n_units) == (st == RP_OK ? 2 : 1) && n_units == UNITS_COUNT - 1);
    rp_checkpoint_close(&c);

    CHECK(units_open(&c, comm, dir, job, NULL) == RP_OK);
    version = units_check(c, &n_units);
    CHECK(n_units == UNITS_COUNT - 1);
    CHECK(st != RP_OK || version == 2);
    rp_comm_barrier(comm);
    CHECK(count_files(dir, ".part") == 0 && count_files(dir, ".tmp") == 0);
    rp_comm_barrier(comm);
    rp_checkpoint_close(&c);
    return was_hit;
}

/* The first occurrences, then fewer and fewer: each costs many waits for the disk. */
static void test_faults(rp_comm *comm, const char *dir)
{
    static const char *const sites[] = {"alloc", "h5",    "fallocate", "open",   "stat", "read",
                                        "write", "close", "fsync",     "rename", "json"};
    const int nranks = rp_comm_nranks(comm);
    int64_t n_hits = 0;

    empty_folder(comm, dir);
    for (size_t s = 0; s < RP_COUNT(sites); s++) {
        for (int at = 0; at < nranks; at += RP_MAX(1, nranks - 1)) {
            int64_t n = 1;
            while (fail_once(comm, dir, sites[s], at, n)) {
                n_hits++;
                n += nranks == 1 ? 1 + n / 8 : n;
            }
        }
    }
    CHECK(n_hits > 20);
}

static void test_between_launches(rp_comm *comm, const char *dir, bool is_writing)
{
    rp_checkpoint *c = NULL;
    int n_units = 0;
    int n_warnings = 0;

    if (is_writing) {
        empty_folder(comm, dir);
    }
    CHECK(units_open(&c, comm, dir, job, &n_warnings) == RP_OK);
    if (is_writing) {
        CHECK(units_commit(c, comm, 9) == RP_OK);
    }
    CHECK(units_check(c, &n_units) == 9 && n_units == UNITS_COUNT && n_warnings == 0);
    rp_checkpoint_close(&c);
}

int main(int argc, char **argv)
{
    rp_comm *comm = NULL;
    const char *mode = argc > 2 ? argv[2] : "all";
    char dir[512];

    rp_json_init();
    CHECK(argc > 1);
    CHECK((strcmp(mode, "serial") == 0 ? rp_comm_create_serial(&comm)
                                       : rp_comm_create_world(&comm)) == RP_OK);
    (void)snprintf(dir, sizeof(dir), "%s/r%d", argv[1], rp_comm_nranks(comm));
    if (strcmp(mode, "write") == 0 || strcmp(mode, "read") == 0) {
        test_between_launches(comm, argv[1], strcmp(mode, "write") == 0);
    } else {
        test_generations(comm, dir);
        units_queue_bytes = 300; /* small pieces wait, larger ones are written at once */
        test_generations(comm, dir);
        test_sealed(comm, dir);
        units_queue_bytes = (size_t)1 << 20;
        test_sealed(comm, dir);
        test_sealed_fails(comm, dir);
        test_passing(comm, dir);
        test_misuse(comm, dir);
        test_other_job(comm, dir);
        test_loose_key(comm, dir);
        test_faults(comm, dir);
        empty_folder(comm, dir);
    }
    rp_comm_destroy(&comm);
    return 0;
}

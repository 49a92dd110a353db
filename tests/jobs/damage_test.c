/* Damaged checkpoints: flipped bytes, cut and missing files, a full disk. A unit is dropped or the
 * checkpoint falls back, with a warning; what is read is right. Arguments: a scratch folder, how
 * many places are damaged. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "jobs/checkpoint_inspect.h"
#include "tests/jobs/checkpoint_units.h"
#include "tests/jobs/rank_check.h"

static const char *const job = "model=booklm\n";
static rp_comm *comm;
static char good_dir[512], dir[512];

static void run(const char *fmt, const char *a, const char *b)
{
    char command[1200];

    (void)snprintf(command, sizeof(command), fmt, a, b);
    CHECK(system(command) == 0);
}

static void make_copy(void)
{
    run("rm -rf '%s'", dir, "");
    run("cp -r '%s' '%s'", good_dir, dir);
}

/* Path and size of the file of dir with this name. */
static size_t file_path(char out[700], const char *name)
{
    struct stat info;

    (void)snprintf(out, 700, "%s/%s", dir, name);
    CHECK(stat(out, &info) == 0);
    return (size_t)info.st_size;
}

static void flip(const char *path, size_t at, unsigned char bits)
{
    const int fd = open(path, O_RDWR);
    unsigned char byte = 0;

    CHECK(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1);
    byte ^= bits;
    CHECK(pwrite(fd, &byte, 1, (off_t)at) == 1);
    CHECK(close(fd) == 0);
}

/* Opens, compares, commits again, opens again. Returns the units that were left at first. */
static int check_after_damage(int *n_warnings, int *version)
{
    rp_checkpoint *c = NULL;
    int n_units = 0;
    int n_all = 0;
    int n_later = 0;

    *n_warnings = 0;
    CHECK(units_open(&c, comm, dir, job, n_warnings) == RP_OK);
    *version = units_check(c, &n_units);
    CHECK(units_commit(c, comm, 3) == RP_OK);
    CHECK(units_check(c, &n_all) == 3 && n_all == UNITS_COUNT - 1);
    rp_checkpoint_close(&c);
    CHECK(units_open(&c, comm, dir, job, &n_later) == RP_OK);
    CHECK(units_check(c, &n_all) == 3 && n_all == UNITS_COUNT - 1 && n_later == 0);
    rp_checkpoint_close(&c);
    return n_units;
}

static void test_flipped_pieces(void)
{
    char path[700];
    uint64_t state = 88172645463325252u;
    int n_dropping = 0;

    for (int i = 0; i < 60; i++) {
        int n_warnings = 0;
        int version = 0;
        size_t nbytes = 0;
        int n_units = 0;
        make_copy();
        nbytes = file_path(path, "g000002-r0000.h5");
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        flip(path, i < 16 ? (size_t)i * 4 : state % nbytes,
             (unsigned char)(1 + (state >> 40) % 255));
        n_units = check_after_damage(&n_warnings, &version);
        CHECK((n_units < UNITS_COUNT - 1) == (n_warnings > 0));
        CHECK(n_units == 0 || version == 2);
        n_dropping += n_units < UNITS_COUNT - 1;
    }
    CHECK(n_dropping > 20);
}

/* The files of good_dir in memory, so that a damaged folder is made quickly. */
typedef struct good_file {
    char name[64];
    char *bytes;
    size_t nbytes;
} good_file;

static int load_good(good_file files[8])
{
    DIR *stream = opendir(good_dir);
    const struct dirent *entry = NULL;
    int n = 0;

    CHECK(stream != NULL);
    while ((entry = readdir(stream)) != NULL) {
        char path[900];
        if (entry->d_name[0] == '.') {
            continue;
        }
        CHECK(n < 8);
        (void)snprintf(files[n].name, sizeof(files[n].name), "%.63s", entry->d_name);
        (void)snprintf(path, sizeof(path), "%s/%s", good_dir, files[n].name);
        CHECK(rp_fs_read_file(&files[n].bytes, &files[n].nbytes, path, 1 << 20) == RP_OK);
        n++;
    }
    (void)closedir(stream);
    CHECK(n > 0);
    return n;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state >> 16;
}

/* Writes all files into dir, one of them damaged: one byte, a few in a row, or its end. */
static void make_damaged(const good_file *files, int n, uint64_t *state)
{
    const int damaged = (int)(next_random(state) % (uint64_t)n);

    for (int i = 0; i < n; i++) {
        char path[700];
        char bytes[1 << 17];
        size_t nbytes = files[i].nbytes;
        const size_t at = next_random(state) % nbytes;
        const uint64_t kind = next_random(state) % 8;
        int fd = -1;
        CHECK(nbytes <= sizeof(bytes));
        memcpy(bytes, files[i].bytes, nbytes);
        if (i == damaged && kind == 0) {
            nbytes = at;
        } else if (i == damaged) {
            for (size_t k = at; k < RP_MIN(nbytes, at + (kind == 1 ? 32 : 1)); k++) {
                bytes[k] = (char)(bytes[k] ^ (char)(1 + next_random(state) % 255));
            }
        }
        (void)snprintf(path, sizeof(path), "%s/%s", dir, files[i].name);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        CHECK(fd >= 0 && write(fd, bytes, nbytes) == (ssize_t)nbytes && close(fd) == 0);
    }
}

/* Every unit reads right, or it is gone and a warning said so. */
static void test_many_places(int n_places)
{
    good_file files[8];
    const int n = load_good(files);
    uint64_t state = 88172645463325252u;
    int n_kept = 0;
    int n_older = 0;

    make_copy();
    for (int i = 0; i < n_places; i++) {
        rp_checkpoint *c = NULL;
        int n_warnings = 0;
        int n_units = 0;
        int version = 0;
        make_damaged(files, n, &state);
        CHECK(units_open(&c, comm, dir, job, &n_warnings) == RP_OK);
        version = units_check(c, &n_units);
        rp_checkpoint_close(&c);
        CHECK(version <= 2 && n_units <= UNITS_COUNT - 1);
        CHECK(n_warnings > 0 || (version == 2 && n_units == UNITS_COUNT - 1));
        n_kept += n_units == UNITS_COUNT - 1;
        n_older += version == 1;
    }
    CHECK(n_kept > n_places / 8 && n_kept < n_places && n_older > n_places / 8);
    for (int i = 0; i < n; i++) {
        free(files[i].bytes);
    }
}

static void test_cut_pieces(void)
{
    char path[700];

    for (int i = 0; i < 10; i++) {
        int n_warnings = 0;
        int version = 0;
        make_copy();
        CHECK(truncate(path, (off_t)(file_path(path, "g000002-r0000.h5") * (size_t)i / 10)) == 0);
        CHECK(check_after_damage(&n_warnings, &version) == 0 && n_warnings >= UNITS_COUNT - 1);
    }
    make_copy();
    (void)file_path(path, "g000002-r0000.h5");
    CHECK(unlink(path) == 0);
    {
        int n_warnings = 0;
        int version = 0;
        CHECK(check_after_damage(&n_warnings, &version) == 0 && n_warnings >= UNITS_COUNT - 1);
    }
}

/* The newest manifest damaged: the one before. Both: nothing, and all goes on. */
static void test_manifests(void)
{
    char path[700];
    uint64_t state = 42;
    int n_warnings = 0;
    int version = 0;

    for (int i = 0; i < 40; i++) {
        make_copy();
        state = state * 6364136223846793005u + 1442695040888963407u;
        flip(path, (state >> 20) % file_path(path, "manifest.json"),
             (unsigned char)(1 + (state >> 50) % 255));
        CHECK(check_after_damage(&n_warnings, &version) == UNITS_COUNT - 1);
        CHECK(version == 1 && n_warnings == 2);
    }
    make_copy();
    CHECK(truncate(path, (off_t)(file_path(path, "manifest.json") / 2)) == 0);
    CHECK(check_after_damage(&n_warnings, &version) == UNITS_COUNT - 1 && version == 1);
    make_copy();
    (void)file_path(path, "manifest.json");
    CHECK(unlink(path) == 0);
    CHECK(check_after_damage(&n_warnings, &version) == UNITS_COUNT - 1 && version == 1);
    make_copy();
    run("echo x > '%s/manifest.json'; : > '%s/manifest.1.json'", dir, dir);
    CHECK(check_after_damage(&n_warnings, &version) == 0 && n_warnings == 2);
}

/* The manifest of a program with another format is refused, not thrown away. */
static void test_other_version(int version)
{
    char want[200];
    char body[64];
    char hex[RP_HASH_HEX_BYTES];
    char text[256];
    char path[700];
    rp_checkpoint *c = NULL;

    make_copy();
    (void)file_path(path, "manifest.json");
    (void)snprintf(body, sizeof(body), "{\"version\": %d}", version);
    rp_hash_hex(hex, rp_hash_bytes(body, strlen(body)));
    (void)snprintf(text, sizeof(text),
                   "{\"format\": \"rankpress checkpoint\", \"xxh3\": \"%s\", \"body\": %s}\n", hex,
                   body);
    CHECK(rp_fs_write_file(path, text, strlen(text)) == RP_OK);
    CHECK(units_open(&c, comm, dir, job, NULL) == RP_ERR_CONFIG);
    (void)snprintf(want, sizeof(want),
                   "format version %d, this program reads version 2: go on with the program that "
                   "wrote it, or remove its folder to begin again",
                   version);
    CHECK(strstr(rp_error_message(), want) != NULL);
    CHECK(rp_fs_exists(path));
}

static void test_full_disk(void)
{
    struct rlimit limit;
    struct rlimit kept;
    rp_checkpoint *c = NULL;
    int n_units = 0;

    make_copy();
    CHECK(units_open(&c, comm, dir, job, NULL) == RP_OK);
    CHECK(getrlimit(RLIMIT_FSIZE, &kept) == 0);
    CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    limit = kept;
    for (rlim_t nbytes = 0; nbytes <= 16384; nbytes += 4096) {
        limit.rlim_cur = nbytes;
        CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        CHECK(units_commit(c, comm, 4) != RP_OK);
        CHECK(setrlimit(RLIMIT_FSIZE, &kept) == 0);
        CHECK(units_check(c, &n_units) == 2 && n_units == UNITS_COUNT - 1);
    }
    CHECK(units_commit(c, comm, 4) == RP_OK && units_check(c, NULL) == 4);
    rp_checkpoint_close(&c);
}

static void test_inspect(void)
{
    char path[700];
    json_t *json = NULL;
    const json_t *units = NULL;
    size_t n_bad = 0;

    make_copy();
    (void)file_path(path, "g000002-r0000.h5");
    CHECK(rp_checkpoint_is_file(path));
    CHECK(rp_checkpoint_inspect(&json, path) == RP_OK);
    units = json_object_get(json, "units");
    CHECK(json_array_size(units) == UNITS_COUNT - 1);
    for (size_t i = 0; i < json_array_size(units); i++) {
        CHECK(json_is_true(json_object_get(json_array_get(units, i), "is_good")));
    }
    json_decref(json);
    for (size_t at = 0; at < file_path(path, "g000002-r0000.h5"); at += 97) {
        flip(path, at, 0x55);
        if (rp_checkpoint_inspect(&json, path) == RP_OK) {
            units = json_object_get(json, "units");
            for (size_t i = 0; i < json_array_size(units); i++) {
                n_bad += json_is_false(json_object_get(json_array_get(units, i), "is_good"));
            }
            json_decref(json);
        }
        flip(path, at, 0x55);
    }
    CHECK(n_bad > 10);
    (void)file_path(path, "manifest.json");
    CHECK(rp_checkpoint_is_file(path));
    CHECK(rp_checkpoint_inspect(&json, path) == RP_OK);
    CHECK(json_integer_value(json_object_get(json, "generation")) == 2);
    json_decref(json);
    CHECK(!rp_checkpoint_is_file("/dev/null"));
    CHECK(rp_checkpoint_inspect(&json, "/etc/hostname") == RP_ERR_FORMAT);
}

int main(int argc, char **argv)
{
    rp_checkpoint *c = NULL;

    CHECK(argc >= 2 && rp_comm_create_serial(&comm) == RP_OK);
    (void)snprintf(good_dir, sizeof(good_dir), "%s/good", argv[1]);
    (void)snprintf(dir, sizeof(dir), "%s/copy", argv[1]);
    run("rm -rf '%s'", good_dir, "");
    CHECK(units_open(&c, comm, good_dir, job, NULL) == RP_OK);
    CHECK(units_commit(c, comm, 1) == RP_OK && units_commit(c, comm, 2) == RP_OK);
    rp_checkpoint_close(&c);
    test_flipped_pieces();
    test_many_places(argc > 2 ? atoi(argv[2]) : 200);
    test_cut_pieces();
    test_manifests();
    test_other_version(1); /* a byte a code */
    test_other_version(3);
    test_full_disk();
    test_inspect();
    rp_comm_destroy(&comm);
    return 0;
}

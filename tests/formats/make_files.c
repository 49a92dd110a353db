/* See make_files.h. */
#include "tests/formats/make_files.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char scratch[64];

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_scratch(void)
{
    (void)nftw(scratch, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *make_scratch_dir(void)
{
    (void)snprintf(scratch, sizeof(scratch), "/tmp/rankpress-test-XXXXXX");
    if (mkdtemp(scratch) == NULL || atexit(remove_scratch) != 0) {
        perror("scratch folder");
        exit(EXIT_FAILURE);
    }
    return scratch;
}

const char *scratch_path(const char *name)
{
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];

    if (scratch[0] == '\0') {
        (void)make_scratch_dir();
    }
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", scratch, name);
    return path;
}

const char *make_file(const char *name, const void *data, size_t nbytes)
{
    const char *path = scratch_path(name);
    FILE *f = NULL;

    (void)unlink(path); /* cheaper than truncating: that makes some file systems sync */
    f = fopen(path, "wb");
    if (f == NULL || fwrite(data, 1, nbytes, f) != nbytes || fclose(f) != 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    return path;
}

const char *make_safetensors(const char *name, const char *header, size_t data_bytes)
{
    const size_t header_bytes = strlen(header);
    unsigned char *bytes = malloc(8 + header_bytes + data_bytes);
    const char *path = NULL;

    if (bytes == NULL) {
        exit(EXIT_FAILURE);
    }
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)((uint64_t)header_bytes >> (8 * i));
    }
    memcpy(bytes + 8, header, header_bytes);
    for (size_t i = 0; i < data_bytes; i++) {
        bytes[8 + header_bytes + i] = (unsigned char)i;
    }
    path = make_file(name, bytes, 8 + header_bytes + data_bytes);
    free(bytes);
    return path;
}

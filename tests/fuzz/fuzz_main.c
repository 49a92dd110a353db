/* Runs a fuzz target without libFuzzer: each seed, each file given, then `rounds` mutations of
 * them, the same ones every time. Memory is limited, so that a reader that believes a length fails.
 *
 * usage: fuzz_x rounds [file ...] */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/fs.h"
#include "base/mem.h"

#define MAX_SEEDS 64
#define MAX_GROWTH 64 /* bytes that one mutation may add */
#define MEMORY_BYTES ((rlim_t)1 << 30)

/* The sanitizers need their own address space; there a single allocation is limited. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "max_allocation_size_mb=256:allocator_may_return_null=1";
}

typedef struct input {
    uint8_t *data;
    size_t nbytes;
} input;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Puts another number in place of the decimal number at or behind `at`, if there is one. */
static void change_number(input *in, size_t at, uint64_t random)
{
    static const char *const numbers[] = {
        "0",   "1",   "-1",        "3", "4294967296", "9223372036854775807", "18446744073709551616",
        "1.5", "1e9", "2147483648"};
    const char *number = numbers[random % RP_COUNT(numbers)];
    const size_t n_new = strlen(number);
    size_t end = 0;

    while (at < in->nbytes && !(in->data[at] >= '0' && in->data[at] <= '9')) {
        at++;
    }
    for (end = at; end < in->nbytes && in->data[end] >= '0' && in->data[end] <= '9'; end++) {
    }
    memmove(in->data + at + n_new, in->data + end, in->nbytes - end);
    memcpy(in->data + at, number, n_new);
    in->nbytes = in->nbytes - (end - at) + n_new;
}

/* One small change; in->data has room for MAX_GROWTH more bytes. */
static void mutate(input *in, const input *other, uint64_t *state)
{
    const uint64_t random = next_random(state);
    const size_t at = in->nbytes == 0 ? 0 : (size_t)(next_random(state) % in->nbytes);
    const size_t n = RP_MIN((size_t)(random >> 8) % 32, in->nbytes - at);

    switch (random % 8) {
    case 0: /* a bit */
        if (at < in->nbytes) {
            in->data[at] ^= (uint8_t)(1u << (random >> 8 & 7));
        }
        break;
    case 1: /* some bytes, all the same */
        memset(in->data + at, (int)(random >> 16 & 0xff), n);
        break;
    case 2: /* take out */
        memmove(in->data + at, in->data + at + n, in->nbytes - at - n);
        in->nbytes -= n;
        break;
    case 3: /* twice */
        memmove(in->data + at + n, in->data + at, in->nbytes - at);
        in->nbytes += n;
        break;
    case 4: /* cut */
        in->nbytes = at;
        break;
    case 5: /* a piece of another seed */
        memcpy(in->data + at, other->data + at % RP_MAX(other->nbytes, 1),
               RP_MIN(n, other->nbytes - at % RP_MAX(other->nbytes, 1)));
        break;
    default:
        change_number(in, at, random >> 8);
        break;
    }
}

static rp_status run_one(const input *seed, const input *other, uint64_t *state)
{
    rp_status st = RP_OK;
    input in = {.nbytes = seed->nbytes};
    const int changes = 1 + (int)(next_random(state) % 3);

    RP_TRY(rp_alloc(&in.data, seed->nbytes + (size_t)changes * MAX_GROWTH));
    memcpy(in.data, seed->data, seed->nbytes);
    for (int i = 0; i < changes; i++) {
        mutate(&in, other, state);
    }
    (void)LLVMFuzzerTestOneInput(in.data, in.nbytes);
out:
    free(in.data);
    return st;
}

static rp_status load_seeds(input seeds[MAX_SEEDS], int *n, int n_files, char **files)
{
    rp_status st = RP_OK;
    char *data = NULL;

    while (*n < MAX_SEEDS && (seeds[*n].data = fuzz_seed(*n, &seeds[*n].nbytes)) != NULL) {
        (*n)++;
    }
    for (int i = 0; i < n_files && *n < MAX_SEEDS; i++) {
        RP_TRY(rp_fs_read_file(&data, &seeds[*n].nbytes, files[i], (size_t)1 << 24));
        seeds[(*n)++].data = (uint8_t *)data;
    }
out:
    return st;
}

int main(int argc, char **argv)
{
    const struct rlimit limit = {MEMORY_BYTES, MEMORY_BYTES};
    rp_status st = RP_OK;
    input seeds[MAX_SEEDS];
    int n = 0;
    uint64_t state = 88172645463325252u;
    const long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 0;

    if (!IS_SANITIZED && setrlimit(RLIMIT_AS, &limit) != 0) {
        perror("setrlimit");
        return EXIT_FAILURE;
    }
    RP_TRY(load_seeds(seeds, &n, argc > 2 ? argc - 2 : 0, argv + 2));
    for (int i = 0; i < n; i++) {
        (void)LLVMFuzzerTestOneInput(seeds[i].data, seeds[i].nbytes);
    }
    for (long round = 0; n > 0 && round < rounds; round++) {
        RP_TRY(run_one(&seeds[round % n], &seeds[next_random(&state) % (uint64_t)n], &state));
    }
out:
    for (int i = 0; i < n; i++) {
        free(seeds[i].data);
    }
    if (st != RP_OK) {
        (void)fprintf(stderr, "%s\n", rp_error_message());
    }
    return st == RP_OK && n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

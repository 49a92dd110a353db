/* Times the decoders and encoders of GGUF's types on one thread beside memcpy of the same run:
 *
 *     blocks_bench [MIB [TYPE]]      (of f32 values, default 64; default all types)
 *
 * Rates count the f32 side alone: bytes written by decoding, read by encoding; the copy's are the
 * bytes copied. Seconds are the thread's own, so that others on the machine count less. "pack"
 * stores codes that are there, "encode" rounds dense rows. */
#include "base/mem.h"
#include "formats/gguf_blocks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COLS = 4096, REPS = 7 };

typedef struct bench {
    int64_t rows;
    rp_form dense;
    float *out;
    uint8_t *bytes;
    double copy_rate; /* GB/s */
} bench;

static void fail_if(rp_status status)
{
    if (status != RP_OK) {
        fprintf(stderr, "%s\n", rp_error_message());
        exit(70);
    }
}

static double thread_seconds(void)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* The best of REPS runs of one statement. */
#define BEST_OF(seconds, statement)                                                                \
    do {                                                                                           \
        (seconds) = HUGE_VAL;                                                                      \
        for (int rep = 0; rep < REPS; rep++) {                                                     \
            const double start_s = thread_seconds();                                               \
            statement;                                                                             \
            (seconds) = fmin((seconds), thread_seconds() - start_s);                               \
        }                                                                                          \
    } while (0)

static void report(const bench *b, const char *what, double seconds)
{
    const double rate = (double)(b->rows * COLS) * sizeof(float) / seconds * 1e-9;

    printf("  %s %7.2f GB/s %5.2f", what, rate, rate / b->copy_rate);
}

static void time_type(bench *b, const rp_gguf_block_type *type)
{
    double seconds = 0.0;
    rp_form codes = {0};
    rp_grid grid;

    printf("%-8s", type->name);
    if (rp_gguf_can_encode(type)) {
        BEST_OF(seconds, fail_if(rp_gguf_encode_rows(type, &b->dense, 0, b->rows, NULL, b->bytes)));
        report(b, "encode", seconds);
        if (!type->is_float) {
            fail_if(rp_gguf_grid(&grid, type));
            fail_if(rp_form_create_codes(&codes, &grid, b->rows, COLS));
            rp_gguf_unpack_rows(type, b->bytes, b->rows, COLS, codes.params, codes.codes);
            BEST_OF(seconds,
                    fail_if(rp_gguf_encode_rows(type, &codes, 0, b->rows, NULL, b->bytes)));
            report(b, "pack", seconds);
            rp_form_destroy(&codes);
        }
    }
    BEST_OF(seconds, rp_gguf_decode_rows(type, b->bytes, b->rows, COLS, b->out));
    report(b, "decode", seconds);
    printf("\n");
}

int main(int argc, char **argv)
{
    const int64_t mib = argc > 1 ? atoll(argv[1]) : 64;
    bench b = {.rows = mib * ((1 << 20) / (int64_t)sizeof(float)) / COLS};
    const size_t nbytes = (size_t)(b.rows * COLS) * sizeof(float);
    double seconds = 0.0;

    fail_if(rp_form_create_dense(&b.dense, b.rows, COLS));
    fail_if(rp_alloc(&b.out, nbytes));
    fail_if(rp_alloc(&b.bytes, nbytes));
    for (int64_t i = 0; i < b.rows * COLS; i++) {
        const uint32_t hash = (uint32_t)i * 2654435761U;
        b.dense.values[i] = ((float)(hash >> 8) / 8388608.0F - 1.0F) * 0.05F;
    }
    memset(b.bytes, 0x11, nbytes);
    memset(b.out, 0, nbytes);
    BEST_OF(seconds, memcpy(b.out, b.dense.values, nbytes));
    b.copy_rate = (double)nbytes / seconds * 1e-9;
    printf("memcpy of %lld MiB: %.2f GB/s; rates of f32 bytes, ratio to the copy\n", (long long)mib,
           b.copy_rate);
    for (const rp_gguf_block_type *type = rp_gguf_block_type_table(); type->name != NULL; type++) {
        if (rp_gguf_can_decode(type) && (argc < 3 || strcmp(argv[2], type->name) == 0)) {
            time_type(&b, type);
        }
    }
    rp_form_destroy(&b.dense);
    free(b.out);
    free(b.bytes);
    return 0;
}

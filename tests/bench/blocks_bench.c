/* Times the decoders and encoders of GGUF's types on one thread beside memcpy of the same run:
 *
 *     blocks_bench [MIB [TYPE [GGML]]]      (of f32 values, default 64; default "all")
 *
 * Rates count the f32 side alone: bytes written by decoding, read by encoding; the copy's are the
 * bytes copied. Seconds are the thread's own, so that others on the machine count less. "pack"
 * stores codes that are there, "encode" rounds dense rows, "weighted" with an importance of each
 * column. GGML is a libggml-base.so: each of its rates on the same values follows in brackets with
 * ours over it. */
#include "base/mem.h"
#include "formats/gguf_blocks.h"
#include "tests/bench/best_of.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLS = 4096, REPS = 7 };

/* ggml's public functions, and the head of what its ggml_get_type_traits describes. */
typedef size_t ggml_quantize_fn(int type, const float *src, void *dst, int64_t start, int64_t nrows,
                                int64_t cols, const float *imatrix);
typedef void ggml_decode_fn(const void *src, float *dst, int64_t n);
typedef struct ggml_traits {
    const char *name;
    int64_t block_elems, interleave;
    size_t block_bytes;
    bool is_quantised;
    ggml_decode_fn *decode;
} ggml_traits;
typedef const ggml_traits *ggml_traits_fn(int type);

typedef struct bench {
    int64_t rows;
    rp_form dense;
    float *out, *importance;
    uint8_t *bytes;
    double copy_rate;                /* GB/s */
    ggml_quantize_fn *ggml_quantize; /* NULL: no peer */
    ggml_traits_fn *ggml_traits;
} bench;

static void fail_if(rp_status status)
{
    if (status != RP_OK) {
        fprintf(stderr, "%s\n", rp_error_message());
        exit(70);
    }
}

/* peer_seconds: 0 without a peer. */
static void report(const bench *b, const char *what, double seconds, double peer_seconds)
{
    const double gigabytes = (double)(b->rows * COLS) * sizeof(float) * 1e-9;
    const double rate = gigabytes / seconds;

    printf("  %s %7.3f GB/s %5.2f", what, rate, rate / b->copy_rate);
    if (peer_seconds > 0.0) {
        printf(" (%.3f, %.1f x)", gigabytes / peer_seconds, peer_seconds / seconds);
    }
}

static void time_encoding(bench *b, const rp_gguf_block_type *type, const char *what,
                          const float *importance)
{
    double seconds = 0.0;
    double peer_seconds = 0.0;

    BEST_OF(seconds, REPS, thread_seconds,
            fail_if(rp_gguf_encode_rows(type, &b->dense, 0, b->rows, importance, b->bytes)));
    if (b->ggml_quantize != NULL && !type->is_float) {
        BEST_OF(peer_seconds, REPS, thread_seconds,
                (void)b->ggml_quantize((int)type->id, b->dense.values, b->bytes, 0, b->rows, COLS,
                                       importance));
    }
    report(b, what, seconds, peer_seconds);
}

static void time_decoding(bench *b, const rp_gguf_block_type *type)
{
    double seconds = 0.0;
    double peer_seconds = 0.0;

    BEST_OF(seconds, REPS, thread_seconds,
            rp_gguf_decode_rows(type, b->bytes, b->rows, COLS, b->out));
    if (b->ggml_traits != NULL && b->ggml_traits((int)type->id)->decode != NULL) {
        BEST_OF(peer_seconds, REPS, thread_seconds,
                b->ggml_traits((int)type->id)->decode(b->bytes, b->out, b->rows * COLS));
    }
    report(b, "decode", seconds, peer_seconds);
}

static void load_peer(bench *b, const char *path)
{
    void *library = dlopen(path, RTLD_NOW);

    if (library == NULL) {
        fprintf(stderr, "blocks_bench: %s\n", dlerror());
        exit(69);
    }
    b->ggml_quantize = (ggml_quantize_fn *)dlsym(library, "ggml_quantize_chunk");
    b->ggml_traits = (ggml_traits_fn *)dlsym(library, "ggml_get_type_traits");
    if (b->ggml_quantize == NULL || b->ggml_traits == NULL) {
        fprintf(stderr, "blocks_bench: %s: not ggml\n", path);
        exit(69);
    }
}

static void time_type(bench *b, const rp_gguf_block_type *type)
{
    double seconds = 0.0;
    rp_form codes = {0};
    rp_grid grid;

    printf("%-8s", type->name);
    if (rp_gguf_can_encode(type)) {
        time_encoding(b, type, "encode", NULL);
        if (!type->is_float) {
            time_encoding(b, type, "weighted", b->importance);
            fail_if(rp_gguf_grid(&grid, type));
            fail_if(rp_form_create_codes(&codes, &grid, b->rows, COLS));
            rp_gguf_unpack_rows(type, b->bytes, b->rows, COLS, codes.params, codes.codes);
            BEST_OF(seconds, REPS, thread_seconds,
                    fail_if(rp_gguf_encode_rows(type, &codes, 0, b->rows, NULL, b->bytes)));
            report(b, "pack", seconds, 0.0);
            rp_form_destroy(&codes);
        }
    }
    time_decoding(b, type);
    printf("\n");
    (void)fflush(stdout);
}

static bool is_asked_for(const rp_gguf_block_type *type, const char *name)
{
    return strcmp(name, "all") == 0 || strcmp(name, type->name) == 0;
}

int main(int argc, char **argv)
{
    const int64_t mib = argc > 1 ? atoll(argv[1]) : 64;
    bench b = {.rows = mib * ((1 << 20) / (int64_t)sizeof(float)) / COLS};
    const size_t nbytes = (size_t)(b.rows * COLS) * sizeof(float);
    double seconds = 0.0;

    fail_if(rp_form_create_dense(&b.dense, b.rows, COLS));
    fail_if(rp_alloc(&b.out, nbytes));
    fail_if(rp_alloc_array(&b.importance, COLS, sizeof(float)));
    fail_if(rp_alloc(&b.bytes, nbytes));
    for (int64_t i = 0; i < b.rows * COLS; i++) {
        const uint32_t hash = (uint32_t)i * 2654435761U;
        b.dense.values[i] = ((float)(hash >> 8) / 8388608.0F - 1.0F) * 0.05F;
    }
    for (int i = 0; i < COLS; i++) {
        b.importance[i] = 0.1F + fabsf(b.dense.values[i]);
    }
    if (argc > 3) {
        load_peer(&b, argv[3]);
    }
    memset(b.bytes, 0x11, nbytes);
    memset(b.out, 0, nbytes);
    BEST_OF(seconds, REPS, thread_seconds, memcpy(b.out, b.dense.values, nbytes));
    b.copy_rate = (double)nbytes / seconds * 1e-9;
    printf("memcpy of %lld MiB: %.2f GB/s; rates of f32 bytes, ratio to the copy\n", (long long)mib,
           b.copy_rate);
    for (const rp_gguf_block_type *type = rp_gguf_block_type_table(); type->name != NULL; type++) {
        if (rp_gguf_can_decode(type) && is_asked_for(type, argc > 2 ? argv[2] : "all")) {
            time_type(&b, type);
        }
    }
    rp_form_destroy(&b.dense);
    free(b.out);
    free(b.importance);
    free(b.bytes);
    return 0;
}

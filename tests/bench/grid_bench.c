/* Times the quantisers of GGUF's grids on one thread, beside a copy of the values and, when a
 * libggml-base.so is named, ggml's own quantisers on the same values:
 *
 *     grid_bench [LIBGGML_BASE [TYPE ...]]
 *
 * Rates are GB/s of f32 values read, the best of
 * REPS runs. Our codes stay in the cache: a piece of rows at a time, as a writer that packs them
 * would have it. */
#include "base/mem.h"
#include "kernels/grid.h"
#include "tests/bench/best_of.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 2048, COLS = 4096, PIECE = 4, REPS = 5 };
#define BYTES ((double)ROWS * COLS * sizeof(float))

typedef size_t ggml_quantise(int type, const float *src, void *dst, int64_t start, int64_t nrows,
                             int64_t n_per_row, const float *importance);

typedef struct bench {
    float *values, *importance, *params;
    uint8_t *codes, *blocks;
    ggml_quantise *peer;
} bench;

static const struct {
    const char *name;
    int number; /* ggml's */
} types[] = {{"Q8_0", 8},    {"Q4_0", 2},    {"Q4_1", 3},   {"Q5_0", 6},   {"Q5_1", 7},
             {"Q2_K", 10},   {"Q3_K", 11},   {"Q4_K", 12},  {"Q5_K", 13},  {"Q6_K", 14},
             {"IQ4_NL", 20}, {"IQ4_XS", 23}, {"TQ1_0", 34}, {"TQ2_0", 35}, {"MXFP4", 39}};

static void quantise_all(const bench *b, const rp_grid *grid, const float *importance)
{
    for (int64_t row = 0; row < ROWS; row += PIECE) {
        grid->ops->quantise(grid, PIECE, COLS, b->values + row * COLS, importance, b->params,
                            b->codes);
    }
}

static double peer_rate(const bench *b, int number, const float *importance)
{
    double seconds;

    if (b->peer == NULL) {
        return 0.0;
    }
    BEST_OF(seconds, REPS, thread_seconds,
            b->peer(number, b->values, b->blocks, 0, ROWS, COLS, importance));
    return 1e-9 * BYTES / seconds;
}

static void time_type(const bench *b, const char *name, int number, double copy_rate)
{
    const rp_grid_ops *ops = rp_grid_find(name);
    const rp_grid grid = {
        .ops = ops, .bits = ops->fixed_bits, .group = ops->fixed_group, .scale_type = RP_F16};

    for (int weighted = 0; weighted < 2; weighted++) {
        const float *importance = weighted ? b->importance : NULL;
        double seconds;
        BEST_OF(seconds, REPS, thread_seconds, quantise_all(b, &grid, importance));
        const double rate = 1e-9 * BYTES / seconds;
        const double peer = peer_rate(b, number, importance);
        printf("%-7s %-10s %8.3f GB/s  %5.2f of a copy", name, weighted ? "importance" : "plain",
               rate, rate / copy_rate);
        if (peer > 0.0) {
            printf("  ggml %8.3f GB/s  %6.1f times", peer, rate / peer);
        }
        printf("\n");
        (void)fflush(stdout);
    }
}

static bool is_wanted(int argc, char **argv, const char *name)
{
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            return true;
        }
    }
    return argc <= 2;
}

static void fill(bench *b)
{
    uint32_t state = 1;

    for (int64_t i = 0; i < (int64_t)ROWS * COLS; i++) {
        float sum = 0.0F;
        for (int k = 0; k < 4; k++) {
            state = state * 1664525U + 1013904223U;
            sum += (float)(state >> 8) / 8388608.0F - 1.0F;
        }
        b->values[i] = 0.02F * sum;
    }
    for (int64_t i = 0; i < COLS; i++) {
        b->importance[i] = expf(50.0F * b->values[i]);
    }
}

int main(int argc, char **argv)
{
    bench b = {0};
    double copy_s;
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    rp_status st = RP_OK;

    if (argc > 1 && library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 66;
    }
    if (library != NULL) {
        *(void **)&b.peer = dlsym(library, "ggml_quantize_chunk");
    }
    RP_TRY(rp_alloc_array(&b.values, (size_t)ROWS * COLS, sizeof(float)));
    RP_TRY(rp_alloc_array(&b.importance, COLS, sizeof(float)));
    RP_TRY(rp_alloc_array(&b.params, (size_t)PIECE * COLS, sizeof(float)));
    RP_TRY(rp_alloc_array(&b.codes, (size_t)PIECE * COLS, 1));
    RP_TRY(rp_alloc_array(&b.blocks, (size_t)ROWS * COLS, sizeof(float)));
    fill(&b);
    BEST_OF(copy_s, REPS, thread_seconds, memcpy(b.blocks, b.values, (size_t)BYTES));
    printf("copy of %.0f MB: %.2f GB/s read\n", 1e-6 * BYTES, 1e-9 * BYTES / copy_s);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (is_wanted(argc, argv, types[i].name)) {
            time_type(&b, types[i].name, types[i].number, 1e-9 * BYTES / copy_s);
        }
    }
out:
    free(b.values);
    free(b.importance);
    free(b.params);
    free(b.codes);
    free(b.blocks);
    return st == RP_OK ? 0 : 71;
}

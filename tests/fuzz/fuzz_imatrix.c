/* Any bytes as an importance matrix of either kind: statistics made, every mean read, and merged
 * with itself read again. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/gguf.h"
#include "formats/imatrix_stats.h"
#include "tests/fuzz/fuzz.h"

static void touch_means(const rp_imatrix *m)
{
    for (size_t i = 0; i < m->n; i++) {
        const rp_imatrix_entry *entry = rp_imatrix_find(m, m->entries[i].name);
        float *means = NULL;
        if (entry == NULL || rp_alloc_array(&means, (size_t)entry->n_values, sizeof(*means))) {
            __builtin_trap();
        }
        rp_imatrix_importance(entry, means);
        for (int64_t k = 0; k < entry->n_values; k++) {
            if (!(means[k] >= 0)) {
                __builtin_trap();
            }
        }
        free(means);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes)
{
    rp_imatrix *m = NULL;
    rp_imatrix *again = NULL;
    rp_imatrix_stats *stats = NULL;
    rp_imatrix_layer_stats *layers = NULL;
    int64_t n_layers = 0;
    const rp_status status = rp_imatrix_parse(&m, data, nbytes, "fuzz.gguf");

    fuzz_check(status);
    if (status != RP_OK) {
        return 0;
    }
    touch_means(m);
    fuzz_check(rp_imatrix_stats_make(&stats, m));
    fuzz_check(rp_imatrix_layer_stats_make(&layers, &n_layers, stats, (int64_t)m->n));
    fuzz_check(rp_imatrix_parse(&again, data, nbytes, "fuzz.gguf"));
    fuzz_check(rp_imatrix_merge(m, again));
    free(layers);
    free(stats);
    rp_imatrix_destroy(&again);
    rp_imatrix_destroy(&m);
    return 0;
}

/* ---- Seeds: a file of each kind ---- */

static uint8_t *dat_seed(size_t *nbytes)
{
    static const struct {
        int32_t n_entries, name_bytes;
        char name[12];
        int32_t n_chunks, n_values;
        float values[4];
        int32_t name2_bytes;
        char name2[12];
        int32_t n_chunks2, n_values2;
        float values2[2];
        int32_t chunks, text_bytes;
        char text[4];
    } file = {2, 12, "blk.0.weight", 3, 4, {1, 2, 0, 4}, 12, "blk.1.weight",
              3, 2,  {1, 5},         3, 4, "text"};
    uint8_t *out = NULL;

    if (rp_alloc(&out, sizeof(file)) != RP_OK) {
        return NULL;
    }
    memcpy(out, &file, sizeof(file));
    *nbytes = sizeof(file);
    return out;
}

static rp_status put_gguf(rp_gguf_writer *w)
{
    rp_status st = RP_OK;
    const rp_gguf_block_type *f32 = rp_gguf_block_type_find("F32");
    const int64_t sums[2] = {4, 2};
    const int64_t counts[2] = {1, 2};

    RP_TRY(rp_gguf_put_string(w, "general.type", "imatrix"));
    RP_TRY(rp_gguf_put_strings(w, "imatrix.datasets", 1));
    RP_TRY(rp_gguf_add_string(w, "text"));
    RP_TRY(rp_gguf_put_u32(w, "imatrix.chunk_count", 3));
    RP_TRY(rp_gguf_put_u32(w, "imatrix.chunk_size", 512));
    RP_TRY(rp_gguf_add_tensor(w, "blk.0.w.in_sum2", f32, 2, sums));
    RP_TRY(rp_gguf_add_tensor(w, "blk.0.w.counts", f32, 2, counts));
    RP_TRY(rp_gguf_add_tensor(w, "blk.1.w.in_sum2", f32, 1, sums));
    RP_TRY(rp_gguf_add_tensor(w, "blk.1.w.counts", f32, 1, counts));
out:
    return st;
}

static uint8_t *gguf_seed(size_t *nbytes)
{
    rp_status st = RP_OK;
    rp_gguf_writer *w = NULL;
    const uint8_t *header = NULL;
    size_t header_bytes = 0;
    uint8_t *file = NULL;

    RP_TRY(rp_gguf_writer_create(&w));
    RP_TRY(put_gguf(w));
    RP_TRY(rp_gguf_writer_finish(w, &header, &header_bytes));
    *nbytes = rp_gguf_writer_file_bytes(w);
    RP_TRY(rp_calloc(&file, *nbytes, 1));
    memcpy(file, header, header_bytes);
    for (size_t i = header_bytes; i < *nbytes; i++) {
        file[i] = 0x41; /* any f32 of these bytes is 12.08 */
    }
out:
    rp_gguf_writer_destroy(&w);
    return st == RP_OK ? file : NULL;
}

uint8_t *fuzz_seed(int index, size_t *nbytes)
{
    switch (index) {
    case 0:
        return dat_seed(nbytes);
    case 1:
        return gguf_seed(nbytes);
    default:
        return NULL;
    }
}

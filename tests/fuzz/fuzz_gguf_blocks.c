/* Any bytes as GGUF blocks: the first byte is ggml's number of the type. They must decode; and what
 * they unpack to must, packed again, decode to the same values. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/gguf_blocks.h"
#include "tests/fuzz/fuzz.h"

static void *own(size_t nbytes)
{
    void *memory = NULL;

    if (rp_alloc(&memory, nbytes) != RP_OK) {
        __builtin_trap();
    }
    return memory;
}

static void check_packing(const rp_gguf_block_type *type, const uint8_t *blocks, int64_t n,
                          const float *values)
{
    rp_grid grid;
    rp_form form;
    const size_t nbytes = rp_gguf_row_bytes(type, n);
    uint8_t *again = own(nbytes);
    float *values_again = own((size_t)n * sizeof(*values));

    if (rp_gguf_grid(&grid, type) != RP_OK || rp_form_create_codes(&form, &grid, 1, n) != RP_OK) {
        __builtin_trap();
    }
    rp_gguf_unpack_rows(type, blocks, 1, n, form.params, form.codes);
    const rp_status status = rp_gguf_encode_rows(type, &form, 0, 1, NULL, again);
    fuzz_check(status);
    if (status == RP_OK) {
        rp_gguf_decode_rows(type, again, 1, n, values_again);
        if (memcmp(values, values_again, (size_t)n * sizeof(*values)) != 0) {
            __builtin_trap();
        }
    }
    rp_form_destroy(&form);
    free(values_again);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes)
{
    const rp_gguf_block_type *type = nbytes > 0 ? rp_gguf_block_type_of(data[0]) : NULL;

    if (type == NULL || !rp_gguf_can_decode(type) || nbytes - 1 < type->block_bytes) {
        return 0;
    }
    const int64_t nblocks = (int64_t)((nbytes - 1) / type->block_bytes);
    const int64_t n = nblocks * type->block_elems;
    const size_t used = rp_gguf_row_bytes(type, n);
    uint8_t *blocks = own(used);
    float *values = own((size_t)n * sizeof(*values));
    memcpy(blocks, data + 1, used);
    rp_gguf_decode_rows(type, blocks, 1, n, values);
    if (!type->is_float && rp_gguf_can_encode(type)) {
        check_packing(type, blocks, n, values);
    }
    free(values);
    free(blocks);
    return 0;
}

/* Three blocks of each type that is read. */
uint8_t *fuzz_seed(int index, size_t *nbytes)
{
    for (const rp_gguf_block_type *type = rp_gguf_block_type_table(); type->name != NULL; type++) {
        if (!rp_gguf_can_decode(type) || index-- > 0) {
            continue;
        }
        *nbytes = 1 + 3 * type->block_bytes;
        uint8_t *data = own(*nbytes);
        data[0] = (uint8_t)type->id;
        for (size_t i = 1; i < *nbytes; i++) {
            data[i] = (uint8_t)(i * 2654435761U >> 13);
        }
        return data;
    }
    return NULL;
}

/* usage: gguf_types_driver TYPE ROWS COLS VALUES IMPORTANCE|- CODES PARAMS DECODED BLOCKS
 *
 * Quantises the f32 file VALUES [ROWS, COLS] onto the grid TYPE, with the f32 file IMPORTANCE
 * [COLS] if given, and writes codes (bytes), parameters and decoded values (f32), and the
 * blocks of a GGUF file: none where a parameter is not finite. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/gguf_blocks.h"
#include "kernels/form.h"

static rp_status read_floats(const char *path, int64_t n, float **out)
{
    rp_status st = RP_OK;
    FILE *file = fopen(path, "rb");

    if (file == NULL) {
        return RP_FAIL(RP_ERR_IO, "%s: cannot be opened", path);
    }
    RP_TRY(rp_alloc_array(out, (size_t)n, sizeof(float)));
    if (fread(*out, sizeof(float), (size_t)n, file) != (size_t)n) {
        RP_TRY(RP_FAIL(RP_ERR_IO, "%s: too short", path));
    }
out:
    (void)fclose(file);
    return st;
}

static rp_status write_bytes(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");

    if (file == NULL) {
        return RP_FAIL(RP_ERR_IO, "%s: cannot be written", path);
    }
    const bool written = fwrite(data, 1, bytes, file) == bytes;
    return fclose(file) == 0 && written ? RP_OK : RP_FAIL(RP_ERR_IO, "%s: write failed", path);
}

static rp_status write_blocks(const char *path, const char *type, const rp_form *form)
{
    rp_status st = RP_OK;
    const rp_gguf_block_type *block = rp_gguf_block_type_find(type);
    const size_t bytes = rp_gguf_row_bytes(block, form->cols) * (size_t)form->rows;
    uint8_t *blocks = NULL;

    RP_TRY(rp_alloc_array(&blocks, bytes, 1));
    const bool is_finite = rp_gguf_encode_rows(block, form, 0, form->rows, NULL, blocks) == RP_OK;
    RP_TRY(write_bytes(path, blocks, is_finite ? bytes : 0));
out:
    free(blocks);
    return st;
}

static rp_status run(char **argv)
{
    rp_status st = RP_OK;
    const rp_grid_ops *ops = rp_grid_find(argv[1]);
    const int64_t rows = strtoll(argv[2], NULL, 10);
    const int64_t cols = strtoll(argv[3], NULL, 10);
    float *values = NULL;
    float *importance = NULL;
    rp_form form = {0};

    if (ops == NULL) {
        return RP_FAIL(RP_ERR_CONFIG, "%s: no such grid", argv[1]);
    }
    const rp_grid grid = {
        .ops = ops, .bits = ops->fixed_bits, .group = ops->fixed_group, .scale_type = RP_F16};
    RP_TRY(read_floats(argv[4], rows * cols, &values));
    if (strcmp(argv[5], "-") != 0) {
        RP_TRY(read_floats(argv[5], cols, &importance));
    }
    RP_TRY(rp_form_create_codes(&form, &grid, rows, cols));
    ops->quantise(&grid, rows, cols, values, importance, form.params, form.codes);
    RP_TRY(write_bytes(argv[6], form.codes, (size_t)(rows * cols)));
    RP_TRY(write_bytes(argv[7], form.params,
                       (size_t)(rows * rp_form_params_per_row(&form)) * sizeof(float)));
    RP_TRY(write_blocks(argv[9], argv[1], &form));
    rp_form_decode_rows(&form, 0, rows, values);
    RP_TRY(write_bytes(argv[8], values, (size_t)(rows * cols) * sizeof(float)));
out:
    rp_form_destroy(&form);
    free(values);
    free(importance);
    return st;
}

int main(int argc, char **argv)
{
    if (argc != 10) {
        (void)fprintf(stderr,
                      "usage: %s TYPE ROWS COLS VALUES IMPORTANCE|- CODES PARAMS DECODED BLOCKS\n",
                      argv[0]);
        return 2;
    }
    return run(argv) == RP_OK ? 0 : 1;
}

/* Reads GPTQ linears (layout: container_gptq.c): v1 (stored zero points + 1) and v2, any g_idx.
 * Widths may differ from module to module ("dynamic" rules), so they are taken from the shapes. */
#include "formats/packed_parts.h"

#include "base/mem.h"
#include "formats/bitpack.h"

#include <stdlib.h>
#include <string.h>

#define UNIT 32 /* codes that fill whole words at every width */

static bool is_width(int64_t bits)
{
    return bits == 2 || bits == 3 || bits == 4 || bits == 8;
}

/* "checkpoint_format", or "format" as newer writers call it; "gptq" where there is neither. */
static const char *checkpoint_format(const json_t *quant)
{
    const char *name = json_string_value(json_object_get(quant, "checkpoint_format"));

    name = name == NULL ? json_string_value(json_object_get(quant, "format")) : name;
    return name == NULL ? "gptq" : name;
}

static rp_status check_config(const json_t *quant)
{
    const json_t *bits = json_object_get(quant, "bits");
    const json_t *group_size = json_object_get(quant, "group_size");
    const char *format = checkpoint_format(quant);

    if (!json_is_integer(bits) || !is_width(json_integer_value(bits))) {
        return RP_FAIL(RP_ERR_FORMAT, "quantization_config.bits: want 2, 3, 4 or 8");
    }
    if (!json_is_integer(group_size) || json_integer_value(group_size) < -1) {
        return RP_FAIL(RP_ERR_FORMAT, "quantization_config.group_size: want -1 or a positive "
                                      "number");
    }
    if (strcmp(format, "gptq") != 0 && strcmp(format, "gptq_v2") != 0) {
        return RP_FAIL(RP_ERR_FORMAT,
                       "quantization_config.checkpoint_format \"%s\" is not supported", format);
    }
    return RP_OK;
}

/* Columns and width from the shapes; group where there is no g_idx. */
static rp_status find_sizes(rp_packed_linear *out, const json_t *quant)
{
    const rp_safetensors_entry *codes = out->codes->entry;
    const int64_t config_bits = json_integer_value(json_object_get(quant, "bits"));
    const int64_t group_size = json_integer_value(json_object_get(quant, "group_size"));
    const bool is_dynamic = json_object_size(json_object_get(quant, "dynamic")) > 0;
    const int64_t code_bits = codes->shape[0] * 32; /* of one output */

    out->cols = out->g_idx != NULL ? out->g_idx->entry->shape[0] : code_bits / config_bits;
    out->bits = (int)RP_MIN(code_bits / RP_MAX(out->cols, 1), 32);
    if (!is_width(out->bits) || out->cols * out->bits != code_bits ||
        (!is_dynamic && out->bits != config_bits)) {
        return RP_FAIL(RP_ERR_FORMAT,
                       "%s: tensor %s: %lld words a column do not hold %lld codes of %lld bits",
                       rp_safetensors_path(out->codes->file), codes->name,
                       (long long)codes->shape[0], (long long)out->cols, (long long)config_bits);
    }
    out->rows = codes->shape[1];
    out->n_groups = out->scales->entry->shape[0];
    out->group = group_size < 1 ? out->cols : group_size;
    return RP_OK;
}

static rp_status bind_linear(rp_packed_linear *out, const rp_hf_folder *folder, const char *module,
                             const json_t *quant)
{
    static const rp_packed_want want_codes = {".qweight", true, RP_I32, 2};
    static const rp_packed_want want_zeros = {".qzeros", true, RP_I32, 2};
    static const rp_packed_want want_scales = {".scales", true, RP_F32, 2};
    static const rp_packed_want want_g_idx = {".g_idx", false, RP_I32, 1};
    rp_status st = RP_OK;
    rp_packed_linear linear = {.reader = &rp_packed_gptq};

    RP_TRY(rp_packed_find(&linear.codes, &linear.stored_bytes, folder, module, &want_codes));
    RP_TRY(rp_packed_find(&linear.zeros, &linear.stored_bytes, folder, module, &want_zeros));
    RP_TRY(rp_packed_find(&linear.scales, &linear.stored_bytes, folder, module, &want_scales));
    RP_TRY(rp_packed_find(&linear.g_idx, &linear.stored_bytes, folder, module, &want_g_idx));
    RP_TRY(find_sizes(&linear, quant));
    linear.zero_offset = strcmp(checkpoint_format(quant), "gptq_v2") == 0 ? 0 : 1;
    if (linear.g_idx == NULL) {
        RP_TRY(rp_packed_check_shape(linear.scales, RP_DIV_UP(linear.cols, linear.group),
                                     linear.rows));
    }
    RP_TRY(rp_packed_check_shape(linear.scales, linear.n_groups, linear.rows));
    RP_TRY(rp_packed_check_shape(linear.zeros, linear.n_groups,
                                 rp_bits_words(linear.rows, linear.bits)));
    *out = linear;
out:
    return st;
}

/* What rows n .. n + nrows - 1 need, in memory. */
typedef struct row_data {
    uint32_t *words; /* [words of a column, nrows] */
    float *scales;   /* [nrows, n_groups] */
    float *zeros;    /* [nrows, n_groups] */
    int32_t *groups; /* [cols] */
} row_data;

static void free_row_data(row_data *data)
{
    free(data->words);
    free(data->scales);
    free(data->zeros);
    free(data->groups);
}

static rp_status load_scales(float *scales, const rp_packed_linear *linear, int64_t row0,
                             int64_t nrows)
{
    rp_status st = RP_OK;
    const int64_t groups = linear->n_groups;
    const rp_dtype dtype = linear->scales->entry->dtype;
    void *raw = NULL;
    float *turned = NULL;

    RP_TRY(rp_alloc_array(&raw, (size_t)(groups * nrows), rp_dtype_bytes(dtype)));
    RP_TRY(rp_alloc_array(&turned, (size_t)(groups * nrows), sizeof(*turned)));
    RP_TRY(rp_packed_read_cols(linear->scales, row0, nrows, raw));
    rp_to_f32(turned, raw, dtype, groups * nrows);
    for (int64_t n = 0; n < nrows; n++) {
        for (int64_t g = 0; g < groups; g++) {
            scales[n * groups + g] = turned[g * nrows + n];
        }
    }
out:
    free(raw);
    free(turned);
    return st;
}

static rp_status load_zeros(float *zeros, const rp_packed_linear *linear, int64_t row0,
                            int64_t nrows)
{
    rp_status st = RP_OK;
    const int64_t groups = linear->n_groups;
    const int64_t skip = row0 % UNIT;
    const int64_t first_word = row0 / UNIT * linear->bits;
    const int64_t end_word =
        RP_MIN(linear->zeros->entry->shape[1], RP_DIV_UP(row0 + nrows, UNIT) * linear->bits);
    const int64_t n_words = end_word - first_word;
    uint32_t *words = NULL;
    uint8_t *codes = NULL;

    RP_TRY(rp_alloc_array(&words, (size_t)(groups * n_words), sizeof(*words)));
    RP_TRY(rp_alloc(&codes, (size_t)(skip + nrows)));
    RP_TRY(rp_packed_read_cols(linear->zeros, first_word, n_words, words));
    for (int64_t g = 0; g < groups; g++) {
        rp_bits_unpack(codes, words + g * n_words, skip + nrows, linear->bits);
        for (int64_t n = 0; n < nrows; n++) {
            zeros[n * groups + g] = (float)(codes[skip + n] + linear->zero_offset);
        }
    }
out:
    free(words);
    free(codes);
    return st;
}

static rp_status load_row_data(row_data *data, const rp_packed_linear *linear, int64_t row0,
                               int64_t nrows)
{
    rp_status st = RP_OK;
    const size_t n_params = (size_t)(linear->n_groups * nrows);

    RP_TRY(rp_alloc_array(&data->words, (size_t)(linear->codes->entry->shape[0] * nrows),
                          sizeof(*data->words)));
    RP_TRY(rp_alloc_array(&data->scales, n_params, sizeof(*data->scales)));
    RP_TRY(rp_alloc_array(&data->zeros, n_params, sizeof(*data->zeros)));
    RP_TRY(rp_packed_read_cols(linear->codes, row0, nrows, data->words));
    RP_TRY(load_scales(data->scales, linear, row0, nrows));
    RP_TRY(load_zeros(data->zeros, linear, row0, nrows));
    RP_TRY(rp_packed_read_groups(&data->groups, linear));
out:
    return st;
}

/* 32 columns of 16 rows at a time: words are read a cache line, values written a row piece. */
static rp_status read_rows(const rp_packed_linear *linear, int64_t row0, int64_t nrows, float *dst)
{
    enum { TILE_ROWS = 16 };
    rp_status st = RP_OK;
    row_data data = {0};

    RP_TRY(load_row_data(&data, linear, row0, nrows));
    for (int64_t tile = 0; tile < nrows; tile += TILE_ROWS) {
        const int64_t tile_end = RP_MIN(tile + TILE_ROWS, nrows);
        for (int64_t k = 0; k < linear->cols; k += UNIT) {
            const int64_t n_codes = RP_MIN(UNIT, linear->cols - k);
            const int64_t n_words = rp_bits_words(n_codes, linear->bits);
            const uint32_t *source = data.words + rp_bits_words(k, linear->bits) * nrows;
            for (int64_t n = tile; n < tile_end; n++) {
                uint32_t words[8];
                uint8_t codes[UNIT];
                for (int64_t w = 0; w < n_words; w++) {
                    words[w] = source[w * nrows + n];
                }
                rp_bits_unpack(codes, words, n_codes, linear->bits);
                rp_packed_decode(dst + n * linear->cols + k, codes, data.groups + k,
                                 data.scales + n * linear->n_groups,
                                 data.zeros + n * linear->n_groups, n_codes);
            }
        }
    }
out:
    free_row_data(&data);
    return st;
}

static const char *const suffixes[] = {".qweight", ".qzeros", ".scales", ".g_idx", NULL};

const rp_packed_reader rp_packed_gptq = {
    .quant_method = "gptq",
    .codes_suffix = ".qweight",
    .suffixes = suffixes,
    .check_config = check_config,
    .bind = bind_linear,
    .read_rows = read_rows,
};

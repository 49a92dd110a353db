/* Reads compressed-tensors linears of format pack-quantized, int 4 and 8, weights only (layout:
 * container_compressed_tensors.c), symmetric or not, with and without g_idx. */
#include "formats/packed_parts.h"

#include "base/mem.h"
#include "formats/bitpack.h"

#include <stdlib.h>
#include <string.h>

/* Keys that, when not null, ask for something beyond weights: name and where it is. */
static rp_status refuse_key(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    if (value != NULL && !json_is_null(value)) {
        return RP_FAIL(RP_ERR_FORMAT, "quantization_config: %s is not supported", key);
    }
    return RP_OK;
}

static rp_status check_group(const json_t *group, const char *name)
{
    rp_status st = RP_OK;
    const json_t *weights = json_object_get(group, "weights");
    const json_int_t bits = json_integer_value(json_object_get(weights, "num_bits"));
    const char *type = json_string_value(json_object_get(weights, "type"));

    if ((bits != 4 && bits != 8) || (type != NULL && strcmp(type, "int") != 0)) {
        st = RP_FAIL(RP_ERR_FORMAT,
                     "quantization_config.config_groups.%s.weights: want int of 4 or 8 bits, found "
                     "%s of %lld",
                     name, type == NULL ? "int" : type, (long long)bits);
        goto out;
    }
    RP_TRY(refuse_key(group, "input_activations"));
    RP_TRY(refuse_key(group, "output_activations"));
out:
    return st;
}

static rp_status check_config(const json_t *quant)
{
    rp_status st = RP_OK;
    json_t *groups = json_object_get(quant, "config_groups");
    const char *format = json_string_value(json_object_get(quant, "format"));
    const char *name = NULL;
    json_t *group = NULL;

    if (format == NULL || strcmp(format, "pack-quantized") != 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "quantization_config.format \"%s\" is not supported",
                     format == NULL ? "" : format);
        goto out;
    }
    if (json_object_size(groups) == 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "quantization_config.config_groups: want an object");
        goto out;
    }
    json_object_foreach(groups, name, group)
    {
        RP_TRY(check_group(group, name));
    }
    RP_TRY(refuse_key(quant, "kv_cache_scheme"));
    if (json_object_size(json_object_get(quant, "sparsity_config")) > 0) {
        RP_TRY(refuse_key(quant, "sparsity_config"));
    }
out:
    return st;
}

/* The width of one of the config's groups that fills exactly the words of a row. */
static int find_bits(const rp_packed_linear *linear, const json_t *quant)
{
    const char *name = NULL;
    json_t *group = NULL;

    json_object_foreach(json_object_get(quant, "config_groups"), name, group)
    {
        const json_t *weights = json_object_get(group, "weights");
        const int bits = (int)json_integer_value(json_object_get(weights, "num_bits"));
        if (rp_bits_words(linear->cols, bits) == linear->codes->entry->shape[1]) {
            return bits;
        }
    }
    return 0;
}

/* Rows and columns as weight_shape says, checked against the codes. */
static rp_status read_shape(rp_packed_linear *linear, const rp_hf_tensor *shape_tensor,
                            const json_t *quant)
{
    rp_status st = RP_OK;
    const rp_safetensors_entry *codes = linear->codes->entry;
    int64_t shape[2] = {0, 0};

    RP_TRY(rp_packed_check_shape(shape_tensor, 2, -1));
    RP_TRY(rp_safetensors_read(shape_tensor->file, shape_tensor->entry, 0, sizeof(shape), shape));
    linear->rows = shape[0];
    linear->cols = shape[1];
    /* A word holds at least 4 codes, at most 8. */
    if (shape[0] == codes->shape[0] && shape[1] > 0 && shape[1] <= codes->shape[1] * 8) {
        linear->bits = find_bits(linear, quant);
    }
    if (linear->bits == 0) {
        st = RP_FAIL(RP_ERR_FORMAT,
                     "%s: tensor %s: shape [%lld, %lld] does not hold the [%lld, %lld] of its "
                     "weight_shape",
                     rp_safetensors_path(linear->codes->file), codes->name,
                     (long long)codes->shape[0], (long long)codes->shape[1], (long long)shape[0],
                     (long long)shape[1]);
    }
out:
    return st;
}

static rp_status bind_linear(rp_packed_linear *out, const rp_hf_folder *folder, const char *module,
                             const json_t *quant)
{
    static const rp_packed_want want_codes = {".weight_packed", true, RP_I32, 2};
    static const rp_packed_want want_scale = {".weight_scale", true, RP_F32, 2};
    static const rp_packed_want want_shape = {".weight_shape", true, RP_I64, 1};
    static const rp_packed_want want_zeros = {".weight_zero_point", false, RP_I32, 2};
    static const rp_packed_want want_g_idx = {".weight_g_idx", false, RP_I32, 1};
    rp_status st = RP_OK;
    rp_packed_linear linear = {.reader = &rp_packed_compressed_tensors};
    const rp_hf_tensor *shape = NULL;

    RP_TRY(rp_packed_find(&linear.codes, &linear.stored_bytes, folder, module, &want_codes));
    RP_TRY(rp_packed_find(&linear.scales, &linear.stored_bytes, folder, module, &want_scale));
    RP_TRY(rp_packed_find(&shape, &linear.stored_bytes, folder, module, &want_shape));
    RP_TRY(rp_packed_find(&linear.zeros, &linear.stored_bytes, folder, module, &want_zeros));
    RP_TRY(rp_packed_find(&linear.g_idx, &linear.stored_bytes, folder, module, &want_g_idx));
    RP_TRY(read_shape(&linear, shape, quant));
    linear.n_groups = linear.scales->entry->shape[1];
    RP_TRY(rp_packed_check_shape(linear.scales, linear.rows, linear.n_groups));
    if (linear.cols % linear.n_groups != 0) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: %lld columns are no multiple of %lld groups",
                     rp_safetensors_path(linear.scales->file), linear.scales->entry->name,
                     (long long)linear.cols, (long long)linear.n_groups);
        goto out;
    }
    linear.group = linear.cols / linear.n_groups;
    if (linear.zeros != NULL) {
        RP_TRY(rp_packed_check_shape(linear.zeros, rp_bits_words(linear.rows, linear.bits),
                                     linear.n_groups));
    }
    if (linear.g_idx != NULL) {
        RP_TRY(rp_packed_check_shape(linear.g_idx, linear.cols, -1));
    }
    *out = linear;
out:
    return st;
}

static rp_status load_scales(float *scales, const rp_packed_linear *linear, int64_t row0,
                             int64_t nrows)
{
    rp_status st = RP_OK;
    const rp_dtype dtype = linear->scales->entry->dtype;
    const int64_t n = nrows * linear->n_groups;
    void *raw = NULL;

    RP_TRY(rp_alloc_array(&raw, (size_t)n, rp_dtype_bytes(dtype)));
    RP_TRY(rp_packed_read_matrix_rows(linear->scales, row0, nrows, raw));
    rp_to_f32(scales, raw, dtype, n);
out:
    free(raw);
    return st;
}

/* Zero points lie along the rows: word w of a group has rows w * 32 / bits and following. */
static rp_status load_zeros(float *zeros, const rp_packed_linear *linear, int64_t row0,
                            int64_t nrows)
{
    rp_status st = RP_OK;
    const int64_t groups = linear->n_groups;
    const int per_word = 32 / linear->bits;
    const int64_t first_word = row0 / per_word;
    const int64_t n_words = RP_DIV_UP(row0 + nrows, per_word) - first_word;
    uint32_t *words = NULL;

    if (linear->zeros == NULL) {
        for (int64_t i = 0; i < nrows * groups; i++) {
            zeros[i] = (float)(1 << (linear->bits - 1));
        }
        goto out;
    }
    RP_TRY(rp_alloc_array(&words, (size_t)(n_words * groups), sizeof(*words)));
    RP_TRY(rp_packed_read_matrix_rows(linear->zeros, first_word, n_words, words));
    for (int64_t n = 0; n < nrows; n++) {
        const uint32_t *word = words + ((row0 + n) / per_word - first_word) * groups;
        const int shift = (int)((row0 + n) % per_word) * linear->bits;
        for (int64_t g = 0; g < groups; g++) {
            zeros[n * groups + g] = (float)(word[g] >> shift & ((1u << linear->bits) - 1));
        }
    }
out:
    free(words);
    return st;
}

static rp_status read_rows(const rp_packed_linear *linear, int64_t row0, int64_t nrows, float *dst)
{
    rp_status st = RP_OK;
    const int64_t n_words = linear->codes->entry->shape[1];
    const size_t n_params = (size_t)(nrows * linear->n_groups);
    uint32_t *words = NULL;
    uint8_t *codes = NULL;
    float *scales = NULL;
    float *zeros = NULL;
    int32_t *groups = NULL;

    RP_TRY(rp_alloc_array(&words, (size_t)(nrows * n_words), sizeof(*words)));
    RP_TRY(rp_alloc(&codes, (size_t)linear->cols));
    RP_TRY(rp_alloc_array(&scales, n_params, sizeof(*scales)));
    RP_TRY(rp_alloc_array(&zeros, n_params, sizeof(*zeros)));
    RP_TRY(rp_packed_read_matrix_rows(linear->codes, row0, nrows, words));
    RP_TRY(load_scales(scales, linear, row0, nrows));
    RP_TRY(load_zeros(zeros, linear, row0, nrows));
    RP_TRY(rp_packed_read_groups(&groups, linear));
    for (int64_t n = 0; n < nrows; n++) {
        rp_bits_unpack(codes, words + n * n_words, linear->cols, linear->bits);
        rp_packed_decode(dst + n * linear->cols, codes, groups, scales + n * linear->n_groups,
                         zeros + n * linear->n_groups, linear->cols);
    }
out:
    free(words);
    free(codes);
    free(scales);
    free(zeros);
    free(groups);
    return st;
}

static const char *const suffixes[] = {".weight_packed",     ".weight_scale", ".weight_shape",
                                       ".weight_zero_point", ".weight_g_idx", NULL};

const rp_packed_reader rp_packed_compressed_tensors = {
    .quant_method = "compressed-tensors",
    .codes_suffix = ".weight_packed",
    .suffixes = suffixes,
    .check_config = check_config,
    .bind = bind_linear,
    .read_rows = read_rows,
};

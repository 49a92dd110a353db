/* The readers of packed linears, and what they share. */
#include "formats/packed.h"

#include "base/mem.h"
#include "formats/packed_parts.h"

#include <stdlib.h>
#include <string.h>

/* Bit counts of any tensor fit an int64_t. */
#define MAX_TENSOR_BYTES ((size_t)1 << 56)

static const rp_packed_reader *const readers[] = {
    &rp_packed_gptq,
    &rp_packed_compressed_tensors,
    NULL,
};

const rp_packed_reader *rp_packed_reader_find(const char *quant_method)
{
    for (const rp_packed_reader *const *r = readers; *r != NULL; r++) {
        if (strcmp((*r)->quant_method, quant_method) == 0) {
            return *r;
        }
    }
    return NULL;
}

rp_status rp_packed_find(const rp_hf_tensor **out, size_t *total_bytes, const rp_hf_folder *folder,
                         const char *module, const rp_packed_want *want)
{
    rp_status st = RP_OK;
    const rp_safetensors_entry *entry = NULL;
    char *name = NULL;

    RP_TRY(rp_strprintf(&name, "%s%s", module, want->suffix));
    *out = rp_hf_folder_find(folder, name);
    if (*out == NULL) {
        st = want->is_required ? RP_FAIL(RP_ERR_FORMAT, "tensor %s is missing", name) : RP_OK;
        goto out;
    }
    entry = (*out)->entry;
    if (want->dtype == RP_F32 ? !rp_dtype_is_float(entry->dtype) : entry->dtype != want->dtype) {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: want type %s, found %s",
                     rp_safetensors_path((*out)->file), name,
                     want->dtype == RP_F32 ? "F32, F16 or BF16" : rp_dtype_name(want->dtype),
                     entry->dtype_name);
        goto out;
    }
    if (entry->ndim != want->ndim || entry->nbytes == 0 || entry->nbytes > MAX_TENSOR_BYTES) {
        st = RP_FAIL(RP_ERR_FORMAT,
                     "%s: tensor %s: want %d dimensions and 1 to %zu bytes, found %d and %zu",
                     rp_safetensors_path((*out)->file), name, want->ndim, MAX_TENSOR_BYTES,
                     entry->ndim, entry->nbytes);
        goto out;
    }
    *total_bytes += entry->nbytes;
out:
    free(name);
    return st;
}

rp_status rp_packed_check_shape(const rp_hf_tensor *tensor, int64_t d0, int64_t d1)
{
    const rp_safetensors_entry *entry = tensor->entry;

    if (entry->shape[0] != d0 || (d1 >= 0 && entry->shape[1] != d1)) {
        return RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: want shape [%lld, %lld], found [%lld, %lld]",
                       rp_safetensors_path(tensor->file), entry->name, (long long)d0,
                       (long long)RP_MAX(d1, 0), (long long)entry->shape[0],
                       (long long)(entry->ndim > 1 ? entry->shape[1] : 0));
    }
    return RP_OK;
}

rp_status rp_packed_read_cols(const rp_hf_tensor *tensor, int64_t col0, int64_t n, void *dst)
{
    rp_status st = RP_OK;
    const rp_safetensors_entry *entry = tensor->entry;
    const size_t elem_bytes = rp_dtype_bytes(entry->dtype);
    const int64_t cols = entry->shape[1];

    if (n == cols) {
        RP_TRY(rp_safetensors_read(tensor->file, entry, 0, entry->nbytes, dst));
        goto out;
    }
    for (int64_t r = 0; r < entry->shape[0]; r++) {
        RP_TRY(rp_safetensors_read(tensor->file, entry, (size_t)(r * cols + col0) * elem_bytes,
                                   (size_t)n * elem_bytes,
                                   (char *)dst + (size_t)(r * n) * elem_bytes));
    }
out:
    return st;
}

rp_status rp_packed_read_matrix_rows(const rp_hf_tensor *tensor, int64_t row0, int64_t n, void *dst)
{
    const size_t row_bytes = (size_t)tensor->entry->shape[1] * rp_dtype_bytes(tensor->entry->dtype);

    return rp_safetensors_read(tensor->file, tensor->entry, (size_t)row0 * row_bytes,
                               (size_t)n * row_bytes, dst);
}

rp_status rp_packed_read_groups(int32_t **out, const rp_packed_linear *linear)
{
    rp_status st = RP_OK;
    const rp_hf_tensor *g_idx = linear->g_idx;
    int32_t *groups = NULL;

    RP_TRY(rp_alloc_array(&groups, (size_t)linear->cols, sizeof(*groups)));
    for (int64_t k = 0; g_idx == NULL && k < linear->cols; k++) {
        groups[k] = (int32_t)(k / linear->group);
    }
    if (g_idx != NULL) {
        RP_TRY(rp_safetensors_read(g_idx->file, g_idx->entry, 0, g_idx->entry->nbytes, groups));
    }
    for (int64_t k = 0; k < linear->cols; k++) {
        if (groups[k] < 0 || groups[k] >= linear->n_groups) {
            st = RP_FAIL(RP_ERR_FORMAT, "%s: tensor %s: group %d of column %lld, there are %lld",
                         rp_safetensors_path(linear->scales->file),
                         g_idx == NULL ? linear->scales->entry->name : g_idx->entry->name,
                         groups[k], (long long)k, (long long)linear->n_groups);
            goto out;
        }
    }
    *out = groups;
    groups = NULL;
out:
    free(groups);
    return st;
}

void rp_packed_decode(float *dst, const uint8_t *codes, const int32_t *groups, const float *scales,
                      const float *zeros, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        dst[i] = scales[groups[i]] * ((float)codes[i] - zeros[groups[i]]);
    }
}

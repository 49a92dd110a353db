/* Private to the readers of packed linears: finding, checking and reading their stored tensors. */
#ifndef RP_FORMATS_PACKED_PARTS_H
#define RP_FORMATS_PACKED_PARTS_H

#include "formats/packed.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const rp_packed_reader rp_packed_gptq;
extern const rp_packed_reader rp_packed_compressed_tensors;

/* What a stored tensor of a linear must be. */
typedef struct rp_packed_want {
    const char *suffix;
    bool is_required;
    rp_dtype dtype; /* RP_F32: any of F32, F16, BF16 */
    int ndim;
} rp_packed_want;

/* Local. Tensor "<module><suffix>" into *out, its size added to *total_bytes. NULL when absent and
 * not required. */
RP_CHECKED rp_status rp_packed_find(const rp_hf_tensor **out, size_t *total_bytes,
                                    const rp_hf_folder *folder, const char *module,
                                    const rp_packed_want *want);
/* Local. RP_ERR_FORMAT naming file and tensor unless its shape is [d0, d1] ([d0] for d1 < 0). */
RP_CHECKED rp_status rp_packed_check_shape(const rp_hf_tensor *tensor, int64_t d0, int64_t d1);
/* Local. Columns col0 .. col0 + n - 1 of all rows of a matrix, into dst [rows, n]. */
RP_CHECKED rp_status rp_packed_read_cols(const rp_hf_tensor *tensor, int64_t col0, int64_t n,
                                         void *dst);
/* Local. Rows row0 .. row0 + n - 1 of a matrix, into dst [n, cols]. */
RP_CHECKED rp_status rp_packed_read_matrix_rows(const rp_hf_tensor *tensor, int64_t row0, int64_t n,
                                                void *dst);
/* Local. The group of each column, from g_idx (checked) or col / group, into new memory [cols]. */
RP_CHECKED rp_status rp_packed_read_groups(int32_t **out, const rp_packed_linear *linear);
/* Local. dst[i] = scales[g] * (codes[i] - zeros[g]) with g = groups[i]. */
void rp_packed_decode(float *dst, const uint8_t *codes, const int32_t *groups, const float *scales,
                      const float *zeros, int64_t n);

#ifdef __cplusplus
}
#endif
#endif

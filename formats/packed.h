/* Reading back linears that somebody packed: rows of W [out, in] as f32 from GPTQ and
 * compressed-tensors checkpoints of any writer. The inverse of the containers, with act-order
 * groups (g_idx) and every zero-point convention of the files. One row of the table a format. */
#ifndef RP_FORMATS_PACKED_H
#define RP_FORMATS_PACKED_H

#include "formats/hf_folder.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_packed_reader rp_packed_reader;

/* One linear; borrows the folder. */
typedef struct rp_packed_linear {
    const rp_packed_reader *reader;
    int64_t rows, cols;
    int bits;
    int zero_offset;  /* added to stored zero points */
    int64_t n_groups; /* of a row */
    int64_t group;    /* columns a group where there is no g_idx */
    const rp_hf_tensor *codes, *scales;
    const rp_hf_tensor *zeros, *g_idx; /* NULL: not stored */
    size_t stored_bytes;
} rp_packed_linear;

struct rp_packed_reader {
    const char *quant_method;    /* of quantization_config */
    const char *codes_suffix;    /* ".qweight": a tensor of this name makes a linear */
    const char *const *suffixes; /* of all tensors of a linear, ended by NULL */
    /* Local. Whether the object quantization_config asks for nothing that this cannot do.
     * RP_ERR_FORMAT naming the key. */
    rp_status (*check_config)(const json_t *quant);
    /* Local. Finds and checks the tensors of `module`. RP_ERR_FORMAT naming file and tensor. */
    rp_status (*bind)(rp_packed_linear *out, const rp_hf_folder *folder, const char *module,
                      const json_t *quant);
    /* Local, thread-safe. Rows row0 .. row0 + nrows - 1 decoded into dst [nrows, cols]. */
    rp_status (*read_rows)(const rp_packed_linear *linear, int64_t row0, int64_t nrows, float *dst);
};

/* Local. By quant_method, or NULL. */
const rp_packed_reader *rp_packed_reader_find(const char *quant_method);

#ifdef __cplusplus
}
#endif
#endif

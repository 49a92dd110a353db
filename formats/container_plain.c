/* Plain safetensors: the decoded matrix as "<module>.weight" in the output's float type. Holds any
 * scheme; scales are those that a GPTQ file would store, so both hold the same values. */
#include "formats/containers.h"

#include "base/mem.h"

#include <stdlib.h>

#define CHUNK_ELEMS (1 << 20)

static rp_status plain_grid(rp_grid *out, const rp_container_opts *opts, const rp_scheme *scheme,
                            int64_t rows, int64_t cols)
{
    (void)opts;
    (void)rows;
    (void)cols;
    if (scheme->bits < 2 || scheme->bits > 8) {
        return RP_FAIL(RP_ERR_CONFIG, "safetensors holds grids of 2 to 8 bits, not %d",
                       scheme->bits);
    }
    *out = (rp_grid){
        .ops = rp_grid_find("affine"),
        .bits = scheme->bits,
        .is_symmetric = scheme->is_symmetric,
        .mse = scheme->mse,
        .group = scheme->group_size,
        .scale_type = RP_F16,
    };
    return RP_OK;
}

static rp_status plain_parts(const rp_container_opts *opts, const char *module, const rp_grid *grid,
                             int64_t rows, int64_t cols, rp_part out[RP_MAX_PARTS], int *n_parts)
{
    (void)grid;
    *n_parts = 1;
    return rp_part_set(&out[0], module, ".weight", opts->dense_type, rows, cols);
}

static rp_status plain_encode(const rp_container_opts *opts, const rp_form *form, int index,
                              void *dst)
{
    rp_status st = RP_OK;
    const int64_t step = RP_MAX(1, CHUNK_ELEMS / RP_MAX(1, form->cols));
    const size_t row_bytes = (size_t)form->cols * rp_dtype_bytes(opts->dense_type);
    float *rows = NULL;

    (void)index;
    RP_TRY(rp_alloc_array(&rows, (size_t)(RP_MIN(step, form->rows) * form->cols), sizeof(*rows)));
    for (int64_t row0 = 0; row0 < form->rows; row0 += step) {
        const int64_t n = RP_MIN(step, form->rows - row0);
        rp_form_decode_rows(form, row0, n, rows);
        rp_from_f32((char *)dst + (size_t)row0 * row_bytes, rows, opts->dense_type, n * form->cols);
    }
out:
    free(rows);
    return st;
}

static rp_status plain_config(json_t **out, const rp_container_opts *opts,
                              const rp_module_scheme *modules, int64_t n, double dampening_frac)
{
    (void)opts;
    (void)modules;
    (void)n;
    (void)dampening_frac;
    *out = NULL;
    return RP_OK;
}

const rp_container rp_container_plain = {
    .name = "safetensors",
    .grid = plain_grid,
    .parts = plain_parts,
    .encode = plain_encode,
    .config = plain_config,
};

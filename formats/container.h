/* Containers of quantised linears inside safetensors files: GPTQ, compressed-tensors, plain (and
 * later AWQ ...).
 *
 * A container says which grid a scheme gets in it, into which stored tensors ("parts") a solved
 * matrix goes, and how to encode and decode them. GGUF has its own file layout (formats/gguf.h) but
 * the same part idea. One file and one row of the table a container. */
#ifndef RP_FORMATS_CONTAINER_H
#define RP_FORMATS_CONTAINER_H

#include <jansson.h>

#include "kernels/form.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_MAX_PARTS 4
#define RP_MAX_DIMS 4
#define RP_NAME_BYTES 256

/* What a recipe asks of one linear: number format without a container's details. */
typedef struct rp_scheme {
    int bits; /* 2..8 */
    bool is_symmetric;
    int64_t group_size; /* 0: per channel (the whole row) */
    bool mse;           /* clipping search */
} rp_scheme;

/* One stored tensor. */
typedef struct rp_part {
    char name[RP_NAME_BYTES]; /* full name in the file: "model.layers.0.self_attn.q_proj.qweight" */
    rp_dtype dtype;
    int ndim;
    int64_t shape[RP_MAX_DIMS];
    size_t nbytes;
} rp_part;

typedef struct rp_container_opts {
    bool v2;             /* gptq: checkpoint_format gptq_v2 (zeros stored without the -1) */
    rp_dtype dense_type; /* type of dense float tensors in the output */
} rp_container_opts;

/* One module's scheme, for the quantisation config of config.json. */
typedef struct rp_module_scheme {
    const char *module; /* "model.layers.0.self_attn.q_proj" */
    bool is_quantised;  /* false: a linear left dense */
    rp_grid grid;
    bool is_actorder;
} rp_module_scheme;

typedef struct rp_container {
    const char *name; /* "gptq", "compressed-tensors", "safetensors" */
    /* Local. The grid for a linear [rows, cols]. RP_ERR_CONFIG, naming the rule, when the container
     * cannot hold it. */
    rp_status (*grid)(rp_grid *out, const rp_container_opts *opts, const rp_scheme *scheme,
                      int64_t rows, int64_t cols);
    /* Local. Stored tensors of module's [rows, cols] matrix on `grid`; module without ".weight". */
    rp_status (*parts)(const rp_container_opts *opts, const char *module, const rp_grid *grid,
                       int64_t rows, int64_t cols, rp_part out[RP_MAX_PARTS], int *n_parts);
    /* Local. Bytes of part `index` of the whole form into dst [part.nbytes]. */
    rp_status (*encode)(const rp_container_opts *opts, const rp_form *form, int index, void *dst);
    /* Local. The `quantization_config` object for config.json (new reference), NULL result: none.
     * modules [n]. */
    rp_status (*config)(json_t **out, const rp_container_opts *opts,
                        const rp_module_scheme *modules, int64_t n, double dampening_frac);
} rp_container;

/* Local. By name, or NULL. */
const rp_container *rp_container_find(const char *name);

#ifdef __cplusplus
}
#endif
#endif

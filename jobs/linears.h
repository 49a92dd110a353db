/* Every linear of the model's layers with what the recipe and the outputs ask of it: the list that
 * plan, run and outputs share. */
#ifndef RP_JOBS_LINEARS_H
#define RP_JOBS_LINEARS_H

#include "jobs/gguf_types.h"
#include "jobs/job.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_MAX_OUTPUTS 8
#define RP_FORM_NONE (-1) /* the linear stays dense in this output */

typedef struct rp_linear {
    int64_t layer;
    rp_slot slot;
    char module[128]; /* "model.layers.0.self_attn.q_proj" */
    int64_t rows, cols;
    const rp_gguf_block_type *stored_as; /* in a GGUF source, else NULL */
    rp_linear_choice choice;
    int n_forms; /* distinct grids over the outputs; form 0 is what later layers see; 0: dense */
    rp_grid grid[RP_MAX_OUTPUTS];
    int form_of_output[RP_MAX_OUTPUTS]; /* index in grid, or RP_FORM_NONE */
} rp_linear;

typedef struct rp_linears {
    rp_linear *items; /* [n_layers * RP_SLOT_LINEARS], layer-major, slots in order */
    int64_t n;
    bool needs_measuring;   /* some output's size decides its types */
    bool needs_calibration; /* some linear, or an output, needs statistics */
    bool corrects_drift; /* some linear's target does: the uncompressed stream is carried along */
    rp_gguf_types types[RP_MAX_OUTPUTS]; /* of GGUF outputs: all tensors of the file */
} rp_linears;

/* Local. RP_ERR_CONFIG naming the module or tensor when an output cannot hold what the job asks, or
 * when a target matches nothing. */
RP_CHECKED rp_status rp_linears_create(rp_linears *out, const rp_job *job,
                                       const rp_weights *weights);
/* Local. The linears' grids anew after a change of `types`. */
RP_CHECKED rp_status rp_linears_take_types(rp_linears *linears, const rp_job *job);
void rp_linears_destroy(rp_linears *linears);
const rp_linear *rp_linears_at(const rp_linears *linears, int64_t layer, rp_slot slot);
/* Local. The linear whose weight has this name, or NULL. */
const rp_linear *rp_linears_find(const rp_linears *linears, const char *weight_name);
/* Local. Sweeps of coordinate descent that a form's solve ends with. */
int64_t rp_linear_sweeps(const rp_linear *linear, int form);
/* Local. A linear that output k should quantise and keeps as floats, because its columns fill no
 * blocks. */
bool rp_linear_is_kept_dense(const rp_linears *linears, const rp_linear *linear, int64_t k);
/* Local. A linear that a GGUF output k holds as the source's own blocks. */
bool rp_linear_is_copied(const rp_linears *linears, const rp_linear *linear, int64_t k);
/* Local. The checkpoint's name of a form: "layer/3/self_attn.q_proj/0". */
void rp_linear_unit(char *out, size_t out_bytes, const rp_linear *linear, int form);
/* Local. What a checkpoint stores of its forms, HDF5's own bytes aside. */
size_t rp_linear_stored_bytes(const rp_linear *linear);
/* Local. Type of dense float tensors of an output; `source` is the tensor's own type. */
rp_dtype rp_output_dense_type(const rp_output_format *format, rp_dtype source);

#ifdef __cplusplus
}
#endif
#endif

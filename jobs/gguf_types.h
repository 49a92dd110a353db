/* The block type of every tensor of a GGUF output, from the output's mix and the job's exceptions:
 * decided once, for plan, solvers, writer and report. */
#ifndef RP_JOBS_GGUF_TYPES_H
#define RP_JOBS_GGUF_TYPES_H

#include <jansson.h>

#include "formats/gguf_mix.h"
#include "jobs/job.h"
#include "model/weights.h"

#ifdef __cplusplus
extern "C" {
#endif

/* rp_gguf_mix_tensor.index of the tensor of rope frequencies, which no model file has. */
#define RP_GGUF_NOT_A_WEIGHT (-1)

typedef struct rp_gguf_types {
    rp_gguf_mix_tensor *items; /* [n] in the order of the file; index: of the weight */
    int64_t n;
    const rp_gguf_mix *mix; /* whose rules decide what nothing else does, and the file's type */
} rp_gguf_types;

/* Local. is_kept [rp_weights_count]: matrices that the recipe leaves alone (in a quantised file
 * they are F16, or what a GGUF source has, unless tensor_types names them). has_imatrix: solvers
 * know how much each column matters. RP_ERR_CONFIG naming output and tensor when a type does not
 * fit, or is neither written by this program nor the source's own, and when an entry of
 * tensor_types matches no tensor. */
RP_CHECKED rp_status rp_gguf_types_create(rp_gguf_types *out, const rp_weights *weights,
                                          const rp_output_format *format, const bool *is_kept,
                                          bool has_imatrix);
/* Local. The types anew by another mix's rules. */
RP_CHECKED rp_status rp_gguf_types_set_mix(rp_gguf_types *types, const rp_weights *weights,
                                           const rp_output_format *format, const rp_gguf_mix *mix,
                                           bool has_imatrix);
/* Local. Did the job give this tensor's type by name. */
bool rp_gguf_types_is_given(const rp_gguf_mix_tensor *tensor, const rp_model_config *config,
                            const rp_output_format *format);
/* Local. A copy of `from` (an empty or equal one is replaced). */
RP_CHECKED rp_status rp_gguf_types_copy(rp_gguf_types *out, const rp_gguf_types *from);
void rp_gguf_types_destroy(rp_gguf_types *types);
/* Local. The tensor with this Hugging Face name, or NULL. */
const rp_gguf_mix_tensor *rp_gguf_types_find(const rp_gguf_types *types, const char *hf_name);
/* Local. {"Q4_K": 37, "F32": 13}: tensors of each type, in the order of the table. */
json_t *rp_gguf_types_count(const rp_gguf_types *types);
/* Local. The mix of a GGUF output; NULL when its size decides. */
const rp_gguf_mix *rp_gguf_mix_of(const rp_output_format *format);

/* Local. "check" functions of option rows: RP_ERR_USAGE when text is not the name of a type, or not
 * PATTERN=TYPE as llama-quantize's --tensor-type has it. */
rp_status rp_gguf_type_check(const char *text);
rp_status rp_tensor_type_check(const char *text);

#ifdef __cplusplus
}
#endif
#endif

/* Rows of a model's tensors as f32 where the operations run. */
#ifndef RP_MODEL_PLACE_ROWS_H
#define RP_MODEL_PLACE_ROWS_H

#include "kernels/ops.h"
#include "model/weights.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. rp_weights_read_f32 into out [place]. */
RP_CHECKED rp_status rp_place_rows_read(const rp_weights *weights, const rp_weight_info *info,
                                        int64_t row0, int64_t nrows, const rp_kernel_ops *ops,
                                        const rp_exec *exec, float *out);
/* Local. The two halves of it: rp_weights_read_rows into stored, on the host, by all threads of
 * exec, and what was read so as f32 into out [place]. A GPU is not waited for by the first. */
RP_CHECKED rp_status rp_place_rows_fetch(const rp_weights *weights, const rp_weight_info *info,
                                         int64_t row0, int64_t nrows, const rp_exec *exec,
                                         void *stored);
RP_CHECKED rp_status rp_place_rows_widen(const rp_weights *weights, const rp_weight_info *info,
                                         int64_t row0, int64_t nrows, const rp_kernel_ops *ops,
                                         const rp_exec *exec, const void *stored, float *out);
/* Local. Host memory that rp_place_rows_read takes; has_gpu: into a GPU's place. */
size_t rp_place_rows_bytes(bool has_gpu);

#ifdef __cplusplus
}
#endif
#endif

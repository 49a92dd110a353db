/* Weights as a GGUF type would hold them: rounded to nearest and decoded again. */
#ifndef RP_JOBS_ROUND_ROWS_H
#define RP_JOBS_ROUND_ROWS_H

#include "formats/gguf_blocks.h"
#include "kernels/exec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local, thread-safe. out [rows, cols] from w, weighted with importance [cols] or NULL; out may be
 * w. */
RP_CHECKED rp_status rp_round_rows(const rp_gguf_block_type *type, const float *importance,
                                   int64_t rows, int64_t cols, const float *w, float *out);
/* Local. The same by all threads. */
RP_CHECKED rp_status rp_round_matrix(const rp_exec *exec, const rp_gguf_block_type *type,
                                     const float *importance, int64_t rows, int64_t cols,
                                     const float *w, float *out);

#ifdef __cplusplus
}
#endif
#endif

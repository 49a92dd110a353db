/* Rotary position tables: frequencies of every rope type, cos and sin of every position. */
#ifndef RP_MODEL_ROPE_H
#define RP_MODEL_ROPE_H

#include "kernels/ops.h"
#include "model/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. inv_freq [rp_model_rotary_dims / 2], radians a position, for sequences of seq_len tokens
 * (dynamic and longrope depend on it). Returns the factor on cos and sin. */
double rp_rope_frequencies(const rp_model_config *config, int64_t seq_len, float *inv_freq);

typedef struct rp_rope {
    float *cos_sin;      /* [place] [2, seq_len, rot_dim / 2] */
    rp_rope_table table; /* views of it */
} rp_rope;
/* Local. Positions 0 .. seq_len - 1. Caller destroys. */
RP_CHECKED rp_status rp_rope_create(rp_rope *out, const rp_model_config *config,
                                    const rp_exec *exec, int64_t seq_len);
void rp_rope_destroy(const rp_exec *exec, rp_rope *rope);
/* Local. Bytes in the place that rp_rope_create allocates. */
size_t rp_rope_bytes(const rp_model_config *config, int64_t seq_len);

#ifdef __cplusplus
}
#endif
#endif

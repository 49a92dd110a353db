/* The CPU's operations, one file each; kernels/ops.h says what they do. */
#ifndef RP_KERNELS_CPU_OPS_CPU_H
#define RP_KERNELS_CPU_OPS_CPU_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

void rp_linear_cpu(const rp_exec *exec, rp_mat y, rp_cmat x, rp_cmat w, const float *bias,
                   bool accumulate);
void rp_rms_norm_cpu(const rp_exec *exec, rp_mat y, rp_cmat x, const float *w, float eps);
void rp_rope_cpu(const rp_exec *exec, rp_mat x, int n_heads, int head_dim, int64_t seq_len,
                 const rp_rope_table *table);
void rp_attention_cpu(const rp_exec *exec, const rp_attention_shape *shape, rp_mat out, rp_cmat q,
                      rp_cmat k, rp_cmat v);
void rp_silu_mul_cpu(const rp_exec *exec, rp_mat out, rp_cmat gate, rp_cmat up);
int64_t rp_max_abs_cpu(const rp_exec *exec, rp_cmat x, float *max_abs);
void rp_square_sums_cpu(const rp_exec *exec, rp_cmat x, double *sum);
void rp_gram_add_cpu(const rp_exec *exec, rp_cmat x, const int *exponent, int shift, int64_t *sum);
void rp_cross_add_cpu(const rp_exec *exec, rp_cmat a, rp_cmat b, const int *row_exponent,
                      const int *col_exponent, int shift, int64_t *sum);
void rp_token_nll_cpu(const rp_exec *exec, rp_cmat logits, const int32_t *target, double *nll);

#ifdef __cplusplus
}
#endif
#endif

/* The operations of the CUDA back end; kernels/ops.h says what they do. */
#ifndef RP_KERNELS_CUDA_OPS_CUDA_H
#define RP_KERNELS_CUDA_OPS_CUDA_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

void rp_linear_cuda(const rp_exec *exec, rp_mat y, rp_cmat x, rp_cmat w, const float *bias,
                    bool accumulate);
void rp_rms_norm_cuda(const rp_exec *exec, rp_mat y, rp_cmat x, const float *w, float eps);
void rp_rope_cuda(const rp_exec *exec, rp_mat x, int n_heads, int head_dim, int64_t seq_len,
                  const rp_rope_table *table);
void rp_attention_cuda(const rp_exec *exec, const rp_attention_shape *shape, rp_mat out, rp_cmat q,
                       rp_cmat k, rp_cmat v);
void rp_silu_mul_cuda(const rp_exec *exec, rp_mat out, rp_cmat gate, rp_cmat up);
int64_t rp_max_abs_cuda(const rp_exec *exec, rp_cmat x, float *max_abs);
void rp_square_sums_cuda(const rp_exec *exec, rp_cmat x, double *sum);
void rp_gram_add_cuda(const rp_exec *exec, rp_cmat x, const int *exponent, int shift, int64_t *sum);
void rp_cross_add_cuda(const rp_exec *exec, rp_cmat a, rp_cmat b, const int *row_exponent,
                       const int *col_exponent, int shift, int64_t *sum);
int64_t rp_widen_cuda(const rp_exec *exec, float *out, const void *stored, rp_dtype dtype,
                      int64_t n);
void rp_loss_add_cuda(const rp_exec *exec, rp_loss *loss, rp_cmat logits, rp_cmat other,
                      int64_t first, const int32_t *target);
void rp_triangle_cuda(const rp_exec *exec, int64_t *square, int64_t n, int64_t first, int64_t end,
                      int64_t *packed, bool is_packing);
void rp_subtract_cuda(const rp_exec *exec, rp_mat out, rp_cmat a, rp_cmat b);
void rp_add_cuda(const rp_exec *exec, rp_mat y, rp_cmat x);
double rp_sum_squares_cuda(const rp_exec *exec, rp_cmat x);
void rp_bound_rows_cuda(const rp_exec *exec, rp_cmat w, const float *x, double *out);
void rp_cross_mean_cuda(const rp_exec *exec, rp_mat out, const int64_t *sum,
                        const int *row_exponent, const int *col_exponent, int shift,
                        double divisor);
void rp_multiply_cuda(const rp_exec *exec, rp_mat out, rp_cmat a, rp_cmat b);
void rp_solve_right_cuda(const rp_exec *exec, const rp_ldl *ldl, rp_mat t);
void rp_gram_mean_cuda(const rp_exec *exec, int64_t n, int64_t *sum, const int *exponent, int shift,
                       int64_t n_tokens, const uint8_t *is_dead, double *diagonal);
void rp_permute_upper_cuda(const rp_exec *exec, int64_t n, double *h, const int32_t *order);
void rp_mirror_lower_cuda(const rp_exec *exec, int64_t n, double *h, const double *diagonal);
void rp_cholesky_cuda(const rp_exec *exec, int64_t n, double *h, int64_t *failed_at);
void rp_ldl_cuda(const rp_exec *exec, int64_t n, const double *h, float *l, float *d);
void rp_decode_rows_cuda(const rp_exec *exec, const rp_form *form, int64_t row0, int64_t nrows,
                         float *out);
int64_t rp_solve_tiles_cuda(const rp_exec *exec, rp_tile_solve *tiles, int64_t n);

/* Local. For tests: operations have at most this much scratch and work in smaller pieces. */
void rp_gpu_limit_scratch(rp_gpu *gpu, size_t nbytes);
#define RP_GPU_NO_LIMIT SIZE_MAX

#ifdef __cplusplus
}
#endif
#endif

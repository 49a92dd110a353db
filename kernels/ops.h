/* The table of kernel operations, one implementation a back end; the CPU's define the
 * meaning.
 *
 * Operations do arithmetic only. All matrices are row-major f32 with a leading dimension in
 * elements. Any product whose result could depend on how it is split is cut into tiles of fixed
 * shape inside, one single-threaded BLAS call each, so results depend on the arguments alone, not
 * on the number of threads. */
#ifndef RP_KERNELS_OPS_H
#define RP_KERNELS_OPS_H

#include "kernels/dtype.h"
#include "kernels/exec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bounds of attention's tiles; configurations beyond them are refused where they are read. */
enum { RP_ATTENTION_MAX_HEAD_DIM = 1024, RP_ATTENTION_MAX_GROUP = 192 };

/* One attention call over whole sequences of one block. */
typedef struct rp_attention_shape {
    int64_t seq_len, n_seqs;           /* the block's rows are n_seqs sequences of seq_len tokens */
    int n_heads, n_kv_heads, head_dim; /* n_heads / n_kv_heads is whole: the group */
    int64_t window;                    /* keys a query sees, itself included; 0: all earlier ones */
    float scale; /* of the scores, head_dim^-0.5 unless the family says otherwise */
} rp_attention_shape;

/* A matrix in somebody's memory: row-major f32, `ld` elements from row to row. rp_cmat: read only.
 */
typedef struct rp_mat {
    float *data;
    int64_t rows, cols, ld;
} rp_mat;
typedef struct rp_cmat {
    const float *data;
    int64_t rows, cols, ld;
} rp_cmat;
static inline rp_mat rp_mat_of(float *data, int64_t rows, int64_t cols, int64_t ld)
{
    const rp_mat m = {data, rows, cols, ld};
    return m;
}
static inline rp_cmat rp_cmat_of(const float *data, int64_t rows, int64_t cols, int64_t ld)
{
    const rp_cmat m = {data, rows, cols, ld};
    return m;
}

/* Positions' rotations: cos and sin [n_positions, rot_dim / 2]. */
typedef struct rp_rope_table {
    const float *cos, *sin;
    int rot_dim;
} rp_rope_table;

typedef struct rp_kernel_ops {
    const char *name; /* "cpu" */
    /* y [m, n] = x [m, k] * w [n, k]^T (+ bias [n]) (+ y when `accumulate`). bias may be NULL. */
    void (*linear)(const rp_exec *exec, rp_mat y, rp_cmat x, rp_cmat w, const float *bias,
                   bool accumulate);
    /* y = w * x / sqrt(mean(x^2) + eps), row by row. x == y allowed. */
    void (*rms_norm)(const rp_exec *exec, rp_mat y, rp_cmat x, const float *w, float eps);
    /* Rotates in place n_heads heads of head_dim in each row (rotate-half over the first rot_dim
     * dims); row i is at position i % seq_len. */
    void (*rope)(const rp_exec *exec, rp_mat x, int n_heads, int head_dim, int64_t seq_len,
                 const rp_rope_table *table);
    /* out [n_seqs * seq_len, n_heads * head_dim]: causal softmax attention. */
    void (*attention)(const rp_exec *exec, const rp_attention_shape *shape, rp_mat out, rp_cmat q,
                      rp_cmat k, rp_cmat v);
    /* out = silu(gate) * up. */
    void (*silu_mul)(const rp_exec *exec, rp_mat out, rp_cmat gate, rp_cmat up);
    /* max_abs [cols] = max(max_abs, max over rows of |x|). Returns the row of the first non-finite
     * value, or -1. */
    int64_t (*max_abs)(const rp_exec *exec, rp_cmat x, float *max_abs);
    /* sum [cols] = sum over rows of x^2, in f64, row by row. */
    void (*square_sums)(const rp_exec *exec, rp_cmat x, double *sum);
    /* sum [cols * cols] i64, lower triangle: += llrint((x^T x)_ij * 2^(shift - e_i - e_j)), held
     * within +-2^51. The f32 product is over exactly these rows (one calibration block).
     * sharding/gram.h has the bound that keeps it from overflowing. */
    void (*gram_add)(const rp_exec *exec, rp_cmat x, const int *exponent, int shift, int64_t *sum);
    /* sum [a.cols * b.cols] i64 += llrint((a^T b)_ij * 2^(shift - row_exponent_i -
     * col_exponent_j)), in the same way. a and b have the same rows. */
    void (*cross_add)(const rp_exec *exec, rp_cmat a, rp_cmat b, const int *row_exponent,
                      const int *col_exponent, int shift, int64_t *sum);
    /* nll [rows] = log(sum exp(logits row)) - logits[row][target[row]]. */
    void (*token_nll)(const rp_exec *exec, rp_cmat logits, const int32_t *target, double *nll);
} rp_kernel_ops;

const rp_kernel_ops *rp_kernels_cpu(void);

#ifdef __cplusplus
}
#endif
#endif

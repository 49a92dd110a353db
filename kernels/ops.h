/* The table of kernel operations, one implementation a back end; the CPU's define the
 * meaning.
 *
 * Operations do arithmetic only. All matrices are row-major f32 with a leading dimension in
 * elements. Matrices, and arrays marked [place], lie in the exec's place (kernels/place.h), all
 * else on the host. Any product whose result could depend on how it is split is cut into tiles of
 * fixed shape inside, one single-threaded BLAS call each, so results depend on the arguments alone,
 * not on the number of threads. */
#ifndef RP_KERNELS_OPS_H
#define RP_KERNELS_OPS_H

#include "kernels/dtype.h"
#include "kernels/exec.h"
#include "kernels/form.h"
#include "kernels/loss.h"

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

/* Positions' rotations: cos and sin [n_positions, rot_dim / 2] [place]. */
typedef struct rp_rope_table {
    const float *cos, *sin;
    int rot_dim;
} rp_rope_table;

/* The LDL factor of a symmetric matrix as all solves with it see it (methods/site_factor.h says
 * more). Index t runs over columns in reversed processing order. */
typedef struct rp_ldl {
    int64_t n;
    bool is_actorder;
    const float *l; /* [place] [n, n] by t: unit lower factor; above it the undamped matrix */
    const float *d, *diagonal; /* [n] by t: squared Cholesky diagonal; the undamped one's own */
    double damping;
    const int32_t *order;    /* [n] original column of t */
    const uint8_t *is_dead;  /* [n] by original column */
    const float *importance; /* [n] by original column */
} rp_ldl;

/* A tile of rows for a solver that runs as one operation. */
typedef struct rp_tile_solve {
    const rp_grid *grid;
    const rp_ldl *ldl;       /* NULL: every value is rounded to nearest */
    const float *importance; /* [cols] without ldl; NULL: all columns equal */
    int64_t block_cols;      /* columns of a lazy block */
    int64_t sweeps;          /* passes of coordinate descent after error feedback */
    const float *w;          /* [place] [out->rows, out->cols] contiguous */
    rp_form *out;            /* host; RP_FORM_CODES view of the tile's rows; filled */
    double loss;             /* out: tr(dW H dW^T) of the tile, undamped, a token; 0 without ldl */
} rp_tile_solve;

typedef struct rp_kernel_ops {
    const char *name; /* "cpu", "cuda" */

    /* ---- The block executor ---- */

    /* out [place] [n] := stored values [host] of type `dtype`. Returns the index of one that is not
     * finite, or -1. */
    int64_t (*widen)(const rp_exec *exec, float *out, const void *stored, rp_dtype dtype,
                     int64_t n);
    /* y [m, n] = x [m, k] * w [n, k]^T (+ bias [n]) (+ y when `accumulate`). bias [place] may be
     * NULL. */
    void (*linear)(const rp_exec *exec, rp_mat y, rp_cmat x, rp_cmat w, const float *bias,
                   bool accumulate);
    /* y = w * x / sqrt(mean(x^2) + eps), row by row; w [place]. x == y allowed. */
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
    /* loss [place] [logits.rows]: rp_loss_add of every row (kernels/loss.h) with target [place];
     * other.data NULL: no other model. */
    void (*loss_add)(const rp_exec *exec, rp_loss *loss, rp_cmat logits, rp_cmat other,
                     int64_t first, const int32_t *target);

    /* ---- Statistics ---- */

    /* max_abs [cols] = max(max_abs, max over rows of |x|). Returns the row of the first non-finite
     * value, or -1. */
    int64_t (*max_abs)(const rp_exec *exec, rp_cmat x, float *max_abs);
    /* sum [cols] = sum over rows of x^2, in f64, row by row. */
    void (*square_sums)(const rp_exec *exec, rp_cmat x, double *sum);
    /* sum [place] [cols * cols] i64, lower triangle: += llrint((x^T x)_ij * 2^(shift - e_i - e_j)),
     * held within +-2^51. The f32 product is over exactly these rows (one calibration block).
     * sharding/gram.h has the bound that keeps it from overflowing. */
    void (*gram_add)(const rp_exec *exec, rp_cmat x, const int *exponent, int shift, int64_t *sum);
    /* sum [place] [a.cols * b.cols] i64 += llrint((a^T b)_ij * 2^(shift - row_exponent_i -
     * col_exponent_j)), in the same way. a and b have the same rows. */
    void (*cross_add)(const rp_exec *exec, rp_cmat a, rp_cmat b, const int *row_exponent,
                      const int *col_exponent, int shift, int64_t *sum);
    /* Rows first .. end - 1 of the lower triangle of square [place] [n, n] and packed [place],
     * where row i is i + 1 values after those of the row before: into packed, or back. */
    void (*triangle)(const rp_exec *exec, int64_t *square, int64_t n, int64_t first, int64_t end,
                     int64_t *packed, bool is_packing);

    /* ---- Drift ---- */

    /* out = a - b; y += x. */
    void (*subtract)(const rp_exec *exec, rp_mat out, rp_cmat a, rp_cmat b);
    void (*add)(const rp_exec *exec, rp_mat y, rp_cmat x);
    /* Sum of all squares, in f64: rows first, then their sums in order. */
    double (*sum_squares)(const rp_exec *exec, rp_cmat x);
    /* out [w.rows] += sum over j of |w_ij| x_j, in f64; x [w.cols]. */
    void (*bound_rows)(const rp_exec *exec, rp_cmat w, const float *x, double *out);
    /* out_ij = sum_ij 2^(row_exponent_i + col_exponent_j - shift) / divisor; sum [place] [out.rows,
     * out.cols] i64. */
    void (*cross_mean)(const rp_exec *exec, rp_mat out, const int64_t *sum, const int *row_exponent,
                       const int *col_exponent, int shift, double divisor);
    /* out [m, n] = a [m, k] * b [k, n], in f32 whatever the exec's products are. The bits depend on
     * out.rows. */
    void (*multiply)(const rp_exec *exec, rp_mat out, rp_cmat a, rp_cmat b);
    /* t [rows, n] in the original column order: t (H + damping I)^-1 in place, 0 in dead columns.
     * The bits depend on t.rows. */
    void (*solve_right)(const rp_exec *exec, const rp_ldl *ldl, rp_mat t);

    /* ---- The factor of a symmetric matrix: h [place] [n, n] f64 ---- */

    /* h, in the memory of the sums: lower triangle := sum_ij 2^(e_i + e_j - shift) / n_tokens; 1 on
     * the diagonal of dead columns. diagonal [n] := its own. */
    void (*gram_mean)(const rp_exec *exec, int64_t n, int64_t *sum, const int *exponent, int shift,
                      int64_t n_tokens, const uint8_t *is_dead, double *diagonal);
    /* h_st for s < t (above the diagonal) := the lower triangle's value of columns order[s],
     * order[t]. */
    void (*permute_upper)(const rp_exec *exec, int64_t n, double *h, const int32_t *order);
    /* Lower triangle := upper, and the diagonal [n]. */
    void (*mirror_lower)(const rp_exec *exec, int64_t n, double *h, const double *diagonal);
    /* Lower triangle := its Cholesky factor; the upper is left alone. *failed_at: the first pivot
     * that is not positive and finite, or -1. */
    void (*cholesky)(const rp_exec *exec, int64_t n, double *h, int64_t *failed_at);
    /* l [place] [n, n] := the factor with its columns divided by their diagonals, above it h's
     * upper triangle; d [n] := squared diagonals. */
    void (*ldl)(const rp_exec *exec, int64_t n, const double *h, float *l, float *d);

    /* ---- Solved matrices ---- */

    /* out [place] [nrows, cols]: rows row0 .. row0 + nrows - 1 of form [host] decoded. */
    void (*decode_rows)(const rp_exec *exec, const rp_form *form, int64_t row0, int64_t nrows,
                        float *out);
    /* The first of n tiles and those right after it that can be solved with it: of the same grid,
     * factor, block_cols and sweeps, as many as there is memory for. Returns how many, 1 or more. A
     * tile's bits do not depend on what it is solved with. NULL: solvers run on the CPU's threads
     * (methods/solver.h). */
    int64_t (*solve_tiles)(const rp_exec *exec, rp_tile_solve *tiles, int64_t n);
} rp_kernel_ops;

const rp_kernel_ops *rp_kernels_cpu(void);
/* NULL in a build without CUDA. Its exec has a gpu. */
const rp_kernel_ops *rp_kernels_cuda(void);

#ifdef __cplusplus
}
#endif
#endif

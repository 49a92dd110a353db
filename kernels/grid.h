/* Grid: a set of representable values with parameters, the meeting point of solvers and
 * containers.
 *
 * A matrix row [cols] is cut into groups of `group` consecutive columns (the last may be ragged);
 * each group has one parameter set of `n_params` floats, which holds exactly what a reader of the
 * container will see. A value has a code (0 .. 2^bits - 1). Three kinds:
 *
 *   affine      scale * (code - zero)            {scale, zero}            GPTQ, compressed-tensors
 *   one level   d * level[code] + m              {d} or {d, m}            Q4_0 .. Q8_0, IQ4_NL, TQ,
 *                                                                         MXFP4
 *   two levels  d * s[k] * level[code]           {d, s[0 .. n_sub-1]}     Q3_K, Q6_K, IQ4_XS
 *               d * s[k] * level[code]
 *                 - dmin * m[k]                  {d, dmin, s[..], m[..]}  Q2_K, Q4_K, Q5_K
 *
 * where k numbers the group's n_sub sub-groups of equal width, and s[k], m[k] are integers (as
 * floats) in the bounds below. All of d, dmin, m of one level are values of fp16 (MXFP4: a power of
 * two).
 *
 * Adding a number format is one file grid_*.c, a row in grid.c's table and a test. */
#ifndef RP_KERNELS_GRID_H
#define RP_KERNELS_GRID_H

#include "kernels/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_GRID_MAX_PARAMS 34

typedef struct rp_grid rp_grid;

typedef struct rp_grid_ops {
    const char *name; /* "affine", "Q4_0" ...: what checkpoints and reports say */
    int n_params;
    int64_t fixed_group;                 /* 0: set by the recipe */
    int fixed_bits;                      /* 0: set by the recipe */
    const float *levels;                 /* [2^fixed_bits]; NULL: affine */
    int top_code;                        /* the largest that a writer may use; 0: 2^bits - 1 */
    bool has_min;                        /* m, or dmin and m[..] */
    bool is_power_scale;                 /* d is a power of two, not any fp16 */
    int n_sub;                           /* sub-groups of a group; 0: one level */
    int scale_lo, scale_hi;              /* bounds of s[k] */
    int min_hi;                          /* bounds of m[k]: 0 .. min_hi */
    const struct rp_grid_search *search; /* private to the grid's file; NULL: none */
    /* Rounds nrows contiguous rows x [nrows, cols] to nearest: params [nrows, ngroups, n_params],
     * codes [nrows, cols]. importance [cols] >= 0 or NULL. GGUF's grids give the codes and
     * parameters of ggml's reference quantisers bit for bit (cols must fill groups); affine fits
     * and rounds each group alone. */
    void (*quantise)(const rp_grid *grid, int64_t nrows, int64_t cols, const float *x,
                     const float *importance, float *params, uint8_t *codes);
    /* One group of nrows rows x [nrows, n]: params [nrows, n_params], for a solver that rounds the
     * columns later. The squared errors are weighted with importance [n] >= 0 as it is; NULL: all
     * equal. Affine searches the clipping only with grid->mse. */
    void (*fit)(const rp_grid *grid, int64_t nrows, int64_t n, const float *x,
                const float *importance, float *params);
    /* Two levels: s[sub] (and m[sub]) anew for x[n], the sub-group's columns, with d and dmin as
     * they are. NULL for the others. */
    void (*refit)(const rp_grid *grid, int sub, int64_t n, const float *x, const float *importance,
                  float *params);
    /* One column of sub-group `sub` (0 for one level) of a tile of rows: nearest values. Value i
     * with parameter p at params[p * rows + i]. */
    void (*round_column)(const rp_grid *grid, int64_t rows, const float *params, int sub,
                         const float *x, uint8_t *code, float *decoded);
    /* n codes of one group. */
    void (*decode)(const rp_grid *grid, const float *params, int64_t n, const uint8_t *code,
                   float *out);
} rp_grid_ops;

/* A value type: copied, compared with rp_grid_equal, stored in checkpoints field by field. */
struct rp_grid {
    const rp_grid_ops *ops;
    int bits; /* 2..8 */
    bool is_symmetric;
    bool mse;      /* clipping search in fit */
    int zero_min;  /* affine, asymmetric: smallest zero point that the container stores (GPTQ v1: 1)
                    */
    int64_t group; /* columns a group; 0: the whole row */
    rp_dtype scale_type; /* how the container stores scales: F16, BF16, F32 */
};

/* Local. The ops by name, or NULL. */
const rp_grid_ops *rp_grid_find(const char *name);
bool rp_grid_equal(const rp_grid *a, const rp_grid *b);
/* Local. Groups in a row of cols columns, columns of one group, and of one sub-group (the group's
 * when it has one level). */
int64_t rp_grid_ngroups(const rp_grid *grid, int64_t cols);
int64_t rp_grid_group_cols(const rp_grid *grid, int64_t cols);
int64_t rp_grid_sub_cols(const rp_grid *grid, int64_t cols);
/* Local. "int4 asymmetric group 128", "Q4_0". */
void rp_grid_describe(const rp_grid *grid, char *out, size_t out_bytes);

#ifdef __cplusplus
}
#endif
#endif

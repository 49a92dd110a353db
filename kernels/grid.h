/* Grid: a set of representable values with parameters, the meeting point of solvers and containers
 * (DESIGN section 2).
 *
 * A matrix row [cols] is cut into groups of `group` consecutive columns (the last may be ragged);
 * each group has one parameter set of `n_params` floats, from which decode makes exactly what a
 * reader of the container will see. A value is a code (0 .. 2^bits - 1):
 *
 *   affine            scale * (code - zero)               {scale, zero}  GPTQ, compressed-tensors
 *   Q4_0, Q5_0, Q8_0  fp16(d) * (code - 2^(bits-1))       {d, 0}         GGUF
 *   Q4_1, Q5_1        fp16(d) * code + fp16(m)            {d, m}         GGUF
 *
 * Adding a number format is one file grid_*.c, a row in grid.c's table and a test. */
#ifndef RP_KERNELS_GRID_H
#define RP_KERNELS_GRID_H

#include "kernels/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_GRID_MAX_PARAMS 2

typedef struct rp_grid rp_grid;

typedef struct rp_grid_ops {
    const char *name; /* "affine", "Q4_0" ...: what checkpoints and reports say */
    int n_params;
    int64_t fixed_group; /* 0: set by the recipe */
    int fixed_bits;      /* 0: set by the recipe */
    /* params [n_params] for x[n], one group; importance [n] >= 0 or NULL (all equal). With
     * grid->mse a clipping search. */
    void (*fit)(const rp_grid *grid, int64_t n, const float *x, const float *importance,
                float *params);
    /* n values that share params; x, code, decoded contiguous. decoded may be NULL. */
    void (*round)(const rp_grid *grid, const float *params, int64_t n, const float *x,
                  uint8_t *code, float *decoded);
    /* One column of a tile of rows: value i with parameter p at params[p * rows + i]. */
    void (*round_column)(const rp_grid *grid, int64_t rows, const float *params, const float *x,
                         uint8_t *code, float *decoded);
    /* n codes that share params. */
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
/* Local. Every ops, ended by NULL. */
const rp_grid_ops *const *rp_grid_table(void);
bool rp_grid_equal(const rp_grid *a, const rp_grid *b);
/* Local. Groups in a row of cols columns, and columns of one group. */
int64_t rp_grid_ngroups(const rp_grid *grid, int64_t cols);
int64_t rp_grid_group_cols(const rp_grid *grid, int64_t cols);
/* Local. "int4 asymmetric group 128", "Q4_0". */
void rp_grid_describe(const rp_grid *grid, char *out, size_t out_bytes);

#ifdef __cplusplus
}
#endif
#endif

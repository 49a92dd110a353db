/* A solved matrix: what a solver makes, a checkpoint stores and every container encodes. */
#ifndef RP_KERNELS_FORM_H
#define RP_KERNELS_FORM_H

#include "kernels/grid.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rp_form_kind {
    RP_FORM_DENSE = 0, /* values [rows, cols] */
    RP_FORM_CODES,     /* codes on a grid */
} rp_form_kind;

/* Rows are outputs, columns inputs, row-major. Codes and parameters are in the original column
 * order (with static act-order the groups are those of the original order too). */
typedef struct rp_form {
    rp_form_kind kind;
    int64_t rows, cols;
    float *values;  /* [rows, cols], RP_FORM_DENSE */
    rp_grid grid;   /* RP_FORM_CODES */
    uint8_t *codes; /* [rows, cols] one code a byte */
    float *params;  /* [rows, ngroups, n_params] */
} rp_form;

/* Local. Allocates the arrays of the kind; contents undefined. Caller destroys. */
RP_CHECKED rp_status rp_form_create_codes(rp_form *out, const rp_grid *grid, int64_t rows,
                                          int64_t cols);
RP_CHECKED rp_status rp_form_create_dense(rp_form *out, int64_t rows, int64_t cols);
void rp_form_destroy(rp_form *form);
/* Local. out [nrows, cols] f32: rows row0 .. row0 + nrows - 1 decoded. */
void rp_form_decode_rows(const rp_form *form, int64_t row0, int64_t nrows, float *out);
/* Local. Floats in one row of params. */
int64_t rp_form_params_per_row(const rp_form *form);
/* Local. A view of rows row0 .. row0 + nrows - 1 that borrows form's arrays (never destroy it). */
rp_form rp_form_view_rows(const rp_form *form, int64_t row0, int64_t nrows);

#ifdef __cplusplus
}
#endif
#endif

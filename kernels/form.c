/* Memory and decoding of solved matrices. */
#include "kernels/form.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

rp_status rp_form_create_codes(rp_form *out, const rp_grid *grid, int64_t rows, int64_t cols)
{
    rp_status st = RP_OK;
    rp_form form = {.kind = RP_FORM_CODES, .rows = rows, .cols = cols, .grid = *grid};
    size_t n = 0;

    memset(out, 0, sizeof(*out));
    RP_TRY(rp_mul_size(&n, (size_t)rows, (size_t)cols));
    RP_TRY(rp_alloc(&form.codes, n));
    RP_TRY(rp_mul_size(&n, (size_t)rows, (size_t)rp_form_params_per_row(&form)));
    RP_TRY(rp_alloc_array(&form.params, n, sizeof(float)));
    *out = form;
    memset(&form, 0, sizeof(form));
out:
    rp_form_destroy(&form);
    return st;
}

rp_status rp_form_create_dense(rp_form *out, int64_t rows, int64_t cols)
{
    rp_status st = RP_OK;
    size_t n = 0;

    memset(out, 0, sizeof(*out));
    out->kind = RP_FORM_DENSE;
    out->rows = rows;
    out->cols = cols;
    RP_TRY(rp_mul_size(&n, (size_t)rows, (size_t)cols));
    RP_TRY(rp_alloc_array(&out->values, n, sizeof(float)));
out:
    return st;
}

void rp_form_destroy(rp_form *form)
{
    free(form->values);
    free(form->codes);
    free(form->params);
    memset(form, 0, sizeof(*form));
}

int64_t rp_form_params_per_row(const rp_form *form)
{
    if (form->kind != RP_FORM_CODES) {
        return 0;
    }
    return rp_grid_ngroups(&form->grid, form->cols) * form->grid.ops->n_params;
}

rp_form rp_form_view_rows(const rp_form *form, int64_t row0, int64_t nrows)
{
    rp_form view = *form;

    view.rows = nrows;
    if (form->kind == RP_FORM_DENSE) {
        view.values = form->values + row0 * form->cols;
    } else {
        view.codes = form->codes + row0 * form->cols;
        view.params = form->params + row0 * rp_form_params_per_row(form);
    }
    return view;
}

void rp_form_decode_rows(const rp_form *form, int64_t row0, int64_t nrows, float *out)
{
    const rp_form view = rp_form_view_rows(form, row0, nrows);
    const int64_t cols = form->cols;
    const int64_t group = rp_grid_group_cols(&form->grid, cols);
    const int64_t per_row = rp_form_params_per_row(form);

    if (form->kind == RP_FORM_DENSE) {
        memcpy(out, view.values, (size_t)(nrows * cols) * sizeof(float));
        return;
    }
    for (int64_t r = 0; r < nrows; r++) {
        const float *params = view.params + r * per_row;
        for (int64_t c = 0; c < cols; c += group) {
            form->grid.ops->decode(&form->grid, params, RP_MIN(group, cols - c),
                                   view.codes + r * cols + c, out + r * cols + c);
            params += form->grid.ops->n_params;
        }
    }
}

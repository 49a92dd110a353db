/* Content by formula: element i of a unit of version v is mix(i, v), so a comparison needs no copy.
 */
#include "tests/jobs/checkpoint_units.h"

#include <string.h>

#include "base/mem.h"
#include "tests/jobs/rank_check.h"

enum { ROWS = 37, COLS = 70, DENSE_ROWS = 20, DENSE_COLS = 13, N_ARRAY = 1000 };
/* More than one chunk and more than one slab of a piece file. */
enum { WIDE_ROWS = 5, WIDE_COLS = 1300000 };

static const char *const codes_unit = "layer/0/self_attn.q_proj/grid0";
static const char *const dense_unit = "layer/0/self_attn.q_proj/dense";
static const char *const wide_unit = "layer/0/wide";
static const char *const array_unit = "layer/0/gram";
static const char *const half_unit = "layer/0/half";
static const char *const empty_unit = "layer/0/empty";
static const char *const text_unit = "layer/0"; /* a unit may be named like a folder of others */

static void count_warning(void *ctx, const char *text)
{
    (void)text;
    if (ctx != NULL) {
        ++*(int *)ctx;
    }
}

size_t units_queue_bytes = (size_t)1 << 20;

rp_status units_open(rp_checkpoint **out, rp_comm *comm, const char *dir, const char *job,
                     int *n_warnings)
{
    const rp_checkpoint_opts opts = {
        .keep = 2, .queue_bytes = units_queue_bytes, .warn = count_warning, .warn_ctx = n_warnings};

    return rp_checkpoint_open(out, comm, dir, rp_hash_bytes(job, strlen(job)), job, &opts);
}

static rp_grid test_grid(void)
{
    const rp_grid grid = {
        .ops = rp_grid_find("affine"), .bits = 4, .zero_min = 1, .group = 32, .scale_type = RP_F16};

    return grid;
}

static uint32_t mix(int64_t i, int version)
{
    return (uint32_t)(i * 2654435761 + version * 40503) >> 8;
}

/* Not by rp_alloc: the code's allocations are made to fail, not the test's. */
static void *make(size_t n, size_t elem_bytes)
{
    void *p = calloc(n, elem_bytes);

    CHECK(p != NULL);
    return p;
}

static rp_form make_codes(int version)
{
    rp_form form = {.kind = RP_FORM_CODES, .rows = ROWS, .cols = COLS, .grid = test_grid()};
    const int64_t n_params = ROWS * rp_form_params_per_row(&form);

    form.codes = make((size_t)ROWS * COLS, 1);
    form.params = make((size_t)n_params, sizeof(float));
    for (int64_t i = 0; i < (int64_t)ROWS * COLS; i++) {
        form.codes[i] = mix(i, version) & 15;
    }
    for (int64_t i = 0; i < n_params; i++) {
        form.params[i] = (float)mix(i, version + 1);
    }
    return form;
}

static rp_form make_dense(int64_t rows, int64_t cols, int version)
{
    rp_form form = {.kind = RP_FORM_DENSE, .rows = rows, .cols = cols};

    form.values = make((size_t)(rows * cols), sizeof(float));
    for (int64_t i = 0; i < rows * cols; i++) {
        form.values[i] = (float)mix(i, version);
    }
    return form;
}

static rp_status put_rows(rp_checkpoint *c, rp_comm *comm, const char *unit, rp_form *form)
{
    const int64_t rank = rp_comm_rank(comm);
    const int64_t nranks = rp_comm_nranks(comm);
    const int64_t row0 = form->rows * rank / nranks;
    const int64_t end = form->rows * (rank + 1) / nranks;
    const rp_form rows = rp_form_view_rows(form, row0, end - row0);
    const rp_status st = rp_checkpoint_put_form(c, unit, row0, form->rows, &rows);

    rp_form_destroy(form);
    return st;
}

static rp_status put_arrays(rp_checkpoint *c, int version)
{
    rp_status st = RP_OK;
    int64_t sums[N_ARRAY];
    uint16_t halves[N_ARRAY];
    char text[32];

    for (int i = 0; i < N_ARRAY; i++) {
        sums[i] = (int64_t)mix(i, version) << 33;
        halves[i] = (uint16_t)mix(i, version);
    }
    (void)snprintf(text, sizeof(text), "version %d", version);
    RP_TRY(rp_checkpoint_put_array(c, array_unit, RP_I64, sums, N_ARRAY));
    RP_TRY(rp_checkpoint_put_array(c, half_unit, RP_BF16, halves, N_ARRAY));
    RP_TRY(rp_checkpoint_put_array(c, empty_unit, RP_F32, NULL, 0));
    RP_TRY(rp_checkpoint_put_text(c, text_unit, text));
out:
    return st;
}

rp_status units_put(rp_checkpoint *checkpoint, rp_comm *comm, int version)
{
    rp_status st = RP_OK;
    rp_form codes = make_codes(version);
    rp_form dense = make_dense(DENSE_ROWS, DENSE_COLS, version);
    rp_form wide = {0};

    RP_TRY(put_rows(checkpoint, comm, codes_unit, &codes));
    RP_TRY(put_rows(checkpoint, comm, dense_unit, &dense));
    if (rp_comm_rank(comm) == rp_comm_nranks(comm) - 1) {
        RP_TRY(put_arrays(checkpoint, version));
    }
    if (version == 9) { /* large: once is enough */
        wide = make_dense(WIDE_ROWS, WIDE_COLS, version);
        RP_TRY(put_rows(checkpoint, comm, wide_unit, &wide));
    }
out:
    rp_form_destroy(&codes);
    rp_form_destroy(&dense);
    rp_form_destroy(&wide);
    return st;
}

rp_status units_commit(rp_checkpoint *checkpoint, rp_comm *comm, int version)
{
    rp_status local = rp_checkpoint_begin(checkpoint);

    if (local == RP_OK) {
        local = units_put(checkpoint, comm, version);
    }
    return rp_checkpoint_commit(checkpoint, local);
}

static bool is_equal(const rp_form *want, int64_t row0, const rp_form *got)
{
    const rp_form rows = rp_form_view_rows(want, row0, got->rows);
    const size_t n = (size_t)(got->rows * want->cols);

    if (got->kind != want->kind || got->cols != want->cols) {
        return false;
    }
    if (want->kind == RP_FORM_DENSE) {
        return memcmp(rows.values, got->values, n * sizeof(float)) == 0;
    }
    return rp_grid_equal(&want->grid, &got->grid) && memcmp(rows.codes, got->codes, n) == 0 &&
           memcmp(rows.params, got->params,
                  (size_t)(got->rows * rp_form_params_per_row(want)) * sizeof(float)) == 0;
}

/* Whole, one row, and every way to halve the rows. */
static bool has_form(rp_checkpoint *c, const char *unit, rp_form want)
{
    const int64_t step = RP_MAX(1, want.rows / 5);
    bool is_good = true;

    for (int64_t row0 = 0; row0 < want.rows && is_good; row0 += step) {
        const int64_t counts[] = {1, want.rows - row0};
        for (int k = 0; k < 2 && is_good; k++) {
            rp_form got;
            CHECK(rp_checkpoint_get_form(c, unit, row0, counts[k], &got) == RP_OK);
            is_good = is_equal(&want, row0, &got);
            rp_form_destroy(&got);
        }
    }
    rp_form_destroy(&want);
    return is_good;
}

static bool has_array(rp_checkpoint *c, const char *unit, rp_dtype dtype, int64_t want_n,
                      int version)
{
    void *data = NULL;
    int64_t n = -1;
    bool is_good = false;

    CHECK(rp_checkpoint_get_array(c, unit, dtype, &data, &n) == RP_OK);
    is_good = n == want_n;
    for (int64_t i = 0; i < n && is_good; i++) {
        is_good = dtype == RP_I64 ? ((int64_t *)data)[i] == (int64_t)mix(i, version) << 33
                                  : ((uint16_t *)data)[i] == (uint16_t)mix(i, version);
    }
    free(data);
    return is_good;
}

static bool has_text(rp_checkpoint *c, int version)
{
    char want[32];
    char *text = NULL;
    bool is_good = false;

    (void)snprintf(want, sizeof(want), "version %d", version);
    CHECK(rp_checkpoint_get_text(c, text_unit, &text) == RP_OK);
    is_good = strcmp(text, want) == 0;
    free(text);
    return is_good;
}

static bool has_version(rp_checkpoint *c, int version, int *n_units)
{
    const bool has[] = {rp_checkpoint_has(c, codes_unit), rp_checkpoint_has(c, dense_unit),
                        rp_checkpoint_has(c, array_unit), rp_checkpoint_has(c, half_unit),
                        rp_checkpoint_has(c, empty_unit), rp_checkpoint_has(c, text_unit),
                        rp_checkpoint_has(c, wide_unit)};

    *n_units = 0;
    for (size_t i = 0; i < RP_COUNT(has); i++) {
        *n_units += has[i];
    }
    return (!has[0] || has_form(c, codes_unit, make_codes(version))) &&
           (!has[1] || has_form(c, dense_unit, make_dense(DENSE_ROWS, DENSE_COLS, version))) &&
           (!has[2] || has_array(c, array_unit, RP_I64, N_ARRAY, version)) &&
           (!has[3] || has_array(c, half_unit, RP_BF16, N_ARRAY, version)) &&
           (!has[4] || has_array(c, empty_unit, RP_F32, 0, version)) &&
           (!has[5] || has_text(c, version)) &&
           (!has[6] || has_form(c, wide_unit, make_dense(WIDE_ROWS, WIDE_COLS, version)));
}

int units_check(rp_checkpoint *checkpoint, int *n_units)
{
    int n = 0;
    int version = 1;

    while (version <= 9 && !has_version(checkpoint, version, &n)) {
        version++;
    }
    CHECK(version <= 9); /* else: wrong data */
    if (n_units != NULL) {
        *n_units = n;
    }
    return n == 0 ? 0 : version;
}

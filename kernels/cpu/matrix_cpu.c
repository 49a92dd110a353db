/* Differences, sums, f32 products and conversions of whole matrices. */
#include "kernels/cpu/ops_cpu.h"

#include <cblas.h>
#include <math.h>
#include <stdatomic.h>

#include "base/mem.h"

enum { WIDEN_TILE = 1 << 16, DECODE_TILE_ROWS = 32 };

typedef struct widen_ctx {
    float *out;
    const char *stored;
    rp_dtype dtype;
    int64_t n;
    _Atomic int64_t bad;
} widen_ctx;

static void widen_tile(void *arg, int64_t tile, int thread)
{
    widen_ctx *ctx = arg;
    const int64_t first = tile * WIDEN_TILE;
    const int64_t n = RP_MIN(WIDEN_TILE, ctx->n - first);
    int64_t bad = 0;

    (void)thread;
    rp_to_f32(ctx->out + first, ctx->stored + (size_t)first * rp_dtype_bytes(ctx->dtype),
              ctx->dtype, n);
    bad = rp_find_non_finite(ctx->out + first, n);
    if (bad >= 0) {
        ctx->bad = first + bad;
    }
}

int64_t rp_widen_cpu(const rp_exec *exec, float *out, const void *stored, rp_dtype dtype, int64_t n)
{
    widen_ctx ctx = {.out = out, .stored = stored, .dtype = dtype, .n = n, .bad = -1};

    rp_pool_run(exec->pool, RP_DIV_UP(n, WIDEN_TILE), widen_tile, &ctx);
    return ctx.bad;
}

void rp_loss_add_cpu(const rp_exec *exec, rp_loss *loss, rp_cmat logits, rp_cmat other,
                     int64_t first, const int32_t *target)
{
    (void)exec;
    for (int64_t i = 0; i < logits.rows; i++) {
        rp_loss_add(&loss[i], logits.data + i * logits.ld,
                    other.data == NULL ? NULL : other.data + i * other.ld, first, logits.cols,
                    target[i]);
    }
}

void rp_subtract_cpu(const rp_exec *exec, rp_mat out, rp_cmat a, rp_cmat b)
{
    (void)exec;
    for (int64_t r = 0; r < out.rows; r++) {
        for (int64_t c = 0; c < out.cols; c++) {
            out.data[r * out.ld + c] = a.data[r * a.ld + c] - b.data[r * b.ld + c];
        }
    }
}

void rp_add_cpu(const rp_exec *exec, rp_mat y, rp_cmat x)
{
    (void)exec;
    for (int64_t r = 0; r < y.rows; r++) {
        for (int64_t c = 0; c < y.cols; c++) {
            y.data[r * y.ld + c] += x.data[r * x.ld + c];
        }
    }
}

double rp_sum_squares_cpu(const rp_exec *exec, rp_cmat x)
{
    double sum = 0;

    (void)exec;
    for (int64_t r = 0; r < x.rows; r++) {
        double row = 0;
        for (int64_t c = 0; c < x.cols; c++) {
            row += (double)x.data[r * x.ld + c] * (double)x.data[r * x.ld + c];
        }
        sum += row;
    }
    return sum;
}

void rp_bound_rows_cpu(const rp_exec *exec, rp_cmat w, const float *x, double *out)
{
    (void)exec;
    for (int64_t i = 0; i < w.rows; i++) {
        for (int64_t j = 0; j < w.cols; j++) {
            out[i] += fabs((double)w.data[i * w.ld + j]) * (double)x[j];
        }
    }
}

void rp_cross_mean_cpu(const rp_exec *exec, rp_mat out, const int64_t *sum, const int *row_exponent,
                       const int *col_exponent, int shift, double divisor)
{
    (void)exec;
    for (int64_t i = 0; i < out.rows; i++) {
        for (int64_t j = 0; j < out.cols; j++) {
            const int exponent = row_exponent[i] + col_exponent[j] - shift;
            out.data[i * out.ld + j] =
                (float)(ldexp((double)sum[i * out.cols + j], exponent) / divisor);
        }
    }
}

void rp_multiply_cpu(const rp_exec *exec, rp_mat out, rp_cmat a, rp_cmat b)
{
    (void)exec;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)out.rows, (int)out.cols,
                (int)a.cols, 1.0f, a.data, (int)a.ld, b.data, (int)b.ld, 0.0f, out.data,
                (int)out.ld);
}

typedef struct decode_ctx {
    const rp_form *form;
    int64_t row0, nrows;
    float *out;
} decode_ctx;

static void decode_tile(void *arg, int64_t tile, int thread)
{
    const decode_ctx *ctx = arg;
    const int64_t first = tile * DECODE_TILE_ROWS;

    (void)thread;
    rp_form_decode_rows(ctx->form, ctx->row0 + first, RP_MIN(DECODE_TILE_ROWS, ctx->nrows - first),
                        ctx->out + first * ctx->form->cols);
}

void rp_decode_rows_cpu(const rp_exec *exec, const rp_form *form, int64_t row0, int64_t nrows,
                        float *out)
{
    decode_ctx ctx = {form, row0, nrows, out};

    rp_pool_run(exec->pool, RP_DIV_UP(nrows, DECODE_TILE_ROWS), decode_tile, &ctx);
}

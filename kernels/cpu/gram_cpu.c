/* Adds one block's products x^T x and a^T b to the fixed-point sums (sharding/gram.h).
 *
 * The result, of a Gram matrix the lower triangle, is cut into square tiles. Each is computed with
 * f32 sums over all rows of the block, then converted while it lies in the cache:
 *
 *     q_ij = round(P_ij * 2^(shift - e_i) * 2^(-e_j)),  sum_ij += q_ij
 *
 * Factors are powers of two, so only the rounding loses bits. Rounding adds 1.5 * 2^52: the low
 * bits of the sum are then the integer, to nearest even, for |q| <= 2^51; values beyond are held
 * there. */
#include "kernels/cpu/ops_cpu.h"

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/simd.h"

#include <math.h>

enum { GRAM_TILE = RP_GEMM_TILE_ROWS };

typedef struct product_ctx {
    const rp_exec *exec;
    rp_cmat a, b;
    const int *row_exponent, *col_exponent;
    int shift;
    int64_t *sum;     /* [a.cols, b.cols] */
    int64_t tile;     /* side */
    int64_t n_across; /* tiles side by side */
} product_ctx;

/* One row: sum[j] += round(p[j] * row_scale * col_scale[j]). */
RP_INLINE void add_row(int64_t *sum, const float *p, double row_scale, const double *col_scale,
                       int64_t n)
{
    const double magic = 6755399441055744.0, limit = 2251799813685248.0;
    int64_t magic_bits;

    memcpy(&magic_bits, &magic, sizeof(magic_bits));
    for (int64_t j = 0; j < n; j++) {
        double v = (double)p[j] * (row_scale * col_scale[j]);
        int64_t bits;

        v = v < limit ? v : limit;
        v = v > -limit ? v : -limit;
        v += magic;
        memcpy(&bits, &v, sizeof(bits));
        sum[j] += bits - magic_bits;
    }
}

RP_CLONES static void add_tile(int64_t *sum, int64_t ld, rp_cmat p, const double *row_scale,
                               const double *col_scale, bool is_diagonal)
{
    for (int64_t i = 0; i < p.rows; i++) {
        add_row(sum + i * ld, p.data + i * p.ld, row_scale[i], col_scale,
                is_diagonal ? i + 1 : p.cols);
    }
}

static void fill_scale(double *scale, const int *exponent, int64_t n, int shift)
{
    for (int64_t i = 0; i < n; i++) {
        scale[i] = ldexp(1.0, shift - exponent[i]);
    }
}

static void add_product(const product_ctx *ctx, int64_t ti, int64_t tj, bool is_diagonal,
                        int thread)
{
    double *row_scale = rp_exec_scratch(ctx->exec, thread);
    double *col_scale = row_scale + GRAM_TILE;
    float *product = (float *)(col_scale + GRAM_TILE);
    const int64_t i = ti * ctx->tile, j = tj * ctx->tile;
    const int64_t rows = RP_MIN(ctx->tile, ctx->a.cols - i);
    const int64_t cols = RP_MIN(ctx->tile, ctx->b.cols - j);
    const rp_mat p = rp_mat_of(product, rows, cols, cols);

    rp_product_gram(ctx->exec, thread, p, rp_cmat_part(ctx->a, 0, ctx->a.rows, i, rows),
                    rp_cmat_part(ctx->b, 0, ctx->b.rows, j, cols));
    fill_scale(row_scale, ctx->row_exponent + i, rows, ctx->shift);
    fill_scale(col_scale, ctx->col_exponent + j, cols, 0);
    add_tile(ctx->sum + i * ctx->b.cols + j, ctx->b.cols, rp_cmat_of(p.data, rows, cols, cols),
             row_scale, col_scale, is_diagonal);
}

static void gram_tile(void *arg, int64_t index, int thread)
{
    const product_ctx *ctx = arg;
    const int64_t n_full = ctx->n_across * (ctx->n_across - 1) / 2;
    int64_t ti = index - n_full, tj = ti;

    if (ti < 0) { /* below the diagonal first: they cost twice as much */
        for (ti = 1, tj = index; tj >= ti; ti++) {
            tj -= ti;
        }
    }
    add_product(ctx, ti, tj, ti == tj, thread);
}

static void cross_tile(void *arg, int64_t index, int thread)
{
    const product_ctx *ctx = arg;

    add_product(ctx, index / ctx->n_across, index % ctx->n_across, false, thread);
}

void rp_gram_add_cpu(const rp_exec *exec, rp_cmat x, const int *exponent, int shift, int64_t *sum)
{
    product_ctx ctx = {.exec = exec,
                       .a = x,
                       .b = x,
                       .row_exponent = exponent,
                       .col_exponent = exponent,
                       .shift = shift,
                       .sum = sum};

    ctx.tile = rp_tile_size(x.cols, GRAM_TILE);
    ctx.n_across = RP_DIV_UP(x.cols, ctx.tile);
    rp_pool_run(exec->pool, ctx.n_across * (ctx.n_across + 1) / 2, gram_tile, &ctx);
}

void rp_cross_add_cpu(const rp_exec *exec, rp_cmat a, rp_cmat b, const int *row_exponent,
                      const int *col_exponent, int shift, int64_t *sum)
{
    product_ctx ctx = {.exec = exec,
                       .a = a,
                       .b = b,
                       .row_exponent = row_exponent,
                       .col_exponent = col_exponent,
                       .shift = shift,
                       .sum = sum};

    ctx.tile = rp_tile_size(b.cols, GRAM_TILE);
    ctx.n_across = RP_DIV_UP(b.cols, ctx.tile);
    rp_pool_run(exec->pool, RP_DIV_UP(a.cols, ctx.tile) * ctx.n_across, cross_tile, &ctx);
}

/* Adds one block's Gram matrix to the fixed-point sums (DESIGN section 3).
 *
 * The lower triangle is cut into square tiles. Each is computed with f32 sums over all rows of the
 * block, then converted while it lies in the cache:
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

typedef struct gram_ctx {
    const rp_exec *exec;
    rp_cmat x;
    const int *exponent;
    int shift;
    int64_t *sum;
    int64_t tile;    /* columns */
    int64_t n_tiles; /* a side */
} gram_ctx;

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

static void gram_tile(void *arg, int64_t index, int thread)
{
    const gram_ctx *ctx = arg;
    const int64_t d = ctx->x.cols, n_full = ctx->n_tiles * (ctx->n_tiles - 1) / 2;
    double *row_scale = rp_exec_scratch(ctx->exec, thread);
    double *col_scale = row_scale + GRAM_TILE;
    float *product = (float *)(col_scale + GRAM_TILE);
    int64_t ti = index - n_full, tj = ti, i, j, rows, cols;
    rp_mat p;

    if (ti < 0) { /* below the diagonal first: they cost twice as much */
        for (ti = 1, tj = index; tj >= ti; ti++) {
            tj -= ti;
        }
    }
    i = ti * ctx->tile;
    j = tj * ctx->tile;
    rows = RP_MIN(ctx->tile, d - i);
    cols = RP_MIN(ctx->tile, d - j);
    p = rp_mat_of(product, rows, cols, cols);
    rp_product_gram(ctx->exec, thread, p, rp_cmat_part(ctx->x, 0, ctx->x.rows, i, rows),
                    rp_cmat_part(ctx->x, 0, ctx->x.rows, j, cols));
    fill_scale(row_scale, ctx->exponent + i, rows, ctx->shift);
    fill_scale(col_scale, ctx->exponent + j, cols, 0);
    add_tile(ctx->sum + i * d + j, d, rp_cmat_of(p.data, rows, cols, cols), row_scale, col_scale,
             ti == tj);
}

void rp_gram_add_cpu(const rp_exec *exec, rp_cmat x, const int *exponent, int shift, int64_t *sum)
{
    gram_ctx ctx = {.exec = exec, .x = x, .exponent = exponent, .shift = shift, .sum = sum};

    ctx.tile = rp_tile_size(x.cols, GRAM_TILE);
    ctx.n_tiles = RP_DIV_UP(x.cols, ctx.tile);
    rp_pool_run(exec->pool, ctx.n_tiles * (ctx.n_tiles + 1) / 2, gram_tile, &ctx);
}

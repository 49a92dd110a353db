/* y = x w^T in fixed tiles, one BLAS call each. */
#include "kernels/cpu/ops_cpu.h"

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/simd.h"

typedef struct linear_ctx {
    const rp_exec *exec;
    rp_mat y;
    rp_cmat x, w;
    const float *bias;
    bool accumulate;
    int64_t tile_rows, tile_cols;
    int64_t n_row_tiles;
} linear_ctx;

/* Puts the bias where the product will be added. */
RP_CLONES static void start_from_bias(rp_mat y, const float *bias, bool accumulate)
{
    for (int64_t r = 0; r < y.rows; r++) {
        float *row = y.data + r * y.ld;
        for (int64_t c = 0; c < y.cols; c++) {
            row[c] = accumulate ? row[c] + bias[c] : bias[c];
        }
    }
}

static void linear_tile(void *arg, int64_t tile, int thread)
{
    const linear_ctx *ctx = arg;
    const int64_t r = tile % ctx->n_row_tiles * ctx->tile_rows;
    const int64_t c = tile / ctx->n_row_tiles * ctx->tile_cols;
    const int64_t rows = RP_MIN(ctx->tile_rows, ctx->y.rows - r);
    const int64_t cols = RP_MIN(ctx->tile_cols, ctx->y.cols - c);
    const rp_mat y = rp_mat_part(ctx->y, r, rows, c, cols);

    if (ctx->bias != NULL) {
        start_from_bias(y, ctx->bias + c, ctx->accumulate);
    }
    rp_product_nt(ctx->exec, thread, y, rp_cmat_part(ctx->x, r, rows, 0, ctx->x.cols),
                  rp_cmat_part(ctx->w, c, cols, 0, ctx->w.cols),
                  ctx->accumulate || ctx->bias != NULL);
}

void rp_linear_cpu(const rp_exec *exec, rp_mat y, rp_cmat x, rp_cmat w, const float *bias,
                   bool accumulate)
{
    linear_ctx ctx = {.exec = exec, .y = y, .x = x, .w = w, .bias = bias, .accumulate = accumulate};

    ctx.tile_rows = rp_tile_size(y.rows, RP_GEMM_TILE_ROWS);
    ctx.tile_cols = rp_tile_size(y.cols, RP_GEMM_TILE_COLS);
    ctx.n_row_tiles = RP_DIV_UP(y.rows, ctx.tile_rows);
    rp_pool_run(exec->pool, ctx.n_row_tiles * RP_DIV_UP(y.cols, ctx.tile_cols), linear_tile, &ctx);
}

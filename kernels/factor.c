/* Right-looking tiled Cholesky (Buttari et al., "A class of parallel tiled linear algebra
 * algorithms for multicore architectures", 2009), three phases a step, with TILE columns a step:
 *
 *     factor the diagonal tile | solve the tiles below it | update the lower tiles to their right
 *
 * Tiles are solved by columns of BLOCK with the inverses of the diagonal tile's BLOCK x BLOCK
 * diagonal blocks (as in Tomov, Nath, Ltaief and Dongarra, "Dense linear algebra solvers for
 * multicore with GPU accelerators", 2010): OpenBLAS' dtrsm runs at a quarter of the rate of dgemm,
 * and so small a block is inverted without harm to accuracy. Every call is single-threaded and of a
 * shape that n alone decides. */
#include "kernels/factor.h"

#include "base/mem.h"

#include <cblas.h>
#include <lapack.h>
#include <math.h>
#include <string.h>

enum { TILE = 256, BLOCK = 64, BLOCKS = TILE / BLOCK };

typedef double inverse_block[BLOCK][BLOCK];
_Static_assert(BLOCKS * sizeof(inverse_block) <= RP_EXEC_SCRATCH_BYTES, "scratch");

typedef struct factor_ctx {
    int64_t n;
    double *a;
    int64_t step;           /* first row and column of the diagonal tile */
    inverse_block *inverse; /* [BLOCKS] lower, of the diagonal tile's blocks */
} factor_ctx;

static int tile_rows(const factor_ctx *ctx, int64_t row)
{
    return (int)RP_MIN(TILE, ctx->n - row);
}

/* Returns the first bad pivot's index, or -1. */
static int64_t factor_diagonal(const factor_ctx *ctx)
{
    double *tile = ctx->a + ctx->step * ctx->n + ctx->step;
    const int rows = tile_rows(ctx, ctx->step), ld = (int)ctx->n;
    int info = 0;

    LAPACK_dpotrf("U", &rows, tile, &ld, &info); /* row-major lower is column-major upper */
    for (int i = 0; i < rows; i++) {             /* the library lets NaN pass */
        if (i == info - 1 || !isfinite(tile[i * ctx->n + i])) {
            return ctx->step + i;
        }
    }
    return -1;
}

/* The pivots were found good, so that inverses exist. */
static void invert_blocks(const factor_ctx *ctx)
{
    const int rows = BLOCK;
    int info = 0;

    for (int64_t block = 0; block < BLOCKS; block++) {
        const int64_t at = ctx->step + block * BLOCK;
        double(*inverse)[BLOCK] = ctx->inverse[block];

        for (int64_t i = 0; i < BLOCK; i++) {
            memcpy(inverse[i], ctx->a + (at + i) * ctx->n + at, BLOCK * sizeof(double));
        }
        LAPACK_dtrtri("U", "N", &rows, &inverse[0][0], &rows, &info);
    }
}

static void solve_tile(void *arg, int64_t index, int thread)
{
    const factor_ctx *ctx = arg;
    const int64_t row = ctx->step + (index + 1) * TILE;
    const int rows = tile_rows(ctx, row), ld = (int)ctx->n;
    const double *diagonal = ctx->a + ctx->step * ctx->n + ctx->step;
    double *x = ctx->a + row * ctx->n + ctx->step;

    (void)thread;
    for (int block = 0; block < BLOCKS; block++) {
        const int col = block * BLOCK;

        if (col > 0) {
            cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, BLOCK, col, -1.0, x, ld,
                        diagonal + col * ctx->n, ld, 1.0, x + col, ld);
        }
        cblas_dtrmm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, rows, BLOCK,
                    1.0, &ctx->inverse[block][0][0], BLOCK, x + col, ld);
    }
}

static void update_tile(void *arg, int64_t index, int thread)
{
    const factor_ctx *ctx = arg;
    int64_t i = 0, j = index, row, col;
    const int ld = (int)ctx->n;

    (void)thread;
    while (j > i) { /* row i of the triangle has i + 1 tiles */
        i++;
        j -= i;
    }
    row = ctx->step + (i + 1) * TILE;
    col = ctx->step + (j + 1) * TILE;
    if (i == j) {
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, tile_rows(ctx, row), TILE, -1.0,
                    ctx->a + row * ctx->n + ctx->step, ld, 1.0, ctx->a + row * ctx->n + row, ld);
    } else {
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, tile_rows(ctx, row), TILE, TILE, -1.0,
                    ctx->a + row * ctx->n + ctx->step, ld, ctx->a + col * ctx->n + ctx->step, ld,
                    1.0, ctx->a + row * ctx->n + col, ld);
    }
}

void rp_factor_cholesky(const rp_exec *exec, int64_t n, double *a, int64_t *failed_at)
{
    factor_ctx ctx = {.n = n, .a = a, .inverse = rp_exec_scratch(exec, 0)};

    *failed_at = -1;
    for (; ctx.step < n && *failed_at < 0; ctx.step += TILE) {
        const int64_t below = RP_DIV_UP(RP_MAX(n - ctx.step - TILE, 0), TILE);

        *failed_at = factor_diagonal(&ctx);
        if (*failed_at < 0 && below > 0) {
            invert_blocks(&ctx);
            rp_pool_run(exec->pool, below, solve_tile, &ctx);
            rp_pool_run(exec->pool, below * (below + 1) / 2, update_tile, &ctx);
        }
    }
}

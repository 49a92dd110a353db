/* Products of one tile in the caller's thread, and the shapes of tiles.
 *
 * BLAS results change with the shape of a call and with its thread count, so a tile's shape is a
 * function of the whole product's shape only, and each tile is one single-threaded call.
 * Measured (Xeon 8481C, OpenBLAS 0.3.21): 256 and 512 rows reach 95 % of the rate of one large
 * call, 128 rows 85 %. */
#ifndef RP_KERNELS_CPU_GEMM_H
#define RP_KERNELS_CPU_GEMM_H

#include "base/mem.h"
#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. Whether this machine and build compute such products. */
bool rp_gemm_has(rp_products products);

/* Bounds of one tile of c. */
enum { RP_GEMM_TILE_ROWS = 512, RP_GEMM_TILE_COLS = 1024 };

/* Local. In the exec's products, by its thread `thread`. c = a b^T (+ c), a [m, k], b [n, k]. */
void rp_product_nt(const rp_exec *exec, int thread, rp_mat c, rp_cmat a, rp_cmat b,
                   bool accumulate);
/* Local. In the exec's products. c = a^T b, a [k, m], b [k, n]; where a and b are the same, the
 * lower triangle, and the rest of c is undefined. */
void rp_product_gram(const rp_exec *exec, int thread, rp_mat c, rp_cmat a, rp_cmat b);

/* Local. In f32. c = alpha a b^T (+ c). */
void rp_gemm_nt(rp_mat c, rp_cmat a, rp_cmat b, float alpha, bool accumulate);
/* Local. In f32. c = a b (+ c), a [m, k], b [k, n]. */
void rp_gemm_nn(rp_mat c, rp_cmat a, rp_cmat b, bool accumulate);

/* Local. Size of the tiles that cut n elements into as few, nearly equal parts of at most max_tile
 * (a multiple of 16); a multiple of 16. */
static inline int64_t rp_tile_size(int64_t n, int64_t max_tile)
{
    const int64_t parts = RP_MAX(RP_DIV_UP(n, max_tile), 1);

    return RP_MAX(RP_DIV_UP(RP_DIV_UP(n, parts), 16), 1) * 16;
}

/* Local. Rows [r, r + rows) and columns [c, c + cols) of a matrix. */
static inline rp_cmat rp_cmat_part(rp_cmat a, int64_t r, int64_t rows, int64_t c, int64_t cols)
{
    return rp_cmat_of(a.data + r * a.ld + c, rows, cols, a.ld);
}
static inline rp_mat rp_mat_part(rp_mat a, int64_t r, int64_t rows, int64_t c, int64_t cols)
{
    return rp_mat_of(a.data + r * a.ld + c, rows, cols, a.ld);
}

#ifdef __cplusplus
}
#endif
#endif

/* f32 products of one tile by OpenBLAS, and the choice between them and bf16. */
#include "kernels/cpu/gemm.h"

#include "kernels/cpu/gemm_bf16.h"

#include <cblas.h>

/* Tiles, leading dimensions included, are far below 2^31 elements a side. */
static blasint dim(int64_t n)
{
    RP_ASSERT(n >= 0 && n <= INT32_MAX);
    return (blasint)n;
}

void rp_gemm_nt(rp_mat c, rp_cmat a, rp_cmat b, float alpha, bool accumulate)
{
    RP_ASSERT(a.cols == b.cols && c.rows == a.rows && c.cols == b.rows);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, dim(c.rows), dim(c.cols), dim(a.cols),
                alpha, a.data, dim(a.ld), b.data, dim(b.ld), accumulate ? 1.0F : 0.0F, c.data,
                dim(c.ld));
}

void rp_gemm_nn(rp_mat c, rp_cmat a, rp_cmat b, bool accumulate)
{
    RP_ASSERT(a.cols == b.rows && c.rows == a.rows && c.cols == b.cols);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, dim(c.rows), dim(c.cols), dim(a.cols),
                1.0F, a.data, dim(a.ld), b.data, dim(b.ld), accumulate ? 1.0F : 0.0F, c.data,
                dim(c.ld));
}

bool rp_gemm_has(rp_products products)
{
    return products == RP_PRODUCTS_F32 || rp_bf16_is_available();
}

void rp_product_nt(const rp_exec *exec, int thread, rp_mat c, rp_cmat a, rp_cmat b, bool accumulate)
{
    if (exec->products == RP_PRODUCTS_BF16) {
        rp_bf16_nt(exec->bf16, thread, c, a, b, accumulate);
    } else {
        rp_gemm_nt(c, a, b, 1.0F, accumulate);
    }
}

void rp_product_gram(const rp_exec *exec, int thread, rp_mat c, rp_cmat a, rp_cmat b)
{
    RP_ASSERT(a.rows == b.rows && c.rows == a.cols && c.cols == b.cols);
    if (exec->products == RP_PRODUCTS_BF16) {
        rp_bf16_tn(exec->bf16, thread, c, a, b);
    } else if (a.data == b.data) {
        cblas_ssyrk(CblasRowMajor, CblasLower, CblasTrans, dim(c.rows), dim(a.rows), 1.0F, a.data,
                    dim(a.ld), 0.0F, c.data, dim(c.ld));
    } else {
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, dim(c.rows), dim(c.cols), dim(a.rows),
                    1.0F, a.data, dim(a.ld), b.data, dim(b.ld), 0.0F, c.data, dim(c.ld));
    }
}

/* Products against sums in f64, for every way in which matrices can lie; and that the stand-in of
 * cublasLt refuses what the library would. */
#include "cublasLt.h"
#include "cuda_host.h"
#include "kernels/cuda/gemm_cuda.h"
#include "kernels/cuda/gemm_plans.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>
extern "C" {
#include <cmocka.h>
}

static rp_gpu *gpu;

static int set_up(void **)
{
    return rp_gpu_create(&gpu, 0, (size_t)64 << 20) == RP_OK ? 0 : 1;
}

static int tear_down(void **)
{
    rp_gpu_destroy(&gpu);
    return 0;
}

/* ---- Products ---- */

/* A matrix on the host and on the GPU; bytes of an element on the GPU: 2 or 4. */
struct matrix {
    std::vector<float> host;
    void *place;
    int64_t ld, step;
    size_t elem_bytes;
    int64_t offset; /* of the first element */
};

/* Small whole numbers, exact in every type; what no product may read is not a number. */
static matrix make(int64_t rows, int64_t cols, int64_t gap, int64_t count, size_t elem_bytes,
                   int64_t offset, unsigned seed)
{
    matrix m = {{}, NULL, cols + gap, 0, elem_bytes, offset};
    std::vector<__nv_bfloat16> narrow;

    m.step = rows * m.ld + gap;
    m.host.assign((size_t)(offset + count * m.step), NAN);
    for (int64_t i = 0; i < count * rows * cols; i++) {
        const int64_t at = offset + i / (rows * cols) * m.step + i / cols % rows * m.ld + i % cols;
        seed = seed * 1664525U + 1013904223U;
        m.host[(size_t)at] = (float)(seed >> 28) - 7.0F;
    }
    for (const float x : m.host) {
        narrow.push_back(__float2bfloat16_rn(x));
    }
    const size_t nbytes = m.host.size() * elem_bytes;
    assert_int_equal(rp_gpu_alloc(&m.place, gpu, nbytes), RP_OK);
    rp_gpu_put(gpu, m.place, nbytes,
               elem_bytes == 2 ? (const void *)narrow.data() : (const void *)m.host.data(), nbytes,
               nbytes, 1);
    return m;
}

static float at(const matrix &m, int64_t unit, int64_t row, int64_t col, bool is_transposed)
{
    const int64_t in = is_transposed ? col * m.ld + row : row * m.ld + col;

    return m.host[(size_t)(m.offset + unit * m.step + in)];
}

static void check_product(rp_gemm g, int64_t gap, int64_t offset)
{
    const size_t input_bytes = g.inputs == RP_GEMM_BF16 ? 2 : 4;
    const bool is_a_t = g.is_a_transposed, is_b_t = g.is_b_transposed;
    const matrix a = make(is_a_t ? g.inner : g.rows, is_a_t ? g.rows : g.inner, gap, g.count,
                          input_bytes, offset, 1);
    const matrix b = make(is_b_t ? g.cols : g.inner, is_b_t ? g.inner : g.cols, gap, g.count,
                          input_bytes, offset, 2);
    matrix c = make(g.rows, g.cols, gap, g.count, 4, offset, 3);
    const std::vector<float> before = c.host;
    const size_t nbytes = c.host.size() * sizeof(float);

    g.a = static_cast<unsigned char *>(a.place) + (size_t)offset * input_bytes;
    g.b = static_cast<unsigned char *>(b.place) + (size_t)offset * input_bytes;
    g.c = static_cast<float *>(c.place) + offset;
    g.a_ld = a.ld, g.b_ld = b.ld, g.c_ld = c.ld;
    g.a_step = a.step, g.b_step = b.step, g.c_step = c.step;
    if (g.beta == 0.0F) { /* nor may it be read */
        rp_gpu_put(gpu, c.place, nbytes, std::vector<float>(c.host.size(), NAN).data(), nbytes,
                   nbytes, 1);
    }
    rp_gemm_run(gpu, &g);
    rp_gpu_get(gpu, c.host.data(), nbytes, c.place, nbytes, nbytes, 1);
    assert_int_equal(rp_gpu_sync(gpu), RP_OK);
    for (int64_t i = 0; i < g.count * g.rows * g.cols; i++) {
        const int64_t unit = i / (g.rows * g.cols), row = i / g.cols % g.rows, col = i % g.cols;
        const size_t place = (size_t)(offset + unit * c.step + row * c.ld + col);
        double sum = 0;
        for (int64_t k = 0; k < g.inner; k++) {
            sum += (double)at(a, unit, row, k, is_a_t) * (double)at(b, unit, k, col, is_b_t);
        }
        sum =
            (double)g.alpha * sum + (g.beta == 0.0F ? 0.0 : (double)g.beta * (double)before[place]);
        assert_true((double)c.host[place] == sum);
    }
    rp_gpu_free(gpu, a.place);
    rp_gpu_free(gpu, b.place);
    rp_gpu_free(gpu, c.place);
}

static void products_are_sums_of_products(void **)
{
    for (int i = 0; i < 3 * 4 * 2 * 2 * 3; i++) {
        rp_gemm g = rp_gemm_of((rp_gemm_inputs)(i % 3), 19, 34, i % 2 == 0 ? 40 : 1);

        g.is_a_transposed = i / 3 % 2 == 1;
        g.is_b_transposed = i / 6 % 2 == 1;
        g.count = i / 12 % 2 == 1 ? 3 : 1;
        g.beta = i / 24 % 2 == 1 ? 2.0F : 0.0F;
        g.alpha = 0.5F;
        check_product(g, i / 48 == 0 ? 0 : 6, i / 48 == 2 ? 1 : 0); /* ragged; off by one */
    }
}

static void a_product_without_elements_is_none(void **)
{
    const int64_t n = rp_gpu_algorithms_count(gpu);
    rp_gemm g = rp_gemm_of(RP_GEMM_F32, 0, 5, 5);

    rp_gemm_run(gpu, &g);
    g.rows = 5, g.cols = 0;
    rp_gemm_run(gpu, &g);
    assert_int_equal(rp_gpu_sync(gpu), RP_OK);
    assert_int_equal(rp_gpu_algorithms_count(gpu), n);
}

/* Rows of one matrix are one shape, wherever they begin; another first column is another. */
static void rows_do_not_decide(void **)
{
    matrix m = make(64, 72, 0, 1, 4, 0, 1), out = make(64, 72, 0, 1, 4, 0, 1);
    const int64_t n = rp_gpu_algorithms_count(gpu);
    int64_t more = 0;

    for (int row = 0; row < 8; row++) {
        rp_gemm g = rp_gemm_of(RP_GEMM_F32, 4, 4, 4);
        g.a = static_cast<float *>(m.place) + row * 5 * m.ld, g.a_ld = m.ld;
        g.b = static_cast<float *>(m.place) + row * 3 * m.ld, g.b_ld = m.ld;
        g.c = static_cast<float *>(out.place) + row * m.ld, g.c_ld = m.ld;
        rp_gemm_run(gpu, &g);
        more = rp_gpu_algorithms_count(gpu) - n;
        assert_int_equal(more, 1);
        if (row == 7) {
            g.c++;
            rp_gemm_run(gpu, &g);
        }
    }
    assert_int_equal(rp_gpu_sync(gpu), RP_OK);
    assert_int_equal(rp_gpu_algorithms_count(gpu) - n, 2);
    rp_gpu_free(gpu, m.place);
    rp_gpu_free(gpu, out.place);
}

/* ---- The library ---- */

/* c [64, 64] = a b, f32, without gaps, by what the heuristic finds. */
struct call {
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t how;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found[8];
    int n_found;
};

static call make_call(cublasComputeType_t compute, cudaDataType_t type, int64_t ld)
{
    const uint64_t workspace_bytes = RP_GPU_WORKSPACE_BYTES;
    call k = {};

    assert_int_equal(cublasLtCreate(&k.handle), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasLtMatmulDescCreate(&k.how, compute, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasLtMatrixLayoutCreate(&k.a, type, 64, 64, ld), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasLtMatrixLayoutCreate(&k.b, type, 64, 64, 64), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasLtMatrixLayoutCreate(&k.c, CUDA_R_32F, 64, 64, 64),
                     CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasLtMatmulPreferenceCreate(&k.preference), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(
        cublasLtMatmulPreferenceSetAttribute(k.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &workspace_bytes, sizeof(workspace_bytes)),
        CUBLAS_STATUS_SUCCESS);
    return k;
}

static void end_call(call *k)
{
    cublasLtMatmulPreferenceDestroy(k->preference);
    cublasLtMatrixLayoutDestroy(k->c);
    cublasLtMatrixLayoutDestroy(k->b);
    cublasLtMatrixLayoutDestroy(k->a);
    cublasLtMatmulDescDestroy(k->how);
    cublasLtDestroy(k->handle);
}

static cublasStatus_t ask(call *k)
{
    return cublasLtMatmulAlgoGetHeuristic(k->handle, k->how, k->a, k->b, k->c, k->c, k->preference,
                                          8, k->found, &k->n_found);
}

static cublasStatus_t run(const call *k, int by, const float *data, size_t workspace_bytes)
{
    const float one = 1.0F, zero = 0.0F;
    float *const c = const_cast<float *>(data) + 64 * 64;

    return cublasLtMatmul(k->handle, k->how, &one, data, k->a, data, k->b, &zero, c, k->c, c, k->c,
                          &k->found[by].algo, gpu->workspace, workspace_bytes, gpu->stream);
}

static void the_library_splits_where_it_may(void **)
{
    const uint32_t none = CUBLASLT_REDUCTION_SCHEME_NONE, unaligned = 4;
    call k = make_call(CUBLAS_COMPUTE_32F, CUDA_R_32F, 64);

    assert_int_equal(ask(&k), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(k.n_found, 3);
    assert_false(rp_gemm_is_fixed(&k.found[0].algo, k.found[0].workspaceSize));
    assert_true(rp_gemm_is_fixed(&k.found[1].algo, k.found[1].workspaceSize));
    assert_false(rp_gemm_is_fixed(&k.found[1].algo, RP_GPU_WORKSPACE_BYTES + 1));
    cublasLtMatmulPreferenceSetAttribute(k.preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                         &none, sizeof(none));
    assert_int_equal(ask(&k), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(k.n_found, 2);
    cublasLtMatmulPreferenceSetAttribute(k.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
                                         &unaligned, sizeof(unaligned));
    assert_int_equal(ask(&k), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(k.n_found, 1);
    end_call(&k);
}

static void the_library_refuses_what_does_not_fit(void **)
{
    static const struct {
        cublasComputeType_t compute;
        cudaDataType_t type;
        int64_t ld;
        cublasStatus_t status;
    } cases[] = {
        {CUBLAS_COMPUTE_32F, CUDA_R_16BF, 64, CUBLAS_STATUS_SUCCESS},
        {CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F, 64, CUBLAS_STATUS_SUCCESS},
        {CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_16BF, 64, CUBLAS_STATUS_NOT_SUPPORTED},
        {CUBLAS_COMPUTE_32F, CUDA_R_64F, 64, CUBLAS_STATUS_NOT_SUPPORTED},
        {CUBLAS_COMPUTE_32F, CUDA_R_32F, 63, CUBLAS_STATUS_INVALID_VALUE},
    };
    matrix m = make(128, 64, 0, 1, 4, 0, 1);
    const float *const data = static_cast<const float *>(m.place);

    for (const auto &each : cases) {
        call k = make_call(each.compute, each.type, each.ld);
        assert_int_equal(ask(&k), each.status);
        if (each.status == CUBLAS_STATUS_SUCCESS) {
            assert_int_equal(run(&k, 1, data, RP_GPU_WORKSPACE_BYTES), CUBLAS_STATUS_SUCCESS);
            assert_int_equal(run(&k, 1, data, 16), CUBLAS_STATUS_INVALID_VALUE);
            k.found[1].algo.data[7]++; /* what it keeps to itself */
            assert_int_equal(run(&k, 1, data, RP_GPU_WORKSPACE_BYTES), CUBLAS_STATUS_NOT_SUPPORTED);
        }
        end_call(&k);
    }
    assert_int_equal(rp_gpu_sync(gpu), RP_OK);
    rp_gpu_free(gpu, m.place);
}

static void the_library_dies_of_what_is_not_aligned(void **)
{
    matrix m = make(130, 64, 0, 1, 4, 0, 1);
    call k = make_call(CUBLAS_COMPUTE_32F, CUDA_R_32F, 64);
    int status = 0;

    assert_int_equal(ask(&k), CUBLAS_STATUS_SUCCESS);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        run(&k, 1, static_cast<const float *>(m.place) + 1, RP_GPU_WORKSPACE_BYTES);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    end_call(&k);
    rp_gpu_free(gpu, m.place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_sums_of_products),
        cmocka_unit_test(a_product_without_elements_is_none),
        cmocka_unit_test(rows_do_not_decide),
        cmocka_unit_test(the_library_splits_where_it_may),
        cmocka_unit_test(the_library_refuses_what_does_not_fit),
        cmocka_unit_test(the_library_dies_of_what_is_not_aligned),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* Every call of CUDA and its libraries fails once: what comes out is one message that names the GPU
 * and the call, whatever was asked of the GPU after it. On the stand-in alone. */
#include "base/mem.h"
#include "kernels/gpu.h"
#include "kernels/ops.h"
#include "kernels/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { ROWS = 24, COLS = 40, BLOCK_ROWS = 8, ALL_DONE = 0, HAS_FAILED = 1, WRONG = 2 };

/* Every block of rows that are streamed grows by x. */
static void stream(const rp_exec *exec, rp_window *window, const float *x)
{
    for (int64_t b = 0; b < ROWS / BLOCK_ROWS; b++) {
        float *const data = rp_window_use(window, b, COLS, COLS);
        rp_kernels_cuda()->add(exec, rp_mat_of(data, BLOCK_ROWS, COLS, COLS),
                               rp_cmat_of(x, BLOCK_ROWS, COLS, COLS));
    }
}

static rp_status work(const rp_exec *exec)
{
    static float x[ROWS * COLS], y[ROWS * ROWS];
    static const rp_window_shape shape = {ROWS, BLOCK_ROWS, COLS};
    rp_status st = RP_OK;
    float *on_gpu = NULL, *product = NULL;
    rp_window *window = NULL;

    RP_TRY(rp_window_create(&window, exec, &shape, true));
    RP_TRY(rp_place_alloc(exec, &on_gpu, ROWS * COLS, sizeof(float)));
    RP_TRY(rp_place_alloc(exec, &product, ROWS * ROWS, sizeof(float)));
    rp_place_put(exec, on_gpu, x, sizeof(x));
    rp_place_zero(exec, product, sizeof(y));
    rp_kernels_cuda()->linear(exec, rp_mat_of(product, ROWS, ROWS, ROWS),
                              rp_cmat_of(on_gpu, ROWS, COLS, COLS),
                              rp_cmat_of(on_gpu, ROWS, COLS, COLS), NULL, false);
    rp_kernels_cuda()->add(exec, rp_mat_of(product, ROWS, ROWS, ROWS),
                           rp_cmat_of(product, ROWS, ROWS, ROWS));
    rp_window_put(window, 0, ROWS, COLS, x);
    stream(exec, window, on_gpu);
    rp_window_get(window, 0, ROWS, COLS, x);
    rp_place_get(exec, y, product, sizeof(y));
    RP_TRY(rp_place_check(exec));
out:
    rp_window_destroy(&window);
    rp_place_free(exec, on_gpu);
    rp_place_free(exec, product);
    return st;
}

/* In a child, whose stand-in reads its environment anew. */
static int with_failure(int nth)
{
    char setting[32];
    rp_exec *exec = NULL;
    rp_gpu *gpu = NULL;
    rp_status st = RP_OK;

    snprintf(setting, sizeof(setting), "fail=%d", nth);
    setenv("RP_CUDA_HOST", setting, 1);
    if (rp_exec_create(&exec, 1, RP_PRODUCTS_F32) != RP_OK) {
        return WRONG;
    }
    st = rp_gpu_create(&gpu, 0, 1 << 20);
    if (st == RP_OK) {
        exec->gpu = gpu;
        st = work(exec);
        if (rp_gpu_sync(gpu) != st) {
            return WRONG;
        }
    } else if (gpu != NULL) {
        return WRONG;
    }
    if (st != RP_OK && (st != RP_ERR_MEMORY || strncmp(rp_error_message(), "GPU 0 (", 7) != 0)) {
        return WRONG;
    }
    rp_gpu_destroy(&gpu);
    rp_exec_destroy(&exec);
    return st == RP_OK ? ALL_DONE : HAS_FAILED;
}

static void each_failure_is_kept(void **state)
{
    int nth = 0, ended = HAS_FAILED;

    (void)state;
    while (ended == HAS_FAILED) {
        int status = 0;
        nth++;
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            _exit(with_failure(nth));
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) == WRONG || nth > 1000) {
            fail_msg("failure %d: status %#x", nth, (unsigned)status);
        }
        ended = WEXITSTATUS(status);
    }
    assert_true(nth > 30); /* the calls of creation and work */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_failure_is_kept)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The libraries that this build opens with its first GPU are there, with every function. It needs
 * no GPU. */
#include "base/mem.h"
#include "kernels/cuda/libraries.h"
#include "mpi/nccl_library.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cusolverDn.h>
#include <nccl.h>
#include <cmocka.h>

static void cublas_and_cusolver_open(void **state)
{
    int version = 0;

    (void)state;
    if (rp_cuda_load_libraries() != RP_OK) {
        fail_msg("%s", rp_error_message());
    }
    assert_int_equal(cusolverGetVersion(&version), CUSOLVER_STATUS_SUCCESS);
    assert_int_equal(version / 1000, CUSOLVER_VER_MAJOR);
    assert_string_equal(cublasGetStatusString(CUBLAS_STATUS_SUCCESS), "success");
}

static void nccl_opens(void **state)
{
    int version = 0;

    (void)state;
    if (rp_nccl_load() != RP_OK) {
        fail_msg("%s", rp_error_message());
    }
    assert_int_equal(ncclGetVersion(&version), ncclSuccess);
    assert_int_equal(version / 10000, NCCL_MAJOR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cublas_and_cusolver_open),
        cmocka_unit_test(nccl_opens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

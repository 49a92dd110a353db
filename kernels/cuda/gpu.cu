/* A GPU's life: one allocation (arena, scratch, workspace), the compute stream and one beside it,
 * library handles whose results are fixed, and the first failure. */
#include "base/mem.h"
#include "kernels/cuda/gemm_cuda.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/libraries.h"
#include "kernels/cuda/ops_cuda.h"

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of memory that is free, cudaMalloc aside: library handles, loaded kernels, and local memory,
 * which the driver takes for all threads that a GPU can hold: 1.5 KB of the searches' kernels for
 * each of 132 x 2048 are 0.4 GB. */
#define LIBRARY_BYTES ((size_t)1 << 30)
#define SMALL_GPU_BYTES ((size_t)16 << 30)

/* ---- Failures ---- */

void rp_gpu_keep_message(rp_gpu *gpu, const char *what, const char *why)
{
    if (!rp_gpu_has_failed(gpu)) {
        snprintf(gpu->failure, sizeof(gpu->failure), "%s: %.*s: %s", gpu->name,
                 (int)strcspn(what, "("), what, why);
    }
}

void rp_gpu_keep(rp_gpu *gpu, const char *what, cudaError_t status)
{
    if (status != cudaSuccess) {
        rp_gpu_keep_message(gpu, what, cudaGetErrorString(status));
    }
}

void rp_gpu_keep(rp_gpu *gpu, const char *what, cublasStatus_t status)
{
    if (status != CUBLAS_STATUS_SUCCESS) {
        rp_gpu_keep_message(gpu, what, cublasGetStatusString(status));
    }
}

void rp_gpu_keep(rp_gpu *gpu, const char *what, cusolverStatus_t status)
{
    char why[48];

    if (status != CUSOLVER_STATUS_SUCCESS) {
        snprintf(why, sizeof(why), "cuSOLVER status %d", (int)status);
        rp_gpu_keep_message(gpu, what, why);
    }
}

void rp_gpu_wait(rp_gpu *gpu)
{
    RP_GPU_TRY(gpu, cudaStreamSynchronize(gpu->stream));
}

rp_status rp_gpu_sync(rp_gpu *gpu)
{
    rp_gpu_wait(gpu);
    return rp_gpu_has_failed(gpu) ? RP_FAIL(RP_ERR_MEMORY, "%s", gpu->failure) : RP_OK;
}

/* ---- What there is ---- */

bool rp_gpu_is_built(void)
{
    return true;
}

int rp_gpu_count(void)
{
    int n = 0;

    if (cudaGetDeviceCount(&n) != cudaSuccess) {
        (void)cudaGetLastError(); /* no driver, no device: not a failure of what comes next */
        return 0;
    }
    return n;
}

const char *rp_gpu_trouble(void)
{
    int n = 0, driver = 0;
    const cudaError_t status = cudaGetDeviceCount(&n);
    const bool has_driver = cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0;
    const bool is_well = status == cudaSuccess || status == cudaErrorNoDevice;

    (void)cudaGetLastError();
    return has_driver && !is_well ? cudaGetErrorString(status) : NULL;
}

static void format_uuid(char *out, size_t size, const cudaUUID_t *uuid)
{
    size_t used = (size_t)snprintf(out, size, "GPU");

    for (int i = 0; i < 16 && used < size; i++) {
        const bool has_dash = i == 0 || i == 4 || i == 6 || i == 8 || i == 10;
        used += (size_t)snprintf(out + used, size - used, "%s%02x", has_dash ? "-" : "",
                                 (unsigned char)uuid->bytes[i]);
    }
}

static cudaError_t describe(rp_gpu_info *out, int ordinal)
{
    cudaDeviceProp prop;
    cudaError_t status = cudaSetDevice(ordinal);

    status = status == cudaSuccess ? cudaGetDeviceProperties(&prop, ordinal) : status;
    status = status == cudaSuccess ? cudaDriverGetVersion(&out->driver_version) : status;
    status = status == cudaSuccess ? cudaRuntimeGetVersion(&out->runtime_version) : status;
    status = status == cudaSuccess ? cudaMemGetInfo(&out->free_bytes, &out->total_bytes) : status;
    if (status == cudaSuccess) {
        snprintf(out->name, sizeof(out->name), "%.63s", prop.name);
        format_uuid(out->uuid, sizeof(out->uuid), &prop.uuid);
        out->compute_major = prop.major;
        out->compute_minor = prop.minor;
        out->n_multiprocessors = prop.multiProcessorCount;
    }
    return status;
}

rp_status rp_gpu_describe(rp_gpu_info *out, int ordinal)
{
    cudaError_t status;

    memset(out, 0, sizeof(*out));
    status = describe(out, ordinal);
    return status == cudaSuccess
               ? RP_OK
               : RP_FAIL(RP_ERR_MEMORY, "GPU %d: %s", ordinal, cudaGetErrorString(status));
}

void rp_gpu_open_ahead(int ordinal)
{
    rp_gpu_info info;
    const bool is_open =
        rp_gpu_describe(&info, ordinal) == RP_OK && rp_cuda_load_libraries() == RP_OK;

    (void)is_open;
}

const char *rp_gpu_class(const rp_gpu *gpu)
{
    return gpu->arithmetic_class;
}

/* ---- Memory ---- */

static size_t scratch_bytes_of(size_t total_bytes)
{
    return total_bytes >= SMALL_GPU_BYTES ? RP_GPU_SCRATCH_BYTES : rp_gpu_aligned(total_bytes / 16);
}

static size_t own_bytes_of(size_t total_bytes)
{
    return scratch_bytes_of(total_bytes) + RP_GPU_WORKSPACE_BYTES +
           RP_MIN(LIBRARY_BYTES, total_bytes / 16);
}

size_t rp_gpu_own_bytes(const rp_gpu_info *info)
{
    return own_bytes_of(info == NULL ? SMALL_GPU_BYTES : info->total_bytes);
}

size_t rp_gpu_room_bytes(const rp_gpu_info *info)
{
    return info->free_bytes - RP_MIN(rp_gpu_own_bytes(info), info->free_bytes);
}

size_t rp_gpu_scratch_bytes(const rp_gpu *gpu)
{
    return RP_MIN(gpu->scratch_bytes, gpu->scratch_limit_bytes);
}

void rp_gpu_limit_scratch(rp_gpu *gpu, size_t nbytes)
{
    gpu->scratch_limit_bytes = nbytes;
}

void *rp_gpu_scratch(rp_gpu *gpu, size_t nbytes)
{
    char why[96];

    if (nbytes > rp_gpu_scratch_bytes(gpu)) {
        snprintf(why, sizeof(why), "wanted %zu bytes, there are %zu", nbytes,
                 rp_gpu_scratch_bytes(gpu));
        rp_gpu_keep_message(gpu, "scratch", why);
        return NULL;
    }
    return gpu->scratch;
}

void *rp_gpu_pinned(rp_gpu *gpu, size_t nbytes)
{
    char why[96];

    if (nbytes > RP_GPU_PINNED_BYTES) {
        snprintf(why, sizeof(why), "wanted %zu bytes, there are %zu", nbytes, RP_GPU_PINNED_BYTES);
        rp_gpu_keep_message(gpu, "pinned memory", why);
        return NULL;
    }
    return gpu->pinned;
}

rp_status rp_gpu_alloc(void **out, rp_gpu *gpu, size_t nbytes)
{
    rp_status st = RP_OK;
    size_t offset = 0;

    *out = NULL;
    st = rp_arena_take(&offset, gpu->arena, nbytes);
    if (st != RP_OK) {
        return rp_error_prefix(st, "%s", gpu->name);
    }
    *out = gpu->memory + offset;
    RP_GPU_FRESH(gpu, *out, nbytes);
    return st;
}

void rp_gpu_free(rp_gpu *gpu, void *memory)
{
    if (memory != NULL) {
        rp_arena_give(gpu->arena, (size_t)((unsigned char *)memory - gpu->memory));
    }
}

size_t rp_gpu_peak_bytes(const rp_gpu *gpu)
{
    return rp_arena_peak_bytes(gpu->arena);
}

/* ---- The side stream ---- */

static void set_up_side(rp_gpu *gpu)
{
    rp_gpu_side *const side = &gpu->side;

    RP_GPU_TRY(gpu, cudaStreamCreateWithFlags(&side->stream, cudaStreamNonBlocking));
    for (int i = 0; i < 2; i++) {
        RP_GPU_TRY(gpu, cudaEventCreateWithFlags(&side->is_made[i], cudaEventDisableTiming));
        RP_GPU_TRY(gpu, cudaEventCreateWithFlags(&side->is_used[i], cudaEventDisableTiming));
    }
}

void rp_gpu_destroy_stream(cudaStream_t stream)
{
    if (stream != NULL) {
        (void)cudaStreamSynchronize(stream); /* after a failure nothing has waited for it */
        (void)cudaStreamDestroy(stream);
    }
}

void rp_gpu_destroy_event(cudaEvent_t event)
{
    if (event != NULL) {
        (void)cudaEventDestroy(event);
    }
}

static void release_side(rp_gpu_side *side)
{
    rp_gpu_destroy_stream(side->stream);
    for (int i = 0; i < 2; i++) {
        rp_gpu_destroy_event(side->is_made[i]);
        rp_gpu_destroy_event(side->is_used[i]);
    }
}

void rp_gpu_side_begin(rp_gpu *gpu, int buffer)
{
    RP_GPU_TRY(gpu, cudaStreamWaitEvent(gpu->stream, gpu->side.is_used[buffer], 0));
}

void rp_gpu_side_make(rp_gpu *gpu, int buffer)
{
    RP_GPU_TRY(gpu, cudaEventRecord(gpu->side.is_made[buffer], gpu->stream));
    RP_GPU_TRY(gpu, cudaStreamWaitEvent(gpu->side.stream, gpu->side.is_made[buffer], 0));
}

void rp_gpu_side_use(rp_gpu *gpu, int buffer)
{
    RP_GPU_TRY(gpu, cudaEventRecord(gpu->side.is_used[buffer], gpu->side.stream));
}

void rp_gpu_side_end(rp_gpu *gpu)
{
    rp_gpu_side_begin(gpu, 0);
    rp_gpu_side_begin(gpu, 1);
}

/* ---- The same bits every time ---- */

enum { TEST_ROWS = 320, TEST_INNER = 1536 }; /* ragged against every tile; an inner size to split */
#define TEST_BYTES ((size_t)TEST_ROWS * TEST_ROWS * sizeof(float))

/* out [n]: values that fill all bits of their mantissas. */
static __global__ void test_values_kernel(__nv_bfloat16 *out, int n)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);

    if (i < n) {
        out[i] = __float2bfloat16_rn((float)((unsigned)i * 2654435761U >> 8) / 8388608.0F - 1.0F);
    }
}

/* out [TEST_BYTES, host] := one product, into device memory that begins as `fill`. */
static void test_product(rp_gpu *gpu, void *out, int fill)
{
    const int n = TEST_ROWS * TEST_INNER;
    rp_gpu_pieces pieces = {gpu, 0};
    __nv_bfloat16 *const a = rp_gpu_take<__nv_bfloat16>(&pieces, n);
    float *const product = rp_gpu_take<float>(&pieces, TEST_ROWS * TEST_ROWS);
    rp_gemm gemm = rp_gemm_of(RP_GEMM_BF16, TEST_ROWS, TEST_ROWS, TEST_INNER);

    gemm.c = product, gemm.c_ld = TEST_ROWS;
    gemm.a = gemm.b = a, gemm.a_ld = gemm.b_ld = TEST_INNER;
    gemm.is_b_transposed = true;
    RP_GPU_TRY(gpu, cudaMemsetAsync(gpu->workspace, fill, RP_GPU_WORKSPACE_BYTES, gpu->stream));
    RP_GPU_TRY(gpu, cudaMemsetAsync(product, fill, TEST_BYTES, gpu->stream));
    RP_LAUNCH(gpu, test_values_kernel, rp_gpu_blocks(n, 256), 256, 0, a, n);
    rp_gemm_run(gpu, &gemm);
    rp_gpu_get(gpu, out, TEST_BYTES, product, TEST_BYTES, TEST_BYTES, 1);
}

/* A product gives the same bits again, and whatever its memory held before. */
static rp_status test_bits(rp_gpu *gpu)
{
    static const int fills[3] = {0, 0, 0xa5};
    rp_status st = RP_OK;
    unsigned char *results = NULL;

    RP_TRY(rp_calloc(&results, 3, TEST_BYTES));
    for (int i = 0; i < 3; i++) {
        test_product(gpu, results + (size_t)i * TEST_BYTES, fills[i]);
    }
    RP_TRY(rp_gpu_sync(gpu));
    for (int i = 1; i < 3; i++) {
        if (memcmp(results, results + (size_t)i * TEST_BYTES, TEST_BYTES) != 0) {
            st = RP_FAIL(RP_ERR_MEMORY, "%s: self-test of bits: a product differs from itself (%d)",
                         gpu->name, i);
            goto out;
        }
    }
out:
    free(results);
    rp_gemms_forget(gpu); /* the test's product is none of the job's */
    return st;
}

/* ---- Life ---- */

static void set_up_libraries(rp_gpu *gpu)
{
    RP_GPU_TRY(gpu, cublasCreate(&gpu->blas));
    RP_GPU_TRY(gpu, cublasSetStream(gpu->blas, gpu->stream)); /* forgets the workspace: so first */
    RP_GPU_TRY(gpu, cublasSetWorkspace(gpu->blas, gpu->workspace, RP_GPU_WORKSPACE_BYTES));
    RP_GPU_TRY(gpu, cublasSetPointerMode(gpu->blas, CUBLAS_POINTER_MODE_HOST));
    RP_GPU_TRY(gpu, cublasSetAtomicsMode(gpu->blas, CUBLAS_ATOMICS_NOT_ALLOWED));
    rp_gemms_create(gpu);
    RP_GPU_TRY(gpu, cusolverDnCreate(&gpu->solver));
    RP_GPU_TRY(gpu, cusolverDnSetStream(gpu->solver, gpu->stream));
    RP_GPU_TRY(gpu, cusolverDnSetDeterministicMode(gpu->solver, CUSOLVER_DETERMINISTIC_RESULTS));
}

static void set_up_host_memory(rp_gpu *gpu)
{
    RP_GPU_TRY(gpu, cudaMallocHost(&gpu->pinned, RP_GPU_PINNED_BYTES));
    for (int i = 0; i < 2; i++) {
        RP_GPU_TRY(gpu, cudaMallocHost(reinterpret_cast<void **>(&gpu->staging.buffer[i]),
                                       RP_GPU_STAGING_BYTES));
        RP_GPU_TRY(gpu, cudaEventCreateWithFlags(&gpu->staging.is_done[i], cudaEventDisableTiming));
    }
}

static void name_class(rp_gpu *gpu, const rp_gpu_info *info)
{
    int blas = 0, solver = 0;

    RP_GPU_TRY(gpu, cublasGetVersion(gpu->blas, &blas));
    RP_GPU_TRY(gpu, cusolverGetVersion(&solver));
    snprintf(gpu->arithmetic_class, sizeof(gpu->arithmetic_class),
             "cuda %s sm_%d%d cublas %d cublasLt %zu cusolver %d", info->name, info->compute_major,
             info->compute_minor, blas, cublasLtGetVersion(), solver);
}

static rp_status take_memory(rp_gpu *gpu, const rp_gpu_info *info, size_t arena_bytes)
{
    rp_status st = RP_OK;
    const size_t arena_end = rp_gpu_aligned(arena_bytes);

    gpu->scratch_bytes = gpu->scratch_limit_bytes = scratch_bytes_of(info->total_bytes);
    if (arena_bytes > rp_gpu_room_bytes(info)) {
        return RP_FAIL(RP_ERR_MEMORY,
                       "%s: wanted %zu bytes and %zu for itself, %zu of %zu are free", gpu->name,
                       arena_bytes, rp_gpu_own_bytes(info), info->free_bytes, info->total_bytes);
    }
    RP_TRY(rp_arena_create(&gpu->arena, arena_end));
    RP_GPU_TRY(gpu, cudaMalloc(reinterpret_cast<void **>(&gpu->memory),
                               arena_end + gpu->scratch_bytes + RP_GPU_WORKSPACE_BYTES));
    gpu->scratch = gpu->memory + arena_end;
    gpu->workspace = gpu->scratch + gpu->scratch_bytes;
out:
    return st;
}

rp_status rp_gpu_create(rp_gpu **out, int ordinal, size_t arena_bytes)
{
    rp_status st = RP_OK;
    rp_gpu *gpu = NULL;
    rp_gpu_info info;

    *out = NULL;
    RP_TRY(rp_cuda_load_libraries());
    RP_TRY(rp_gpu_describe(&info, ordinal));
    RP_TRY(rp_calloc(&gpu, 1, sizeof(*gpu)));
    gpu->ordinal = ordinal;
    snprintf(gpu->name, sizeof(gpu->name), "GPU %d (%s)", ordinal, info.name);
    RP_TRY(take_memory(gpu, &info, arena_bytes));
    RP_GPU_TRY(gpu, cudaStreamCreateWithFlags(&gpu->stream, cudaStreamNonBlocking));
    set_up_side(gpu);
    set_up_libraries(gpu);
    set_up_host_memory(gpu);
    name_class(gpu, &info);
    RP_TRY(rp_gpu_sync(gpu));
    RP_TRY(test_bits(gpu));
    *out = gpu;
    gpu = NULL;
out:
    rp_gpu_destroy(&gpu);
    return st;
}

/* Failures have no meaning any more. */
static void release(rp_gpu *gpu)
{
    if (gpu->stream != NULL) {
        (void)cudaStreamSynchronize(gpu->stream);
    }
    release_side(&gpu->side);
    if (gpu->solver != NULL) {
        (void)cusolverDnDestroy(gpu->solver);
    }
    rp_gemms_destroy(gpu);
    if (gpu->blas != NULL) {
        (void)cublasDestroy(gpu->blas);
    }
    for (int i = 0; i < 2; i++) {
        (void)cudaFreeHost(gpu->staging.buffer[i]);
        rp_gpu_destroy_event(gpu->staging.is_done[i]);
    }
    (void)cudaFreeHost(gpu->pinned);
    (void)cudaFree(gpu->memory);
    if (gpu->stream != NULL) {
        (void)cudaStreamDestroy(gpu->stream);
    }
}

void rp_gpu_destroy(rp_gpu **gpu)
{
    if (*gpu == NULL) {
        return;
    }
    release(*gpu);
    rp_arena_destroy(&(*gpu)->arena);
    free(*gpu);
    *gpu = NULL;
}

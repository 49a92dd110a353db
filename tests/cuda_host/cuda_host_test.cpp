/* The stand-in itself: that kernels see what a GPU shows them, and that bugs are caught. */
#include <thread> /* before the device's words are macros */

#include "base/status.h"
#include "cuda_host.h"
#include "kernels/cuda/gemm_cuda.h"
#include "kernels/cuda/launch.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
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

template <typename T> static void fetch(T *to, const T *from, size_t n)
{
    rp_gpu_get(gpu, to, n * sizeof(T), from, n * sizeof(T), n * sizeof(T), 1);
    if (rp_gpu_sync(gpu) != RP_OK) {
        fail_msg("%s", rp_error_message());
    }
}

/* ---- What kernels see ---- */

static __global__ void reduce_kernel(const int *values, int n, int *sums)
{
    RP_DYNAMIC_SHARED(int, partial);
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);

    partial[threadIdx.x] = i < n ? values[i] : 0;
    __syncthreads();
    for (unsigned step = blockDim.x / 2; step > 0; step /= 2) {
        if (threadIdx.x < step) {
            partial[threadIdx.x] += partial[threadIdx.x + step];
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = partial[0];
    }
}

static void barriers_and_dynamic_shared_memory(void **)
{
    enum { N = 10000, BLOCK = 256, BLOCKS = (N + BLOCK - 1) / BLOCK };
    rp_gpu_pieces pieces = {gpu, 0};
    int values[N], sums[BLOCKS], total = 0;

    for (int i = 0; i < N; i++) {
        values[i] = i * i % 1001;
        total -= values[i];
    }
    const int *const on_gpu = rp_gpu_take_put<int>(&pieces, values, N);
    int *const made = rp_gpu_take<int>(&pieces, BLOCKS);
    RP_LAUNCH(gpu, reduce_kernel, BLOCKS, BLOCK, BLOCK * sizeof(int), on_gpu, N, made);
    fetch(sums, made, BLOCKS);
    for (int b = 0; b < BLOCKS; b++) {
        total += sums[b];
    }
    assert_int_equal(total, 0);
}

static __global__ void index_kernel(unsigned *out)
{
    const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);

    out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}

static void grids_and_blocks_of_three_dimensions(void **)
{
    enum { BLOCKS = 2 * 3 * 4, THREADS = 5 * 6 * 7 };
    unsigned *const made = static_cast<unsigned *>(rp_gpu_scratch(gpu, 4 * BLOCKS * THREADS));
    static unsigned out[BLOCKS * THREADS];

    RP_LAUNCH(gpu, index_kernel, dim3(2, 3, 4), dim3(5, 6, 7), 0, made);
    fetch(out, made, BLOCKS * THREADS);
    for (unsigned i = 0; i < BLOCKS * THREADS; i++) {
        assert_int_equal(out[i], i / THREADS * 1000 + i % THREADS);
    }
}

/* out [8][64] */
static __global__ void warp_kernel(int *out)
{
    const unsigned all = 0xffffffffU;
    const int t = (int)threadIdx.x, lane = t % 32;
    int sum = t;
    double big = 1e10 * t;

    for (int lanes = 16; lanes > 0; lanes /= 2) {
        sum += __shfl_xor_sync(all, sum, lanes);
    }
    out[t] = sum;
    out[64 + t] = __shfl_sync(all, t, 3);
    out[128 + t] = __shfl_down_sync(all, t, 5);
    out[192 + t] = __shfl_up_sync(all, t, 2, 8);
    out[256 + t] = (int)(__shfl_sync(all, big, lane + 1, 4) / 1e10);
    out[320 + t] = (int)__ballot_sync(all, lane % 3 == 0);
    out[384 + t] = __any_sync(all, t == 40) * 2 + __all_sync(all, t < 32);
    if (lane < 8) {
        out[448 + t] = __shfl_xor_sync(0xffU, t, 7); /* lanes of a mask meet without the others */
    }
    __syncwarp();
}

static void warps_exchange_values(void **)
{
    int *const made = static_cast<int *>(rp_gpu_scratch(gpu, 4 * 512));
    int out[512];

    RP_LAUNCH(gpu, warp_kernel, 1, 64, 0, made);
    fetch(out, made, 512);
    for (int t = 0; t < 64; t++) {
        const int first = t / 32 * 32, lane = t % 32;
        assert_int_equal(out[t], 32 * first + 31 * 16);
        assert_int_equal(out[64 + t], first + 3);
        assert_int_equal(out[128 + t], lane + 5 < 32 ? t + 5 : t);
        assert_int_equal(out[192 + t], t % 8 >= 2 ? t - 2 : t);
        assert_int_equal(out[256 + t], t / 4 * 4 + (t + 1) % 4);
        assert_int_equal((unsigned)out[320 + t], 0x49249249U);
        assert_int_equal(out[384 + t], t < 32 ? 1 : 2);
        assert_true(lane >= 8 || out[448 + t] == first + 7 - lane);
    }
}

static __global__ void poison_kernel(unsigned *out)
{
    __shared__ unsigned fixed[4];
    RP_DYNAMIC_SHARED(unsigned, dynamic);

    out[2 * blockIdx.x] = fixed[3];
    out[2 * blockIdx.x + 1] = dynamic[3];
    fixed[3] = dynamic[3] = 7;
}

static void shared_memory_is_poisoned_for_each_block(void **)
{
    unsigned *const made = static_cast<unsigned *>(rp_gpu_scratch(gpu, 64));
    unsigned out[6];

    RP_LAUNCH(gpu, poison_kernel, 3, 1, 16, made);
    fetch(out, made, 6);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(out[i], 0xffffffffU);
    }
}

static __global__ void atomic_kernel(unsigned long long *out)
{
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;

    atomicAdd(&out[0], i);
    atomicMax(&out[1], i * 7919ULL % 997);
    atomicMin(&out[2], i * 7919ULL % 997 + 5);
    atomicCAS(&out[3], 1000ULL, i);
}

static void atomics_add_and_compare(void **)
{
    const unsigned long long start[4] = {0, 0, 1000, 1000};
    rp_gpu_pieces pieces = {gpu, 0};
    unsigned long long *const made = rp_gpu_take_put<unsigned long long>(&pieces, start, 4);
    unsigned long long out[4];

    RP_LAUNCH(gpu, atomic_kernel, 10, 100, 0, made);
    fetch(out, made, 4);
    assert_int_equal(out[0], 999 * 500);
    assert_int_equal(out[1], 996);
    assert_int_equal(out[2], 5);
    assert_true(out[3] < 1000);
}

static void numbers_are_converted_as_on_a_gpu(void **)
{
    assert_int_equal(__float2int_rn(2.5F), 2);
    assert_int_equal(__float2int_rn(-3.5F), -4);
    assert_int_equal(__float2int_rn(3e9F), INT_MAX);
    assert_int_equal(__float2int_rz(NAN), 0);
    assert_true(__double2ll_rn(-1e30) == LLONG_MIN && __double2ll_rn(1e30) == LLONG_MAX);
    assert_int_equal(__double2ll_rn(0x1p52 + 1), 0x10000000000001);
    assert_int_equal(__float2uint_rn(-1.0F), 0);
    assert_int_equal(__bfloat16_as_ushort(__float2bfloat16_rn(1.0F + 0x1p-8F)), 0x3f80);
    assert_int_equal(__bfloat16_as_ushort(__float2bfloat16_rn(1.0F + 0x3p-8F)), 0x3f82);
    assert_int_equal(__bfloat16_as_ushort(__float2bfloat16_rn(3.4e38F)), 0x7f80);
    assert_true(__bfloat162float(__float2bfloat16_rn(-0.15625F)) == -0.15625F);
    assert_int_equal(__half_as_ushort(__float2half_rn(65520.0F)), 0x7c00);
    assert_true(__half2float(__float2half_rn(1.0F + 0x1p-11F)) == 1.0F);
}

/* ---- Bugs ---- */

static __global__ void early_leaver_kernel(int *out)
{
    if (threadIdx.x == 5) {
        return;
    }
    __syncthreads();
    out[threadIdx.x] = 1;
}

static __global__ void two_barriers_kernel(int *out)
{
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        out[threadIdx.x] = 1;
        __syncthreads();
    }
}

static __global__ void half_warp_kernel(int *out)
{
    if (threadIdx.x < 16) {
        out[threadIdx.x] = __shfl_xor_sync(0xffffffffU, 1, 1);
    }
}

static __global__ void outside_lane_kernel(int *out)
{
    if (threadIdx.x < 16) {
        out[threadIdx.x] = __shfl_sync(0xffffU, 1, 20);
    }
}

static __global__ void shared_overrun_kernel(int *out)
{
    RP_DYNAMIC_SHARED(int, shared);

    shared[4 + threadIdx.x] = 1;
    out[0] = shared[4];
}

static __global__ void write_kernel(int *out)
{
    out[threadIdx.x] = 1;
}

typedef struct pointer_in_struct {
    int n;
    int *out;
} pointer_in_struct;

static __global__ void struct_kernel(pointer_in_struct s)
{
    s.out[threadIdx.x] = s.n;
}

static int *device_ints(void)
{
    return static_cast<int *>(rp_gpu_scratch(gpu, 4096));
}

static void leave_early(void)
{
    RP_LAUNCH(gpu, early_leaver_kernel, 1, 64, 0, device_ints());
}
static void meet_at_two_barriers(void)
{
    RP_LAUNCH(gpu, two_barriers_kernel, 1, 64, 0, device_ints());
}
static void shuffle_without_lanes(void)
{
    RP_LAUNCH(gpu, half_warp_kernel, 1, 64, 0, device_ints());
}
static void shuffle_from_outside(void)
{
    RP_LAUNCH(gpu, outside_lane_kernel, 1, 64, 0, device_ints());
}
static void overrun_shared_memory(void)
{
    RP_LAUNCH(gpu, shared_overrun_kernel, 1, 1, 16, device_ints());
}
static void use_another_threads_stream(void)
{
    std::thread([]() { rp_gpu_zero(gpu, device_ints(), 4); }).join();
}
static void follow_a_device_pointer(void)
{
    *static_cast<volatile int *>(device_ints()) = 1;
}
static void pass_a_host_pointer(void)
{
    int on_stack[64] = {};

    RP_LAUNCH(gpu, write_kernel, 1, 64, 0, on_stack);
}
static void pass_a_host_pointer_in_a_struct(void)
{
    int on_stack[64] = {};
    const pointer_in_struct s = {1, on_stack};

    RP_LAUNCH(gpu, struct_kernel, 1, 64, 0, s);
}
static void multiply_host_memory(void)
{
    float x[4] = {};
    rp_gemm gemm = rp_gemm_of(RP_GEMM_F32, 2, 2, 2);

    gemm.a = gemm.b = gemm.c = x;
    gemm.a_ld = gemm.b_ld = gemm.c_ld = 2;
    rp_gemm_run(gpu, &gemm);
}

/* Runs it in a child, whose standard error goes to `said`; how the child ended. */
static int in_child(void (*bug)(void), char *said, size_t size)
{
    int ends[2], status = 0;
    size_t used = 0;
    ssize_t n = 1;

    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], 2);
        signal(SIGSEGV, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        bug();
        rp_gpu_wait(gpu);
        _exit(0);
    }
    close(ends[1]);
    while (n > 0) {
        n = read(ends[0], said + used, size - 1 - used);
        used += n > 0 ? (size_t)n : 0;
    }
    said[used] = '\0';
    close(ends[0]);
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void bugs_are_caught(void **)
{
    static const struct {
        void (*bug)(void);
        int signal;
        const char *says;
    } cases[] = {
        {leave_early, SIGABRT, "early_leaver_kernel"},
        {leave_early, SIGABRT, "of 64 threads 63 (thread 0 first) wait in __syncthreads"},
        {leave_early, SIGABRT, "1 (thread 5 first) ended"},
        {meet_at_two_barriers, SIGABRT, "divergent"},
        {shuffle_without_lanes, SIGABRT, "16 (thread 0 first) wait in __shfl_xor_sync"},
        {shuffle_from_outside, SIGABRT, "reads lane 20, which is not in mask 0xffff"},
        {overrun_shared_memory, SIGSEGV, ""},
        {use_another_threads_stream, SIGABRT, "used by another thread"},
        {follow_a_device_pointer, SIGSEGV, ""},
        {pass_a_host_pointer, SIGABRT, "write_kernel"},
        {pass_a_host_pointer_in_a_struct, SIGABRT, "not in this GPU's memory"},
        {multiply_host_memory, SIGABRT, "not in this GPU's memory"},
    };
    char said[4096];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const int signal = in_child(cases[i].bug, said, sizeof(said));
        if (signal != cases[i].signal || strstr(said, cases[i].says) == NULL) {
            fail_msg("case %zu: signal %d, said: %s", i, signal, said);
        }
    }
}

static void copies_in_a_wrong_direction_fail(void **)
{
    char on_host[64] = "";
    char *const on_gpu = reinterpret_cast<char *>(device_ints());
    const cudaStream_t s = gpu->stream;

    assert_int_equal(cudaMemcpyAsync(on_gpu, on_host, 64, cudaMemcpyDeviceToHost, s),
                     cudaErrorInvalidMemcpyDirection);
    assert_int_equal(cudaMemcpyAsync(on_gpu, on_host, 64, cudaMemcpyDeviceToDevice, s),
                     cudaErrorInvalidMemcpyDirection);
    assert_int_equal(cudaMemcpyAsync(on_host, on_gpu, 64, cudaMemcpyHostToDevice, s),
                     cudaErrorInvalidMemcpyDirection);
    assert_int_equal(cudaMemcpyAsync(on_gpu, on_host, 64, cudaMemcpyHostToDevice, s), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(on_host, on_gpu, 64, cudaMemcpyDeviceToHost, s), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(s), cudaSuccess);
}

/* ---- Two streams ---- */

static __global__ void set_kernel(int *to, int value)
{
    *to = value;
}
static __global__ void copy_kernel(int *to, const int *from)
{
    *to = *from;
}

/* The compute stream makes 1 and then 2 in one place, of which the side stream takes the first; the
 * waits that are left out. Returns what was taken. */
static int take_beside(bool waits_for_make, bool waits_for_use, bool waits_at_end)
{
    int *const made = device_ints(), *const taken = made + 1;
    int out = 0;

    RP_LAUNCH(gpu, set_kernel, 1, 1, 0, made, 0);
    RP_LAUNCH(gpu, set_kernel, 1, 1, 0, taken, -1);
    rp_gpu_side_make(gpu, 1);
    RP_LAUNCH(gpu, set_kernel, 1, 1, 0, made, 1);
    if (waits_for_make) {
        rp_gpu_side_make(gpu, 0);
    }
    RP_LAUNCH_ON(gpu, gpu->side.stream, copy_kernel, 1, 1, 0, taken, made);
    rp_gpu_side_use(gpu, 0);
    if (waits_for_use) {
        rp_gpu_side_begin(gpu, 0);
    }
    RP_LAUNCH(gpu, set_kernel, 1, 1, 0, made, 2);
    if (waits_at_end) {
        rp_gpu_side_end(gpu);
    }
    fetch(&out, taken, 1);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    return out;
}

static void who_does_not_wait_finds_wrong_bytes(void **)
{
    const bool is_side_late = !rp_host_get_settings()->is_downward;

    assert_int_equal(take_beside(true, true, true), 1);
    assert_int_equal(take_beside(true, true, false), 1);
    assert_int_equal(take_beside(true, false, true), is_side_late ? 2 : 1);
    assert_int_equal(take_beside(true, false, false), is_side_late ? -1 : 1);
    assert_int_equal(take_beside(false, true, true), is_side_late ? 1 : 0);
}

/* The arena and the scratch give the same memory again, without what it held. */
static void what_is_handed_out_is_poisoned(void **)
{
    rp_gpu_pieces pieces = {gpu, 0}, again = {gpu, 0};
    int *const taken = rp_gpu_take<int>(&pieces, 1);
    void *made = NULL, *remade = NULL;
    int found[2] = {0, 0};

    assert_int_equal(rp_gpu_alloc(&made, gpu, 4), RP_OK);
    RP_LAUNCH(gpu, set_kernel, 1, 1, 0, static_cast<int *>(made), 1);
    RP_LAUNCH(gpu, set_kernel, 1, 1, 0, taken, 1);
    rp_gpu_free(gpu, made);
    assert_int_equal(rp_gpu_alloc(&remade, gpu, 4), RP_OK);
    assert_ptr_equal(remade, made);
    assert_ptr_equal(rp_gpu_take<int>(&again, 1), taken);
    rp_gpu_get(gpu, &found[0], 4, remade, 4, 4, 1);
    rp_gpu_get(gpu, &found[1], 4, taken, 4, 4, 1);
    assert_int_equal(found[0], -1);
    assert_int_equal(found[1], -1);
    rp_gpu_free(gpu, remade);
}

/* A kernel with 255 registers has no room for more than 256 threads a block. */
static void large_blocks_may_lack_registers(void **)
{
    rp_gpu *other = NULL;

    assert_int_equal(rp_gpu_create(&other, 0, 1 << 20), RP_OK);
    RP_LAUNCH(other, write_kernel, 1, 257, 0, device_ints());
    assert_int_equal(rp_gpu_sync(other), RP_ERR_MEMORY);
    assert_non_null(strstr(rp_error_message(), "cudaErrorLaunchOutOfResources"));
    rp_gpu_destroy(&other);
}

/* In a group of its own: it fails its GPU. */
static void the_first_failure_stays(void **)
{
    rp_gpu *other = NULL;

    assert_int_equal(rp_gpu_create(&other, 0, 1 << 20), RP_OK);
    RP_LAUNCH(other, write_kernel, 1, 2048, 0, device_ints()); /* too large a block */
    RP_LAUNCH(other, index_kernel, 1, 64, 1 << 20, nullptr);
    rp_gpu_zero(other, NULL, 1 << 30);
    assert_int_equal(rp_gpu_sync(other), RP_ERR_MEMORY);
    assert_non_null(strstr(rp_error_message(), "write_kernel"));
    assert_int_equal(rp_gpu_sync(other), RP_ERR_MEMORY);
    assert_null(rp_gpu_scratch(other, (size_t)1 << 40));
    rp_gpu_destroy(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(barriers_and_dynamic_shared_memory),
        cmocka_unit_test(grids_and_blocks_of_three_dimensions),
        cmocka_unit_test(warps_exchange_values),
        cmocka_unit_test(shared_memory_is_poisoned_for_each_block),
        cmocka_unit_test(atomics_add_and_compare),
        cmocka_unit_test(numbers_are_converted_as_on_a_gpu),
        cmocka_unit_test(bugs_are_caught),
        cmocka_unit_test(copies_in_a_wrong_direction_fail),
        cmocka_unit_test(who_does_not_wait_finds_wrong_bytes),
        cmocka_unit_test(what_is_handed_out_is_poisoned),
        cmocka_unit_test(large_blocks_may_lack_registers),
        cmocka_unit_test(the_first_failure_stays),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}

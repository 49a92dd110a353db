/* The inside of the CUDA stand-in, for the stand-ins of libraries on top of it.
 *
 * "Device memory" is a range of this process's memory that is closed to everybody except while a
 * kernel, a copy or a library call runs, so that host code which follows a device pointer dies at
 * once. Fresh device memory, what the arena and the scratch hand out, and shared memory are full of
 * 0xff bytes (NaNs, -1).
 *
 * What is asked of a GPU's first stream is done at once, what is asked of its other streams as late
 * as events and waiting allow; with order=down it is the other way round. So who reads or writes
 * before it has waited finds the wrong bytes in one of the two orders. Only the thread that made a
 * stream may use it: another one's GPU need not be the same.
 *
 * RP_CUDA_HOST in the environment, a comma-separated list, changes the machine:
 *   gpus=N       how many GPUs there are (1; 0 is a machine without a driver)
 *   mib=N        memory of each (4096)
 *   driver=N     the driver's version (13000); with an older one than the runtime's there is no GPU
 *   broken=N     GPU number N cannot be opened
 *   libraries=N  0: there is neither cuBLAS nor cuSOLVER
 *   algorithms=W down: cublasLt prefers its algorithms in the other order; one: it has the last one
 *                alone
 *   fail=N       the N-th launch, copy, fill or library call fails
 *   order=down   blocks, and threads as far as barriers leave it open, run from the last to the
 *                first, and streams in the other order: what depends on their order shows
 *   guard=pages  memory is closed by its pages' rights although the processor has keys for that */
#ifndef RP_TESTS_CUDA_HOST_H
#define RP_TESTS_CUDA_HOST_H

#include <functional>
#include <stddef.h>
#include <stdint.h>

typedef struct CUstream_st *cudaStream_t;

typedef struct rp_host_settings {
    int gpus;
    int broken; /* -1: none */
    bool has_libraries;
    int driver;
    size_t gpu_bytes;
    int64_t fail_at; /* 0: never */
    bool is_downward, is_guarded_by_pages;
    bool prefers_downward, has_one_algorithm;
} rp_host_settings;

const rp_host_settings *rp_host_get_settings(void);

/* Does the call that is about to be made fail. */
bool rp_host_call_fails(void);

/* Appends work to a stream; the device's memory is open when it is done. Null: nothing waits. */
void rp_host_ask(cudaStream_t stream, std::function<void()> work);
/* Does all that was asked of a stream. */
void rp_host_do_all(cudaStream_t stream);
/* Work that a library has on the streams: while this says so, they are busy, and who waits for them
 * waits. */
void rp_host_set_busy(bool (*is_busy)(void));

/* Device memory is open between these two, which nest. */
void rp_host_open(void);
void rp_host_close(void);
/* Is [pointer, pointer + nbytes) inside allocated memory of this thread's GPU. */
bool rp_host_is_device(const void *pointer, size_t nbytes);
/* Does the range touch any GPU's memory. */
bool rp_host_touches_device(const void *pointer, size_t nbytes);

/* A bug in the code under test: one line on standard error, then abort. */
void rp_host_die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Open memory for a scope. */
struct rp_host_opened {
    rp_host_opened()
    {
        rp_host_open();
    }
    ~rp_host_opened()
    {
        rp_host_close();
    }
    rp_host_opened(const rp_host_opened &) = delete;
    rp_host_opened &operator=(const rp_host_opened &) = delete;
};

#endif

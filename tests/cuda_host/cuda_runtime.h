/* A stand-in for CUDA's header of this name: the part of the runtime that rankpress uses, on host
 * memory. See cuda_host.h. */
#ifndef RP_TESTS_CUDA_RUNTIME_H
#define RP_TESTS_CUDA_RUNTIME_H

#include "device_host.h"
#include "library_types.h"

#include <functional>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tuple>
#include <type_traits>
#include <utility>

#define CUDART_VERSION 13000

typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInvalidPitchValue = 12,
    cudaErrorInvalidDevicePointer = 17,
    cudaErrorInvalidMemcpyDirection = 21,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600,
    cudaErrorLaunchOutOfResources = 701,
    cudaErrorLaunchFailure = 719
} cudaError_t;

typedef enum cudaMemcpyKind {
    cudaMemcpyHostToHost = 0,
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
    cudaMemcpyDeviceToDevice = 3
} cudaMemcpyKind;

typedef enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8
} cudaFuncAttribute;

typedef enum cudaDeviceAttr {
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76
} cudaDeviceAttr;

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct cudaUUID_t {
    char bytes[16];
} cudaUUID_t;
typedef struct cudaDeviceProp {
    char name[256];
    cudaUUID_t uuid;
    size_t totalGlobalMem;
    size_t sharedMemPerBlockOptin;
    int major, minor, multiProcessorCount;
} cudaDeviceProp;
typedef struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
} cudaLaunchConfig_t;

enum { cudaStreamDefault = 0, cudaStreamNonBlocking = 1 };
enum { cudaEventDefault = 0, cudaEventDisableTiming = 2 };
enum { cudaHostAllocDefault = 0, cudaHostAllocPortable = 1 };

const char *cudaGetErrorString(cudaError_t error);
const char *cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError(void);
cudaError_t cudaPeekAtLastError(void);

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *prop, int device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaDeviceReset(void);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);

cudaError_t cudaMalloc(void **out, size_t nbytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMallocHost(void **out, size_t nbytes);
cudaError_t cudaHostAlloc(void **out, size_t nbytes, unsigned flags);
cudaError_t cudaFreeHost(void *memory);
template <typename T> cudaError_t cudaMalloc(T **out, size_t nbytes)
{
    return cudaMalloc(reinterpret_cast<void **>(out), nbytes);
}
template <typename T> cudaError_t cudaMallocHost(T **out, size_t nbytes)
{
    return cudaMallocHost(reinterpret_cast<void **>(out), nbytes);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t nbytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t nbytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t row_bytes, size_t nrows, cudaMemcpyKind kind,
                              cudaStream_t stream = nullptr);
cudaError_t cudaMemset(void *to, int value, size_t nbytes);
cudaError_t cudaMemsetAsync(void *to, int value, size_t nbytes, cudaStream_t stream = nullptr);
cudaError_t cudaMemset2DAsync(void *to, size_t pitch, int value, size_t row_bytes, size_t nrows,
                              cudaStream_t stream = nullptr);

cudaError_t cudaStreamCreate(cudaStream_t *stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaEventCreate(cudaEvent_t *event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end);

/* The launch of one kernel, without its types. */
typedef struct rp_host_kernel {
    const void *address;        /* for messages */
    std::function<void()> call; /* one thread */
} rp_host_kernel;
cudaError_t rp_host_launch(const cudaLaunchConfig_t &config, const rp_host_kernel &kernel);
cudaError_t rp_host_set_attribute(const void *kernel, cudaFuncAttribute attribute, int value);
/* See RP_GPU_FRESH: 0xff bytes once the stream comes to it. Not a call of CUDA's, so it cannot
 * fail. */
#define RP_GPU_FRESH(gpu, memory, nbytes) rp_host_poison((gpu)->stream, (memory), (nbytes))
void rp_host_poison(cudaStream_t stream, void *memory, size_t nbytes);
/* Dies when an argument is, or holds, a pointer that a GPU could not follow. */
void rp_host_check_pointer(const rp_host_kernel *kernel, const void *pointer);
void rp_host_check_bytes(const rp_host_kernel *kernel, const void *argument, size_t nbytes);

template <typename T> void rp_host_check(const rp_host_kernel *kernel, const T &argument)
{
    static_assert(std::is_trivially_copyable<T>::value, "arguments are copied byte by byte");
    if constexpr (std::is_pointer<T>::value) {
        rp_host_check_pointer(kernel, argument);
    } else if constexpr (std::is_class<T>::value) {
        rp_host_check_bytes(kernel, &argument, sizeof(argument));
    }
}

template <typename... Params, typename... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Params...),
                               Args &&...args)
{
    return [&](Params... values) {
        const rp_host_kernel erased = {reinterpret_cast<const void *>(kernel),
                                       [kernel, values...]() { kernel(values...); }};
        (rp_host_check(&erased, values), ...);
        return rp_host_launch(*config, erased);
    }(std::forward<Args>(args)...);
}

template <typename... Params>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Params...), cudaFuncAttribute attribute, int value)
{
    return rp_host_set_attribute(reinterpret_cast<const void *>(kernel), attribute, value);
}

#endif

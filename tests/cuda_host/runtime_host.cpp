/* The runtime of the CUDA stand-in: GPUs, their memory and copies. */
#include "cuda_host.h"
#include "cuda_runtime.h"
#include "kernels/cuda/libraries.h"

#include <atomic>
#include <map>
#include <mutex>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

namespace
{

constexpr size_t PATTERN_BYTES = 16 << 20;
/* A GPU's is just below 2 GiB; less, so that a test need not copy as much. */
constexpr size_t MAX_PITCH = 32 << 20;

/* GPUs' memory: one closed range, an equal part for each, opened for calls. A thin layer of gaps
 * between allocations is not needed: rankpress makes few. */
struct device_memory {
    std::mutex lock;
    unsigned char *range;
    size_t range_bytes;
    int pattern_file;
    int key;      /* of memory protection, one register a thread; -1: none, pages are changed */
    int n_opened; /* without a key */
    std::map<size_t, size_t> taken; /* offset in the range -> bytes */
};

device_memory memory;
std::atomic<int64_t> n_calls;
thread_local int current_device, n_opened_here;

rp_host_settings read_settings()
{
    rp_host_settings made = {1, -1,    true,  CUDART_VERSION, (size_t)4096 << 20,
                             0, false, false, false,          false};
    const char *const text = getenv("RP_CUDA_HOST");
    char copy[256] = "", *rest = nullptr;

    snprintf(copy, sizeof(copy), "%s", text == nullptr ? "" : text);
    for (char *item = strtok_r(copy, ",", &rest); item != nullptr;
         item = strtok_r(nullptr, ",", &rest)) {
        unsigned long long value = 0;
        if (sscanf(item, "gpus=%llu", &value) == 1) {
            made.gpus = (int)value;
        } else if (sscanf(item, "mib=%llu", &value) == 1) {
            made.gpu_bytes = (size_t)value << 20;
        } else if (sscanf(item, "broken=%llu", &value) == 1) {
            made.broken = (int)value;
        } else if (sscanf(item, "libraries=%llu", &value) == 1) {
            made.has_libraries = value > 0;
        } else if (sscanf(item, "driver=%llu", &value) == 1) {
            made.driver = (int)value;
        } else if (sscanf(item, "fail=%llu", &value) == 1) {
            made.fail_at = (int64_t)value;
        } else if (strcmp(item, "order=down") == 0) {
            made.is_downward = true;
        } else if (strcmp(item, "guard=pages") == 0) {
            made.is_guarded_by_pages = true;
        } else if (strcmp(item, "algorithms=down") == 0) {
            made.prefers_downward = true;
        } else if (strcmp(item, "algorithms=one") == 0) {
            made.has_one_algorithm = true;
        } else {
            rp_host_die("RP_CUDA_HOST: what is %s?", item);
        }
    }
    return made;
}

/* A file of 0xff bytes; private mappings of it are poisoned memory that costs nothing until it is
 * written to. */
int make_pattern()
{
    const int made = memfd_create("poison", MFD_CLOEXEC);
    void *bytes;

    if (made < 0 || ftruncate(made, PATTERN_BYTES) != 0) {
        rp_host_die("no memory for the poison");
    }
    bytes = mmap(nullptr, PATTERN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, made, 0);
    if (bytes == MAP_FAILED) {
        rp_host_die("no memory for the poison");
    }
    memset(bytes, 0xff, PATTERN_BYTES);
    munmap(bytes, PATTERN_BYTES);
    return made;
}

/* Under the lock. */
void reserve_range()
{
    const rp_host_settings *const settings = rp_host_get_settings();
    void *range;

    if (memory.range != nullptr) {
        return;
    }
    memory.range_bytes = (size_t)settings->gpus * settings->gpu_bytes;
    range = mmap(nullptr, memory.range_bytes, PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) {
        rp_host_die("no memory for %d GPUs", settings->gpus);
    }
    memory.range = static_cast<unsigned char *>(range);
    memory.pattern_file = make_pattern();
    memory.key = settings->is_guarded_by_pages ? -1 : pkey_alloc(0, PKEY_DISABLE_ACCESS);
}

size_t page_end(size_t offset)
{
    return (offset + 4095) / 4096 * 4096;
}

/* Under the lock. Fresh, poisoned, closed unless somebody has it open. */
void map_poison(size_t offset, size_t nbytes)
{
    const bool is_open = memory.key >= 0 || memory.n_opened > 0;
    const int access = is_open ? PROT_READ | PROT_WRITE : PROT_NONE;

    for (size_t at = 0; at < nbytes; at += PATTERN_BYTES) {
        const size_t part = nbytes - at < PATTERN_BYTES ? page_end(nbytes - at) : PATTERN_BYTES;
        if (mmap(memory.range + offset + at, part, access, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
                 memory.pattern_file, 0) == MAP_FAILED) {
            rp_host_die("no memory for %zu bytes of a GPU", nbytes);
        }
    }
    if (memory.key >= 0) {
        pkey_mprotect(memory.range + offset, page_end(nbytes), access, memory.key);
    }
}

/* Under the lock. */
void set_access(int access)
{
    for (const auto &entry : memory.taken) {
        mprotect(memory.range + entry.first, page_end(entry.second), access);
    }
}

size_t device_begin(int device)
{
    return (size_t)device * rp_host_get_settings()->gpu_bytes;
}

size_t offset_of(const void *pointer)
{
    return (size_t)(static_cast<const unsigned char *>(pointer) - memory.range);
}

bool is_in_range(const void *pointer)
{
    const unsigned char *const p = static_cast<const unsigned char *>(pointer);

    return memory.range != nullptr && p >= memory.range && p < memory.range + memory.range_bytes;
}

/* Does each side of a copy lie where its kind says. */
bool fits_kind(const void *to, size_t to_bytes, const void *from, size_t from_bytes,
               cudaMemcpyKind kind)
{
    const bool is_to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool is_from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;

    return (is_to_device ? rp_host_is_device(to, to_bytes)
                         : !rp_host_touches_device(to, to_bytes)) &&
           (is_from_device ? rp_host_is_device(from, from_bytes)
                           : !rp_host_touches_device(from, from_bytes));
}

} // namespace

void rp_host_die(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fputs("cuda_host: ", stderr);
    vfprintf(stderr, fmt, args);
    fputs("\n", stderr);
    va_end(args);
    abort();
}

const rp_host_settings *rp_host_get_settings(void)
{
    static const rp_host_settings settings = read_settings();

    return &settings;
}

bool rp_host_call_fails(void)
{
    const int64_t fail_at = rp_host_get_settings()->fail_at;

    return fail_at > 0 && n_calls.fetch_add(1) + 1 == fail_at;
}

void rp_host_open(void)
{
    const std::lock_guard<std::mutex> locked(memory.lock);

    reserve_range();
    if (memory.key >= 0) {
        if (n_opened_here++ == 0) {
            pkey_set(memory.key, 0);
        }
    } else if (memory.n_opened++ == 0) {
        set_access(PROT_READ | PROT_WRITE);
    }
}

void rp_host_close(void)
{
    const std::lock_guard<std::mutex> locked(memory.lock);

    if (memory.key >= 0) {
        if (--n_opened_here == 0) {
            pkey_set(memory.key, PKEY_DISABLE_ACCESS);
        }
    } else if (--memory.n_opened == 0) {
        set_access(PROT_NONE);
    }
}

bool rp_host_is_device(const void *pointer, size_t nbytes)
{
    const std::lock_guard<std::mutex> locked(memory.lock);

    if (!is_in_range(pointer)) {
        return false;
    }
    const size_t offset = offset_of(pointer);
    auto entry = memory.taken.upper_bound(offset);
    if (entry == memory.taken.begin()) {
        return false;
    }
    --entry;
    return offset + nbytes <= entry->first + entry->second &&
           offset / rp_host_get_settings()->gpu_bytes == (size_t)current_device;
}

bool rp_host_touches_device(const void *pointer, size_t nbytes)
{
    const unsigned char *const p = static_cast<const unsigned char *>(pointer);

    return is_in_range(p) || (nbytes > 0 && is_in_range(p + nbytes - 1));
}

/* ---- Errors and devices ---- */

const char *cudaGetErrorName(cudaError_t error)
{
    static const std::map<cudaError_t, const char *> names = {
        {cudaSuccess, "cudaSuccess"},
        {cudaErrorInvalidValue, "cudaErrorInvalidValue"},
        {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation"},
        {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration"},
        {cudaErrorInvalidDevicePointer, "cudaErrorInvalidDevicePointer"},
        {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection"},
        {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver"},
        {cudaErrorInvalidDevice, "cudaErrorInvalidDevice"},
        {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources"},
        {cudaErrorLaunchFailure, "cudaErrorLaunchFailure"},
    };
    const auto found = names.find(error);

    return found == names.end() ? "cudaErrorUnknown" : found->second;
}

const char *cudaGetErrorString(cudaError_t error)
{
    return cudaGetErrorName(error);
}

cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

cudaError_t cudaPeekAtLastError(void)
{
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = rp_host_get_settings()->driver < CUDART_VERSION ? 0 : rp_host_get_settings()->gpus;
    return *count > 0 ? cudaSuccess : cudaErrorInsufficientDriver;
}

cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= rp_host_get_settings()->gpus) {
        return cudaErrorInvalidDevice;
    }
    if (device == rp_host_get_settings()->broken) {
        return cudaErrorMemoryAllocation;
    }
    current_device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current_device;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *prop, int device)
{
    if (device < 0 || device >= rp_host_get_settings()->gpus) {
        return cudaErrorInvalidDevice;
    }
    *prop = cudaDeviceProp();
    snprintf(prop->name, sizeof(prop->name), "host stand-in");
    memset(prop->uuid.bytes, 0, sizeof(prop->uuid.bytes));
    prop->uuid.bytes[15] = (char)device;
    prop->totalGlobalMem = rp_host_get_settings()->gpu_bytes;
    prop->sharedMemPerBlockOptin = 163 << 10;
    prop->major = 8;
    prop->minor = 0;
    prop->multiProcessorCount = 4;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    cudaDeviceProp prop;
    const cudaError_t status = cudaGetDeviceProperties(&prop, device);

    switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)prop.sharedMemPerBlockOptin;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = prop.multiProcessorCount;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = prop.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = prop.minor;
        break;
    default:
        return cudaErrorInvalidValue;
    }
    return status;
}

cudaError_t cudaDeviceReset(void)
{
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = rp_host_get_settings()->gpus > 0 ? rp_host_get_settings()->driver : 0;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

/* ---- Memory ---- */

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    const std::lock_guard<std::mutex> locked(memory.lock);
    const size_t total = rp_host_get_settings()->gpu_bytes;

    *total_bytes = *free_bytes = total;
    for (const auto &entry : memory.taken) {
        if (entry.first / total == (size_t)current_device) {
            *free_bytes -= page_end(entry.second);
        }
    }
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t nbytes)
{
    const std::lock_guard<std::mutex> locked(memory.lock);
    size_t begin = device_begin(current_device);
    const size_t end = device_begin(current_device + 1);

    *out = nullptr;
    if (rp_host_get_settings()->gpus == 0) {
        return cudaErrorInsufficientDriver;
    }
    if (rp_host_call_fails()) {
        return cudaErrorMemoryAllocation;
    }
    if (nbytes == 0) {
        return cudaSuccess;
    }
    reserve_range();
    for (const auto &entry : memory.taken) { /* first fit */
        if (entry.first >= begin && entry.first < end) {
            if (entry.first - begin >= nbytes) {
                break;
            }
            begin = page_end(entry.first + entry.second);
        }
    }
    if (begin > end || end - begin < nbytes) {
        return cudaErrorMemoryAllocation;
    }
    map_poison(begin, nbytes);
    memory.taken[begin] = nbytes;
    *out = memory.range + begin;
    return cudaSuccess;
}

cudaError_t cudaFree(void *freed)
{
    if (freed == nullptr) {
        return cudaSuccess;
    }
    cudaDeviceSynchronize();
    const std::lock_guard<std::mutex> locked(memory.lock);
    const auto entry =
        is_in_range(freed) ? memory.taken.find(offset_of(freed)) : memory.taken.end();
    if (entry == memory.taken.end()) {
        return cudaErrorInvalidValue;
    }
    mmap(freed, page_end(entry->second), PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    memory.taken.erase(entry);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t nbytes)
{
    *out = nullptr;
    if (rp_host_call_fails()) {
        return cudaErrorMemoryAllocation;
    }
    *out = aligned_alloc(4096, page_end(nbytes > 0 ? nbytes : 1));
    return *out == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaHostAlloc(void **out, size_t nbytes, unsigned flags)
{
    (void)flags;
    return cudaMallocHost(out, nbytes);
}

cudaError_t cudaFreeHost(void *freed)
{
    cudaDeviceSynchronize();
    free(freed);
    return cudaSuccess;
}

/* ---- Copies and fills ---- */

static cudaError_t copy_rows(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                             size_t row_bytes, size_t nrows, cudaMemcpyKind kind,
                             cudaStream_t stream)
{
    if (row_bytes == 0 || nrows == 0) {
        return cudaSuccess;
    }
    if (!fits_kind(to, (nrows - 1) * to_pitch + row_bytes, from,
                   (nrows - 1) * from_pitch + row_bytes, kind)) {
        return cudaErrorInvalidMemcpyDirection;
    }
    if (rp_host_call_fails()) {
        return cudaErrorLaunchFailure;
    }
    rp_host_ask(stream, [=]() {
        for (size_t r = 0; r < nrows; r++) {
            memcpy(static_cast<unsigned char *>(to) + r * to_pitch,
                   static_cast<const unsigned char *>(from) + r * from_pitch, row_bytes);
        }
    });
    return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t row_bytes, size_t nrows, cudaMemcpyKind kind,
                              cudaStream_t stream)
{
    if (row_bytes > to_pitch || row_bytes > from_pitch || to_pitch > MAX_PITCH ||
        from_pitch > MAX_PITCH) {
        return cudaErrorInvalidPitchValue;
    }
    return copy_rows(to, to_pitch, from, from_pitch, row_bytes, nrows, kind, stream);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t nbytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    return copy_rows(to, nbytes, from, nbytes, nbytes, 1, kind, stream);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t nbytes, cudaMemcpyKind kind)
{
    return cudaMemcpyAsync(to, from, nbytes, kind, nullptr);
}

cudaError_t cudaMemset2DAsync(void *to, size_t pitch, int value, size_t row_bytes, size_t nrows,
                              cudaStream_t stream)
{
    if (row_bytes == 0 || nrows == 0) {
        return cudaSuccess;
    }
    if (row_bytes > pitch) {
        return cudaErrorInvalidPitchValue;
    }
    if (!rp_host_is_device(to, (nrows - 1) * pitch + row_bytes)) {
        return cudaErrorInvalidValue;
    }
    if (rp_host_call_fails()) {
        return cudaErrorLaunchFailure;
    }
    rp_host_ask(stream, [=]() {
        for (size_t r = 0; r < nrows; r++) {
            memset(static_cast<unsigned char *>(to) + r * pitch, value, row_bytes);
        }
    });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t nbytes, cudaStream_t stream)
{
    return cudaMemset2DAsync(to, nbytes, value, nbytes, 1, stream);
}

cudaError_t cudaMemset(void *to, int value, size_t nbytes)
{
    return cudaMemsetAsync(to, value, nbytes, nullptr);
}

void rp_host_poison(cudaStream_t stream, void *to, size_t nbytes)
{
    if (!rp_host_is_device(to, nbytes)) {
        rp_host_die("%zu bytes are handed out that are not in this GPU's memory", nbytes);
    }
    rp_host_ask(stream, [=]() { memset(to, 0xff, nbytes); });
}

/* ---- Libraries ---- */

rp_status rp_cuda_load_libraries(void)
{
    return rp_host_get_settings()->has_libraries
               ? RP_OK
               : RP_FAIL(RP_ERR_MEMORY, "libcublas.so: cannot open shared object file");
}

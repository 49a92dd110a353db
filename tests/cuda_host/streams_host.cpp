/* Streams and events of the CUDA stand-in: queues of work, of which a GPU's first is done at once
 * and the others as late as they may, or the other way round (see cuda_host.h). */
#include <deque>
#include <memory> /* before the device's words are macros */
#include <mutex>
#include <sched.h>
#include <thread>
#include <time.h>
#include <vector>

#include "cuda_host.h"
#include "cuda_runtime.h"

namespace
{

/* Lives as long as events that were recorded on it. */
struct queue {
    int device;
    std::thread::id owner;
    bool is_late;
    std::deque<std::function<void()>> waiting;
    uint64_t n_asked, n_begun;
};

} // namespace

struct CUstream_st {
    std::shared_ptr<queue> work;
};
struct CUevent_st {
    timespec recorded;
    std::shared_ptr<queue> work; /* null: never recorded */
    uint64_t n_asked;            /* of the stream when it was recorded */
};

namespace
{

std::mutex lock; /* of the list; a queue is its GPU's thread's */
std::vector<cudaStream_t> all_streams;
bool (*is_busy)(void);

void do_until(queue *work, uint64_t n_asked)
{
    while (work->n_begun < n_asked) {
        const std::function<void()> first = std::move(work->waiting.front());
        work->waiting.pop_front();
        work->n_begun++;
        first();
    }
}

void append(queue *work, std::function<void()> item)
{
    work->waiting.push_back(std::move(item));
    work->n_asked++;
    if (!work->is_late) {
        do_until(work, work->n_asked);
    }
}

std::vector<cudaStream_t> streams_of(int device)
{
    const std::lock_guard<std::mutex> locked(lock);
    std::vector<cudaStream_t> own;

    for (const cudaStream_t stream : all_streams) {
        if (stream->work->device == device) {
            own.push_back(stream);
        }
    }
    return own;
}

int this_device()
{
    int device = 0;

    cudaGetDevice(&device);
    return device;
}

} // namespace

void rp_host_set_busy(bool (*says_so)(void))
{
    is_busy = says_so;
}

void rp_host_ask(cudaStream_t stream, std::function<void()> work)
{
    const auto item = [work = std::move(work)]() {
        const rp_host_opened opened;
        work();
    };

    if (stream == nullptr) {
        item();
    } else if (stream->work->owner != std::this_thread::get_id()) {
        rp_host_die("a stream is used by another thread than the one that made it");
    } else {
        append(stream->work.get(), item);
    }
}

void rp_host_do_all(cudaStream_t stream)
{
    do_until(stream->work.get(), stream->work->n_asked);
}

/* ---- Streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    const bool is_first = streams_of(this_device()).empty();
    const std::lock_guard<std::mutex> locked(lock);

    (void)flags;
    *stream = new CUstream_st{std::make_shared<queue>()};
    (*stream)->work->device = this_device();
    (*stream)->work->owner = std::this_thread::get_id();
    (*stream)->work->is_late = is_first == rp_host_get_settings()->is_downward;
    all_streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    rp_host_do_all(stream);
    const std::lock_guard<std::mutex> locked(lock);
    for (size_t i = 0; i < all_streams.size(); i++) {
        if (all_streams[i] == stream) {
            all_streams.erase(all_streams.begin() + (ptrdiff_t)i);
            break;
        }
    }
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    if (is_busy != nullptr && is_busy()) {
        return cudaErrorNotReady;
    }
    rp_host_do_all(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    while (cudaStreamQuery(stream) == cudaErrorNotReady) {
        sched_yield();
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    for (const cudaStream_t stream : streams_of(this_device())) {
        rp_host_do_all(stream);
    }
    return cudaSuccess;
}

/* ---- Events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    *event = new CUevent_st();
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    clock_gettime(CLOCK_MONOTONIC, &event->recorded);
    event->work = stream->work;
    event->n_asked = stream->work->n_asked;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    const std::shared_ptr<queue> other = event->work;
    const uint64_t n_asked = event->n_asked;

    (void)flags;
    if (other != nullptr && other != stream->work) {
        append(stream->work.get(), [other, n_asked]() { do_until(other.get(), n_asked); });
    }
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (event->work != nullptr) {
        do_until(event->work.get(), event->n_asked);
    }
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    return cudaEventSynchronize(event);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end)
{
    *milliseconds = 1e3F * (float)(end->recorded.tv_sec - begin->recorded.tv_sec) +
                    1e-6F * (float)(end->recorded.tv_nsec - begin->recorded.tv_nsec);
    return cudaSuccess;
}

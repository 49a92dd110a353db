/* What operations of the CUDA back end see of a GPU: its stream and library handles, memory for the
 * time of one operation, and the first failure, which is kept. CUDA C++; .cu files only. */
#ifndef RP_KERNELS_CUDA_GPU_PRIVATE_H
#define RP_KERNELS_CUDA_GPU_PRIVATE_H

#include "kernels/arena.h"
#include "kernels/gpu.h"

#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cusolverDn.h>

#define RP_GPU_SCRATCH_BYTES ((size_t)1 << 30) /* less on GPUs under 16 GiB: a sixteenth */
#define RP_GPU_PINNED_BYTES ((size_t)64 << 20)
#define RP_GPU_STAGING_BYTES ((size_t)8 << 20) /* each of two */
#define RP_GPU_WORKSPACE_BYTES ((size_t)32 << 20)

/* Pinned memory between the host's and the GPU's: one buffer is filled while the other one is on
 * its way. */
typedef struct rp_gpu_staging {
    unsigned char *buffer[2];
    cudaEvent_t is_done[2]; /* all copies from or to the buffer that were asked before it */
    int current;
    size_t used_bytes; /* of the current one */
} rp_gpu_staging;

/* A second stream, on which one of two buffers is used while the compute stream makes the other
 * one. Everything else of a GPU is on the compute stream: rp_gpu_side_end comes before an
 * operation's end. */
typedef struct rp_gpu_side {
    cudaStream_t stream;
    cudaEvent_t is_made[2], is_used[2]; /* of each buffer */
} rp_gpu_side;

/* One host thread, the one that created it, works with it. */
struct rp_gpu {
    int ordinal;
    cudaStream_t stream; /* of every operation and copy */
    rp_gpu_side side;
    cublasHandle_t blas;    /* of triangular solves, and symmetric products in f64; host scalars */
    struct rp_gemms *gemms; /* of all other products (gemm_cuda.h) */
    cusolverDnHandle_t solver;

    rp_arena *arena;
    rp_gpu_staging staging;
    unsigned char *memory; /* one allocation: arena, scratch, workspace of cuBLAS and cublasLt */
    unsigned char *scratch, *workspace;
    size_t scratch_bytes, scratch_limit_bytes;
    void *pinned;
    char name[96]; /* "GPU 0 (NVIDIA H200)" */
    char arithmetic_class[160];
    char failure[512]; /* "" while nothing failed */
};

/* Local. Has anything failed: then operations do nothing. */
static inline bool rp_gpu_has_failed(const rp_gpu *gpu)
{
    return gpu->failure[0] != '\0';
}

/* Local. Keeps a failure when it is the first; `what`: the call, of which the name is kept. */
void rp_gpu_keep(rp_gpu *gpu, const char *what, cudaError_t status);
void rp_gpu_keep(rp_gpu *gpu, const char *what, cublasStatus_t status);
void rp_gpu_keep(rp_gpu *gpu, const char *what, cusolverStatus_t status);
void rp_gpu_keep_message(rp_gpu *gpu, const char *what, const char *why);

/* A CUDA, cuBLAS or cuSOLVER call, left out once something failed. */
#define RP_GPU_TRY(gpu, call)                                                                      \
    do {                                                                                           \
        if (!rp_gpu_has_failed(gpu)) {                                                             \
            rp_gpu_keep((gpu), #call, (call));                                                     \
        }                                                                                          \
    } while (0)

/* Local. Bytes that rp_gpu_scratch can give. Depends on the GPU's total memory alone. */
size_t rp_gpu_scratch_bytes(const rp_gpu *gpu);
/* Local. Device memory of the operation in hand, aligned to 256 bytes: the same memory every time.
 * NULL, with a failure kept, when it is more than rp_gpu_scratch_bytes. */
void *rp_gpu_scratch(rp_gpu *gpu, size_t nbytes);
/* Local. Pinned host memory for small results of the operation in hand, at most
 * RP_GPU_PINNED_BYTES, the same every time; read after rp_gpu_wait. Arguments go by rp_gpu_put. */
void *rp_gpu_pinned(rp_gpu *gpu, size_t nbytes);
/* Local. Waits for everything asked of the GPU; a failure is kept. Results in host memory count
 * only when nothing has failed after it. */
void rp_gpu_wait(rp_gpu *gpu);

/* Local. Waits for the stream, then ends it; accept NULL. */
void rp_gpu_destroy_stream(cudaStream_t stream);
void rp_gpu_destroy_event(cudaEvent_t event);

/* Local. The compute stream goes on once buffer 0 or 1 has been used. */
void rp_gpu_side_begin(rp_gpu *gpu, int buffer);
/* Local. The side stream goes on once the buffer is made: what comes next on it uses the buffer. */
void rp_gpu_side_make(rp_gpu *gpu, int buffer);
/* Local. The buffer's use is asked for. */
void rp_gpu_side_use(rp_gpu *gpu, int buffer);
/* Local. The compute stream goes on once both buffers have been used. */
void rp_gpu_side_end(rp_gpu *gpu);

/* Memory that is handed out anew: nobody may count on what it holds. The stand-in fills it with
 * what shows. */
#ifndef RP_GPU_FRESH
#define RP_GPU_FRESH(gpu, memory, nbytes) ((void)0)
#endif

/* The scratch in pieces, each aligned to 256 bytes. */
typedef struct rp_gpu_pieces {
    rp_gpu *gpu;
    size_t taken_bytes;
} rp_gpu_pieces;

static inline size_t rp_gpu_aligned(size_t nbytes)
{
    return (nbytes + 255) & ~(size_t)255;
}

/* Local. The next `count` values; NULL, with a failure kept, when there is no room. */
template <typename T> T *rp_gpu_take(rp_gpu_pieces *pieces, int64_t count)
{
    const size_t begin = pieces->taken_bytes;
    unsigned char *start;

    pieces->taken_bytes += rp_gpu_aligned((size_t)count * sizeof(T));
    start = static_cast<unsigned char *>(rp_gpu_scratch(pieces->gpu, pieces->taken_bytes));
    if (start == nullptr) {
        return nullptr;
    }
    RP_GPU_FRESH(pieces->gpu, start + begin, pieces->taken_bytes - begin);
    return reinterpret_cast<T *>(start + begin);
}

/* Local. The next `count` values := those of the host. */
template <typename T> T *rp_gpu_take_put(rp_gpu_pieces *pieces, const T *values, int64_t count)
{
    T *const taken = rp_gpu_take<T>(pieces, count);
    const size_t nbytes = (size_t)count * sizeof(T);

    if (taken != nullptr) {
        rp_gpu_put(pieces->gpu, taken, nbytes, values, nbytes, nbytes, 1);
    }
    return taken;
}

#endif

/* A GPU's stream for transports. */
#include "kernels/gpu_stream.h"

#include "kernels/cuda/gpu_private.h"

extern "C" {

struct CUstream_st *rp_gpu_stream(rp_gpu *gpu)
{
    return gpu->stream;
}

int rp_gpu_ordinal(const rp_gpu *gpu)
{
    return gpu->ordinal;
}

rp_status rp_gpu_poll(rp_gpu *gpu, bool *is_idle)
{
    cudaError_t status = cudaSuccess;

    *is_idle = true;
    if (!rp_gpu_has_failed(gpu)) {
        status = cudaStreamQuery(gpu->stream);
    }
    if (status == cudaErrorNotReady) {
        *is_idle = false;
        return RP_OK;
    }
    rp_gpu_keep(gpu, "cudaStreamQuery", status);
    return rp_gpu_has_failed(gpu) ? rp_gpu_sync(gpu) : RP_OK;
}

void rp_gpu_give_up(rp_gpu *gpu, const char *why)
{
    rp_gpu_keep_message(gpu, "NCCL", why);
}
}

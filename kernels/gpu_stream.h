/* What a transport between GPUs needs of one: the stream that all of its operations are on, and
 * whether it has come to its end, without waiting. */
#ifndef RP_KERNELS_GPU_STREAM_H
#define RP_KERNELS_GPU_STREAM_H

#include "kernels/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. CUDA's stream (cudaStream_t); borrowed. */
struct CUstream_st *rp_gpu_stream(rp_gpu *gpu);
int rp_gpu_ordinal(const rp_gpu *gpu);
/* Local. Does not wait: is everything done that was asked of the GPU. Fails like rp_gpu_sync. */
RP_CHECKED rp_status rp_gpu_poll(rp_gpu *gpu, bool *is_idle);
/* Local. Keeps a failure that somebody else saw, when it is the first. */
void rp_gpu_give_up(rp_gpu *gpu, const char *why);

#ifdef __cplusplus
}
#endif
#endif

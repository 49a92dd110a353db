/* Losses of token predictions: kernels/loss.h's running log-sum-exp, a block a row.
 *
 * Bound by memory: 4 bytes a logit (8 with another model's); the second reading of a row, which
 * needs the maximum, finds it in the caches. Sums in f64 differ from the CPU's by their order,
 * which is fixed here, and by expf's last place. */
#include "kernels/cuda/elements.h"
#include "kernels/cuda/ops_cuda.h"

enum { LOSS_THREADS = 256 };

/* The largest logit and its index; the lowest index of equal ones, -1 when there is none. */
typedef struct top_logit {
    float value;
    int64_t index;
} top_logit;

static __device__ top_logit better(top_logit a, top_logit b)
{
    const bool is_b = b.index >= 0 && (a.index < 0 || b.value > a.value ||
                                       (b.value == a.value && b.index < a.index));

    return is_b ? b : a;
}

/* part [RP_WARP], shared; all threads get it. */
static __device__ top_logit block_top(top_logit top, top_logit *part)
{
    const int warp = (int)threadIdx.x / RP_WARP;

    for (int step = RP_WARP / 2; step > 0; step /= 2) {
        const top_logit other = {__shfl_xor_sync(0xffffffffU, top.value, step),
                                 __shfl_xor_sync(0xffffffffU, top.index, step)};
        top = better(top, other);
    }
    if (threadIdx.x % RP_WARP == 0) {
        part[warp] = top;
    }
    __syncthreads();
    for (int i = 0; i < LOSS_THREADS / RP_WARP; i++) {
        top = better(top, part[i]);
    }
    return top;
}

/* Those above `floor`; none beats not a number. */
static __device__ top_logit find_top(const float *logits, int64_t n, float floor, bool is_wide)
{
    top_logit top = {floor, -1};

    for (int64_t c = (int64_t)threadIdx.x * 4; c < n; c += LOSS_THREADS * 4) {
        const rp_pack<float, 4> v = rp_load_four(logits, c, n, is_wide);
        for (int i = 0; i < 4 && c + i < n; i++) {
            if (v.v[i] > top.value) {
                top.value = v.v[i];
                top.index = c + i;
            }
        }
    }
    return top;
}

/* Blocks are rows. */
static __global__ void loss_add_kernel(rp_loss *loss, rp_cmat logits, rp_cmat other, int64_t first,
                                       const int32_t *target, bool is_wide)
{
    __shared__ top_logit tops[RP_WARP];
    __shared__ double parts[RP_WARP];
    const bool has_other = other.data != nullptr;
    const float *const own = logits.data + (int64_t)blockIdx.x * logits.ld;
    const float *const others = has_other ? other.data + (int64_t)blockIdx.x * other.ld : own;
    rp_loss *const at = loss + blockIdx.x;
    const float before = at->max;
    const top_logit top = block_top(find_top(own, logits.cols, before, is_wide), tops);
    const float max = top.index < 0 ? before : top.value;
    double sum = 0, cross = 0;

    for (int64_t c = (int64_t)threadIdx.x * 4; c < logits.cols; c += LOSS_THREADS * 4) {
        const rp_pack<float, 4> v = rp_load_four(own, c, logits.cols, is_wide);
        const rp_pack<float, 4> o = rp_load_four(others, c, logits.cols, is_wide);
        for (int i = 0; i < 4 && c + i < logits.cols; i++) {
            const double p = (double)expf(v.v[i] - max);
            sum += p;
            cross += has_other ? p * ((double)v.v[i] - (double)o.v[i]) : 0;
        }
    }
    sum = rp_block_sum(sum, parts);
    cross = rp_block_sum(cross, parts);
    if (threadIdx.x == 0) {
        const double shrink = top.index < 0 ? 1.0 : exp((double)before - (double)max);
        const int64_t t = (int64_t)target[blockIdx.x] - first;

        at->sum = at->sum * shrink + sum;
        at->cross = at->cross * shrink + cross;
        at->max = max;
        at->best = top.index < 0 ? at->best : first + top.index;
        if (t >= 0 && t < logits.cols) {
            at->target = own[t];
        }
    }
}

void rp_loss_add_cuda(const rp_exec *exec, rp_loss *loss, rp_cmat logits, rp_cmat other,
                      int64_t first, const int32_t *target)
{
    const bool is_wide = rp_is_wide(logits) && (other.data == nullptr || rp_is_wide(other));

    RP_LAUNCH(exec->gpu, loss_add_kernel, (unsigned)logits.rows, LOSS_THREADS, 0, loss, logits,
              other, first, target, is_wide);
}

/* Threads of one warp that work on one group together, and how they see its values. One thread
 * alone is a team, too: the same code then has nothing to exchange. */
#ifndef RP_KERNELS_CUDA_GRID_TEAM_CUH
#define RP_KERNELS_CUDA_GRID_TEAM_CUH

#include "kernels/cuda/gpu_private.h"
#include "kernels/cuda/grid_cuda.h"

/* Of the super-block's sub-groups as many threads; known in the launch alone. */
enum { RP_TEAM_OF_SUBS = 0 };

/* SIZE threads in a row, a power of two. All of them come to every exchange. */
template <int SIZE> struct rp_team {
    int lane, n_threads;
    unsigned mask;

    /* n: of RP_TEAM_OF_SUBS. */
    explicit __device__ rp_team(int n = SIZE) : lane(0), n_threads(n), mask(1)
    {
        if constexpr (SIZE != 1) {
            const unsigned in_warp = threadIdx.x % 32;
            const unsigned of_size = SIZE == 32 ? ~0u : (1u << (size() % 32)) - 1;
            lane = (int)in_warp % size();
            mask = of_size << (in_warp - (unsigned)lane);
        }
    }

    __device__ int size() const
    {
        return SIZE == RP_TEAM_OF_SUBS ? n_threads : SIZE;
    }

    template <typename T> __device__ T from(T value, int source) const
    {
        if constexpr (SIZE != 1) {
            return __shfl_sync(mask, value, source, size());
        } else {
            return value;
        }
    }

    template <typename T> __device__ T across(T value, int lanes) const
    {
        if constexpr (SIZE != 1) {
            return __shfl_xor_sync(mask, value, lanes, size());
        } else {
            return value;
        }
    }
};

/* A trial of a search and its number. */
typedef struct rp_trial {
    float error;
    int number;
} rp_trial;

/* The first of the trials with the least error; every thread has its own first. */
template <int SIZE>
static __device__ rp_trial rp_first_best(const rp_team<SIZE> &team, rp_trial own)
{
    for (int lanes = SIZE / 2; lanes > 0; lanes /= 2) {
        const float error = team.across(own.error, lanes);
        const int number = team.across(own.number, lanes);
        if (error < own.error || (error == own.error && number < own.number)) {
            own.error = error;
            own.number = number;
        }
    }
    return own;
}

/* The values of a group: value i of sub-group k at data[k * sub_stride + i * stride]. A group in
 * shared memory has a gap after every sub-group, so that a team reads from different banks. */
typedef struct rp_values {
    const float *data; /* weights: NULL, all are 1 */
    int64_t stride, sub_stride;
} rp_values;

static __device__ inline rp_values rp_values_of(rp_strided x, int64_t sub_cols)
{
    const rp_values v = {x.data, x.stride, sub_cols * x.stride};

    return v;
}

static __device__ inline rp_strided rp_values_sub(rp_values v, int sub)
{
    const rp_strided x = {v.data == NULL ? NULL : v.data + sub * v.sub_stride, v.stride};

    return x;
}

static __device__ inline float rp_at(rp_strided x, int64_t i)
{
    return x.data[i * x.stride];
}

static __device__ inline float rp_weight_at(rp_strided weight, int64_t i)
{
    return weight.data == NULL ? 1.0f : weight.data[i * weight.stride];
}

static __device__ inline void rp_put(rp_strided_mut params, int p, float v)
{
    params.data[p * params.stride] = v;
}

#endif

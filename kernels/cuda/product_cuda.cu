/* A block of threads makes a tile of the product from tiles of both factors in shared memory; the
 * next ones are on their way into registers meanwhile. A thread has 8 x 4 elements, of which it
 * keeps the sum in hand and the total. The long side is ld: 64 x 64 fills an H200 from 4096 rows of
 * weights on, with lazy blocks of 128 columns. */
#include "kernels/cuda/product_cuda.h"

#include "base/mem.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/product_tile.cuh"

enum {
    TILE_M = 64,
    TILE_N = 64,
    TILE_K = 32, /* as long as memory takes to answer */
    WARP_M = 32, /* and as many in the other direction */
    OWN_M = RP_TILE_OWN_M,
    OWN_N = RP_TILE_OWN_N,
    THREADS = TILE_M * TILE_N / (OWN_M * OWN_N),
    PITCH_M = TILE_M + 4, /* so that what is stored across goes to other banks */
    LEFT_EACH = TILE_M * TILE_K / THREADS,
    FROM_EACH = TILE_N * TILE_K / THREADS / 4
};

/* Without gaps, which the stand-in would take for what happens to be there. */
typedef struct product {
    int64_t m, k, ld;
    const float *left;
    int64_t step_m, step_k; /* from element to element of left; one is 1 */
    const float *from, *start;
    float *to;
} product;

static_assert(RP_PRODUCT_CHAIN % TILE_K == 0, "sums end where tiles do");

typedef struct tiles {
    float left[TILE_K][PITCH_M];
    float from[TILE_K][TILE_N];
} tiles;

/* A thread's part of the next tiles. */
typedef struct fetched {
    float left[LEFT_EACH];
    float4 from[FROM_EACH];
} fetched;

/* Where element i of a thread lies in a tile of left, so that neighbours read neighbours. */
typedef struct place {
    int k, m;
} place;

static __device__ place left_place(const product &p, int i)
{
    const int x = (int)threadIdx.x;

    if (p.step_m == 1) {
        return place{i * (THREADS / TILE_M) + x / TILE_M, x % TILE_M};
    }
    return place{x % TILE_K, i * (THREADS / TILE_K) + x / TILE_K};
}

/* The same of four neighbours of from. */
static __device__ place from_place(int i)
{
    const int x = (int)threadIdx.x;

    return place{i * (THREADS / (TILE_N / 4)) + x / (TILE_N / 4), x % (TILE_N / 4) * 4};
}

static __device__ void fetch(const product &p, int64_t k0, int64_t m0, int64_t n0, fetched *next)
{
    RP_UNROLL(16)
    for (int i = 0; i < LEFT_EACH; i++) {
        const place at = left_place(p, i);
        const int64_t k = k0 + at.k;
        const int64_t m = m0 + at.m;
        next->left[i] = k < p.k && m < p.m ? p.left[m * p.step_m + k * p.step_k] : 0.0f;
    }
    RP_UNROLL(4)
    for (int i = 0; i < FROM_EACH; i++) {
        const place at = from_place(i);
        const int64_t k = k0 + at.k;
        const int64_t n = n0 + at.m;
        next->from[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (k < p.k && n < p.ld) {
            next->from[i] = *reinterpret_cast<const float4 *>(p.from + k * p.ld + n);
        }
    }
}

static __device__ void keep(const product &p, const fetched &next, tiles *to)
{
    RP_UNROLL(16)
    for (int i = 0; i < LEFT_EACH; i++) {
        const place at = left_place(p, i);
        to->left[at.k][at.m] = next.left[i];
    }
    RP_UNROLL(4)
    for (int i = 0; i < FROM_EACH; i++) {
        const place at = from_place(i);
        *reinterpret_cast<float4 *>(&to->from[at.k][at.m]) = next.from[i];
    }
}

/* totals += sums, and sums := 0 */
static __device__ void add_sums(float (*sums)[OWN_N], float (*totals)[OWN_N])
{
    RP_UNROLL(8)
    for (int i = 0; i < OWN_M; i++) {
        RP_UNROLL(4)
        for (int j = 0; j < OWN_N; j++) {
            totals[i][j] += sums[i][j];
            sums[i][j] = 0.0f;
        }
    }
}

/* A thread's elements: 8 rows of to from m on, four columns from n on. */
static __device__ void load_totals(const product &p, int64_t m, int64_t n, float (*totals)[OWN_N])
{
    RP_UNROLL(8)
    for (int i = 0; i < OWN_M; i++) {
        float4 old = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (p.start != NULL && m + i < p.m && n < p.ld) {
            old = *reinterpret_cast<const float4 *>(p.start + (m + i) * p.ld + n);
        }
        totals[i][0] = old.x;
        totals[i][1] = old.y;
        totals[i][2] = old.z;
        totals[i][3] = old.w;
    }
}

static __device__ void store_totals(const product &p, int64_t m, int64_t n, float (*totals)[OWN_N])
{
    RP_UNROLL(8)
    for (int i = 0; i < OWN_M; i++) {
        if (m + i < p.m && n < p.ld) {
            *reinterpret_cast<float4 *>(p.to + (m + i) * p.ld + n) =
                make_float4(totals[i][0], totals[i][1], totals[i][2], totals[i][3]);
        }
    }
}

/* Warps lie 2 x 2 in a tile, their threads 4 x 8. */
static __global__ void __launch_bounds__(THREADS) product_kernel(product p)
{
    __shared__ __align__(16) tiles shared[2];
    const int warp = (int)threadIdx.x / 32;
    const int lane = (int)threadIdx.x % 32;
    const int m = warp % 2 * WARP_M + lane / 8 * OWN_M;
    const int n = warp / 2 * (TILE_N / 2) + lane % 8 * OWN_N;
    const int64_t m0 = (int64_t)blockIdx.x * TILE_M;
    const int64_t n0 = (int64_t)blockIdx.y * TILE_N;
    const bool has_rows = m0 + warp % 2 * WARP_M < p.m; /* the whole warp alike */
    float totals[OWN_M][OWN_N];
    float sums[OWN_M][OWN_N] = {};
    fetched next;
    int at = 0;

    fetch(p, 0, m0, n0, &next);
    load_totals(p, m0 + m, n0 + n, totals);
    for (int64_t k = 0; k < p.k; k += TILE_K) {
        keep(p, next, &shared[at]);
        __syncthreads(); /* and who is still at the other tiles has not come here */
        if (k + TILE_K < p.k) {
            fetch(p, k + TILE_K, m0, n0, &next);
        }
        if (k > 0 && k % RP_PRODUCT_CHAIN == 0) {
            add_sums(sums, totals);
        }
        if (has_rows) {
            rp_tile_multiply((int)RP_MIN((int64_t)TILE_K, p.k - k), &shared[at].left[0][m], PITCH_M,
                             &shared[at].from[0][n], TILE_N, sums);
        }
        at = 1 - at;
    }
    add_sums(sums, totals);
    store_totals(p, m0 + m, n0 + n, totals);
}

extern "C" void rp_product_cuda(rp_gpu *gpu, int64_t m, int64_t k, int64_t ld, rp_left left,
                                const float *from, bool accumulate, float *to)
{
    const product p = {m,
                       k,
                       ld,
                       left.at,
                       left.is_transposed ? 1 : left.ld,
                       left.is_transposed ? left.ld : 1,
                       from,
                       accumulate ? to : NULL,
                       to};

    RP_LAUNCH(gpu, product_kernel, dim3(rp_gpu_blocks(m, TILE_M), rp_gpu_blocks(ld, TILE_N)),
              THREADS, 0, p);
}

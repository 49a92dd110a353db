/* The inner loop of products from tiles in shared memory: a thread has 8 x 4 sums in registers. */
#ifndef RP_KERNELS_CUDA_PRODUCT_TILE_CUH
#define RP_KERNELS_CUDA_PRODUCT_TILE_CUH

#include "kernels/clones.h"
#include "kernels/cuda/launch.h"

enum { RP_TILE_OWN_M = 8, RP_TILE_OWN_N = 4 };

/* sums += 8 rows of left [depth][left_pitch] times 4 columns of from [depth][from_pitch], which are
 * contiguous and aligned to 16 bytes. */
RP_INNER_LOOP void rp_tile_multiply(int depth, const float *left, int left_pitch, const float *from,
                                    int from_pitch, float (*sums)[RP_TILE_OWN_N])
{
    float own[RP_TILE_OWN_M][RP_TILE_OWN_N];

    RP_UNROLL(8)
    for (int i = 0; i < RP_TILE_OWN_M; i++) {
        RP_UNROLL(4)
        for (int j = 0; j < RP_TILE_OWN_N; j++) {
            own[i][j] = sums[i][j];
        }
    }
    RP_UNROLL(8)
    for (int k = 0; k < depth; k++) {
        const float4 a = *reinterpret_cast<const float4 *>(left + k * left_pitch);
        const float4 b = *reinterpret_cast<const float4 *>(left + k * left_pitch + 4);
        const float4 c = *reinterpret_cast<const float4 *>(from + k * from_pitch);
        const float x[RP_TILE_OWN_M] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
        const float y[RP_TILE_OWN_N] = {c.x, c.y, c.z, c.w};
        RP_UNROLL(8)
        for (int i = 0; i < RP_TILE_OWN_M; i++) {
            RP_UNROLL(4)
            for (int j = 0; j < RP_TILE_OWN_N; j++) {
                own[i][j] = fmaf(x[i], y[j], own[i][j]);
            }
        }
    }
    RP_UNROLL(8)
    for (int i = 0; i < RP_TILE_OWN_M; i++) {
        RP_UNROLL(4)
        for (int j = 0; j < RP_TILE_OWN_N; j++) {
            sums[i][j] = own[i][j];
        }
    }
}

#endif

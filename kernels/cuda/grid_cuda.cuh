/* Every grid's arithmetic as functions of one thread for one group of one row, for kernels that
 * round as they go: the meaning and the bits of grid->ops (kernels/grid.h). */
#ifndef RP_KERNELS_CUDA_GRID_CUDA_CUH
#define RP_KERNELS_CUDA_GRID_CUDA_CUH

#include "kernels/cuda/grid_one_level.cuh"
#include "kernels/cuda/grid_two_levels.cuh"

/* ops->fit: the group's n values; weights as they are. One thread: rp_fit_groups_cuda is for whole
 * matrices. */
static inline __device__ void rp_grid_fit_cuda(const rp_device_grid &g, int64_t n, rp_strided x,
                                               rp_strided weight, rp_strided_mut params)
{
    const rp_team<1> alone;
    float own[2];

    switch (g.kind) {
    case RP_GRID_AFFINE:
        rp_affine_fit(g, n, x, weight, own);
        rp_put(params, 0, own[0]);
        rp_put(params, 1, own[1]);
        break;
    case RP_GRID_MXFP4:
        rp_mxfp4_fit(n, x, weight, params);
        break;
    case RP_GRID_TERNARY:
        rp_ternary_fit(g, alone, rp_values_of(x, n), rp_values_of(weight, n), params);
        break;
    case RP_GRID_TWO_LEVELS:
        rp_super_fit(g, alone, rp_values_of(x, g.sub_cols), rp_values_of(weight, g.sub_cols),
                     params);
        break;
    default:
        rp_block_fit(g, x, weight, params);
        break;
    }
}

/* ops->refit: the integers of sub-group `sub` anew from its n values; two levels only. */
static inline __device__ void rp_grid_refit_cuda(const rp_device_grid &g, int sub, int64_t n,
                                                 rp_strided x, rp_strided weight,
                                                 rp_strided_mut params)
{
    const rp_team<1> alone;
    const float dmin = g.has_min ? params.data[params.stride] : 0.0f;
    rp_tile tile;

    rp_load_tile((int)n, x, weight, RP_WEIGHT_IMPORTANCE, 0.0f, &tile);
    const rp_pair p =
        rp_super_refit(g, alone, params.data[0], dmin, n, &tile.x[0][0], &tile.w[0][0]);
    rp_put_super(g, sub, p.s, p.m, params);
}

/* Step and offset of a sub-group: value = step * level - offset. Affine: scale and zero point. */
typedef struct rp_level_step {
    float step, offset;
} rp_level_step;

static inline __device__ rp_level_step rp_grid_step(const rp_device_grid &g, rp_strided params,
                                                    int sub)
{
    rp_level_step at = {rp_at(params, 0), 0.0f};

    if (g.kind == RP_GRID_AFFINE) {
        at.offset = rp_at(params, 1);
    } else if (g.kind == RP_GRID_TWO_LEVELS) {
        at.step *= rp_at(params, g.n_steps + sub);
        at.offset = g.has_min ? rp_at(params, 1) * rp_at(params, g.n_steps + g.n_sub + sub) : 0.0f;
    } else if (g.has_min) {
        at.offset = -rp_at(params, 1);
    }
    return at;
}

/* The nearest value of a sub-group: its code. inverse: of the step. */
static inline __device__ uint8_t rp_iq4_round(rp_level_step at, float inverse, float x,
                                              float *decoded)
{
    const int code = rp_iq4_code(x * inverse);

    *decoded = at.step * rp_iq4_level(code);
    return (uint8_t)code;
}

/* The same where levels are uniform; lo: the lowest that is used. */
static inline __device__ uint8_t rp_uniform_round(const rp_device_grid &g, rp_level_step at,
                                                  float inverse, float lo, float x, float *decoded)
{
    const float level =
        (rp_clamp((x + at.offset) * inverse, lo, g.lowest + (float)g.top) + RP_MAGIC) - RP_MAGIC;

    *decoded = at.step * level - at.offset;
    return (uint8_t)(int)(level - g.lowest);
}

/* The same of any grid. */
static inline __device__ uint8_t rp_grid_round_step(const rp_device_grid &g, rp_level_step at,
                                                    float x, float *decoded)
{
    if (g.kind == RP_GRID_AFFINE) {
        const float q = rp_affine_code((float)g.top, 1.0f / at.step, at.offset, x);
        *decoded = at.step * (q - at.offset);
        return (uint8_t)q;
    }
    if (g.kind == RP_GRID_MXFP4) {
        const uint8_t code = rp_mxfp4_code(x, at.step, rp_mxfp4_top(at.step));
        *decoded = at.step * rp_mxfp4_level(code);
        return code;
    }
    const float inverse = rp_inverse(at.step);
    if (g.is_iq4) {
        return rp_iq4_round(at, inverse, x, decoded);
    }
    return rp_uniform_round(g, at, inverse, g.kind == RP_GRID_Q8 ? g.lowest + 1.0f : g.lowest, x,
                            decoded);
}

/* ops->round_column of one value; sub: 0 for one level. */
static inline __device__ uint8_t rp_grid_round_cuda(const rp_device_grid &g, rp_strided params,
                                                    int sub, float x, float *decoded)
{
    return rp_grid_round_step(g, rp_grid_step(g, params, sub), x, decoded);
}

/* ops->decode of one code. */
static inline __device__ float rp_grid_decode_cuda(const rp_device_grid &g, rp_strided params,
                                                   int sub, int code)
{
    if (g.kind == RP_GRID_AFFINE) {
        return rp_at(params, 0) * ((float)code - rp_at(params, 1));
    }
    const rp_level_step at = rp_grid_step(g, params, sub);
    if (g.kind == RP_GRID_MXFP4) {
        return at.step * rp_mxfp4_level(code & 15);
    }
    return g.is_iq4 ? at.step * rp_iq4_level(code & 15)
                    : at.step * ((float)code + g.lowest) - at.offset;
}

#endif

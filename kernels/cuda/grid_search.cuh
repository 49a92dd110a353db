/* The searches of one group by one thread: kernels/grid_search_lanes.h with one lane. */
#ifndef RP_KERNELS_CUDA_GRID_SEARCH_CUH
#define RP_KERNELS_CUDA_GRID_SEARCH_CUH

#include "kernels/cuda/grid_team.cuh"

#define LANES 1
#include "kernels/grid_search_lanes.h"

typedef TILE rp_tile;
typedef RESULT rp_found;

/* All five passes: those that the processor leaves out change nothing. */
static inline __device__ void rp_descend(const rp_tile *tile, int centre, rp_found *out)
{
    DESCENT d;

    LANES_NAME(start_descent)(tile, tile->n, 0, (float)centre, &d);
    LANES_NAME(descend_all)
    (&d, DESCENT_PASSES, 1, tile->n, (float)-centre, (float)centre - 1.0f, false);
    LANES_NAME(put_descent)(&d, tile->n, 0, (float)centre, out);
}

/* rp_search_run of one group. */
static inline __device__ void rp_search_group(rp_search_kind kind, int top,
                                              const rp_search_steps &steps, const rp_tile *tile,
                                              rp_found *out)
{
    switch (kind) {
    case RP_SEARCH_DESCENT:
        rp_descend(tile, (top + 1) / 2, out);
        break;
    case RP_SEARCH_SYMMETRIC:
        LANES_NAME(search_symmetric)(tile, (top + 1) / 2, true, out);
        break;
    case RP_SEARCH_MIN:
        LANES_NAME(search_min)(tile, top, &steps, out);
        break;
    default:
        LANES_NAME(search_levels)(tile, out);
        break;
    }
}

static inline __device__ void rp_search_any(const rp_tile *tile, int centre, rp_found *out)
{
    LANES_NAME(search_symmetric)(tile, centre, false, out);
}

static inline __device__ void rp_search_positives(const rp_tile *tile, int top, rp_found *out)
{
    LANES_NAME(search_positive)(tile, top, out);
}

/* Sums of the codes of an inverse scale (l, l2 and lx). */
typedef LINE_SUMS rp_code_sums;
static inline __device__ rp_code_sums rp_sum_codes(float inverse, float min, float top, int64_t n,
                                                   const float *x, const float *w)
{
    rp_code_sums sums;

    LANES_NAME(candidate_sum)(inverse, min, top, n, x, w, &sums);
    return sums;
}

static inline __device__ float rp_scale_error(float step, float offset, bool is_iq4, float lo,
                                              float hi, int64_t n, const float *x, const float *w)
{
    return LANES_NAME(candidate_error)(step, offset, is_iq4, lo, hi, n, x, w);
}

static inline __device__ float rp_any_nearest(float v, float lo, float hi)
{
    return LANES_NAME(any_nearest_in)(v, lo, hi);
}

#include "kernels/lanes_end.h"

/* The values and weights of a search, as rp_search_load's. */
static inline __device__ void rp_load_tile(int n, rp_strided x, rp_strided importance,
                                           rp_search_weight weight, float sigma2, rp_tile *t)
{
    float squares = 0.0f;

    t->n = n;
    t->ngroups = 1;
    for (int i = 0; i < n; i++) {
        const float v = rp_at(x, i);
        t->x[i][0] = v;
        squares += v * v;
    }
    const float rms = sqrtf(squares / (float)n);
    for (int i = 0; i < n; i++) {
        const float v = t->x[i][0];
        switch (weight) {
        case RP_WEIGHT_SQUARE:
            t->w[i][0] = v * v;
            break;
        case RP_WEIGHT_MAGNITUDE:
            t->w[i][0] = fabsf(v);
            break;
        case RP_WEIGHT_RMS:
            t->w[i][0] = rms + fabsf(v);
            break;
        case RP_WEIGHT_IMPORTANCE_SIGMA:
            t->w[i][0] = rp_weight_at(importance, i) * sqrtf(sigma2 + v * v);
            break;
        default:
            t->w[i][0] = rp_weight_at(importance, i);
            break;
        }
    }
}

#endif

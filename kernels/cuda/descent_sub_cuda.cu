/* The search for a sub-group's integers together with its codes; methods/descent_sub.c defines it
 * and says why. Every warp tries a pair of integers. */
#include "kernels/cuda/descent_cuda.cuh"

enum { MAX_SUB = RP_MAX_SUB, FACTOR_FLOATS = MAX_SUB * MAX_SUB + MAX_SUB };
#define RIDGE 1e-4 /* of the diagonal: a sub-group's part of H may be singular */

int64_t rp_descent_factor_floats(const rp_piece *t)
{
    return t->grid.n_sub > 0 ? t->cols / t->sub * FACTOR_FLOATS : 0;
}

/* ---- Factors ---- */

/* H of columns t0 + i and t0 + j, i >= j. */
static __device__ double h_of(const rp_piece &t, int64_t t0, int i, int j)
{
    return (double)(i == j ? t.diagonal[t0 + i] : t.l[(t0 + j) * t.cols + t0 + i]);
}

/* One block a sub-group, one thread a row of its factor: l [sub][sub] unit lower and d [sub] of
 * H + ridge; d[0] = 0 when all columns are dead. */
static __global__ void factor_subs_kernel(rp_descent_view v)
{
    __shared__ double a[MAX_SUB][MAX_SUB];
    __shared__ float d[MAX_SUB];
    const int n = v.t.sub;
    const int i = (int)threadIdx.x;
    const int64_t t0 = (int64_t)blockIdx.x * n;
    float *out = v.s.factor + (int64_t)blockIdx.x * FACTOR_FLOATS;
    double mean = 0;

    for (int k = 0; k < n; k++) {
        mean += h_of(v.t, t0, k, k) / (double)n;
    }
    for (int j = 0; j < n && mean > 0; j++) {
        const double own = h_of(v.t, t0, j, j);
        const double ridge = RIDGE * (own > 0 ? own : mean);
        double value = 0;
        if (i >= j && i < n) {
            value = h_of(v.t, t0, i, j) + (i == j ? ridge : 0);
            for (int k = 0; k < j; k++) {
                value -= a[i][k] * a[j][k] * (double)d[k];
            }
        }
        if (i == j) {
            d[j] = (float)fmax(value, ridge);
            out[MAX_SUB * MAX_SUB + j] = d[j];
        }
        __syncthreads();
        if (i >= j && i < n) {
            a[i][j] = value / (double)d[j];
            out[i * MAX_SUB + j] = (float)a[i][j];
        }
        __syncthreads();
    }
    if (!(mean > 0) && i == 0) {
        out[MAX_SUB * MAX_SUB] = 0;
    }
}

void rp_descent_factor_subs(rp_gpu *gpu, const rp_descent_view *v)
{
    RP_LAUNCH(gpu, factor_subs_kernel, (int)(v->t.cols / v->t.sub), MAX_SUB, 0, *v);
}

/* ---- Choices ---- */

/* Choice 0 is what there is; the others are its neighbours, 3 x 3 pairs of integers or 5 scales,
 * each with codes of its own, which one warp finds. */
enum { N_PAIRS = 9, N_SCALES = 5, MAX_CHOICES = 1 + N_PAIRS };

/* Integers of a sub-group; m 0: none. */
typedef struct pair {
    float s, m;
} pair;

/* One row's parameters. */
typedef struct sub_params {
    float d, dmin;
    pair kept;
} sub_params;

/* Of one block of rows: the sub-group's factor and part of H, its columns, and what each warp makes
 * of them. */
typedef struct sub_memory {
    float l[MAX_SUB][MAX_SUB], d[MAX_SUB]; /* l: row i is column i of the factor */
    float h[MAX_SUB][MAX_SUB];
    rp_unit w, delta, g;
    rp_unit target; /* then what changes delta */
    rp_unit hu;
    rp_unit tile[RP_DESCENT_WARPS];
    sub_params params[RP_UNIT_THREADS];
    float gain[RP_UNIT_THREADS];
    float loss[MAX_CHOICES][RP_UNIT_THREADS];
    uint8_t code[MAX_CHOICES][MAX_SUB][RP_UNIT_THREADS];
} sub_memory;

static __device__ int count_choices(const rp_device_grid &grid)
{
    return 1 + (grid.has_min ? N_PAIRS : N_SCALES);
}

static __device__ pair integers_of(const rp_device_grid &grid, pair kept, int choice)
{
    const int nth = choice - 1;
    const int step_s = grid.has_min ? nth / 3 - 1 : nth - N_SCALES / 2;
    const int step_m = grid.has_min ? nth % 3 - 1 : 0;
    const pair tried = {
        rp_clamp(kept.s + (float)step_s, (float)grid.scale_lo, (float)grid.scale_hi),
        rp_clamp(kept.m + (float)step_m, 0.0f, (float)grid.min_hi)};
    return choice == 0 ? kept : tried;
}

static __device__ rp_level_step step_of(const rp_device_grid &grid, const sub_params &params,
                                        int choice)
{
    const pair integers = integers_of(grid, params.kept, choice);
    const rp_level_step at = {params.d * integers.s, params.dmin * integers.m};
    return at;
}

/* ---- In and out ---- */

/* Where a sub-group's scale, or minimum, is among the group's parameters. */
static __device__ int64_t integer_at(const rp_descent_view &v, int64_t lo, bool is_min)
{
    const rp_device_grid &grid = v.t.grid;
    const int first = grid.n_steps + (is_min ? grid.n_sub : 0);

    return (first + rp_piece_sub(v.t, rp_view_column(v, lo))) * v.t.ld;
}

static __device__ float *group_params(const rp_descent_view &v, int64_t lo)
{
    return rp_piece_params(v.t, rp_view_column(v, lo), rp_piece_row()).data;
}

/* Row's code of column i of the block. */
static __device__ uint8_t *code_of(const rp_descent_view &v, int64_t i)
{
    return &v.t.codes[(int64_t)rp_view_column(v, i) * v.t.ld + rp_piece_row()];
}

static __device__ sub_params load_params(const rp_descent_view &v, int64_t lo)
{
    const bool has_min = v.t.grid.has_min;
    const float *params = group_params(v, lo);
    sub_params s;

    s.d = params[0];
    s.dmin = has_min ? params[v.t.ld] : 0.0f;
    s.kept.s = params[integer_at(v, lo, false)];
    s.kept.m = has_min ? params[integer_at(v, lo, true)] : 0.0f;
    return s;
}

/* Beyond the rows, parameters and codes are 0. */
template <int N>
static __device__ void load_sub(const rp_descent_view &v, int64_t lo, sub_memory *m)
{
    const int x = (int)threadIdx.x;
    const bool is_there = rp_piece_row() < v.t.rows;
    const float *factor = v.s.factor + (v.a + lo) / N * FACTOR_FLOATS;
    const sub_params none = {};

    for (int i = (int)threadIdx.y; i < N; i += RP_DESCENT_WARPS) {
        const int64_t at = rp_view_at(v, lo + i, rp_piece_row());
        if (x <= i) {
            m->l[x][i] = factor[i * MAX_SUB + x];
        }
        if (x < N) {
            m->h[i][x] = rp_view_h(v, lo + i, lo + x);
        }
        m->w.at[i][x] = v.t.w[at];
        m->delta.at[i][x] = v.t.delta[at];
        m->g.at[i][x] = v.s.g[(lo + i) * v.t.ld + rp_piece_row()];
        m->code[0][i][x] = is_there ? *code_of(v, lo + i) : (uint8_t)0;
    }
    if (threadIdx.y == 0 && x < N) {
        m->d[x] = factor[MAX_SUB * MAX_SUB + x];
    }
    if (threadIdx.y == RP_DESCENT_WARPS - 1) {
        m->params[x] = is_there ? load_params(v, lo) : none;
    }
    if (rp_pushes(v.n)) {
        rp_load_h(v, lo, N, rp_own_unit(), &m->tile[threadIdx.y]);
    }
}

/* Where the choice lowers the loss it is taken; target := what changed. */
template <int N>
static __device__ void take_choice(const rp_descent_view &v, int64_t lo, int choice, sub_memory *m)
{
    const int x = (int)threadIdx.x;
    const bool is_taken = m->gain[x] > 0;
    float *params = group_params(v, lo);

    RP_UNROLL(1)
    for (int i = (int)threadIdx.y; i < N; i += RP_DESCENT_WARPS) {
        if (is_taken) {
            const float delta = m->delta.at[i][x] + m->target.at[i][x];
            v.t.delta[rp_view_at(v, lo + i, rp_piece_row())] = delta;
            *code_of(v, lo + i) = m->code[choice][i][x];
        } else {
            m->target.at[i][x] = 0.0f;
        }
    }
    if (threadIdx.y == 0 && is_taken) {
        const pair integers = integers_of(v.t.grid, m->params[x].kept, choice);
        params[integer_at(v, lo, false)] = integers.s;
        if (v.t.grid.has_min) {
            params[integer_at(v, lo, true)] = integers.m;
        }
        v.s.gain[rp_piece_row()] += (double)m->gain[x];
    }
}

/* ---- Search ---- */

/* target := decoded + H^-1 G. Returns the loss as it is. One warp. */
template <int N> static __device__ float set_target(sub_memory *m)
{
    const int x = (int)threadIdx.x;
    float u[N];
    float loss = 0;

    RP_UNROLL(32)
    for (int i = 0; i < N; i++) {
        u[i] = m->g.at[i][x];
    }
    RP_UNROLL(32)
    for (int j = 0; j < N; j++) {
        RP_UNROLL(32)
        for (int i = j + 1; i < N; i++) {
            u[i] = fmaf(-m->l[j][i], u[j], u[i]);
        }
    }
    __syncwarp(); /* or the compiler keeps all of l for what follows */
    RP_UNROLL(32)
    for (int i = N - 1; i >= 0; i--) {
        u[i] /= m->d[i];
        RP_UNROLL(32)
        for (int j = i + 1; j < N; j++) {
            u[i] = fmaf(-m->l[i][j], u[j], u[i]);
        }
    }
    RP_UNROLL(32)
    for (int i = 0; i < N; i++) {
        loss += u[i] * m->g.at[i][x];
        m->target.at[i][x] = m->w.at[i][x] - m->delta.at[i][x] + u[i];
    }
    return loss;
}

/* The codes by the nearest plane. Returns their loss. */
template <int N, bool IS_IQ4>
static __device__ float find_codes(const rp_device_grid &grid, const sub_memory *m,
                                   rp_level_step at, uint8_t (*code)[RP_UNIT_THREADS])
{
    const int x = (int)threadIdx.x;
    const float inverse = rp_inverse(at.step);
    float left[N]; /* target - decoded */
    float loss = 0;

    RP_UNROLL(32)
    for (int i = N - 1; i >= 0; i--) {
        float corrected = m->target.at[i][x];
        float decoded = 0;
        RP_UNROLL(32)
        for (int k = i + 1; k < N; k++) {
            corrected = fmaf(m->l[i][k], left[k], corrected);
        }
        code[i][x] = IS_IQ4 ? rp_iq4_round(at, inverse, corrected, &decoded)
                            : rp_uniform_round(grid, at, inverse, grid.lowest, corrected, &decoded);
        const float e = corrected - decoded;
        loss += m->d[i] * (e * e);
        left[i] = m->target.at[i][x] - decoded;
    }
    return loss;
}

/* The first choice with the least loss. */
static __device__ int best_choice(const rp_device_grid &grid, const sub_memory *m)
{
    const int x = (int)threadIdx.x;
    float loss = m->loss[0][x];
    int best = 0;

    for (int choice = 1; choice < count_choices(grid); choice++) {
        const bool is_better = m->loss[choice][x] < loss;
        best = is_better ? choice : best;
        loss = is_better ? m->loss[choice][x] : loss;
    }
    return best;
}

/* target := what the choice would do to delta. */
template <int N, bool IS_IQ4>
static __device__ void set_change(const rp_device_grid &grid, int choice, sub_memory *m)
{
    const int x = (int)threadIdx.x;
    const rp_level_step at = step_of(grid, m->params[x], choice);

    RP_UNROLL(1)
    for (int i = (int)threadIdx.y; i < N; i += RP_DESCENT_WARPS) {
        const int code = m->code[choice][i][x];
        const float level = IS_IQ4 ? rp_iq4_level(code) : grid.lowest + (float)code;
        m->target.at[i][x] = (m->w.at[i][x] - (at.step * level - at.offset)) - m->delta.at[i][x];
    }
}

template <int N> static __device__ void set_curve(sub_memory *m)
{
    const int x = (int)threadIdx.x;

    RP_UNROLL(1)
    for (int i = (int)threadIdx.y; i < N; i += RP_DESCENT_WARPS) {
        float hu = 0;
        RP_UNROLL(32)
        for (int j = 0; j < N; j++) {
            hu = fmaf(m->h[i][j], m->target.at[j][x], hu);
        }
        m->hu.at[i][x] = hu;
    }
}

/* By how much the loss would fall under the undamped H. */
template <int N> static __device__ float gain_of(const sub_memory *m)
{
    const int x = (int)threadIdx.x;
    float dot = 0;
    float curvature = 0;

    RP_UNROLL(8)
    for (int i = 0; i < N; i++) {
        dot += m->target.at[i][x] * m->g.at[i][x];
        curvature += m->target.at[i][x] * m->hu.at[i][x];
    }
    return -(2 * dot + curvature);
}

/* The sub-group at columns lo .. of the block, which is loaded. */
template <int N, bool IS_IQ4>
static __device__ void search_sub(const rp_descent_view &v, int64_t lo, sub_memory *m)
{
    const rp_device_grid &grid = v.t.grid;
    const int x = (int)threadIdx.x;
    const int warp = (int)threadIdx.y;

    if (warp == 0) {
        m->loss[0][x] = set_target<N>(m);
    }
    __syncthreads();
    for (int choice = 1 + warp; choice < count_choices(grid); choice += RP_DESCENT_WARPS) {
        const rp_level_step at = step_of(grid, m->params[x], choice);
        __syncwarp(); /* or the compiler keeps all of l for the next choice */
        m->loss[choice][x] = find_codes<N, IS_IQ4>(grid, m, at, m->code[choice]);
    }
    __syncthreads();
    const int best = best_choice(grid, m);
    set_change<N, IS_IQ4>(grid, best, m);
    __syncthreads();
    set_curve<N>(m);
    __syncthreads();
    if (warp == 0) {
        m->gain[x] = rp_piece_row() < v.t.rows ? gain_of<N>(m) : 0.0f;
    }
    if (__syncthreads_or(warp == 0 && m->gain[x] > 0)) {
        take_choice<N>(v, lo, best, m);
        __syncthreads();
        rp_push_unit(v, N, m->target.at, v.n, m->tile);
    }
}

/* The group at columns lo .. of the block. */
template <int N, bool IS_IQ4>
static __global__ void __launch_bounds__(RP_DESCENT_THREADS, 2)
    search_subs_kernel(rp_descent_view v, int64_t lo)
{
    RP_DYNAMIC_SHARED(sub_memory, m);

    for (int64_t k = lo + v.t.group - N; k >= lo; k -= N) {
        load_sub<N>(v, k, m);
        __syncthreads();
        if (m->d[0] > 0) {
            search_sub<N, IS_IQ4>(v, k, m);
        }
        __syncthreads();
    }
}

void rp_descent_search_subs(rp_gpu *gpu, const rp_descent_view *v, int64_t lo)
{
    void (*kernel)(rp_descent_view, int64_t) = search_subs_kernel<MAX_SUB, false>;

    RP_ASSERT(v->t.sub == MAX_SUB || (v->t.sub == MAX_SUB / 2 && !v->t.grid.is_iq4));
    if (v->t.grid.is_iq4) {
        kernel = search_subs_kernel<MAX_SUB, true>;
    } else if (v->t.sub < MAX_SUB) {
        kernel = search_subs_kernel<MAX_SUB / 2, false>;
    }
    RP_LAUNCH_DESCENT(gpu, kernel, sub_memory, v->t, *v, lo);
}

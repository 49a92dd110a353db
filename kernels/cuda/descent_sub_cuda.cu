/* The search for a sub-group's integers together with its codes; methods/descent_sub.c defines it
 * and says why. One thread a row does the whole search; only the push is a product. */
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

/* ---- Search ---- */

/* Of one block of rows: the sub-group's part of H and its factor, and columns of threads. */
typedef struct sub_memory {
    float l[MAX_SUB][MAX_SUB], d[MAX_SUB], h[MAX_SUB][MAX_SUB];
    float target[MAX_SUB][RP_UNIT_THREADS];
    float left[MAX_SUB][RP_UNIT_THREADS]; /* target - decoded; before and after, a direction */
    uint8_t trial[MAX_SUB][RP_UNIT_THREADS], best[MAX_SUB][RP_UNIT_THREADS];
} sub_memory;

/* Integers of a sub-group; m 0: none. */
typedef struct pair {
    float s, m;
} pair;

/* One row's search. */
typedef struct sub_search {
    int n;         /* columns */
    int64_t lo, r; /* first column in the block, row */
    int column;    /* its last one's original number, the first */
    float d, dmin;
    float *scale, *min; /* of the params; min NULL: none */
    pair kept, best;
    float loss; /* of the best */
} sub_search;

static __device__ void load_sub(const rp_descent_view &v, int64_t lo, sub_memory *m)
{
    const int n = v.t.sub;
    const int x = (int)threadIdx.x;
    const float *factor = v.s.factor + (v.a + lo) / n * FACTOR_FLOATS;

    for (int i = 0; i < n && x < n; i++) {
        m->l[i][x] = x <= i ? factor[i * MAX_SUB + x] : 0.0f;
        m->h[i][x] = rp_view_h(v, lo + i, lo + x);
    }
    if (x < n) {
        m->d[x] = factor[MAX_SUB * MAX_SUB + x];
    }
}

static __device__ sub_search open_search(const rp_descent_view &v, int64_t lo, int64_t r)
{
    const rp_device_grid &grid = v.t.grid;
    sub_search s;

    s.n = v.t.sub;
    s.lo = lo;
    s.r = r;
    s.column = rp_view_column(v, lo + s.n - 1);
    const rp_strided_mut params = rp_piece_params(v.t, s.column, r);
    s.d = params.data[0];
    s.dmin = grid.has_min ? params.data[params.stride] : 0.0f;
    s.scale = params.data + (grid.n_steps + rp_piece_sub(v.t, s.column)) * params.stride;
    s.min = grid.has_min ? s.scale + grid.n_sub * params.stride : NULL;
    s.kept.s = *s.scale;
    s.kept.m = grid.has_min ? *s.min : 0.0f;
    s.best = s.kept;
    s.loss = 0;
    return s;
}

static __device__ rp_level_step step_of(const sub_search &s, pair integers)
{
    const rp_level_step at = {s.d * integers.s, s.dmin * integers.m};
    return at;
}

/* Row's code of column lo + i of the block. */
static __device__ uint8_t *code_of(const rp_descent_view &v, const sub_search &s, int i)
{
    return &v.t.codes[(int64_t)(s.column + s.n - 1 - i) * v.t.ld + s.r];
}

/* left := H^-1 G, target := decoded + left, and the loss as it is. */
static __device__ void set_target(const rp_descent_view &v, sub_memory *m, sub_search *s)
{
    const int x = (int)threadIdx.x;
    const float *g = v.s.g + s->lo * v.t.ld + s->r;

    for (int i = 0; i < s->n; i++) {
        float u = g[i * v.t.ld];
        for (int j = 0; j < i; j++) {
            u = fmaf(-m->l[i][j], m->left[j][x], u);
        }
        m->left[i][x] = u;
    }
    for (int i = s->n - 1; i >= 0; i--) {
        float u = m->left[i][x] / m->d[i];
        for (int j = i + 1; j < s->n; j++) {
            u = fmaf(-m->l[j][i], m->left[j][x], u);
        }
        m->left[i][x] = u;
    }
    for (int i = 0; i < s->n; i++) {
        const int64_t at = rp_view_at(v, s->lo + i, s->r);
        s->loss += m->left[i][x] * g[i * v.t.ld];
        m->target[i][x] = v.t.w[at] - v.t.delta[at] + m->left[i][x];
        m->best[i][x] = *code_of(v, *s, i);
    }
}

/* trial := codes by the nearest plane. Returns their loss. */
static __device__ float find_codes(const rp_descent_view &v, sub_memory *m, int n, rp_level_step at)
{
    const int x = (int)threadIdx.x;
    float loss = 0;

    for (int i = n - 1; i >= 0; i--) {
        float corrected = m->target[i][x];
        float decoded = 0;
        for (int k = i + 1; k < n; k++) {
            corrected = fmaf(m->l[k][i], m->left[k][x], corrected);
        }
        m->trial[i][x] = rp_grid_round_step(v.t.grid, at, corrected, &decoded);
        const float e = corrected - decoded;
        loss += m->d[i] * (e * e);
        m->left[i][x] = m->target[i][x] - decoded;
    }
    return loss;
}

/* All neighbours of the present integers: 3 x 3 pairs, or 5 scales. */
static __device__ void try_integers(const rp_descent_view &v, sub_memory *m, sub_search *s)
{
    const rp_device_grid &grid = v.t.grid;
    const int x = (int)threadIdx.x;
    const int reach_s = grid.has_min ? 1 : 2;
    const int reach_m = grid.has_min ? 1 : 0;

    for (int step_s = -reach_s; step_s <= reach_s; step_s++) {
        for (int step_m = -reach_m; step_m <= reach_m; step_m++) {
            const pair tried = {
                rp_clamp(s->kept.s + (float)step_s, (float)grid.scale_lo, (float)grid.scale_hi),
                rp_clamp(s->kept.m + (float)step_m, 0.0f, (float)grid.min_hi)};
            const float loss = find_codes(v, m, s->n, step_of(*s, tried));
            if (!(loss < s->loss)) {
                continue;
            }
            s->loss = loss;
            s->best = tried;
            for (int i = 0; i < s->n; i++) {
                m->best[i][x] = m->trial[i][x];
            }
        }
    }
}

/* left := what the best codes and integers would do to delta. Returns by how much the loss would
 * fall under the undamped H. */
static __device__ float judge_change(const rp_descent_view &v, sub_memory *m, const sub_search &s)
{
    const int x = (int)threadIdx.x;
    const float *g = v.s.g + s.lo * v.t.ld + s.r;
    const rp_level_step step = step_of(s, s.best);
    float dot = 0;
    float curvature = 0;

    for (int i = 0; i < s.n; i++) {
        const int64_t at = rp_view_at(v, s.lo + i, s.r);
        const float decoded = step.step * rp_view_level(v, m->best[i][x]) - step.offset;
        m->left[i][x] = (v.t.w[at] - decoded) - v.t.delta[at];
    }
    for (int i = 0; i < s.n; i++) {
        float hu = 0;
        for (int j = 0; j < s.n; j++) {
            hu = fmaf(m->h[i][j], m->left[j][x], hu);
        }
        dot += m->left[i][x] * g[i * v.t.ld];
        curvature += m->left[i][x] * hu;
    }
    return -(2 * dot + curvature);
}

/* The best codes and integers where they lower the loss; u := what changed. */
static __device__ void take_best(const rp_descent_view &v, const sub_memory *m, const sub_search &s,
                                 float gain)
{
    const bool is_taken = gain > 0;

    if (is_taken) {
        *s.scale = s.best.s;
    }
    if (is_taken && s.min != NULL) {
        *s.min = s.best.m;
    }
    for (int i = 0; i < s.n; i++) {
        const float change = is_taken ? m->left[i][threadIdx.x] : 0.0f;
        v.s.u[i * v.t.ld + s.r] = change;
        v.t.delta[rp_view_at(v, s.lo + i, s.r)] += change;
        if (is_taken) {
            *code_of(v, s, i) = m->best[i][threadIdx.x];
        }
    }
    v.s.gain[s.r] += is_taken ? (double)gain : 0;
}

static __global__ void search_sub_kernel(rp_descent_view v, int64_t lo)
{
    __shared__ sub_memory m;
    const int64_t r = rp_piece_row();

    load_sub(v, lo, &m);
    __syncthreads();
    if (r >= v.t.rows) {
        return;
    }
    sub_search s = open_search(v, lo, r);
    float gain = 0;
    if (m.d[0] > 0) {
        set_target(v, &m, &s);
        try_integers(v, &m, &s);
        gain = judge_change(v, &m, s);
    }
    take_best(v, &m, s, gain);
}

void rp_descent_search_sub_cuda(rp_gpu *gpu, const rp_descent_view *v, int64_t lo)
{
    RP_LAUNCH(gpu, search_sub_kernel, rp_piece_blocks(&v->t, RP_UNIT_THREADS), RP_UNIT_THREADS, 0,
              *v, lo);
    rp_descent_push_cuda(gpu, v, lo, v->t.sub, v->n);
}

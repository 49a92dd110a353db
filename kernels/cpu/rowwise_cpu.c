/* Operations that treat each row (or column) alone: norm, rotation, gate, maxima, token losses. */
#include "kernels/cpu/ops_cpu.h"

#include "base/mem.h"
#include "kernels/cpu/simd.h"

#include <math.h>
#include <stdatomic.h>

enum { ROW_TILE = 32, MAX_ABS_TILE = 128, SQUARES_TILE = 128 };

typedef struct norm_ctx {
    rp_mat y;
    rp_cmat x;
    const float *w;
    float eps;
} norm_ctx;

RP_INLINE double sum_of_squares(const float *x, int64_t n)
{
    rp_d8 acc = {0};
    double sum;
    int64_t i = 0;

    for (; i + 8 <= n; i += 8) {
        const rp_d8 v =
            __builtin_convertvector(*(const rp_f8_unaligned *)(const void *)(x + i), rp_d8);
        acc += v * v;
    }
    sum = rp_d8_sum(&acc);
    for (; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return sum;
}

RP_CLONES static void norm_row(float *y, const float *x, const float *w, int64_t n, float eps)
{
    const float scale = (float)(1.0 / sqrt(sum_of_squares(x, n) / (double)n + (double)eps));

    for (int64_t i = 0; i < n; i++) {
        y[i] = w[i] * (x[i] * scale);
    }
}

static void norm_tile(void *arg, int64_t tile, int thread)
{
    const norm_ctx *ctx = arg;
    const int64_t end = RP_MIN((tile + 1) * ROW_TILE, ctx->x.rows);

    (void)thread;
    for (int64_t r = tile * ROW_TILE; r < end; r++) {
        norm_row(ctx->y.data + r * ctx->y.ld, ctx->x.data + r * ctx->x.ld, ctx->w, ctx->x.cols,
                 ctx->eps);
    }
}

void rp_rms_norm_cpu(const rp_exec *exec, rp_mat y, rp_cmat x, const float *w, float eps)
{
    norm_ctx ctx = {.y = y, .x = x, .w = w, .eps = eps};

    rp_pool_run(exec->pool, RP_DIV_UP(x.rows, ROW_TILE), norm_tile, &ctx);
}

typedef struct rope_ctx {
    rp_mat x;
    int n_heads, head_dim;
    int64_t seq_len;
    const rp_rope_table *table;
} rope_ctx;

RP_CLONES static void rotate_heads(float *row, int n_heads, int head_dim, const float *cos,
                                   const float *sin, int half)
{
    for (int h = 0; h < n_heads; h++) {
        float *a = row + (int64_t)h * head_dim;
        float *b = a + half;
        for (int i = 0; i < half; i++) {
            const float u = a[i], v = b[i];
            a[i] = u * cos[i] - v * sin[i];
            b[i] = v * cos[i] + u * sin[i];
        }
    }
}

static void rope_tile(void *arg, int64_t tile, int thread)
{
    const rope_ctx *ctx = arg;
    const int half = ctx->table->rot_dim / 2;
    const int64_t end = RP_MIN((tile + 1) * ROW_TILE, ctx->x.rows);

    (void)thread;
    for (int64_t r = tile * ROW_TILE; r < end; r++) {
        const int64_t at = r % ctx->seq_len * half;
        rotate_heads(ctx->x.data + r * ctx->x.ld, ctx->n_heads, ctx->head_dim, ctx->table->cos + at,
                     ctx->table->sin + at, half);
    }
}

void rp_rope_cpu(const rp_exec *exec, rp_mat x, int n_heads, int head_dim, int64_t seq_len,
                 const rp_rope_table *table)
{
    rope_ctx ctx = {
        .x = x, .n_heads = n_heads, .head_dim = head_dim, .seq_len = seq_len, .table = table};

    rp_pool_run(exec->pool, RP_DIV_UP(x.rows, ROW_TILE), rope_tile, &ctx);
}

typedef struct gate_ctx {
    rp_mat out;
    rp_cmat gate, up;
} gate_ctx;

RP_CLONES static void gate_row(float *out, const float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = gate[i] / (1.0F + rp_exp_lane(-gate[i])) * up[i];
    }
}

static void gate_tile(void *arg, int64_t tile, int thread)
{
    const gate_ctx *ctx = arg;
    const int64_t end = RP_MIN((tile + 1) * ROW_TILE, ctx->out.rows);

    (void)thread;
    for (int64_t r = tile * ROW_TILE; r < end; r++) {
        gate_row(ctx->out.data + r * ctx->out.ld, ctx->gate.data + r * ctx->gate.ld,
                 ctx->up.data + r * ctx->up.ld, ctx->out.cols);
    }
}

void rp_silu_mul_cpu(const rp_exec *exec, rp_mat out, rp_cmat gate, rp_cmat up)
{
    gate_ctx ctx = {.out = out, .gate = gate, .up = up};

    rp_pool_run(exec->pool, RP_DIV_UP(out.rows, ROW_TILE), gate_tile, &ctx);
}

typedef struct max_abs_ctx {
    rp_cmat x;
    float *max_abs;
    _Atomic int64_t bad_row; /* x.rows: none */
} max_abs_ctx;

/* Bits of |x| order as the values do, with infinity and NaN on top. */
enum { INFINITY_BITS = 0x7f800000, ABS_MASK = 0x7fffffff };

RP_CLONES static void raise_bits(int32_t *max, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        int32_t bits;

        memcpy(&bits, &x[i], sizeof(bits));
        bits &= ABS_MASK;
        max[i] = bits > max[i] ? bits : max[i];
    }
}

static bool row_is_finite(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) {
            return false;
        }
    }
    return true;
}

static void note_first_bad_row(max_abs_ctx *ctx, int64_t col, int64_t cols)
{
    int64_t row = 0, seen = atomic_load(&ctx->bad_row);

    while (row < ctx->x.rows && row_is_finite(ctx->x.data + row * ctx->x.ld + col, cols)) {
        row++;
    }
    while (row < seen && !atomic_compare_exchange_weak(&ctx->bad_row, &seen, row)) {
    }
}

static void max_abs_tile(void *arg, int64_t tile, int thread)
{
    max_abs_ctx *ctx = arg;
    const int64_t col = tile * MAX_ABS_TILE, cols = RP_MIN(MAX_ABS_TILE, ctx->x.cols - col);
    int32_t bits[MAX_ABS_TILE], top = 0;

    (void)thread;
    memcpy(bits, ctx->max_abs + col, (size_t)cols * sizeof(*bits));
    for (int64_t r = 0; r < ctx->x.rows; r++) {
        raise_bits(bits, ctx->x.data + r * ctx->x.ld + col, cols);
    }
    memcpy(ctx->max_abs + col, bits, (size_t)cols * sizeof(*bits));
    for (int64_t c = 0; c < cols; c++) {
        top = RP_MAX(top, bits[c]);
    }
    if (top >= INFINITY_BITS) {
        note_first_bad_row(ctx, col, cols);
    }
}

int64_t rp_max_abs_cpu(const rp_exec *exec, rp_cmat x, float *max_abs)
{
    max_abs_ctx ctx = {.x = x, .max_abs = max_abs, .bad_row = x.rows};

    rp_pool_run(exec->pool, RP_DIV_UP(x.cols, MAX_ABS_TILE), max_abs_tile, &ctx);
    return ctx.bad_row < x.rows ? ctx.bad_row : -1;
}

typedef struct square_sums_ctx {
    rp_cmat x;
    double *sum;
} square_sums_ctx;

RP_CLONES static void add_squares(double *sum, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        sum[i] += (double)x[i] * (double)x[i];
    }
}

static void square_sums_tile(void *arg, int64_t tile, int thread)
{
    const square_sums_ctx *ctx = arg;
    const int64_t col = tile * SQUARES_TILE;
    const int64_t cols = RP_MIN(SQUARES_TILE, ctx->x.cols - col);
    double acc[SQUARES_TILE] = {0};

    (void)thread;
    for (int64_t r = 0; r < ctx->x.rows; r++) {
        add_squares(acc, ctx->x.data + r * ctx->x.ld + col, cols);
    }
    memcpy(ctx->sum + col, acc, (size_t)cols * sizeof(*acc));
}

void rp_square_sums_cpu(const rp_exec *exec, rp_cmat x, double *sum)
{
    square_sums_ctx ctx = {.x = x, .sum = sum};

    rp_pool_run(exec->pool, RP_DIV_UP(x.cols, SQUARES_TILE), square_sums_tile, &ctx);
}

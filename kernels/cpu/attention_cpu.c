/* Causal attention by tiles of queries and keys with a running maximum (Milakov and Gimelshein,
 * "Online normalizer calculation for softmax", 2018), so that scratch does not grow with the
 * sequence.
 *
 * A tile is one KV head of one sequence and QUERY_ROWS / group queries of each of the group's query
 * heads, packed as rows (query, head):
 *
 *     q [rows, head_dim]   s [rows, KEYS] = scale q k^T   out [rows, head_dim] = softmax(s) v
 *
 * Keys beyond a row's window get -inf, which the exponential takes to 0; key tiles that no row sees
 * are not visited. */
#include "kernels/cpu/ops_cpu.h"

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/simd.h"

#include <math.h>

enum { QUERY_ROWS = RP_ATTENTION_MAX_GROUP, KEYS = 256 };

/* The running maximum starts here: above the -inf of hidden keys, whose difference to it must not
 * be NaN, and below any score that matters. */
#define LOWEST_SCORE (-1e30F)

typedef struct attention_ctx {
    const rp_exec *exec;
    const rp_attention_shape *shape;
    rp_mat out;
    rp_cmat q, k, v;
    int64_t group;     /* query heads to a KV head */
    int64_t n_queries; /* of a tile */
    int64_t n_query_tiles;
} attention_ctx;

/* Scratch of one tile. */
typedef struct attention_tile {
    float q[QUERY_ROWS * RP_ATTENTION_MAX_HEAD_DIM];   /* [rows, head_dim] */
    float out[QUERY_ROWS * RP_ATTENTION_MAX_HEAD_DIM]; /* [rows, head_dim], to be divided by sum */
    float score[QUERY_ROWS * KEYS];                    /* [rows, KEYS] */
    float max[QUERY_ROWS], sum[QUERY_ROWS];
    int64_t rows, seq_row, first_query, head; /* seq_row: of the sequence's first token */
} attention_tile;
_Static_assert(sizeof(attention_tile) <= RP_EXEC_SCRATCH_BYTES, "scratch is too small");

/* One row of scores s [n_keys <= KEYS], of which [begin, end) are visible, to exponentials;
 * rescales the running sum and output row. */
RP_CLONES static void softmax_step(float *s, int64_t n_keys, int64_t begin, int64_t end, float *max,
                                   float *sum, float *out, int64_t head_dim)
{
    const int64_t n = RP_DIV_UP(end, 16) * 16; /* <= KEYS */
    float top = *max, shrink;
    rp_f16 acc = {0};

    for (int64_t j = 0; j < begin; j++) {
        s[j] = -INFINITY;
    }
    for (int64_t j = end; j < n; j++) {
        s[j] = -INFINITY;
    }
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < n; j++) {
        top = s[j] > top ? s[j] : top;
    }
    for (int64_t j = 0; j < n; j++) {
        s[j] = rp_exp_lane(s[j] - top);
    }
    for (int64_t j = 0; j < n; j += 16) {
        rp_f16 v;

        memcpy(&v, s + j, sizeof(v));
        acc += v;
    }
    for (int64_t j = n; j < n_keys; j++) {
        s[j] = 0.0F;
    }
    shrink = rp_exp_lane(*max - top);
    *sum = *sum * shrink + rp_f16_sum(&acc);
    *max = top;
    for (int64_t j = 0; shrink != 1.0F && j < head_dim; j++) {
        out[j] *= shrink;
    }
}

static void visit_keys(const attention_ctx *ctx, attention_tile *t, int64_t first_key,
                       int64_t n_keys)
{
    const int64_t head_dim = ctx->shape->head_dim, window = ctx->shape->window;
    const int64_t row = t->seq_row + first_key, col = t->head * head_dim;

    rp_gemm_nt(rp_mat_of(t->score, t->rows, n_keys, KEYS),
               rp_cmat_of(t->q, t->rows, head_dim, head_dim),
               rp_cmat_part(ctx->k, row, n_keys, col, head_dim), ctx->shape->scale, false);
    for (int64_t r = 0; r < t->rows; r++) {
        const int64_t next =
            t->first_query + r / ctx->group + 1 - first_key; /* after its own key */
        const int64_t begin = window > 0 ? RP_MIN(RP_MAX(next - window, 0), n_keys) : 0;
        const int64_t end = RP_MIN(RP_MAX(next, 0), n_keys);

        softmax_step(t->score + r * KEYS, n_keys, begin, end, &t->max[r], &t->sum[r],
                     t->out + r * head_dim, head_dim);
    }
    rp_gemm_nn(rp_mat_of(t->out, t->rows, head_dim, head_dim),
               rp_cmat_of(t->score, t->rows, n_keys, KEYS),
               rp_cmat_part(ctx->v, row, n_keys, col, head_dim), true);
}

/* Row r of the tile in q or out: its token's row, its head's first column. */
static int64_t element_of(const attention_ctx *ctx, const attention_tile *t, int64_t r, int64_t ld)
{
    const int64_t row = t->seq_row + t->first_query + r / ctx->group;

    return row * ld + (t->head * ctx->group + r % ctx->group) * ctx->shape->head_dim;
}

static void attention_tile_run(void *arg, int64_t tile, int thread)
{
    const attention_ctx *ctx = arg;
    const rp_attention_shape *shape = ctx->shape;
    const int64_t head_dim = shape->head_dim, n_units = shape->n_seqs * shape->n_kv_heads;
    /* the last queries see most keys: they go first, for balance */
    const int64_t query_tile = ctx->n_query_tiles - 1 - tile / n_units, unit = tile % n_units;
    attention_tile *t = rp_exec_scratch(ctx->exec, thread);
    int64_t end, first_key;

    t->first_query = query_tile * ctx->n_queries;
    end = RP_MIN(t->first_query + ctx->n_queries, shape->seq_len);
    t->rows = (end - t->first_query) * ctx->group;
    t->seq_row = unit / shape->n_kv_heads * shape->seq_len;
    t->head = unit % shape->n_kv_heads;
    for (int64_t r = 0; r < t->rows; r++) {
        memcpy(t->q + r * head_dim, ctx->q.data + element_of(ctx, t, r, ctx->q.ld),
               (size_t)head_dim * sizeof(float));
        t->max[r] = LOWEST_SCORE;
        t->sum[r] = 0.0F;
    }
    memset(t->out, 0, (size_t)(t->rows * head_dim) * sizeof(float));
    first_key = shape->window > 0 ? RP_MAX(t->first_query + 1 - shape->window, 0) / KEYS * KEYS : 0;
    for (; first_key < end; first_key += KEYS) {
        visit_keys(ctx, t, first_key, RP_MIN(end - first_key, KEYS));
    }
    for (int64_t r = 0; r < t->rows; r++) {
        float *to = ctx->out.data + element_of(ctx, t, r, ctx->out.ld);
        const float factor = 1.0F / t->sum[r];
        for (int64_t j = 0; j < head_dim; j++) {
            to[j] = t->out[r * head_dim + j] * factor;
        }
    }
}

void rp_attention_cpu(const rp_exec *exec, const rp_attention_shape *shape, rp_mat out, rp_cmat q,
                      rp_cmat k, rp_cmat v)
{
    attention_ctx ctx = {.exec = exec, .shape = shape, .out = out, .q = q, .k = k, .v = v};

    RP_ASSERT(shape->head_dim <= RP_ATTENTION_MAX_HEAD_DIM);
    ctx.group = shape->n_heads / shape->n_kv_heads;
    RP_ASSERT(ctx.group <= QUERY_ROWS);
    ctx.n_queries = QUERY_ROWS / ctx.group;
    ctx.n_query_tiles = RP_DIV_UP(shape->seq_len, ctx.n_queries);
    rp_pool_run(exec->pool, ctx.n_query_tiles * shape->n_seqs * shape->n_kv_heads,
                attention_tile_run, &ctx);
}

/* Causal attention by batched products over chunks of queries, so that tokens x tokens is never
 * whole.
 *
 * A unit is one KV head of one sequence. At once, some units and a chunk of their queries: every
 * unit's query heads are packed as rows (head of the group, query):
 *
 *     score [unit, rows, keys] = scale q k^T   softmax in place   out = score v / sum
 *
 * The keys are those that the chunk's queries may see; a kernel hides what one row may not. Rows of
 * scores are whole, so the softmax needs no running maximum. Long sequences' keys and values are
 * copied in pieces, for each chunk anew.
 *
 * The CPU's attention is f32, whatever its products. The closest that tensor cores compute is TF32,
 * inputs of 11 significant bits with f32 sums: eight times finer than BF16. All inputs are rounded
 * to nearest here, as hardware would cut them off, which biases. The sum that divides a row is that
 * of its rounded exponentials, so a row's weights add up to one.
 *
 * Bounds: with t keys to a query the products are 4 t head_dim operations at the TF32 rate, the
 * scores 16 t bytes a query and head (written, read, written, read). SCORE_BYTES at once stay in
 * the second cache, else this is memory's: for 2048 tokens and head_dim 128 both take about as
 * long. */
#include "kernels/cuda/elements.h"
#include "kernels/cuda/gemm_cuda.h"
#include "kernels/cuda/ops_cuda.h"

#include "base/mem.h"
#include "kernels/exp_lane.h"

static const int64_t QUERIES = 256, SOFTMAX_MAX_THREADS = 256, SCORE_BYTES = (int64_t)32 << 20;
static const int64_t MAX_BATCH = 65535; /* products of a call, as a grid's third extent */

/* How much is in the scratch at once, and where. */
typedef struct attention_work {
    rp_gpu *gpu;
    const rp_attention_shape *shape;
    rp_mat out;
    rp_cmat q, k, v;
    int64_t group, n_units;
    int64_t units, queries, keys; /* at once; keys: in k_copy and v_copy */
    int64_t score_ld, head_ld;
    float *score;           /* [units, group * queries, score_ld] */
    float *q_copy, *part;   /* [units, group * queries, head_ld] */
    float *k_copy, *v_copy; /* [units, keys, head_ld] */
    float *factor;          /* [units * group * queries] */
} attention_work;

/* A chunk of queries of some units, and the keys that they may see. */
typedef struct attention_chunk {
    int64_t unit, n_units;
    int64_t query, n_queries;
    int64_t key, n_keys;
} attention_chunk;

/* To 11 significant bits, ties to even. */
static __device__ float to_tf32(float x)
{
    const uint32_t bits = rp_bits_of(x);
    const uint32_t rounded = (bits + 0xfffU + (bits >> 13 & 1U)) & ~0x1fffU;

    return rp_is_finite(x) ? rp_float_of(rounded) : x;
}

/* Where rows (unit, head, token) of a packed copy lie in a matrix of all tokens and heads. Rows are
 * counted in 32 bits: GPUs divide 64 bits slowly. */
typedef struct packed_rows {
    int64_t token, seq_len, head_dim;
    int unit, n_tokens;    /* the first unit; tokens of one head */
    int heads, n_kv_heads; /* heads of a unit; units of a sequence */
} packed_rows;

static __device__ int64_t element_of(packed_rows rows, int row, int64_t ld)
{
    const int head = row / rows.n_tokens, unit = rows.unit + head / rows.heads;
    const int64_t seq = unit / rows.n_kv_heads;
    const int64_t token = seq * rows.seq_len + rows.token + row % rows.n_tokens;
    const int64_t column = unit % rows.n_kv_heads * rows.heads + head % rows.heads;

    return token * ld + column * rows.head_dim;
}

/* out [n_rows, out_ld] := heads of x, rounded, and zeros. */
template <int W>
static __global__ void pack_heads_kernel(float *out, int64_t out_ld, const float *x, int64_t ld,
                                         packed_rows rows, int64_t n_rows)
{
    const int64_t row = rp_cover_row(), col = rp_cover_col<W>();

    if (row < n_rows && col < out_ld) {
        rp_pack<float, W> v = {};

        if (col < rows.head_dim) {
            v = rp_load<W>(x + element_of(rows, (int)row, ld) + col);
        }
        for (int i = 0; i < W; i++) {
            v.v[i] = to_tf32(v.v[i]);
        }
        rp_store(out + row * out_ld + col, v);
    }
}

/* The other way, times the row's factor. */
template <int W>
static __global__ void unpack_heads_kernel(float *out, int64_t out_ld, const float *part,
                                           int64_t part_ld, const float *factor, packed_rows rows,
                                           int64_t n_rows)
{
    const int64_t row = rp_cover_row(), col = rp_cover_col<W>();

    if (row < n_rows && col < rows.head_dim) {
        rp_pack<float, W> v = rp_load<W>(part + row * part_ld + col);

        for (int i = 0; i < W; i++) {
            v.v[i] *= factor[row];
        }
        rp_store(out + element_of(rows, (int)row, out_ld) + col, v);
    }
}

static __device__ float block_max(float v, float *part)
{
    for (int step = RP_WARP / 2; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(0xffffffffU, v, step);
        v = other > v ? other : v;
    }
    if (threadIdx.x % RP_WARP == 0) {
        part[threadIdx.x / RP_WARP] = v;
    }
    __syncthreads();
    for (int i = 0; i < (int)blockDim.x / RP_WARP; i++) {
        v = part[i] > v ? part[i] : v;
    }
    return v;
}

/* Blocks are rows: score [ld] to exponentials, 0 for keys that the row may not see. seen: keys that
 * the first query sees when the window is not in its way. */
static __global__ void softmax_kernel(float *score, int64_t ld, float *factor, int64_t n_keys,
                                      int64_t n_queries, int64_t seen, int64_t window)
{
    __shared__ float part[RP_WARP];
    float *const s = score + (int64_t)blockIdx.x * ld;
    const int64_t end = seen + (int64_t)(blockIdx.x % (unsigned)n_queries);
    const int64_t begin = window > 0 && end > window ? end - window : 0;
    const int64_t first = (int64_t)threadIdx.x * 4, stride = (int64_t)blockDim.x * 4;
    float max = -INFINITY, sum = 0.0F;

    for (int64_t j = begin / stride * stride + first; j < end; j += stride) {
        const rp_pack<float, 4> v = rp_load<4>(s + j);
        for (int i = 0; i < 4; i++) {
            max = j + i >= begin && j + i < end && v.v[i] > max ? v.v[i] : max;
        }
    }
    max = block_max(max, part);
    for (int64_t j = first; j < n_keys; j += stride) {
        rp_pack<float, 4> v = {};
        if (j + 3 >= begin && j < end) {
            v = rp_load<4>(s + j);
        }
        for (int i = 0; i < 4; i++) {
            const bool is_seen = j + i >= begin && j + i < end;
            v.v[i] = is_seen ? to_tf32(rp_exp_lane(v.v[i] - max)) : 0.0F;
            sum += v.v[i];
        }
        rp_store(s + j, v);
    }
    sum = rp_block_sum(sum, part);
    if (threadIdx.x == 0) {
        factor[blockIdx.x] = 1.0F / sum;
    }
}

static packed_rows rows_of(const attention_work *w, int64_t unit, int64_t token, int64_t n_tokens,
                           int64_t heads)
{
    const rp_attention_shape *s = w->shape;
    const packed_rows rows = {token,         s->seq_len, s->head_dim,  (int)unit,
                              (int)n_tokens, (int)heads, s->n_kv_heads};

    return rows;
}

static void pack_heads(const attention_work *w, float *copy, rp_cmat x, packed_rows rows,
                       int64_t n_units)
{
    const int64_t n_rows = n_units * rows.heads * (int64_t)rows.n_tokens;

    RP_LAUNCH_COVER(w->gpu, pack_heads_kernel, rp_is_wide(x.data, rows.head_dim, x.ld), n_rows,
                    w->head_ld, copy, w->head_ld, x.data, x.ld, rows, n_rows);
}

/* Where keys from `key` on lie in a copy. Copies that hold whole sequences are made once for all
 * chunks of their units. */
static const float *keys_in(const attention_work *w, const attention_chunk *c, float *copy,
                            rp_cmat x, int64_t key, int64_t n_keys)
{
    if (w->keys == w->shape->seq_len) {
        if (c->query == 0) {
            pack_heads(w, copy, x, rows_of(w, c->unit, 0, w->keys, 1), c->n_units);
        }
        return copy + key * w->head_ld;
    }
    pack_heads(w, copy, x, rows_of(w, c->unit, key, n_keys, 1), c->n_units);
    return copy;
}

static void score_keys(const attention_work *w, const attention_chunk *c)
{
    const int64_t rows = w->group * c->n_queries;

    pack_heads(w, w->q_copy, w->q, rows_of(w, c->unit, c->query, c->n_queries, w->group),
               c->n_units);
    for (int64_t at = 0; at < c->n_keys; at += w->keys) {
        const int64_t n = RP_MIN(w->keys, c->n_keys - at);
        rp_gemm p = rp_gemm_of(RP_GEMM_TF32, rows, n, w->head_ld);

        p.count = c->n_units;
        p.c = w->score + at, p.c_ld = w->score_ld, p.c_step = rows * w->score_ld;
        p.a = w->q_copy, p.a_ld = w->head_ld, p.a_step = rows * w->head_ld;
        p.b = keys_in(w, c, w->k_copy, w->k, c->key + at, n);
        p.b_ld = w->head_ld;
        p.b_step = (w->keys == w->shape->seq_len ? w->keys : n) * w->head_ld;
        p.is_b_transposed = true;
        p.alpha = w->shape->scale;
        rp_gemm_run(w->gpu, &p);
    }
}

static void sum_values(const attention_work *w, const attention_chunk *c)
{
    const int64_t rows = w->group * c->n_queries;

    for (int64_t at = 0; at < c->n_keys; at += w->keys) {
        const int64_t n = RP_MIN(w->keys, c->n_keys - at);
        rp_gemm p = rp_gemm_of(RP_GEMM_TF32, rows, w->head_ld, n);

        p.count = c->n_units;
        p.c = w->part, p.c_ld = w->head_ld, p.c_step = rows * w->head_ld;
        p.a = w->score + at, p.a_ld = w->score_ld, p.a_step = rows * w->score_ld;
        p.b = keys_in(w, c, w->v_copy, w->v, c->key + at, n);
        p.b_ld = w->head_ld;
        p.b_step = (w->keys == w->shape->seq_len ? w->keys : n) * w->head_ld;
        p.beta = at > 0 ? 1.0F : 0.0F;
        rp_gemm_run(w->gpu, &p);
    }
}

static void attend(const attention_work *w, const attention_chunk *c)
{
    const packed_rows rows = rows_of(w, c->unit, c->query, c->n_queries, w->group);
    const int64_t n_rows = c->n_units * w->group * c->n_queries;
    const int64_t threads = RP_DIV_UP(RP_DIV_UP(c->n_keys, 8), RP_WARP) * RP_WARP;
    const bool is_wide = rp_is_wide(w->out.data, w->shape->head_dim, w->out.ld);

    score_keys(w, c);
    RP_LAUNCH(w->gpu, softmax_kernel, (unsigned)n_rows,
              (unsigned)RP_MIN(threads, SOFTMAX_MAX_THREADS), 0, w->score, w->score_ld, w->factor,
              c->n_keys, c->n_queries, c->query - c->key + 1, w->shape->window);
    sum_values(w, c);
    RP_LAUNCH_COVER(w->gpu, unpack_heads_kernel, is_wide, n_rows, w->shape->head_dim, w->out.data,
                    w->out.ld, w->part, w->head_ld, w->factor, rows, n_rows);
}

/* Sizes that fit the scratch: a quarter of it for keys and values, the rest for rows of queries. */
static void set_sizes(attention_work *w)
{
    const rp_attention_shape *s = w->shape;
    const int64_t room = (int64_t)rp_gpu_scratch_bytes(w->gpu) - 4096;
    const int64_t span = s->window > 0 ? RP_MIN(s->seq_len, s->window + QUERIES - 1) : s->seq_len;
    int64_t row_bytes, rows, key_bytes;

    w->score_ld = RP_DIV_UP(span, 8) * 8;
    w->head_ld = RP_DIV_UP(s->head_dim, 4) * 4;
    row_bytes = (w->score_ld + 2 * w->head_ld + 1) * (int64_t)sizeof(float);
    rows = room / 4 * 3 / row_bytes;
    w->queries = RP_MIN(RP_MIN(QUERIES, s->seq_len), rows / w->group);
    RP_ASSERT(w->queries > 0);
    w->units = SCORE_BYTES / (w->queries * w->group * w->score_ld * (int64_t)sizeof(float));
    w->units = RP_MIN(w->units, rows / (w->queries * w->group));
    w->units = RP_MIN(RP_MAX(w->units, 1), RP_MIN(w->n_units, MAX_BATCH));
    key_bytes = 2 * w->units * w->head_ld * (int64_t)sizeof(float);
    w->keys = room / 4 / key_bytes / 8 * 8;
    w->keys = RP_MIN(w->keys, s->seq_len);
    RP_ASSERT(w->keys > 0);
}

static void take_scratch(attention_work *w)
{
    const int64_t rows = w->units * w->group * w->queries, keys = w->units * w->keys;
    rp_gpu_pieces scratch = {w->gpu, 0};

    w->score = rp_gpu_take<float>(&scratch, rows * w->score_ld);
    w->q_copy = rp_gpu_take<float>(&scratch, rows * w->head_ld);
    w->part = rp_gpu_take<float>(&scratch, rows * w->head_ld);
    w->k_copy = rp_gpu_take<float>(&scratch, keys * w->head_ld);
    w->v_copy = rp_gpu_take<float>(&scratch, keys * w->head_ld);
    w->factor = rp_gpu_take<float>(&scratch, rows);
}

void rp_attention_cuda(const rp_exec *exec, const rp_attention_shape *shape, rp_mat out, rp_cmat q,
                       rp_cmat k, rp_cmat v)
{
    attention_work w = {};

    if (shape->n_seqs == 0 || shape->seq_len == 0) {
        return;
    }
    w.gpu = exec->gpu;
    w.shape = shape;
    w.out = out;
    w.q = q, w.k = k, w.v = v;
    w.group = shape->n_heads / shape->n_kv_heads;
    w.n_units = shape->n_seqs * shape->n_kv_heads;
    set_sizes(&w);
    take_scratch(&w);
    for (int64_t unit = 0; unit < w.n_units; unit += w.units) {
        for (int64_t query = 0; query < shape->seq_len; query += w.queries) {
            attention_chunk c = {};

            c.unit = unit;
            c.n_units = RP_MIN(w.units, w.n_units - unit);
            c.query = query;
            c.n_queries = RP_MIN(w.queries, shape->seq_len - query);
            c.key = shape->window > 0 ? RP_MAX(query + 1 - shape->window, 0) : 0;
            c.n_keys = query + c.n_queries - c.key;
            attend(&w, &c);
        }
    }
}

/* The CUDA operations of the block executor and the statistics against the CPU's, which define
 * them. Every operation runs twice and must give the same bits. */
#include "base/mem.h"
#include "kernels/cuda/ops_cuda.h"
#include "kernels/place.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Half the distance of neighbours, relative: of f32, of TF32. */
#define F32_ROUNDING 0x1p-24
#define TF32_ROUNDING 0x1p-11
#define ARENA_BYTES ((size_t)256 << 20)
#define SMALL_SCRATCH_BYTES ((size_t)64 << 10)

static rp_exec *cpu;   /* BF16 products where the processor has them */
static rp_exec on_gpu; /* cpu's, with a gpu */
static const size_t scratch_limits[] = {RP_GPU_NO_LIMIT, SMALL_SCRATCH_BYTES};

static uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352dU;
    x ^= x >> 15;
    x *= 0x846ca68bU;
    return x ^ (x >> 16);
}

/* In (-1, 1), a function of seed and index. */
static float value_at(uint32_t seed, int64_t i)
{
    return (float)mix(seed * 2654435761U + (uint32_t)i) / 2147483648.0F - 1.0F;
}

/* A matrix on the host and its copy on the GPU, padding of its rows included. */
typedef struct twin {
    int64_t rows, cols, ld;
    float *host, *place;
    float *got; /* what the GPU made of it */
} twin;

static size_t twin_bytes(const twin *t)
{
    return (size_t)(t->rows * t->ld) * sizeof(float);
}

static void put(const twin *t)
{
    rp_place_put(&on_gpu, t->place, t->host, twin_bytes(t));
}

/* Values in (-size, size), multiples of `step` if that is not 0. */
static twin twin_make(int64_t rows, int64_t cols, int64_t ld, uint32_t seed, float size, float step)
{
    twin t = {rows, cols, ld, NULL, NULL, NULL};

    assert_int_equal(rp_alloc(&t.host, twin_bytes(&t)), RP_OK);
    assert_int_equal(rp_alloc(&t.got, twin_bytes(&t)), RP_OK);
    assert_int_equal(rp_place_alloc(&on_gpu, &t.place, (size_t)(rows * ld), sizeof(float)), RP_OK);
    for (int64_t i = 0; i < rows * ld; i++) {
        const float v = size * value_at(seed, i);
        t.host[i] = step > 0 ? step * rintf(v / step) : v;
    }
    put(&t);
    return t;
}

static void twin_free(twin *t)
{
    free(t->host);
    free(t->got);
    rp_place_free(&on_gpu, t->place);
}

static rp_mat host_mat(const twin *t)
{
    return rp_mat_of(t->host, t->rows, t->cols, t->ld);
}
static rp_cmat host_cmat(const twin *t)
{
    return rp_cmat_of(t->host, t->rows, t->cols, t->ld);
}
static rp_mat place_mat(const twin *t)
{
    return rp_mat_of(t->place, t->rows, t->cols, t->ld);
}
static rp_cmat place_cmat(const twin *t)
{
    return rp_cmat_of(t->place, t->rows, t->cols, t->ld);
}

/* `call` on the GPU, twice from the same start; t->got is what it left. */
#define RUN_TWICE(t, call)                                                                         \
    do {                                                                                           \
        float *again = NULL;                                                                       \
        assert_int_equal(rp_alloc(&again, twin_bytes(t)), RP_OK);                                  \
        put(t);                                                                                    \
        call;                                                                                      \
        rp_place_get(&on_gpu, (t)->got, (t)->place, twin_bytes(t));                                \
        put(t);                                                                                    \
        call;                                                                                      \
        rp_place_get(&on_gpu, again, (t)->place, twin_bytes(t));                                   \
        assert_memory_equal(again, (t)->got, twin_bytes(t));                                       \
        free(again);                                                                               \
        if (rp_place_check(&on_gpu) != RP_OK) {                                                    \
            fail_msg("%s", rp_error_message());                                                    \
        }                                                                                          \
    } while (0)

/* The GPU's result is the host's, which the CPU made meanwhile, bit by bit, padding included. */
static void assert_same_bits(const twin *t)
{
    assert_memory_equal(t->got, t->host, twin_bytes(t));
}

static void assert_near(double got, double want, double tolerance, const char *what, int64_t row,
                        int64_t col)
{
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("%s at %lld, %lld: got %.9g, want %.9g within %.3g", what, (long long)row,
                 (long long)col, got, want, tolerance);
    }
}

/* Within rtol of the host's, bit by bit in the padding. */
static void assert_relative(const twin *t, double rtol, const char *what)
{
    for (int64_t r = 0; r < t->rows; r++) {
        const float *got = t->got + r * t->ld, *want = t->host + r * t->ld;
        for (int64_t c = 0; c < t->cols; c++) {
            assert_near((double)got[c], (double)want[c], rtol * fabs((double)want[c]), what, r, c);
        }
        assert_memory_equal(got + t->cols, want + t->cols,
                            (size_t)(t->ld - t->cols) * sizeof(float));
    }
}

static int set_up(void **state)
{
    rp_gpu *gpu = NULL;

    (void)state;
    if ((rp_exec_create(&cpu, 2, RP_PRODUCTS_BF16) != RP_OK &&
         rp_exec_create(&cpu, 2, RP_PRODUCTS_F32) != RP_OK) ||
        rp_gpu_create(&gpu, 0, ARENA_BYTES) != RP_OK) {
        return 1;
    }
    on_gpu = *cpu;
    on_gpu.gpu = gpu;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rp_gpu_destroy(&on_gpu.gpu);
    rp_exec_destroy(&cpu);
    return 0;
}

/* ---- The block executor ---- */

/* The bytes of n values of a type, of which `bad` (-1: none) is not finite. */
static void *stored_values(rp_dtype dtype, int64_t n, int64_t bad)
{
    float *wide = NULL;
    void *stored = NULL;

    assert_int_equal(rp_alloc(&wide, (size_t)n * sizeof(*wide)), RP_OK);
    assert_int_equal(rp_alloc(&stored, (size_t)n * rp_dtype_bytes(dtype)), RP_OK);
    for (int64_t i = 0; i < n; i++) {
        wide[i] = value_at(1, i) * ldexpf(1.0F, (int)(i % 60) - 40);
    }
    if (bad >= 0) {
        wide[bad] = INFINITY;
        wide[n - 1] = NAN;
    }
    rp_from_f32(stored, wide, dtype, n);
    free(wide);
    return stored;
}

static void widen_at(rp_dtype dtype, int64_t n, int64_t bad, int64_t offset)
{
    twin out = twin_make(1, n + offset, n + offset, 2, 1.0F, 0);
    void *const stored = stored_values(dtype, n, bad);
    int64_t found = 0;

    RUN_TWICE(&out, found = rp_widen_cuda(&on_gpu, out.place + offset, stored, dtype, n));
    assert_int_equal(found, bad);
    (void)rp_widen_cpu(cpu, out.host + offset, stored, dtype, n);
    if (bad < 0) {
        assert_same_bits(&out);
    }
    free(stored);
    twin_free(&out);
}

static void widen_is_exact_and_finds_what_is_not_finite(void **state)
{
    static const rp_dtype dtypes[] = {RP_F32, RP_F16, RP_BF16};
    const int64_t sizes[] = {1, 4, 7, 1000, 4099, 70001};

    (void)state;
    for (size_t limit = 0; limit < RP_COUNT(scratch_limits); limit++) {
        rp_gpu_limit_scratch(on_gpu.gpu, scratch_limits[limit]);
        for (size_t d = 0; d < RP_COUNT(dtypes); d++) {
            for (size_t i = 0; i < RP_COUNT(sizes); i++) {
                widen_at(dtypes[d], sizes[i], -1, 0);
                widen_at(dtypes[d], sizes[i], sizes[i] / 2, 0);
            }
            widen_at(dtypes[d], 40000, 39998, 0);
            widen_at(dtypes[d], 1000, -1, 1);
        }
    }
    rp_gpu_limit_scratch(on_gpu.gpu, RP_GPU_NO_LIMIT);
}

static void widen_knows_every_half(void **state)
{
    enum { N = 1 << 16 };
    static uint16_t stored[N];
    twin out = twin_make(1, N, N, 3, 1.0F, 0);

    (void)state;
    for (int i = 0; i < N; i++) {
        stored[i] = (uint16_t)i;
    }
    for (rp_dtype dtype = RP_F16; dtype <= RP_BF16; dtype++) {
        const int first_bad = dtype == RP_F16 ? 0x7c00 : 0x7f80;
        int64_t found = 0;

        RUN_TWICE(&out, found = rp_widen_cuda(&on_gpu, out.place, stored, dtype, N));
        assert_int_equal(found, first_bad);
        (void)rp_widen_cpu(cpu, out.host, stored, dtype, N);
        for (int i = 0; i < N; i++) {
            if (isfinite(out.host[i])) {
                assert_memory_equal(&out.got[i], &out.host[i], sizeof(float));
            } else {
                assert_false(isfinite(out.got[i]));
            }
        }
    }
    twin_free(&out);
}

typedef struct linear_shape {
    int64_t m, n, k, pad;
    bool has_bias, accumulate;
} linear_shape;

/* Both add the same exact products of BF16 values, in different orders: each is within k roundings
 * of the sum of magnitudes. */
static void linear_at(const linear_shape *s)
{
    twin x = twin_make(s->m, s->k, s->k + s->pad, 1, 1.0F, 0x1p-7F);
    twin w = twin_make(s->n, s->k, s->k + s->pad, 2, 1.0F, 0x1p-7F);
    twin y = twin_make(s->m, s->n, s->n + s->pad, 3, 1.0F, 0);
    twin bias = twin_make(1, s->n, s->n, 4, 1.0F, 0);
    twin before = twin_make(s->m, s->n, s->n + s->pad, 3, 1.0F, 0);

    RUN_TWICE(&y, rp_linear_cuda(&on_gpu, place_mat(&y), place_cmat(&x), place_cmat(&w),
                                 s->has_bias ? bias.place : NULL, s->accumulate));
    rp_linear_cpu(cpu, host_mat(&y), host_cmat(&x), host_cmat(&w), s->has_bias ? bias.host : NULL,
                  s->accumulate);
    for (int64_t i = 0; i < s->m; i++) {
        for (int64_t j = 0; j < s->n; j++) {
            double size = fabs((double)bias.host[j]) + fabs((double)before.host[i * y.ld + j]);
            for (int64_t l = 0; l < s->k; l++) {
                size += fabs((double)x.host[i * x.ld + l] * (double)w.host[j * w.ld + l]);
            }
            assert_near((double)y.got[i * y.ld + j], (double)y.host[i * y.ld + j],
                        2 * (double)(s->k + 2) * F32_ROUNDING * size, "linear", i, j);
        }
        assert_memory_equal(y.got + i * y.ld + s->n, before.host + i * y.ld + s->n,
                            (size_t)s->pad * sizeof(float));
    }
    twin_free(&x);
    twin_free(&w);
    twin_free(&y);
    twin_free(&bias);
    twin_free(&before);
}

static void linear_is_the_cpus_product(void **state)
{
    static const linear_shape shapes[] = {
        {1, 1, 1, 0, false, false},    {1, 300, 64, 0, false, false}, {70, 33, 172, 1, true, true},
        {129, 65, 40, 8, true, false}, {33, 130, 21, 3, false, true}, {0, 5, 8, 0, true, false},
        {300, 200, 96, 4, true, true},
    };

    (void)state;
    for (size_t limit = 0; limit < RP_COUNT(scratch_limits); limit++) {
        rp_gpu_limit_scratch(on_gpu.gpu, scratch_limits[limit]);
        for (size_t i = 0; i < RP_COUNT(shapes); i++) {
            linear_at(&shapes[i]);
        }
    }
    rp_gpu_limit_scratch(on_gpu.gpu, RP_GPU_NO_LIMIT);
}

/* The squares are exact; their f64 sums differ in order, so the f32 scale may be its neighbour: two
 * roundings, and one more of each product after it. */
static void rms_norm_at(int64_t rows, int64_t cols, int64_t pad, bool in_place)
{
    twin x = twin_make(rows, cols, cols + pad, 5, 3.0F, 0);
    twin y = twin_make(rows, cols, cols + pad, in_place ? 5 : 6, in_place ? 3.0F : 1.0F, 0);
    twin w = twin_make(1, cols, cols, 7, 1.0F, 0);
    const twin *from = in_place ? &y : &x;

    RUN_TWICE(&y, rp_rms_norm_cuda(&on_gpu, place_mat(&y), place_cmat(from), w.place, 1e-5F));
    rp_rms_norm_cpu(cpu, host_mat(&y), host_cmat(from), w.host, 1e-5F);
    assert_relative(&y, 6 * F32_ROUNDING, "rms_norm");
    twin_free(&x);
    twin_free(&y);
    twin_free(&w);
}

static void rms_norm_scales_rows(void **state)
{
    (void)state;
    rms_norm_at(1, 1, 0, false);
    rms_norm_at(70, 172, 8, false);
    rms_norm_at(33, 171, 3, true);
    rms_norm_at(9, 4096, 0, true);
    rms_norm_at(0, 64, 0, false);
    rms_norm_at(300, 16, 0, true);
}

static void rope_at(int64_t seq_len, int64_t n_seqs, int n_heads, int head_dim, int rot_dim,
                    int64_t pad)
{
    const int64_t rows = seq_len * n_seqs, cols = (int64_t)n_heads * head_dim;
    twin x = twin_make(rows, cols, cols + pad, 8, 1.0F, 0);
    twin cosines = twin_make(seq_len, rot_dim / 2, rot_dim / 2, 9, 1.0F, 0);
    twin sines = twin_make(seq_len, rot_dim / 2, rot_dim / 2, 10, 1.0F, 0);
    const rp_rope_table on_host = {cosines.host, sines.host, rot_dim};
    const rp_rope_table in_place = {cosines.place, sines.place, rot_dim};

    RUN_TWICE(&x, rp_rope_cuda(&on_gpu, place_mat(&x), n_heads, head_dim, seq_len, &in_place));
    rp_rope_cpu(cpu, host_mat(&x), n_heads, head_dim, seq_len, &on_host);
    assert_same_bits(&x);
    twin_free(&x);
    twin_free(&cosines);
    twin_free(&sines);
}

static void rope_gives_the_cpus_bits(void **state)
{
    (void)state;
    rope_at(1, 1, 1, 2, 2, 0);
    rope_at(5, 2, 2, 6, 4, 1);
    rope_at(37, 3, 4, 64, 64, 0);
    rope_at(20, 1, 3, 128, 32, 4);
    rope_at(11, 2, 5, 80, 20, 0);
}

static void silu_mul_gives_the_cpus_bits(void **state)
{
    static const int64_t shapes[][3] = {{1, 1, 0}, {40, 83, 5}, {17, 256, 0}, {300, 12, 4}};

    (void)state;
    for (size_t i = 0; i < RP_COUNT(shapes); i++) {
        const int64_t rows = shapes[i][0], cols = shapes[i][1], ld = cols + shapes[i][2];
        twin gate = twin_make(rows, cols, ld, 11, 100.0F, 0);
        twin up = twin_make(rows, cols, cols, 12, 1.0F, 0);
        twin out = twin_make(rows, cols, ld, 13, 1.0F, 0);

        RUN_TWICE(&out,
                  rp_silu_mul_cuda(&on_gpu, place_mat(&out), place_cmat(&gate), place_cmat(&up)));
        rp_silu_mul_cpu(cpu, host_mat(&out), host_cmat(&gate), host_cmat(&up));
        assert_same_bits(&out);
        twin_free(&gate);
        twin_free(&up);
        twin_free(&out);
    }
}

/* What TF32 may change. Inputs that are multiples of 2^-7 are exact in it: then weights only, each
 * by one rounding, and the result by at most that of the values' spread. Other inputs are rounded,
 * too: scores by two roundings of the sum of magnitudes, values by one. f32 sums add their own. */
static double attention_tolerance(const rp_attention_shape *s, bool is_exact)
{
    const double size = (double)s->scale * s->head_dim; /* no score is larger */
    const double score =
        size * (2 * (s->head_dim + 3) * F32_ROUNDING + (is_exact ? 0 : 2 * TF32_ROUNDING));
    const double weight = TF32_ROUNDING + 4e-7 + score;

    return 2.02 * weight + 4 * (double)s->seq_len * F32_ROUNDING + (is_exact ? 0 : TF32_ROUNDING);
}

static void attention_at(const rp_attention_shape *s, int64_t pad, bool is_exact)
{
    const int64_t rows = s->n_seqs * s->seq_len, dim = s->head_dim;
    const int64_t q_cols = s->n_heads * dim, kv_cols = s->n_kv_heads * dim;
    const float step = is_exact ? 0x1p-7F : 0;
    twin q = twin_make(rows, q_cols, q_cols + pad, 14, 1.0F, step);
    twin k = twin_make(rows, kv_cols, kv_cols + pad, 15, 1.0F, step);
    twin v = twin_make(rows, kv_cols, kv_cols, 16, 1.0F, step);
    twin out = twin_make(rows, q_cols, q_cols + pad, 17, 1.0F, 0);
    const double tolerance = attention_tolerance(s, is_exact);

    RUN_TWICE(&out, rp_attention_cuda(&on_gpu, s, place_mat(&out), place_cmat(&q), place_cmat(&k),
                                      place_cmat(&v)));
    rp_attention_cpu(cpu, s, host_mat(&out), host_cmat(&q), host_cmat(&k), host_cmat(&v));
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < q_cols; c++) {
            assert_near((double)out.got[r * out.ld + c], (double)out.host[r * out.ld + c],
                        tolerance, "attention", r, c);
        }
        assert_memory_equal(out.got + r * out.ld + q_cols, out.host + r * out.ld + q_cols,
                            (size_t)pad * sizeof(float));
    }
    twin_free(&q);
    twin_free(&k);
    twin_free(&v);
    twin_free(&out);
}

static void attention_is_close_to_the_cpus(void **state)
{
    static const rp_attention_shape shapes[] = {
        {.seq_len = 1, .n_seqs = 3, .n_heads = 1, .n_kv_heads = 1, .head_dim = 8, .scale = 0.35F},
        {.seq_len = 77, .n_seqs = 2, .n_heads = 6, .n_kv_heads = 2, .head_dim = 14, .scale = 0.3F},
        {.seq_len = 260, .n_seqs = 1, .n_heads = 8, .n_kv_heads = 1, .head_dim = 16, .scale = 0.2F},
        {.seq_len = 600, .n_seqs = 1, .n_heads = 3, .n_kv_heads = 3, .head_dim = 12, .scale = 0.2F},
        {.seq_len = 33, .n_seqs = 3, .n_heads = 10, .n_kv_heads = 2, .head_dim = 64, .scale = 0.1F},
        {.seq_len = 0, .n_seqs = 2, .n_heads = 2, .n_kv_heads = 2, .head_dim = 8, .scale = 0.3F},
    };
    static const int64_t windows[] = {0, 1, 50, 257, 10000};

    (void)state;
    for (size_t limit = 0; limit < RP_COUNT(scratch_limits); limit++) {
        rp_gpu_limit_scratch(on_gpu.gpu, scratch_limits[limit]);
        for (size_t i = 0; i < RP_COUNT(shapes); i++) {
            for (size_t w = 0; w < RP_COUNT(windows); w++) {
                rp_attention_shape shape = shapes[i];

                shape.window = windows[w];
                attention_at(&shape, (int64_t)(i + w) % 2 * 4, true);
            }
            attention_at(&shapes[i], 3, false);
        }
    }
    rp_gpu_limit_scratch(on_gpu.gpu, RP_GPU_NO_LIMIT);
}

static void attention_takes_large_heads_and_groups(void **state)
{
    static const rp_attention_shape shapes[] = {
        {.seq_len = 20,
         .n_seqs = 2,
         .n_heads = 2,
         .n_kv_heads = 1,
         .head_dim = RP_ATTENTION_MAX_HEAD_DIM,
         .scale = 0.03125F},
        {.seq_len = 9,
         .n_seqs = 1,
         .n_heads = RP_ATTENTION_MAX_GROUP,
         .n_kv_heads = 1,
         .head_dim = 4,
         .scale = 0.5F},
    };

    (void)state;
    for (size_t i = 0; i < RP_COUNT(shapes); i++) {
        attention_at(&shapes[i], 0, true);
    }
}

static rp_loss *start_losses(int64_t rows)
{
    rp_loss *loss = NULL;

    assert_int_equal(rp_alloc(&loss, (size_t)rows * sizeof(*loss)), RP_OK);
    for (int64_t r = 0; r < rows; r++) {
        loss[r] = rp_loss_start();
    }
    return loss;
}

/* Two tiles of a vocabulary on the GPU. */
static void loss_on_gpu(rp_loss *loss, const twin *tiles, const twin *other, const int32_t *target)
{
    const int64_t rows = tiles[0].rows;
    const size_t nbytes = (size_t)rows * sizeof(*loss);
    const rp_cmat none = {0};
    rp_loss *place = NULL;
    int32_t *targets = NULL;

    assert_int_equal(rp_place_alloc(&on_gpu, &place, (size_t)rows, sizeof(*loss)), RP_OK);
    assert_int_equal(rp_place_alloc(&on_gpu, &targets, (size_t)rows, sizeof(*target)), RP_OK);
    rp_place_put(&on_gpu, place, loss, nbytes);
    rp_place_put(&on_gpu, targets, target, (size_t)rows * sizeof(*target));
    for (int64_t t = 0, first = 0; t < 2; first += tiles[t].cols, t++) {
        rp_loss_add_cuda(&on_gpu, place, place_cmat(&tiles[t]),
                         other == NULL ? none : place_cmat(&other[t]), first, targets);
    }
    rp_place_get(&on_gpu, loss, place, nbytes);
    assert_int_equal(rp_place_check(&on_gpu), RP_OK);
    rp_place_free(&on_gpu, place);
    rp_place_free(&on_gpu, targets);
}

/* Equal maxima, at several places of both tiles, and logits that are -infinity. */
static void plant_ties(const twin *tiles)
{
    for (int64_t r = 0; r < tiles[0].rows; r++) {
        for (int t = 0; t < 2; t++) {
            float *row = tiles[t].host + r * tiles[t].ld;
            for (int64_t c = r % 5; c < tiles[t].cols; c += 1 + r % 7) {
                row[c] = r % 3 == 0 ? 9.5F : row[c];
            }
            row[tiles[t].cols - 1] = r % 4 == 0 ? -INFINITY : row[tiles[t].cols - 1];
        }
    }
}

/* The same exponentials to one unit in the last place of each library, added in another order. */
static void loss_at(int64_t rows, int64_t n, int64_t pad, bool has_other)
{
    twin tiles[2] = {twin_make(rows, n, n + pad, 18, 9.0F, 0),
                     twin_make(rows, n / 2 + 1, n / 2 + 1 + pad, 19, 9.0F, 0)};
    twin others[2] = {twin_make(rows, n, n + pad, 20, 9.0F, 0),
                      twin_make(rows, n / 2 + 1, n / 2 + 1, 21, 9.0F, 0)};
    rp_loss *want = start_losses(rows), *got = start_losses(rows), *again = start_losses(rows);
    int32_t *target = NULL;
    const double rtol = 8 * F32_ROUNDING;

    assert_int_equal(rp_alloc(&target, (size_t)rows * sizeof(*target)), RP_OK);
    plant_ties(tiles);
    for (int64_t r = 0; r < rows; r++) {
        target[r] = (int32_t)(mix((uint32_t)r) % (uint32_t)(n + n / 2));
    }
    for (int64_t t = 0, first = 0; t < 2; first += tiles[t].cols, t++) {
        const rp_cmat none = {0};
        put(&tiles[t]);
        rp_loss_add_cpu(cpu, want, host_cmat(&tiles[t]), has_other ? host_cmat(&others[t]) : none,
                        first, target);
    }
    loss_on_gpu(got, tiles, has_other ? others : NULL, target);
    loss_on_gpu(again, tiles, has_other ? others : NULL, target);
    assert_memory_equal(again, got, (size_t)rows * sizeof(*got));
    for (int64_t r = 0; r < rows; r++) {
        assert_int_equal(got[r].best, want[r].best);
        assert_memory_equal(&got[r].max, &want[r].max, sizeof(float));
        assert_memory_equal(&got[r].target, &want[r].target, sizeof(float));
        assert_near(got[r].sum, want[r].sum, rtol * want[r].sum, "sum", r, 0);
        if (isfinite(want[r].cross)) {
            assert_near(got[r].cross, want[r].cross, rtol * want[r].sum * 19, "cross", r, 0);
        } else {
            assert_false(isfinite(got[r].cross));
        }
    }
    for (int t = 0; t < 2; t++) {
        twin_free(&tiles[t]);
        twin_free(&others[t]);
    }
    free(want);
    free(got);
    free(again);
    free(target);
}

static void loss_add_runs_over_vocabulary_tiles(void **state)
{
    (void)state;
    loss_at(1, 1, 0, false);
    loss_at(5, 37, 3, true);
    loss_at(40, 1000, 0, true);
    loss_at(33, 4096, 4, false);
    loss_at(0, 8, 0, false);
}

/* ---- Statistics ---- */

static void max_abs_at(int64_t rows, int64_t cols, int64_t pad, int64_t bad_row)
{
    twin x = twin_make(rows, cols, cols + pad, 22, 3.0F, 0);
    twin max = twin_make(1, cols, cols, 23, 1.0F, 0);

    for (int64_t c = 0; c < cols; c++) {
        max.host[c] = fabsf(max.host[c]) * (c % 3 == 0 ? 5.0F : 0.0F);
    }
    memcpy(max.got, max.host, twin_bytes(&max));
    if (bad_row >= 0) {
        x.host[bad_row * x.ld + cols - 1] = -NAN;
        x.host[(rows - 1) * x.ld] = INFINITY;
    }
    put(&x);
    assert_int_equal(rp_max_abs_cuda(&on_gpu, place_cmat(&x), max.got), bad_row);
    assert_int_equal(rp_max_abs_cpu(cpu, host_cmat(&x), max.host), bad_row);
    assert_same_bits(&max);
    assert_int_equal(rp_place_check(&on_gpu), RP_OK);
    twin_free(&x);
    twin_free(&max);
}

static void max_abs_raises_and_finds_the_first_bad_row(void **state)
{
    static const int64_t shapes[][3] = {{1, 1, 0}, {50, 300, 1}, {700, 40, 0}, {257, 132, 4}};

    (void)state;
    for (size_t i = 0; i < RP_COUNT(shapes); i++) {
        const int64_t rows = shapes[i][0], cols = shapes[i][1], pad = shapes[i][2];
        max_abs_at(rows, cols, pad, -1);
        max_abs_at(rows, cols, pad, 0);
        max_abs_at(rows, cols, pad, rows / 2);
        max_abs_at(rows, cols, pad, rows - 1);
    }
    max_abs_at(0, 16, 0, -1);
}

/* Exact squares, added in another order. */
static void square_sums_at(int64_t rows, int64_t cols, int64_t pad)
{
    twin x = twin_make(rows, cols, cols + pad, 24, 3.0F, 0);
    double sums[3][400];

    assert_true(cols <= 400);
    rp_square_sums_cuda(&on_gpu, place_cmat(&x), sums[0]);
    rp_square_sums_cuda(&on_gpu, place_cmat(&x), sums[1]);
    rp_square_sums_cpu(cpu, host_cmat(&x), sums[2]);
    assert_memory_equal(sums[0], sums[1], (size_t)cols * sizeof(double));
    for (int64_t c = 0; c < cols; c++) {
        assert_near(sums[0][c], sums[2][c], 2 * (double)rows * 0x1p-53 * sums[2][c], "square_sums",
                    0, c);
    }
    twin_free(&x);
}

static void square_sums_are_the_cpus(void **state)
{
    (void)state;
    for (size_t limit = 0; limit < RP_COUNT(scratch_limits); limit++) {
        rp_gpu_limit_scratch(on_gpu.gpu, scratch_limits[limit]);
        square_sums_at(1, 1, 0);
        square_sums_at(65, 300, 1);
        square_sums_at(1500, 400, 4);
        square_sums_at(0, 12, 0);
    }
    rp_gpu_limit_scratch(on_gpu.gpu, RP_GPU_NO_LIMIT);
}

/* Integer sums of both back ends from one start, and what they are made of. */
typedef struct sums {
    int64_t n;
    int64_t *start, *want, *got, *place;
} sums;

static sums sums_make(int64_t n)
{
    sums s = {.n = n};
    const size_t nbytes = (size_t)n * sizeof(int64_t);

    assert_int_equal(rp_alloc(&s.start, nbytes), RP_OK);
    assert_int_equal(rp_alloc(&s.want, nbytes), RP_OK);
    assert_int_equal(rp_alloc(&s.got, nbytes), RP_OK);
    assert_int_equal(rp_place_alloc(&on_gpu, &s.place, (size_t)n, sizeof(int64_t)), RP_OK);
    for (int64_t i = 0; i < n; i++) {
        s.start[i] = (int64_t)(((uint64_t)mix((uint32_t)i) << 26) ^ mix((uint32_t)i + 1)) -
                     ((int64_t)1 << 57);
    }
    memcpy(s.want, s.start, nbytes);
    return s;
}

static void sums_free(sums *s)
{
    free(s->start);
    free(s->want);
    free(s->got);
    rp_place_free(&on_gpu, s->place);
}

static void run_product(sums *s, const twin *a, const twin *b, const int *row_exponent,
                        const int *col_exponent, int shift)
{
    const size_t nbytes = (size_t)s->n * sizeof(int64_t);
    int64_t *again = NULL;

    assert_int_equal(rp_alloc(&again, nbytes), RP_OK);
    for (int pass = 0; pass < 2; pass++) {
        rp_place_put(&on_gpu, s->place, s->start, nbytes);
        if (b == NULL) {
            rp_gram_add_cuda(&on_gpu, place_cmat(a), row_exponent, shift, s->place);
        } else {
            rp_cross_add_cuda(&on_gpu, place_cmat(a), place_cmat(b), row_exponent, col_exponent,
                              shift, s->place);
        }
        rp_place_get(&on_gpu, pass == 0 ? s->got : again, s->place, nbytes);
    }
    if (rp_place_check(&on_gpu) != RP_OK) {
        fail_msg("%s", rp_error_message());
    }
    assert_memory_equal(s->got, again, nbytes);
    free(again);
    if (b == NULL) {
        rp_gram_add_cpu(cpu, host_cmat(a), row_exponent, shift, s->want);
    } else {
        rp_cross_add_cpu(cpu, host_cmat(a), host_cmat(b), row_exponent, col_exponent, shift,
                         s->want);
    }
}

enum { MAX_COLS = 4200 };

static void fill_exponents(int *exponent, int64_t n, int least)
{
    for (int64_t i = 0; i < n; i++) {
        exponent[i] = least + (int)(mix((uint32_t)i) % 3);
    }
}

/* Products of small integers are exact in every order, so all integers are the CPU's, also those
 * that are held within +-2^51 (least exponents far below the values'). b_cols 0: the Gram matrix.
 */
static void exact_product_at(int64_t rows, int64_t a_cols, int64_t b_cols, int64_t pad, int least)
{
    static int row_exponent[MAX_COLS], col_exponent[MAX_COLS];
    twin a = twin_make(rows, a_cols, a_cols + pad, 25, 8.0F, 1.0F);
    twin b = twin_make(rows, RP_MAX(b_cols, 1), RP_MAX(b_cols, 1) + pad, 26, 8.0F, 1.0F);
    sums s = sums_make(a_cols * (b_cols > 0 ? b_cols : a_cols));

    fill_exponents(row_exponent, a_cols, least);
    fill_exponents(col_exponent, b_cols, least);
    run_product(&s, &a, b_cols > 0 ? &b : NULL, row_exponent, col_exponent, 40);
    assert_memory_equal(s.got, s.want, (size_t)s.n * sizeof(int64_t));
    twin_free(&a);
    twin_free(&b);
    sums_free(&s);
}

static void products_of_integers_are_exact(void **state)
{
    (void)state;
    for (size_t limit = 0; limit < RP_COUNT(scratch_limits); limit++) {
        rp_gpu_limit_scratch(on_gpu.gpu, scratch_limits[limit]);
        exact_product_at(1, 1, 0, 0, 4);
        exact_product_at(37, 75, 0, 1, 4);
        exact_product_at(37, 300, 0, 0, 4);
        exact_product_at(200, 130, 0, 4, 4);
        exact_product_at(200, 130, 0, 4, -20);
        exact_product_at(0, 16, 0, 0, 4);
        exact_product_at(1, 1, 1, 0, 4);
        exact_product_at(37, 75, 211, 3, 4);
        exact_product_at(200, 33, 260, 4, 4);
        exact_product_at(200, 260, 34, 0, -20);
    }
    rp_gpu_limit_scratch(on_gpu.gpu, RP_GPU_NO_LIMIT);
    exact_product_at(3, 2100, 0, 0, 4); /* more than one full tile a side */
    exact_product_at(2, 2050, 4100, 0, 4);
}

/* Products of BF16 values, each within k roundings of the sum of magnitudes, and one integer more
 * for the rounding. */
static void gram_of_values_is_close(void **state)
{
    enum { ROWS = 300, COLS = 70, SHIFT = 40 };
    twin x = twin_make(ROWS, COLS, COLS, 27, 1.0F, 0x1p-7F);
    sums s = sums_make(COLS * COLS);
    int exponent[COLS];

    (void)state;
    fill_exponents(exponent, COLS, 0);
    run_product(&s, &x, NULL, exponent, exponent, SHIFT);
    for (int i = 0; i < COLS; i++) {
        for (int j = 0; j <= i; j++) {
            double size = 0;
            for (int r = 0; r < ROWS; r++) {
                size += fabs((double)x.host[r * x.ld + i] * (double)x.host[r * x.ld + j]);
            }
            assert_near(
                (double)(s.got[i * COLS + j] - s.want[i * COLS + j]), 0,
                1 + ldexp(2 * (ROWS + 2) * F32_ROUNDING * size, SHIFT - exponent[i] - exponent[j]),
                "gram", i, j);
        }
    }
    twin_free(&x);
    sums_free(&s);
}

/* ---- Drift ---- */

static void elements_at(int64_t rows, int64_t cols, int64_t pad)
{
    twin a = twin_make(rows, cols, cols + pad, 28, 1.0F, 0);
    twin b = twin_make(rows, cols, cols, 29, 1.0F, 0);
    twin out = twin_make(rows, cols, cols + pad, 30, 1.0F, 0);
    double want, got;

    RUN_TWICE(&out, rp_subtract_cuda(&on_gpu, place_mat(&out), place_cmat(&a), place_cmat(&b)));
    rp_subtract_cpu(cpu, host_mat(&out), host_cmat(&a), host_cmat(&b));
    assert_same_bits(&out);
    RUN_TWICE(&out, rp_add_cuda(&on_gpu, place_mat(&out), place_cmat(&b)));
    rp_add_cpu(cpu, host_mat(&out), host_cmat(&b));
    assert_same_bits(&out);
    want = rp_sum_squares_cpu(cpu, host_cmat(&a));
    got = rp_sum_squares_cuda(&on_gpu, place_cmat(&a));
    assert_near(got, want, 2 * (double)(rows + cols) * 0x1p-53 * want, "sum_squares", 0, 0);
    assert_true(got == rp_sum_squares_cuda(&on_gpu, place_cmat(&a)));
    twin_free(&a);
    twin_free(&b);
    twin_free(&out);
}

static void elements_give_the_cpus_bits(void **state)
{
    (void)state;
    for (size_t limit = 0; limit < RP_COUNT(scratch_limits); limit++) {
        rp_gpu_limit_scratch(on_gpu.gpu, scratch_limits[limit]);
        elements_at(1, 1, 0);
        elements_at(40, 83, 5);
        elements_at(300, 64, 4);
        elements_at(5000, 3, 0);
        elements_at(0, 7, 1);
    }
    rp_gpu_limit_scratch(on_gpu.gpu, RP_GPU_NO_LIMIT);
}

static void bound_rows_adds_to_what_is_there(void **state)
{
    static const int64_t shapes[][3] = {{1, 1, 0}, {33, 171, 1}, {300, 64, 4}, {0, 8, 0}};

    (void)state;
    for (size_t i = 0; i < RP_COUNT(shapes); i++) {
        const int64_t rows = shapes[i][0], cols = shapes[i][1];
        twin w = twin_make(rows, cols, cols + shapes[i][2], 31, 1.0F, 0);
        twin x = twin_make(1, cols, cols, 32, 1.0F, 0);
        double want[300], got[300];

        for (int r = 0; r < 300; r++) {
            want[r] = got[r] = r;
        }
        for (int64_t c = 0; c < cols; c++) {
            x.host[c] = fabsf(x.host[c]);
        }
        rp_bound_rows_cpu(cpu, host_cmat(&w), x.host, want);
        rp_bound_rows_cuda(&on_gpu, place_cmat(&w), x.host, got);
        for (int64_t r = 0; r < 300; r++) {
            assert_near(got[r], want[r], 2 * (double)(cols + 1) * 0x1p-53 * want[r], "bound_rows",
                        r, 0);
        }
        twin_free(&w);
        twin_free(&x);
    }
}

static void cross_mean_gives_the_cpus_bits(void **state)
{
    static const int64_t shapes[][3] = {{1, 1, 0}, {37, 75, 1}, {20, 256, 4}, {0, 3, 0}};
    int row_exponent[MAX_COLS], col_exponent[MAX_COLS];

    (void)state;
    for (int i = 0; i < MAX_COLS; i++) {
        row_exponent[i] = (int)(mix((uint32_t)i) % 200) - 120;
        col_exponent[i] = (int)(mix((uint32_t)i + 1) % 200) - 120;
    }
    for (size_t i = 0; i < RP_COUNT(shapes); i++) {
        const int64_t rows = shapes[i][0], cols = shapes[i][1];
        twin out = twin_make(rows, cols, cols + shapes[i][2], 33, 1.0F, 0);
        sums s = sums_make(rows * cols);

        rp_place_put(&on_gpu, s.place, s.start, (size_t)s.n * sizeof(int64_t));
        RUN_TWICE(&out, rp_cross_mean_cuda(&on_gpu, place_mat(&out), s.place, row_exponent,
                                           col_exponent, 41, 12345.0));
        rp_cross_mean_cpu(cpu, host_mat(&out), s.start, row_exponent, col_exponent, 41, 12345.0);
        assert_same_bits(&out);
        twin_free(&out);
        sums_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(widen_is_exact_and_finds_what_is_not_finite),
        cmocka_unit_test(widen_knows_every_half),
        cmocka_unit_test(linear_is_the_cpus_product),
        cmocka_unit_test(rms_norm_scales_rows),
        cmocka_unit_test(rope_gives_the_cpus_bits),
        cmocka_unit_test(silu_mul_gives_the_cpus_bits),
        cmocka_unit_test(attention_is_close_to_the_cpus),
        cmocka_unit_test(attention_takes_large_heads_and_groups),
        cmocka_unit_test(loss_add_runs_over_vocabulary_tiles),
        cmocka_unit_test(max_abs_raises_and_finds_the_first_bad_row),
        cmocka_unit_test(square_sums_are_the_cpus),
        cmocka_unit_test(products_of_integers_are_exact),
        cmocka_unit_test(gram_of_values_is_close),
        cmocka_unit_test(elements_give_the_cpus_bits),
        cmocka_unit_test(bound_rows_adds_to_what_is_there),
        cmocka_unit_test(cross_mean_gives_the_cpus_bits),
    };

    return rp_gpu_count() == 0 ? 77 : cmocka_run_group_tests(tests, set_up, tear_down);
}

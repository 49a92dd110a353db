/* The CPU's operations against direct double-precision forms, at ragged shapes, and with the same
 * bits at 1 and 3 threads. */
#include "base/mem.h"
#include "kernels/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static rp_exec *one_thread, *three_threads;
static rp_exec *bf16_execs[2]; /* NULL where the machine has no such products */

static uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352dU;
    x ^= x >> 15;
    x *= 0x846ca68bU;
    return x ^ (x >> 16);
}

/* [n] values in (-size, size), a function of seed and index. */
static float *random_floats(int64_t n, uint32_t seed, float size)
{
    float *x = malloc((size_t)n * sizeof(*x));

    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) {
        x[i] = size * ((float)mix(seed * 2654435761U + (uint32_t)i) / 2147483648.0F - 1.0F);
    }
    return x;
}

static void assert_close(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("got %.9g, want %.9g within %.3g", got, want, tolerance);
    }
}

static int set_up(void **state)
{
    (void)state;
    if (rp_exec_create(&bf16_execs[0], 1, RP_PRODUCTS_BF16) == RP_OK) {
        assert_int_equal(rp_exec_create(&bf16_execs[1], 3, RP_PRODUCTS_BF16), RP_OK);
    }
    return rp_exec_create(&one_thread, 1, RP_PRODUCTS_F32) == RP_OK &&
                   rp_exec_create(&three_threads, 3, RP_PRODUCTS_F32) == RP_OK
               ? 0
               : 1;
}

static int tear_down(void **state)
{
    (void)state;
    rp_exec_destroy(&one_thread);
    rp_exec_destroy(&three_threads);
    rp_exec_destroy(&bf16_execs[0]);
    rp_exec_destroy(&bf16_execs[1]);
    return 0;
}

/* What products see of an input. */
static double seen(const rp_exec *exec, float x)
{
    return (double)rp_round_to_dtype(x, exec->products == RP_PRODUCTS_F32 ? RP_F32 : RP_BF16);
}

/* execs: two that must give the same bits. */
static void linear_at(rp_exec *const *execs, int64_t m, int64_t n, int64_t k, bool accumulate,
                      bool has_bias)
{
    float *x = random_floats(m * k, 1, 1.0F), *w = random_floats(n * k, 2, 1.0F);
    float *bias = random_floats(n, 3, 1.0F), *y0 = random_floats(m * n, 4, 1.0F);
    float *y[2] = {random_floats(m * n, 4, 1.0F), random_floats(m * n, 4, 1.0F)};

    for (int e = 0; e < 2; e++) {
        rp_kernels_cpu()->linear(execs[e], rp_mat_of(y[e], m, n, n), rp_cmat_of(x, m, k, k),
                                 rp_cmat_of(w, n, k, k), has_bias ? bias : NULL, accumulate);
    }
    assert_memory_equal(y[0], y[1], (size_t)(m * n) * sizeof(float));
    for (int64_t i = 0; i < m; i += 7) {
        for (int64_t j = 0; j < n; j++) {
            double want = (has_bias ? bias[j] : 0.0) + (accumulate ? y0[i * n + j] : 0.0);
            for (int64_t l = 0; l < k; l++) {
                want += seen(execs[0], x[i * k + l]) * seen(execs[0], w[j * k + l]);
            }
            assert_close(y[0][i * n + j], want, 1e-6 * (double)k);
        }
    }
    free(x);
    free(w);
    free(bias);
    free(y0);
    free(y[0]);
    free(y[1]);
}

static void linear_is_the_product(void **state)
{
    rp_exec *const execs[2] = {one_thread, three_threads};

    (void)state;
    linear_at(execs, 1, 1, 1, false, false);
    linear_at(execs, 70, 33, 172, true, true);
    linear_at(execs, 600, 1100, 40, false, true);
    linear_at(execs, 515, 770, 21, true, false);
}

static void bf16_linear_is_the_product_of_rounded_inputs(void **state)
{
    (void)state;
    if (bf16_execs[0] == NULL) {
        skip();
    }
    linear_at(bf16_execs, 1, 1, 1, false, false);
    linear_at(bf16_execs, 70, 33, 172, true, true);
    linear_at(bf16_execs, 600, 1100, 40, false, true);
    linear_at(bf16_execs, 19, 23, 5000, true, false); /* two parts of the inner dimension */
}

static void rms_norm_scales_rows(void **state)
{
    enum { ROWS = 70, COLS = 172, LD = 180 };
    float *x = random_floats(ROWS * LD, 5, 3.0F), *w = random_floats(COLS, 6, 1.0F);
    float *y = random_floats(ROWS * LD, 7, 1.0F);

    (void)state;
    rp_kernels_cpu()->rms_norm(three_threads, rp_mat_of(y, ROWS, COLS, LD),
                               rp_cmat_of(x, ROWS, COLS, LD), w, 1e-5F);
    for (int r = 0; r < ROWS; r++) {
        double square = 0.0;
        for (int c = 0; c < COLS; c++) {
            square += (double)x[r * LD + c] * (double)x[r * LD + c];
        }
        for (int c = 0; c < COLS; c++) {
            const double want =
                (double)w[c] * (double)x[r * LD + c] / sqrt(square / COLS + (double)1e-5F);
            assert_close(y[r * LD + c], want, 1e-6);
        }
    }
    rp_kernels_cpu()->rms_norm(one_thread, rp_mat_of(x, ROWS, COLS, LD),
                               rp_cmat_of(x, ROWS, COLS, LD), w, 1e-5F);
    assert_memory_equal(x, y, COLS * sizeof(float)); /* in place gives the same */
    free(x);
    free(w);
    free(y);
}

static void rope_rotates_the_first_dims(void **state)
{
    enum { SEQ = 5, ROWS = 2 * SEQ, HEADS = 2, DIM = 6, ROT = 4, LD = 13 };
    float cos_table[SEQ * ROT / 2], sin_table[SEQ * ROT / 2];
    float *x = random_floats(ROWS * LD, 8, 1.0F), *before = random_floats(ROWS * LD, 8, 1.0F);
    const rp_rope_table table = {cos_table, sin_table, ROT};

    (void)state;
    for (int i = 0; i < SEQ * ROT / 2; i++) {
        cos_table[i] = cosf((float)i);
        sin_table[i] = sinf((float)i);
    }
    rp_kernels_cpu()->rope(three_threads, rp_mat_of(x, ROWS, HEADS * DIM, LD), HEADS, DIM, SEQ,
                           &table);
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < LD; c++) {
            const int i = c % DIM, angle = r % SEQ * (ROT / 2) + i % (ROT / 2);
            const float *old = before + r * LD + c;
            float want = *old;
            if (c < HEADS * DIM && i < ROT / 2) {
                want = old[0] * cosf((float)angle) - old[ROT / 2] * sinf((float)angle);
            } else if (c < HEADS * DIM && i < ROT) {
                want = old[0] * cosf((float)angle) + old[-ROT / 2] * sinf((float)angle);
            }
            assert_close(x[r * LD + c], want, 1e-6);
        }
    }
    free(x);
    free(before);
}

/* One output element row of direct attention. */
static void attend(double *out, const rp_attention_shape *shape, const float *q, const float *k,
                   const float *v, int64_t kv_ld, int64_t at)
{
    const int64_t first = shape->window > 0 ? RP_MAX(at + 1 - shape->window, 0) : 0;
    double sum = 0.0, max = -INFINITY;

    memset(out, 0, (size_t)shape->head_dim * sizeof(*out));
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t j = first; j <= at; j++) {
            double score = 0.0;
            for (int i = 0; i < shape->head_dim; i++) {
                score += (double)q[i] * (double)k[j * kv_ld + i];
            }
            score *= (double)shape->scale;
            max = pass == 0 ? fmax(max, score) : max;
            for (int i = 0; pass == 1 && i < shape->head_dim; i++) {
                out[i] += exp(score - max) * (double)v[j * kv_ld + i];
            }
            sum += pass == 1 ? exp(score - max) : 0.0;
        }
    }
    for (int i = 0; i < shape->head_dim; i++) {
        out[i] /= sum;
    }
}

static void attention_at(const rp_attention_shape *shape, float size)
{
    const int64_t rows = shape->n_seqs * shape->seq_len, dim = shape->head_dim;
    const int64_t q_cols = shape->n_heads * dim, kv_cols = shape->n_kv_heads * dim;
    const int64_t ld = q_cols + 2 * kv_cols;
    float *x = random_floats(rows * ld, 9, size);
    float *out[2] = {random_floats(rows * q_cols, 1, 1.0F), random_floats(rows * q_cols, 1, 1.0F)};
    const rp_exec *execs[2] = {one_thread, three_threads};
    double want[128];

    for (int e = 0; e < 2; e++) {
        rp_kernels_cpu()->attention(execs[e], shape, rp_mat_of(out[e], rows, q_cols, q_cols),
                                    rp_cmat_of(x, rows, q_cols, ld),
                                    rp_cmat_of(x + q_cols, rows, kv_cols, ld),
                                    rp_cmat_of(x + q_cols + kv_cols, rows, kv_cols, ld));
    }
    assert_memory_equal(out[0], out[1], (size_t)(rows * q_cols) * sizeof(float));
    for (int64_t r = 0; r < rows; r += r % 7 == 0 ? 1 : 5) {
        const float *seq = x + r / shape->seq_len * shape->seq_len * ld;
        for (int64_t h = 0; h < shape->n_heads; h++) {
            const int64_t kv = h / (shape->n_heads / shape->n_kv_heads) * dim;
            attend(want, shape, x + r * ld + h * dim, seq + q_cols + kv,
                   seq + q_cols + kv_cols + kv, ld, r % shape->seq_len);
            for (int64_t i = 0; i < dim; i++) {
                assert_close(out[0][r * q_cols + h * dim + i], want[i],
                             2e-6 * (double)(size * size));
            }
        }
    }
    free(x);
    free(out[0]);
    free(out[1]);
}

static void attention_is_causal_softmax(void **state)
{
    const rp_attention_shape shapes[] = {
        {.seq_len = 1, .n_seqs = 3, .n_heads = 1, .n_kv_heads = 1, .head_dim = 8, .scale = 0.3F},
        {.seq_len = 77, .n_seqs = 2, .n_heads = 6, .n_kv_heads = 2, .head_dim = 12, .scale = 0.3F},
        {.seq_len = 600, .n_seqs = 1, .n_heads = 3, .n_kv_heads = 1, .head_dim = 16, .scale = 0.2F},
        {.seq_len = 600,
         .n_seqs = 1,
         .n_heads = 2,
         .n_kv_heads = 2,
         .head_dim = 16,
         .scale = 0.2F,
         .window = 50},
    };

    (void)state;
    for (size_t i = 0; i < RP_COUNT(shapes); i++) {
        attention_at(&shapes[i], 1.0F);
        attention_at(&shapes[i], 8.0F);
    }
}

static void silu_mul_gates(void **state)
{
    enum { ROWS = 40, COLS = 83 };
    float *gate = random_floats(ROWS * COLS, 11, 100.0F),
          *up = random_floats(ROWS * COLS, 12, 1.0F);
    float *out = random_floats(ROWS * COLS, 13, 1.0F);

    (void)state;
    rp_kernels_cpu()->silu_mul(three_threads, rp_mat_of(out, ROWS, COLS, COLS),
                               rp_cmat_of(gate, ROWS, COLS, COLS),
                               rp_cmat_of(up, ROWS, COLS, COLS));
    for (int i = 0; i < ROWS * COLS; i++) {
        const double want = (double)gate[i] / (1.0 + exp(-(double)gate[i])) * (double)up[i];
        assert_close(out[i], want, 4e-7 * fabs(want) + 1e-35);
    }
    free(gate);
    free(up);
    free(out);
}

static void max_abs_raises_and_finds_bad_rows(void **state)
{
    enum { ROWS = 50, COLS = 300 };
    float *x = random_floats(ROWS * COLS, 14, 1.0F), max[COLS];
    const rp_cmat mat = rp_cmat_of(x, ROWS, COLS, COLS);

    (void)state;
    memset(max, 0, sizeof(max));
    max[3] = 7.0F;
    assert_int_equal(rp_kernels_cpu()->max_abs(three_threads, mat, max), -1);
    for (int c = 0; c < COLS; c++) {
        float want = c == 3 ? 7.0F : 0.0F;
        for (int r = 0; r < ROWS; r++) {
            want = fmaxf(want, fabsf(x[r * COLS + c]));
        }
        assert_true(max[c] == want);
    }
    x[20 * COLS + 5] = NAN;
    x[9 * COLS + 299] = -INFINITY;
    assert_int_equal(rp_kernels_cpu()->max_abs(three_threads, mat, max), 9);
    free(x);
}

static void square_sums_are_exact_sums_in_order(void **state)
{
    enum { ROWS = 50, COLS = 300, LD = 310 };
    float *x = random_floats(ROWS * LD, 16, 1.0F);
    double sum[COLS];

    (void)state;
    rp_kernels_cpu()->square_sums(three_threads, rp_cmat_of(x, ROWS, COLS, LD), sum);
    for (int c = 0; c < COLS; c++) {
        double want = 0;
        for (int r = 0; r < ROWS; r++) {
            want += (double)x[r * LD + c] * (double)x[r * LD + c];
        }
        assert_true(sum[c] == want);
    }
    free(x);
}

static void gram_at(rp_exec *const *execs, int64_t rows, int64_t cols)
{
    float *x = random_floats(rows * cols, 15, 1.0F);
    int *exponent = malloc((size_t)cols * sizeof(*exponent));
    const size_t sum_bytes = (size_t)(cols * cols) * sizeof(int64_t);
    int64_t *sum[2] = {calloc(1, sum_bytes), calloc(1, sum_bytes)};
    const int shift = 30;

    for (int64_t i = 0; i < cols; i++) {
        exponent[i] = (int)(i % 5) - 2;
    }
    for (int pass = 0; pass < 2; pass++) {
        for (int e = 0; e < 2; e++) {
            rp_kernels_cpu()->gram_add(execs[e], rp_cmat_of(x, rows, cols, cols), exponent, shift,
                                       sum[e]);
        }
    }
    assert_memory_equal(sum[0], sum[1], sum_bytes);
    for (int64_t i = 0; i < cols; i++) {
        for (int64_t j = 0; j < cols; j++) {
            double want = 0.0;
            const double unit = ldexp(1.0, shift - exponent[i] - exponent[j]);
            for (int64_t r = 0; j <= i && r < rows; r++) {
                want += 2.0 * seen(execs[0], x[r * cols + i]) * seen(execs[0], x[r * cols + j]);
            }
            assert_close((double)sum[0][i * cols + j], want * unit,
                         j <= i ? 1e-6 * (double)rows * unit : 0.0);
        }
    }
    free(x);
    free(exponent);
    free(sum[0]);
    free(sum[1]);
}

static void gram_adds_the_lower_triangle(void **state)
{
    rp_exec *const execs[2] = {one_thread, three_threads};

    (void)state;
    gram_at(execs, 1, 1);
    gram_at(execs, 64, 17);
    gram_at(execs, 33, 600);
    gram_at(execs, 0, 17);
}

static void bf16_gram_is_of_rounded_inputs(void **state)
{
    (void)state;
    if (bf16_execs[0] == NULL) {
        skip();
    }
    gram_at(bf16_execs, 1, 1);
    gram_at(bf16_execs, 64, 17);
    gram_at(bf16_execs, 33, 600);
    gram_at(bf16_execs, 0, 17);
    gram_at(bf16_execs, 5000, 19); /* two parts of the rows */
}

static void gram_rounds_to_nearest_even_and_holds_the_bound(void **state)
{
    enum { N = 6 };
    const float x[N] = {1.5F, -1.0F, 1.0F, 3e18F, 9e15F, 5e15F}; /* [1, N] */
    const int exponent[N] = {0};
    const int64_t bound = (int64_t)1 << 51;
    int64_t sum[N * N] = {0};

    (void)state;
    rp_kernels_cpu()->gram_add(three_threads, rp_cmat_of(x, 1, N, N), exponent, 0, sum);
    assert_int_equal(sum[0 * N + 0], 2);  /* 2.25 */
    assert_int_equal(sum[1 * N + 0], -2); /* -1.5 to even */
    assert_int_equal(sum[2 * N + 0], 2);  /* 1.5 to even */
    for (int64_t i = 3; i < N; i++) {
        assert_int_equal(sum[i * N + i], bound);
        assert_int_equal(sum[i * N + 1], -bound);
        assert_int_equal(sum[i * N + 2], bound);
    }
    assert_int_equal(sum[1], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_is_the_product),
        cmocka_unit_test(bf16_linear_is_the_product_of_rounded_inputs),
        cmocka_unit_test(rms_norm_scales_rows),
        cmocka_unit_test(rope_rotates_the_first_dims),
        cmocka_unit_test(attention_is_causal_softmax),
        cmocka_unit_test(silu_mul_gates),
        cmocka_unit_test(max_abs_raises_and_finds_bad_rows),
        cmocka_unit_test(square_sums_are_exact_sums_in_order),
        cmocka_unit_test(gram_adds_the_lower_triangle),
        cmocka_unit_test(bf16_gram_is_of_rounded_inputs),
        cmocka_unit_test(gram_rounds_to_nearest_even_and_holds_the_bound),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

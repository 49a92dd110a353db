/* The CUDA operations of the block executor against the CPU's, which define them. Every operation
 * runs twice and must give the same bits. */
#include "cuda_twin.h"

/* ---- The block executor ---- */

/* The bytes of n values of a type, of which `bad` (-1: none) is not finite. */
static void *stored_values(rp_dtype dtype, int64_t n, int64_t bad)
{
    float *wide = NULL;
    void *stored = NULL;

    assert_int_equal(rp_alloc(&wide, (size_t)n * sizeof(*wide)), RP_OK);
    assert_int_equal(rp_alloc(&stored, (size_t)n * rp_dtype_bytes(dtype)), RP_OK);
    for (int64_t i = 0; i < n; i++) {
        wide[i] = value_at(1, i) * ldexpf(1.0F, (int)(i % 40) - 26);
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
    for (size_t d = 0; d < RP_COUNT(dtypes); d++) {
        for (size_t i = 0; i < RP_COUNT(sizes); i++) {
            widen_at(dtypes[d], sizes[i], -1, 0);
            widen_at(dtypes[d], sizes[i], sizes[i] / 2, 0);
        }
        widen_at(dtypes[d], 40000, 39998, 0);
        widen_at(dtypes[d], 1000, -1, 1);
    }
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
        {1, 1, 1, 0, false, false},     {1, 300, 64, 0, false, false}, {70, 33, 172, 1, true, true},
        {129, 65, 40, 8, true, false},  {33, 130, 21, 3, false, true}, {0, 5, 8, 0, true, false},
        {300, 200, 250, 2, true, true},
    };

    (void)state;
    for (size_t i = 0; i < RP_COUNT(shapes); i++) {
        linear_at(&shapes[i]);
    }
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

/* Rows that start anywhere are added in the same order as aligned ones. */
static void alignment_changes_no_bits(void **state)
{
    enum { ROWS = 21, COLS = 356 };
    twin even = twin_make(ROWS, COLS, COLS, 5, 3.0F, 0),
         odd = twin_make(ROWS, COLS, COLS + 1, 5, 3.0F, 0);
    twin w = twin_make(1, COLS, COLS, 7, 1.0F, 0);

    (void)state;
    for (int r = 0; r < ROWS; r++) {
        memcpy(odd.host + r * odd.ld, even.host + r * even.ld, COLS * sizeof(float));
    }
    twin_put(&odd);
    assert_true(rp_sum_squares_cuda(&on_gpu, place_cmat(&even)) ==
                rp_sum_squares_cuda(&on_gpu, place_cmat(&odd)));
    RUN_TWICE(&even, rp_rms_norm_cuda(&on_gpu, place_mat(&even), place_cmat(&even), w.place, 0));
    RUN_TWICE(&odd, rp_rms_norm_cuda(&on_gpu, place_mat(&odd), place_cmat(&odd), w.place, 0));
    for (int r = 0; r < ROWS; r++) {
        assert_memory_equal(odd.got + r * odd.ld, even.got + r * even.ld, COLS * sizeof(float));
    }
    twin_free(&even);
    twin_free(&odd);
    twin_free(&w);
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
    for (size_t i = 0; i < RP_COUNT(shapes); i++) {
        for (size_t w = 0; w < RP_COUNT(windows); w++) {
            rp_attention_shape shape = shapes[i];

            shape.window = windows[w];
            attention_at(&shape, (int64_t)(i + w) % 2 * 4, true);
        }
        attention_at(&shapes[i], 3, false);
    }
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

/* Weights add up to one, so equal values come out as TF32 has them: to nearest, not cut off. */
static void equal_values_come_out(float value, double tolerance)
{
    const rp_attention_shape shape = {
        .seq_len = 90, .n_seqs = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = 16, .scale = 0.25F};
    twin q = twin_make(90, 32, 32, 14, 1.0F, 0), k = twin_make(90, 16, 16, 15, 1.0F, 0);
    twin v = twin_make(90, 16, 16, 16, 1.0F, 0), out = twin_make(90, 32, 32, 17, 1.0F, 0);

    for (int i = 0; i < 90 * 16; i++) {
        v.host[i] = value;
    }
    twin_put(&v);
    RUN_TWICE(&out, rp_attention_cuda(&on_gpu, &shape, place_mat(&out), place_cmat(&q),
                                      place_cmat(&k), place_cmat(&v)));
    for (int i = 0; i < 90 * 32; i++) {
        assert_near((double)out.got[i], (double)value, tolerance, "attention", i / 32, i % 32);
    }
    twin_free(&q);
    twin_free(&k);
    twin_free(&v);
    twin_free(&out);
}

static void attention_weights_add_up_to_one(void **state)
{
    const double sums = 4 * 90 * F32_ROUNDING;

    (void)state;
    equal_values_come_out(1.0F, sums);
    equal_values_come_out(1.0007F, TF32_ROUNDING + sums);
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
        twin_put(&tiles[t]);
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
        assert_int_equal(isfinite(got[r].sum), isfinite(want[r].sum));
        assert_int_equal(isfinite(got[r].cross), isfinite(want[r].cross));
        if (isfinite(want[r].sum) && isfinite(want[r].cross)) {
            assert_near(got[r].sum, want[r].sum, rtol * want[r].sum, "sum", r, 0);
            assert_near(got[r].cross, want[r].cross, rtol * want[r].sum * 19, "cross", r, 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(widen_is_exact_and_finds_what_is_not_finite),
        cmocka_unit_test_setup_teardown(widen_is_exact_and_finds_what_is_not_finite, small_scratch,
                                        full_scratch),
        cmocka_unit_test(widen_knows_every_half),
        cmocka_unit_test(linear_is_the_cpus_product),
        cmocka_unit_test_setup_teardown(linear_is_the_cpus_product, small_scratch, full_scratch),
        cmocka_unit_test(rms_norm_scales_rows),
        cmocka_unit_test(alignment_changes_no_bits),
        cmocka_unit_test(rope_gives_the_cpus_bits),
        cmocka_unit_test(silu_mul_gives_the_cpus_bits),
        cmocka_unit_test(attention_is_close_to_the_cpus),
        cmocka_unit_test_setup_teardown(attention_is_close_to_the_cpus, small_scratch,
                                        full_scratch),
        cmocka_unit_test(attention_takes_large_heads_and_groups),
        cmocka_unit_test(attention_weights_add_up_to_one),
        cmocka_unit_test(loss_add_runs_over_vocabulary_tiles),
    };

    return rp_gpu_count() == 0 ? 77 : cmocka_run_group_tests(tests, set_up, tear_down);
}

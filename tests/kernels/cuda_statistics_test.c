/* The CUDA operations on statistics and drift against the CPU's, which define them. Every operation
 * runs twice and must give the same bits. */
#include "cuda_twin.h"

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
    twin_put(&x);
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
    square_sums_at(1, 1, 0);
    square_sums_at(65, 300, 1);
    square_sums_at(1500, 400, 4);
    square_sums_at(0, 12, 0);
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
    assert_memory_equal(s.got, rows > 0 ? s.want : s.start, (size_t)s.n * sizeof(int64_t));
    twin_free(&a);
    twin_free(&b);
    sums_free(&s);
}

static void products_of_integers_are_exact(void **state)
{
    (void)state;
    exact_product_at(1, 1, 0, 0, 4);
    exact_product_at(37, 75, 0, 1, 4);
    exact_product_at(37, 75, 0, 1, 22); /* integers are halves, quarters ... of products */
    exact_product_at(37, 300, 0, 0, 4);
    exact_product_at(200, 270, 0, 2, 4);
    exact_product_at(200, 130, 0, 4, -20);
    exact_product_at(0, 16, 0, 0, 4);
    exact_product_at(1, 1, 1, 0, 4);
    exact_product_at(37, 75, 211, 3, 4);
    exact_product_at(200, 33, 260, 4, 4);
    exact_product_at(200, 260, 34, 0, -20);
}

static void products_of_several_tiles_are_exact(void **state)
{
    (void)state;
    exact_product_at(3, 2100, 0, 0, 4);
    exact_product_at(2, 2050, 2060, 0, 4);
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
    elements_at(1, 1, 0);
    elements_at(40, 83, 5);
    elements_at(300, 64, 4);
    elements_at(9000, 3, 0);
    elements_at(0, 7, 1);
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
        cmocka_unit_test(max_abs_raises_and_finds_the_first_bad_row),
        cmocka_unit_test(square_sums_are_the_cpus),
        cmocka_unit_test_setup_teardown(square_sums_are_the_cpus, small_scratch, full_scratch),
        cmocka_unit_test(products_of_integers_are_exact),
        cmocka_unit_test_setup_teardown(products_of_integers_are_exact, small_scratch,
                                        full_scratch),
        cmocka_unit_test(products_of_several_tiles_are_exact),
        cmocka_unit_test(gram_of_values_is_close),
        cmocka_unit_test(elements_give_the_cpus_bits),
        cmocka_unit_test_setup_teardown(elements_give_the_cpus_bits, small_scratch, full_scratch),
        cmocka_unit_test(bound_rows_adds_to_what_is_there),
        cmocka_unit_test(cross_mean_gives_the_cpus_bits),
    };

    return rp_gpu_count() == 0 ? 77 : cmocka_run_group_tests(tests, set_up, tear_down);
}

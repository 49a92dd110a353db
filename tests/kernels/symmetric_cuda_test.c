/* From sums to the factor on a GPU against the CPU's operations: the same bits where values only
 * move or the arithmetic is the same, else within rounding. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gpu_pair.h"

enum { SKIPPED = 77 };

const size_t gpu_arena_bytes = (size_t)64 << 20;

static double next_value(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) / 9007199254740992.0 * 2 - 1;
}

/* The bytes at `place`, which is freed. */
static void *fetch(void *place, size_t nbytes)
{
    void *to = malloc(nbytes);

    assert_non_null(to);
    rp_place_get(&gpu, to, place, nbytes);
    assert_int_equal(rp_place_check(&gpu), RP_OK);
    rp_place_free(&gpu, place);
    return to;
}

static void check_place(void *place, const void *want, size_t nbytes)
{
    void *got = fetch(place, nbytes);

    assert_memory_equal(got, want, nbytes);
    free(got);
}

static double *random_doubles(int64_t n)
{
    double *x = malloc((size_t)n * sizeof(*x));
    uint64_t state = 5;

    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) {
        x[i] = next_value(&state);
    }
    return x;
}

static void triangle_equals_cpu(void **state)
{
    enum { N = 300, FIRST = 5, END = 290, PACKED = END * (END + 1) / 2 - FIRST * (FIRST + 1) / 2 };
    const size_t nbytes = (size_t)N * N * sizeof(int64_t);
    int64_t *square = malloc(nbytes);
    int64_t *packed = calloc(PACKED, sizeof(*packed));

    (void)state;
    assert_true(square != NULL && packed != NULL);
    for (int64_t i = 0; i < (int64_t)N * N; i++) {
        square[i] = i * 1000003 - 7;
    }
    int64_t *square_d = gpu_copy(square, nbytes);
    int64_t *packed_d = gpu_copy(packed, PACKED * sizeof(*packed));
    rp_kernels_cpu()->triangle(cpu, square, N, FIRST, END, packed, true);
    rp_kernels_cuda()->triangle(&gpu, square_d, N, FIRST, END, packed_d, true);
    memset(square, 1, nbytes);
    rp_place_put(&gpu, square_d, square, nbytes);
    rp_kernels_cpu()->triangle(cpu, square, N, FIRST, END, packed, false);
    rp_kernels_cuda()->triangle(&gpu, square_d, N, FIRST, END, packed_d, false);
    check_place(packed_d, packed, PACKED * sizeof(*packed));
    check_place(square_d, square, nbytes);
    free(square);
    free(packed);
}

static void gram_mean_equals_cpu(void **state)
{
    enum { N = 270, TOKENS = 4099, SHIFT = 17 };
    const size_t nbytes = (size_t)N * N * sizeof(int64_t);
    int64_t *sum = malloc(nbytes);
    int exponent[N];
    uint8_t is_dead[N] = {0};
    double want[N];
    double got[N];
    uint64_t random = 3;

    (void)state;
    assert_non_null(sum);
    for (int64_t i = 0; i < (int64_t)N * N; i++) {
        sum[i] = (int64_t)(next_value(&random) * 0x1p50);
    }
    for (int i = 0; i < N; i++) {
        exponent[i] = i % 23 - 9;
        is_dead[i] = i % 50 == 3;
    }
    int64_t *sum_d = gpu_copy(sum, nbytes);
    rp_kernels_cpu()->gram_mean(cpu, N, sum, exponent, SHIFT, TOKENS, is_dead, want);
    rp_kernels_cuda()->gram_mean(&gpu, N, sum_d, exponent, SHIFT, TOKENS, is_dead, got);
    check_place(sum_d, sum, nbytes);
    assert_memory_equal(got, want, sizeof(want));
    free(sum);
}

static void shuffle(int32_t *order, int n)
{
    uint64_t random = 9;

    for (int i = 0; i < n; i++) {
        order[i] = (int32_t)i;
    }
    for (int i = n - 1; i > 0; i--) {
        const int k = (int)((next_value(&random) + 1) / 2 * i);
        const int32_t kept = order[i];
        order[i] = order[k];
        order[k] = kept;
    }
}

static void moves_equal_cpu(void **state)
{
    enum { N = 267 };
    const size_t nbytes = (size_t)N * N * sizeof(double);
    double *h = random_doubles((int64_t)N * N);
    double *diagonal = random_doubles(N);
    double *h_d = gpu_copy(h, nbytes);
    int32_t order[N];

    (void)state;
    shuffle(order, N);
    rp_kernels_cpu()->permute_upper(cpu, N, h, order);
    rp_kernels_cuda()->permute_upper(&gpu, N, h_d, order);
    double *moved = fetch(h_d, nbytes);
    assert_memory_equal(moved, h, nbytes);
    h_d = gpu_copy(h, nbytes);
    rp_kernels_cpu()->mirror_lower(cpu, N, h, diagonal);
    rp_kernels_cuda()->mirror_lower(&gpu, N, h_d, diagonal);
    check_place(h_d, h, nbytes);
    free(moved);
    free(h);
    free(diagonal);
}

/* Positive by formula, in both triangles; the upper has a mark besides, which nobody may touch. */
static double *positive(int64_t n, double mark)
{
    double *a = malloc((size_t)(n * n) * sizeof(*a));

    assert_non_null(a);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++) {
            a[i * n + j] = cos((double)(i - j)) * exp(-0.02 * (double)labs(i - j)) +
                           (i == j ? 0.5 : 0.0) + (j > i ? mark : 0.0);
        }
    }
    return a;
}

static void check_cholesky(int64_t n)
{
    const size_t nbytes = (size_t)(n * n) * sizeof(double);
    double *want = positive(n, -7);
    double *h_d = gpu_copy(want, nbytes);
    int64_t failed_at[2] = {0, 0};

    rp_kernels_cpu()->cholesky(cpu, n, want, &failed_at[0]);
    rp_kernels_cuda()->cholesky(&gpu, n, h_d, &failed_at[1]);
    double *got = fetch(h_d, nbytes);
    assert_true(failed_at[0] == -1 && failed_at[1] == -1);
    for (int64_t i = 0; i < n * n; i++) {
        assert_true(fabs(got[i] - want[i]) <= 1e-12 * fmax(fabs(want[i]), 1));
        assert_true(i % n <= i / n || got[i] == want[i]);
    }
    free(want);
    free(got);
}

static void check_bad_pivot(int64_t n, int64_t at, double value)
{
    const size_t nbytes = (size_t)(n * n) * sizeof(double);
    double *h = positive(n, 0);
    int64_t failed_at[2] = {0, 0};

    h[at * n + at] = value;
    double *h_d = gpu_copy(h, nbytes);
    rp_kernels_cpu()->cholesky(cpu, n, h, &failed_at[0]);
    rp_kernels_cuda()->cholesky(&gpu, n, h_d, &failed_at[1]);
    assert_true(failed_at[0] == at && failed_at[1] == at);
    assert_int_equal(rp_place_check(&gpu), RP_OK);
    rp_place_free(&gpu, h_d);
    free(h);
}

static void cholesky_equals_cpu(void **state)
{
    (void)state;
    check_cholesky(1);
    check_cholesky(33);
    check_cholesky(512);
    check_cholesky(1100);
    check_bad_pivot(300, 0, 0);
    check_bad_pivot(700, 600, -1);
    check_bad_pivot(600, 511, 0);
    check_bad_pivot(40, 39, NAN);
    check_bad_pivot(40, 12, INFINITY);
}

static void ldl_equals_cpu(void **state)
{
    enum { N = 265 };
    double *h = random_doubles((int64_t)N * N);
    float *l = malloc((size_t)N * N * sizeof(*l));
    double *h_d = gpu_copy(h, (size_t)N * N * sizeof(*h));
    float *l_d = NULL;
    float want[N];
    float got[N];

    (void)state;
    assert_non_null(l);
    assert_int_equal(rp_place_alloc(&gpu, &l_d, (size_t)N * N, sizeof(*l_d)), RP_OK);
    rp_kernels_cpu()->ldl(cpu, N, h, l, want);
    rp_kernels_cuda()->ldl(&gpu, N, h_d, l_d, got);
    check_place(l_d, l, (size_t)N * N * sizeof(*l));
    assert_memory_equal(got, want, sizeof(want));
    rp_place_free(&gpu, h_d);
    free(h);
    free(l);
}

/* What lies between the rows stays. */
static void solve_right_equals_cpu(void **state)
{
    enum { N = 270, ROWS = 37, LD = N + 3 };
    double *h = positive(N, 0);
    float *l = malloc((size_t)N * N * sizeof(*l));
    float d[N];
    float t[ROWS * LD];
    int32_t order[N];
    uint8_t is_dead[N] = {0};
    int64_t failed_at = 0;
    double norm = 0;
    double distance = 0;
    uint64_t random = 21;

    (void)state;
    assert_non_null(l);
    rp_kernels_cpu()->cholesky(cpu, N, h, &failed_at);
    rp_kernels_cpu()->ldl(cpu, N, h, l, d);
    shuffle(order, N);
    is_dead[11] = is_dead[200] = 1;
    for (int i = 0; i < ROWS * LD; i++) {
        t[i] = (float)next_value(&random);
    }
    float *l_d = gpu_copy(l, (size_t)N * N * sizeof(*l));
    float *t_d = gpu_copy(t, sizeof(t));
    rp_ldl ldl = {.n = N, .l = l, .d = d, .order = order, .is_dead = is_dead};
    rp_kernels_cpu()->solve_right(cpu, &ldl, rp_mat_of(t, ROWS, N, LD));
    ldl.l = l_d;
    rp_kernels_cuda()->solve_right(&gpu, &ldl, rp_mat_of(t_d, ROWS, N, LD));
    float *got = fetch(t_d, sizeof(t));
    for (int i = 0; i < ROWS * LD; i++) {
        if (i % LD >= N || is_dead[i % LD]) {
            assert_true(got[i] == t[i]);
        } else {
            norm += pow((double)t[i], 2);
            distance += pow((double)got[i] - (double)t[i], 2);
        }
    }
    print_message("solve_right: relative distance %.2e\n", sqrt(distance / norm));
    assert_true(norm > 0 && sqrt(distance / norm) < 1e-5); /* f32, condition about 100 */
    rp_place_free(&gpu, l_d);
    free(got);
    free(h);
    free(l);
}

/* What lies between the rows stays. */
static void multiply_equals_cpu(void **state)
{
    enum { M = 37, K = 300, N = 50, LD = N + 3 };
    static float a[M * K], b[K * LD], out[M * LD];
    uint64_t random = 31;
    double norm = 0;
    double distance = 0;

    (void)state;
    for (int i = 0; i < M * K; i++) {
        a[i] = (float)next_value(&random);
    }
    for (int i = 0; i < K * LD; i++) {
        b[i] = (float)next_value(&random);
    }
    float *a_d = gpu_copy(a, sizeof(a));
    float *b_d = gpu_copy(b, sizeof(b));
    float *out_d = gpu_copy(out, sizeof(out));
    rp_kernels_cpu()->multiply(cpu, rp_mat_of(out, M, N, LD), rp_cmat_of(a, M, K, K),
                               rp_cmat_of(b, K, N, LD));
    rp_kernels_cuda()->multiply(&gpu, rp_mat_of(out_d, M, N, LD), rp_cmat_of(a_d, M, K, K),
                                rp_cmat_of(b_d, K, N, LD));
    float *got = fetch(out_d, sizeof(out));
    for (int i = 0; i < M * LD; i++) {
        assert_true(i % LD < N || got[i] == 0);
        norm += pow((double)out[i], 2);
        distance += pow((double)got[i] - (double)out[i], 2);
    }
    assert_true(norm > 0 && sqrt(distance / norm) < 1e-6);
    rp_place_free(&gpu, a_d);
    rp_place_free(&gpu, b_d);
    free(got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(triangle_equals_cpu), cmocka_unit_test(gram_mean_equals_cpu),
        cmocka_unit_test(moves_equal_cpu),     cmocka_unit_test(cholesky_equals_cpu),
        cmocka_unit_test(ldl_equals_cpu),      cmocka_unit_test(solve_right_equals_cpu),
        cmocka_unit_test(multiply_equals_cpu),
    };

    if (rp_gpu_count() == 0) {
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* A table of measured kinds: the sizes of three buffers, the work of one repetition, and how to run
 * one. */
#include "kernels/cpu/gemm_bench.h"

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/factor.h"
#include "kernels/ops.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct bench {
    const rp_exec *exec;
    rp_bench_shape shape;
    void *a, *b, *c;
} bench;

/* First of the m rows of part `tile`: they are split evenly over the threads. */
static int64_t part_begin(const bench *b, int64_t tile)
{
    return b->shape.m * tile / rp_pool_nthreads(b->exec->pool);
}

static void sgemm_part(void *arg, int64_t tile, int thread)
{
    const bench *b = arg;
    const int64_t row = part_begin(b, tile), rows = part_begin(b, tile + 1) - row;
    const int n = (int)b->shape.n, k = (int)b->shape.k;

    (void)thread;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, n, k, 1.0F,
                (const float *)b->a + row * k, k, b->b, k, 0.0F, (float *)b->c + row * n, n);
}

static void dgemm_part(void *arg, int64_t tile, int thread)
{
    const bench *b = arg;
    const int64_t row = part_begin(b, tile), rows = part_begin(b, tile + 1) - row;
    const int n = (int)b->shape.n, k = (int)b->shape.k;

    (void)thread;
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, n, k, 1.0,
                (const double *)b->a + row * k, k, b->b, k, 0.0, (double *)b->c + row * n, n);
}

static void copy_part(void *arg, int64_t tile, int thread)
{
    const bench *b = arg;
    const int64_t row = part_begin(b, tile), rows = part_begin(b, tile + 1) - row;

    (void)thread;
    memcpy((float *)b->c + row * b->shape.n, (const float *)b->a + row * b->shape.n,
           (size_t)(rows * b->shape.n) * sizeof(float));
}

static void run_sgemm(bench *b)
{
    rp_pool_run(b->exec->pool, rp_pool_nthreads(b->exec->pool), sgemm_part, b);
}

static void run_dgemm(bench *b)
{
    rp_pool_run(b->exec->pool, rp_pool_nthreads(b->exec->pool), dgemm_part, b);
}

static void run_copy(bench *b)
{
    rp_pool_run(b->exec->pool, rp_pool_nthreads(b->exec->pool), copy_part, b);
}

static void run_linear(bench *b)
{
    const rp_bench_shape *s = &b->shape;

    rp_kernels_cpu()->linear(b->exec, rp_mat_of(b->c, s->m, s->n, s->n),
                             rp_cmat_of(b->a, s->m, s->k, s->k), rp_cmat_of(b->b, s->n, s->k, s->k),
                             NULL, false);
}

static void run_gram(bench *b)
{
    const rp_bench_shape *s = &b->shape;

    memset(b->b, 0, (size_t)s->n * sizeof(int)); /* exponents */
    rp_kernels_cpu()->gram_add(b->exec, rp_cmat_of(b->a, s->m, s->n, s->n), b->b, 0, b->c);
}

/* The factor of a diagonally dominant matrix is made anew each time: setting it up is n^2 work. */
static void run_cholesky(bench *b)
{
    const int64_t n = b->shape.n;
    double *a = b->c;
    int64_t failed_at;

    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j <= i; j++) {
            a[i * n + j] = i == j ? (double)n : 0.5;
        }
    }
    rp_factor_cholesky(b->exec, n, a, &failed_at);
}

/* A buffer's elements are the product of the shape's sides that `sides` spells. */
typedef struct bench_buffer {
    const char *sides;
    size_t elem_bytes;
} bench_buffer;

static const struct bench_row {
    const char *name;
    bench_buffer a, b, c;
    double work; /* of each element of the product of work_sides */
    const char *work_sides;
    void (*run)(bench *b);
} rows[RP_BENCH_COUNT] = {
    [RP_BENCH_SGEMM] = {"sgemm", {"mk", 4}, {"nk", 4}, {"mn", 4}, 2.0, "mnk", run_sgemm},
    [RP_BENCH_DGEMM] = {"dgemm", {"mk", 8}, {"nk", 8}, {"mn", 8}, 2.0, "mnk", run_dgemm},
    [RP_BENCH_LINEAR] = {"linear", {"mk", 4}, {"nk", 4}, {"mn", 4}, 2.0, "mnk", run_linear},
    [RP_BENCH_GRAM] = {"gram", {"mn", 4}, {"n", 4}, {"nn", 8}, 1.0, "mnn", run_gram},
    [RP_BENCH_CHOLESKY] = {"cholesky", {"", 1}, {"", 1}, {"nn", 8}, 1.0 / 3, "nnn", run_cholesky},
    [RP_BENCH_COPY] = {"copy", {"mn", 4}, {"", 1}, {"mn", 4}, 8.0, "mn", run_copy},
};

static int64_t side_of(const rp_bench_shape *shape, char side)
{
    return side == 'm' ? shape->m : side == 'n' ? shape->n : shape->k;
}

/* Allocates and, so that no page is met first by a measured repetition, fills a buffer. */
static rp_status make_buffer(void *out, const rp_bench_shape *shape, const bench_buffer *buffer)
{
    rp_status st = RP_OK;
    void **mem = out;
    size_t n = 1, nbytes;

    for (const char *side = buffer->sides; *side != '\0'; side++) {
        RP_TRY(rp_mul_size(&n, n, (size_t)side_of(shape, *side)));
    }
    RP_TRY(rp_mul_size(&nbytes, n, buffer->elem_bytes));
    RP_TRY(rp_alloc(mem, nbytes));
    memset(*mem, 0x3c, nbytes); /* 0.0115 as f32, 1.6e-17 as f64 */
out:
    return st;
}

const char *rp_bench_kind_name(rp_bench_kind kind)
{
    return rows[kind].name;
}

rp_status rp_gemm_bench(double *rate, const rp_exec *exec, rp_bench_kind kind,
                        const rp_bench_shape *shape, double limit_s)
{
    rp_status st = RP_OK;
    const struct bench_row *row = &rows[kind];
    bench b = {.exec = exec, .shape = *shape};
    double work = row->work, best_s = HUGE_VAL;
    const double start_s = rp_clock_seconds();

    RP_TRY(make_buffer(&b.a, shape, &row->a));
    RP_TRY(make_buffer(&b.b, shape, &row->b));
    RP_TRY(make_buffer(&b.c, shape, &row->c));
    for (int rep = 0; rep < 2 || rp_clock_seconds() - start_s < limit_s; rep++) {
        const double rep_start_s = rp_clock_seconds();
        row->run(&b);
        best_s = fmin(best_s, rp_clock_seconds() - rep_start_s);
    }
    for (const char *side = row->work_sides; *side != '\0'; side++) {
        work *= (double)side_of(shape, *side);
    }
    *rate = work / best_s * 1e-9;
out:
    free(b.a);
    free(b.b);
    free(b.c);
    return st;
}

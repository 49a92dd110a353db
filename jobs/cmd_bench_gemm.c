/* rankpress bench-gemm: rates of the products that a job is made of, on this machine. */
#include "jobs/cmd.h"

#include "base/mem.h"
#include "formats/json.h"
#include "jobs/environ.h"
#include "jobs/print.h"
#include "jobs/job.h"
#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/gemm_bench.h"

#include <sched.h>
#include <stdio.h>

#define SECONDS_EACH 0.5

/* Blocks of 2048 tokens times the linears of small to large models. */
static const rp_bench_shape shapes[] = {
    {2048, 576, 576}, {2048, 1536, 576}, {2048, 576, 1536}, {2048, 2048, 2048}, {2048, 4096, 4096},
};

static int online_cores(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof(set), &set) == 0 ? RP_MAX(CPU_COUNT(&set), 1) : 1;
}

static rp_status add_row(json_t *rows, rp_bench_kind kind, rp_products products,
                         const rp_bench_shape *shape, double rate)
{
    rp_status st = RP_OK;
    json_t *row =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:f, s:s}", "kind", rp_bench_kind_name(kind),
                  "products", products == RP_PRODUCTS_BF16 ? "bf16" : "f32", "m",
                  (json_int_t)shape->m, "n", (json_int_t)shape->n, "k", (json_int_t)shape->k,
                  "rate", rate, "unit", kind == RP_BENCH_COPY ? "GB/s" : "GFLOP/s");

    RP_TRY(rp_json_made(row));
    if (json_array_append(rows, row) != 0) {
        RP_TRY(rp_json_made(NULL));
    }
out:
    json_decref(row);
    return st;
}

static void print_row(rp_bench_kind kind, rp_products products, const rp_bench_shape *shape,
                      double rate)
{
    (void)printf("%-9s %-8s %7lld %7lld %7lld %10.1f %s\n", rp_bench_kind_name(kind),
                 products == RP_PRODUCTS_BF16 ? "bf16" : "f32", (long long)shape->m,
                 (long long)shape->n, (long long)shape->k, rate,
                 kind == RP_BENCH_COPY ? "GB/s" : "GFLOP/s");
    (void)fflush(stdout);
}

/* All kinds on one shape; those that do not depend on `products` only in f32. */
static rp_status bench_shape(json_t *rows, const rp_cli *cli, const rp_exec *exec,
                             const rp_bench_shape *shape)
{
    rp_status st = RP_OK;

    for (int kind = 0; kind < RP_BENCH_COUNT; kind++) {
        const bool has_products = kind == RP_BENCH_LINEAR || kind == RP_BENCH_GRAM;
        double rate = 0;
        if (exec->products != RP_PRODUCTS_F32 && !has_products) {
            continue;
        }
        RP_TRY(rp_gemm_bench(&rate, exec, (rp_bench_kind)kind, shape, SECONDS_EACH));
        RP_TRY(add_row(rows, (rp_bench_kind)kind, exec->products, shape, rate));
        if (!cli->is_json) {
            print_row((rp_bench_kind)kind, exec->products, shape, rate);
        }
    }
out:
    return st;
}

static rp_status bench_products(json_t *rows, const rp_cli *cli, int threads, rp_products products)
{
    rp_status st = RP_OK;
    rp_exec *exec = NULL;
    const bool is_one = cli->m + cli->n + cli->k > 0;

    RP_TRY(rp_exec_create(&exec, threads, products));
    for (size_t i = 0; i < (is_one ? 1 : RP_COUNT(shapes)); i++) {
        const rp_bench_shape shape = {cli->m > 0 ? cli->m : shapes[i].m,
                                      cli->n > 0 ? cli->n : shapes[i].n,
                                      cli->k > 0 ? cli->k : shapes[i].k};
        RP_TRY(bench_shape(rows, cli, exec, &shape));
    }
out:
    rp_exec_destroy(&exec);
    return st;
}

rp_status rp_cmd_bench_gemm(const rp_cli *cli)
{
    rp_status st = RP_OK;
    const int threads = cli->threads > 0 ? (int)cli->threads : online_cores();
    const char *core_type = rp_environ_core_type();
    char arith_class[128];
    json_t *rows = json_array();
    json_t *root = NULL;

    RP_TRY(rp_json_made(rows));
    rp_cpu_arith_class(arith_class, sizeof(arith_class), RP_PRODUCTS_F32);
    if (!cli->is_json) {
        (void)printf("%s, OPENBLAS_CORETYPE %s, %d threads\n%-9s %-8s %7s %7s %7s %10s\n",
                     arith_class, core_type != NULL ? core_type : "not set", threads, "kind",
                     "products", "m", "n", "k", "rate");
    }
    for (int p = RP_PRODUCTS_F32; p <= RP_PRODUCTS_BF16; p++) {
        const bool is_asked =
            cli->products == RP_PRODUCTS_AUTO ? rp_gemm_has((rp_products)p) : cli->products == p;
        if (is_asked) {
            RP_TRY(bench_products(rows, cli, threads, (rp_products)p));
        }
    }
    if (cli->is_json) {
        root = json_pack("{s:s, s:s?, s:i, s:O}", "arithmetic_class", arith_class,
                         "openblas_coretype", core_type, "threads", threads, "rates", rows);
        RP_TRY(rp_json_made(root));
        RP_TRY(rp_print_json(root));
    }
out:
    json_decref(root);
    json_decref(rows);
    return st;
}

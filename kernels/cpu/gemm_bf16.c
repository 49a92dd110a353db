/* bf16 products by oneDNN's matmul.
 *
 * The inner dimension is cut into parts of PART_K, so that the room for converted tiles is fixed.
 * Products go to a tile of their own and from there to c: oneDNN's AMX code wants the rows of its
 * result to be adjacent, and is three times slower otherwise. Every call is one single-threaded
 * matmul: OpenMP, which oneDNN uses, is set to one thread in each thread that calls it. */
#include "kernels/cpu/gemm_bf16.h"

#include "base/mem.h"
#include "kernels/clones.h"
#include "kernels/cpu/gemm.h"
#include "kernels/dtype.h"

#include <dnnl.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PART_K = 4096, CACHED = 64, TILE_ELEMS = RP_GEMM_TILE_ROWS * RP_GEMM_TILE_COLS };

/* What a compiled product depends on. */
typedef struct product_key {
    int64_t m, n, k;
    bool is_tn;
} product_key;

typedef struct thread_state {
    dnnl_stream_t stream;
    uint16_t *a, *b; /* converted tiles: [m, k] and [n, k], or [k, m] and [k, n] */
    float *c;        /* [m, n] */
    struct {
        product_key key;
        dnnl_primitive_t primitive; /* NULL: free */
        dnnl_memory_t a, b, c;
    } cache[CACHED];
    int next; /* to be replaced */
} thread_state;

struct rp_bf16 {
    dnnl_engine_t engine;
    int nthreads;
    thread_state *threads;
};

static void drop_entry(thread_state *t, int i)
{
    dnnl_primitive_destroy(t->cache[i].primitive);
    dnnl_memory_destroy(t->cache[i].a);
    dnnl_memory_destroy(t->cache[i].b);
    dnnl_memory_destroy(t->cache[i].c);
    memset(&t->cache[i], 0, sizeof(t->cache[i]));
}

void rp_bf16_destroy(rp_bf16 **bf16)
{
    rp_bf16 *s = *bf16;

    if (s == NULL) {
        return;
    }
    for (int i = 0; s->threads != NULL && i < s->nthreads; i++) {
        for (int j = 0; j < CACHED; j++) {
            drop_entry(&s->threads[i], j);
        }
        dnnl_stream_destroy(s->threads[i].stream);
        free(s->threads[i].a);
        free(s->threads[i].b);
        free(s->threads[i].c);
    }
    dnnl_engine_destroy(s->engine);
    free(s->threads);
    free(s);
    *bf16 = NULL;
}

bool rp_bf16_is_available(void)
{
    const int isa = (int)dnnl_get_effective_cpu_isa(); /* a set of bits */

    return (isa & dnnl_cpu_isa_avx512_core_amx) == dnnl_cpu_isa_avx512_core_amx;
}

rp_status rp_bf16_create(rp_bf16 **out, int nthreads)
{
    rp_status st = RP_OK;
    rp_bf16 *s = NULL;

    *out = NULL;
    if (!rp_bf16_is_available()) {
        st = RP_FAIL(RP_ERR_USAGE, "bf16 products: this processor has no AMX");
        goto out;
    }
    RP_TRY(rp_calloc(&s, 1, sizeof(*s)));
    s->nthreads = nthreads;
    RP_TRY(rp_calloc(&s->threads, (size_t)nthreads, sizeof(*s->threads)));
    if (dnnl_engine_create(&s->engine, dnnl_cpu, 0) != dnnl_success) {
        st = RP_FAIL(RP_ERR_MEMORY, "bf16 products: oneDNN has no CPU engine");
        goto out;
    }
    for (int i = 0; i < nthreads; i++) {
        thread_state *t = &s->threads[i];

        RP_TRY(rp_alloc_array(&t->a, (size_t)RP_GEMM_TILE_ROWS * PART_K, sizeof(*t->a)));
        RP_TRY(rp_alloc_array(&t->b, (size_t)RP_GEMM_TILE_COLS * PART_K, sizeof(*t->b)));
        RP_TRY(rp_alloc_array(&t->c, TILE_ELEMS, sizeof(*t->c)));
        if (dnnl_stream_create(&t->stream, s->engine, dnnl_stream_default_flags) != dnnl_success) {
            st = RP_FAIL(RP_ERR_MEMORY, "bf16 products: oneDNN has no stream");
            goto out;
        }
    }
    *out = s;
    s = NULL;
out:
    rp_bf16_destroy(&s);
    return st;
}

size_t rp_bf16_bytes(int nthreads)
{
    const size_t converted_rows = RP_GEMM_TILE_ROWS + RP_GEMM_TILE_COLS;

    return (size_t)nthreads * (sizeof(thread_state) + TILE_ELEMS * sizeof(float) +
                               converted_rows * PART_K * sizeof(uint16_t));
}

void rp_bf16_library(char *out, size_t out_bytes)
{
    const dnnl_version_t *version = dnnl_version();

    (void)snprintf(out, out_bytes, "onednn-%d.%d.%d", version->major, version->minor,
                   version->patch);
}

/* A row-major [rows, cols] matrix, or (is_t) the transpose of a row-major [cols, rows] one. */
static bool describe(dnnl_memory_desc_t *desc, int64_t rows, int64_t cols, bool is_t, int64_t ld,
                     dnnl_data_type_t type)
{
    const dnnl_dims_t dims = {rows, cols};
    const dnnl_dims_t strides = {is_t ? 1 : ld, is_t ? ld : 1};

    return dnnl_memory_desc_init_by_strides(desc, 2, dims, type, strides) == dnnl_success;
}

static dnnl_primitive_t compile(const rp_bf16 *s, const dnnl_memory_desc_t *a,
                                const dnnl_memory_desc_t *b, const dnnl_memory_desc_t *c)
{
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_matmul_desc_t matmul;

    if (dnnl_matmul_desc_init(&matmul, a, b, NULL, c) == dnnl_success &&
        dnnl_primitive_desc_create(&desc, &matmul, NULL, s->engine, NULL) == dnnl_success &&
        dnnl_primitive_create(&primitive, desc) != dnnl_success) {
        primitive = NULL;
    }
    dnnl_primitive_desc_destroy(desc);
    return primitive;
}

/* The index of the product in the thread's cache, compiled if need be; -1 when it cannot be. */
static int find_product(const rp_bf16 *s, thread_state *t, const product_key *key)
{
    dnnl_memory_desc_t a, b, c;
    int i;

    for (i = 0; i < CACHED; i++) {
        const product_key *k = &t->cache[i].key;
        if (t->cache[i].primitive != NULL && k->m == key->m && k->n == key->n && k->k == key->k &&
            k->is_tn == key->is_tn) {
            return i;
        }
    }
    i = t->next;
    t->next = (i + 1) % CACHED;
    drop_entry(t, i);
    t->cache[i].key = *key;
    if (describe(&a, key->m, key->k, key->is_tn, key->is_tn ? key->m : key->k, dnnl_bf16) &&
        describe(&b, key->k, key->n, !key->is_tn, key->is_tn ? key->n : key->k, dnnl_bf16) &&
        describe(&c, key->m, key->n, false, key->n, dnnl_f32) &&
        dnnl_memory_create(&t->cache[i].a, &a, s->engine, t->a) == dnnl_success &&
        dnnl_memory_create(&t->cache[i].b, &b, s->engine, t->b) == dnnl_success &&
        dnnl_memory_create(&t->cache[i].c, &c, s->engine, t->c) == dnnl_success) {
        t->cache[i].primitive = compile(s, &a, &b, &c);
    }
    return t->cache[i].primitive != NULL ? i : -1;
}

static bool multiply(const rp_bf16 *s, thread_state *t, const product_key *key)
{
    const int i = find_product(s, t, key);

    if (i >= 0) {
        const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, t->cache[i].a},
                                        {DNNL_ARG_WEIGHTS, t->cache[i].b},
                                        {DNNL_ARG_DST, t->cache[i].c}};

        return dnnl_primitive_execute(t->cache[i].primitive, t->stream, 3, args) == dnnl_success &&
               dnnl_stream_wait(t->stream) == dnnl_success;
    }
    return false;
}

static void convert(uint16_t *dst, rp_cmat src)
{
    for (int64_t r = 0; r < src.rows; r++) {
        rp_from_f32(dst + r * src.cols, src.data + r * src.ld, RP_BF16, src.cols);
    }
}

/* c = product (+ c) */
RP_CLONES static void store(rp_mat c, const float *product, bool accumulate)
{
    for (int64_t r = 0; r < c.rows; r++) {
        float *row = c.data + r * c.ld;
        for (int64_t j = 0; j < c.cols; j++) {
            row[j] = product[r * c.cols + j] + (accumulate ? row[j] : 0.0F);
        }
    }
}

static void product(rp_bf16 *s, int thread, rp_mat c, rp_cmat a, rp_cmat b, bool is_tn,
                    bool accumulate)
{
    thread_state *t = &s->threads[thread];
    const int64_t k = is_tn ? a.rows : a.cols;

    RP_ASSERT(c.rows <= RP_GEMM_TILE_ROWS && c.cols <= RP_GEMM_TILE_COLS);
    for (int64_t r = 0; r < c.rows && k == 0 && !accumulate; r++) {
        memset(c.data + r * c.ld, 0, (size_t)c.cols * sizeof(float));
    }
    omp_set_num_threads(1);
    for (int64_t at = 0; at < k; at += PART_K) {
        const product_key key = {c.rows, c.cols, RP_MIN(PART_K, k - at), is_tn};

        convert(t->a, is_tn ? rp_cmat_part(a, at, key.k, 0, a.cols)
                            : rp_cmat_part(a, 0, a.rows, at, key.k));
        convert(t->b, is_tn ? rp_cmat_part(b, at, key.k, 0, b.cols)
                            : rp_cmat_part(b, 0, b.rows, at, key.k));
        if (!multiply(s, t, &key)) {
            for (int64_t i = 0; i < c.rows * c.cols; i++) {
                t->c[i] = NAN;
            }
        }
        store(c, t->c, accumulate || at > 0);
    }
}

void rp_bf16_nt(rp_bf16 *bf16, int thread, rp_mat c, rp_cmat a, rp_cmat b, bool accumulate)
{
    product(bf16, thread, c, a, b, false, accumulate);
}

void rp_bf16_tn(rp_bf16 *bf16, int thread, rp_mat c, rp_cmat a, rp_cmat b)
{
    product(bf16, thread, c, a, b, true, false);
}

/* The algorithms of a GPU's products as text: the arithmetic class, then a line for each shape,
 *
 *     bf16 transposed_a=0 ... align_c=256 algorithm=66 tile=20 ... cluster=3 words=<128 hex digits>
 *
 * What cublasLt says of an algorithm is for people and a check; `words` is the algorithm itself,
 * with whatever it does not say, which its header promises to be the same for the same version of
 * the library. */
#include "base/mem.h"
#include "kernels/cuda/gemm_cuda.h"
#include "kernels/cuda/gemm_plans.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const input_names[RP_GEMM_INPUTS_COUNT] = {"bf16", "tf32", "f32"};

static const char *const number_names[RP_GEMM_NUMBERS] = {
    "inputs", "transposed_a", "transposed_b", "rows",   "cols",   "inner",   "count",   "ld_a",
    "ld_b",   "ld_c",         "step_a",       "step_b", "step_c", "align_a", "align_b", "align_c",
};

typedef struct config {
    cublasLtMatmulAlgoConfigAttributes_t attribute;
    const char *name;
    size_t nbytes;
} config;

static const config configs[] = {
    {CUBLASLT_ALGO_CONFIG_ID, "algorithm", 4},
    {CUBLASLT_ALGO_CONFIG_TILE_ID, "tile", 4},
    {CUBLASLT_ALGO_CONFIG_STAGES_ID, "stages", 4},
    {CUBLASLT_ALGO_CONFIG_SPLITK_NUM, "split_k", 4},
    {CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, "reduction", 4},
    {CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, "swizzle", 4},
    {CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, "custom", 4},
    {CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, "inner_shape", 2},
    {CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, "cluster", 2},
};

enum { WORDS = sizeof(cublasLtMatmulAlgo_t) / sizeof(uint64_t), WORD_DIGITS = 16 };

/* ---- Lines ---- */

/* Appends to a line, which is long enough for every number that there is. */
static void append(char line[RP_GEMM_TEXT_BYTES], const char *name, long long value)
{
    const size_t used = strlen(line);

    snprintf(line + used, RP_GEMM_TEXT_BYTES - used, " %s=%lld", name, value);
}

void rp_gemm_shape_text(char out[RP_GEMM_TEXT_BYTES], const rp_gemm_shape *shape)
{
    snprintf(out, RP_GEMM_TEXT_BYTES, "%s", input_names[shape->of[RP_GEMM_INPUTS]]);
    for (int i = RP_GEMM_INPUTS + 1; i < RP_GEMM_NUMBERS; i++) {
        append(out, number_names[i], shape->of[i]);
    }
}

static void line_of(char out[RP_GEMM_TEXT_BYTES], const rp_gemm_shape *shape,
                    const cublasLtMatmulAlgo_t *algorithm)
{
    size_t used, written = 0;

    rp_gemm_shape_text(out, shape);
    for (size_t i = 0; i < RP_COUNT(configs); i++) {
        int32_t value = 0; /* little-endian: two bytes are its lower half */
        const cublasStatus_t status = cublasLtMatmulAlgoConfigGetAttribute(
            algorithm, configs[i].attribute, &value, configs[i].nbytes, &written);
        append(out, configs[i].name, status == CUBLAS_STATUS_SUCCESS ? value : -1);
    }
    used = strlen(out);
    used += (size_t)snprintf(out + used, RP_GEMM_TEXT_BYTES - used, " words=");
    for (int i = 0; i < WORDS; i++) {
        used += (size_t)snprintf(out + used, RP_GEMM_TEXT_BYTES - used, "%016llx",
                                 (unsigned long long)algorithm->data[i]);
    }
}

static bool parse_inputs(int64_t *out, const char *line)
{
    const size_t length = strcspn(line, " ");

    for (int i = 0; i < RP_GEMM_INPUTS_COUNT; i++) {
        if (strlen(input_names[i]) == length && strncmp(line, input_names[i], length) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool is_possible(const rp_gemm_shape *shape)
{
    const int64_t *const of = shape->of;

    for (int i = 0; i < RP_GEMM_NUMBERS; i++) {
        if (of[i] < 0) {
            return false;
        }
    }
    return of[RP_GEMM_A_TRANSPOSED] <= 1 && of[RP_GEMM_B_TRANSPOSED] <= 1 &&
           RP_MIN(RP_MIN(of[RP_GEMM_ROWS], of[RP_GEMM_COLS]),
                  RP_MIN(of[RP_GEMM_INNER], of[RP_GEMM_COUNT])) > 0 &&
           RP_MAX(RP_MAX(of[RP_GEMM_ROWS], of[RP_GEMM_COLS]),
                  RP_MAX(of[RP_GEMM_INNER], of[RP_GEMM_COUNT])) <= INT32_MAX;
}

static bool parse_words(cublasLtMatmulAlgo_t *out, const char *digits)
{
    if (strlen(digits) != WORDS * WORD_DIGITS) {
        return false;
    }
    for (int i = 0; i < WORDS; i++) {
        char word[WORD_DIGITS + 1];
        snprintf(word, sizeof(word), "%s", digits + (size_t)i * WORD_DIGITS);
        out->data[i] = strtoull(word, NULL, WORD_DIGITS);
    }
    return true;
}

/* Numbers are taken as they come; that the line is theirs shows when it is made of them again. */
static bool parse_line(rp_gemm_shape *shape, cublasLtMatmulAlgo_t *algorithm, const char *line)
{
    static const char words[] = " words=";
    char again[RP_GEMM_TEXT_BYTES];
    const char *at = line;

    if (!parse_inputs(&shape->of[RP_GEMM_INPUTS], line)) {
        return false;
    }
    for (int i = RP_GEMM_INPUTS + 1; i < RP_GEMM_NUMBERS && at != NULL; i++) {
        at = strchr(at, '=');
        shape->of[i] = at == NULL ? 0 : strtoll(++at, NULL, 10);
    }
    at = at == NULL ? NULL : strstr(at, words);
    if (at == NULL || !parse_words(algorithm, at + strlen(words))) {
        return false;
    }
    line_of(again, shape, algorithm);
    return is_possible(shape) && strcmp(again, line) == 0;
}

/* ---- All of a GPU ---- */

int64_t rp_gpu_algorithms_count(const rp_gpu *gpu)
{
    return (int64_t)gpu->gemms->n;
}

rp_status rp_gpu_algorithms_format(char **out, const rp_gpu *gpu)
{
    rp_status st = RP_OK;
    const rp_gemms *const gemms = gpu->gemms;
    const size_t nbytes = sizeof(gpu->arithmetic_class) + 2 + gemms->n * RP_GEMM_TEXT_BYTES;
    char line[RP_GEMM_TEXT_BYTES];
    size_t used = 0;

    *out = NULL;
    RP_TRY(rp_alloc(out, nbytes));
    used = (size_t)snprintf(*out, nbytes, "%s\n", gpu->arithmetic_class);
    for (size_t i = 0; i < gemms->n; i++) {
        line_of(line, &gemms->plans[i]->shape, &gemms->plans[i]->algorithm);
        used += (size_t)snprintf(*out + used, nbytes - used, "%s\n", line);
    }
out:
    return st;
}

/* The library's word on an algorithm for a shape. */
static rp_status check(const rp_gpu *gpu, const rp_gemm_plan *p)
{
    cublasLtMatmulHeuristicResult_t found = {};
    char text[RP_GEMM_TEXT_BYTES];
    const cublasStatus_t status = cublasLtMatmulAlgoCheck(gpu->gemms->handle, p->operation, p->b,
                                                          p->a, p->c, p->c, &p->algorithm, &found);

    if (status == CUBLAS_STATUS_SUCCESS && rp_gemm_is_fixed(&p->algorithm, found.workspaceSize)) {
        return RP_OK;
    }
    rp_gemm_shape_text(text, &p->shape);
    return RP_FAIL(RP_ERR_MEMORY,
                   "%s does not accept the algorithm any more by which this job computes %s: %s",
                   gpu->name, text,
                   status == CUBLAS_STATUS_SUCCESS ? "it would split sums"
                                                   : cublasGetStatusString(status));
}

static rp_status pin_line(rp_gpu *gpu, const char *line, int number)
{
    rp_status st = RP_OK;
    rp_gemm_shape shape;
    cublasLtMatmulAlgo_t algorithm;
    rp_gemm_plan *made = NULL;

    if (!parse_line(&shape, &algorithm, line)) {
        return RP_FAIL(RP_ERR_FORMAT, "line %d of the algorithms of products is not one: %.80s",
                       number, line);
    }
    if (rp_gemm_plan_find(gpu, &shape) != NULL) {
        return RP_FAIL(RP_ERR_FORMAT, "line %d of the algorithms of products: there is one: %.160s",
                       number, line);
    }
    made = rp_gemm_plan_create(gpu, &shape);
    if (made == NULL) {
        return rp_gpu_sync(gpu);
    }
    made->algorithm = algorithm;
    RP_TRY(check(gpu, made));
    st = rp_gemm_plan_keep(gpu, &made) ? RP_OK : rp_gpu_sync(gpu);
out:
    rp_gemm_plan_destroy(&made);
    return st;
}

/* The line at *at without its end, cut where it is longer than any can be; *at is behind it. */
static void next_line(char out[RP_GEMM_TEXT_BYTES], const char **at)
{
    const size_t length = strcspn(*at, "\n");

    snprintf(out, RP_GEMM_TEXT_BYTES, "%.*s", (int)RP_MIN(length, RP_GEMM_TEXT_BYTES), *at);
    *at += length;
    *at += **at == '\n';
}

rp_status rp_gpu_algorithms_pin(rp_gpu *gpu, const char *text)
{
    rp_status st = RP_OK;
    char line[RP_GEMM_TEXT_BYTES];
    const char *at = text;
    int number = 1;

    next_line(line, &at);
    if (strcmp(line, gpu->arithmetic_class) != 0) {
        return RP_OK;
    }
    while (*at != '\0') {
        next_line(line, &at);
        RP_TRY(pin_line(gpu, line, ++number));
    }
out:
    return st;
}

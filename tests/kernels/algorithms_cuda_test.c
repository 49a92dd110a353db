/* Algorithms of products as text: a GPU that is held to another one's computes the same bits. */
#include "gpu_pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const size_t gpu_arena_bytes = (size_t)16 << 20;

enum { ROWS = 96, COLS = 72, KINDS = 4 };

/* What products leave: of linear, attention, gram and multiply. */
typedef struct results {
    float linear[ROWS * COLS], attention[ROWS * COLS], product[ROWS * ROWS];
    int64_t gram[COLS * COLS];
} results;

/* Two sequences of 48 tokens, three heads of 24. */
static void compute(const rp_exec *exec, results *out)
{
    static const rp_attention_shape heads = {.n_seqs = 2,
                                             .seq_len = ROWS / 2,
                                             .n_heads = 3,
                                             .n_kv_heads = 3,
                                             .head_dim = 24,
                                             .scale = 1};
    static int exponent[COLS];
    const rp_kernel_ops *const ops = rp_kernels_cuda();
    float *x = NULL, *y = NULL, *square = NULL;
    int64_t *gram = NULL;

    assert_int_equal(rp_place_alloc(exec, &x, ROWS * ROWS, sizeof(*x)), RP_OK);
    assert_int_equal(rp_place_alloc(exec, &y, ROWS * COLS, sizeof(*y)), RP_OK);
    assert_int_equal(rp_place_alloc(exec, &square, ROWS * ROWS, sizeof(*square)), RP_OK);
    assert_int_equal(rp_place_alloc(exec, &gram, COLS * COLS, sizeof(*gram)), RP_OK);
    for (int i = 0; i < ROWS * ROWS; i++) {
        out->product[i] = (float)((unsigned)i * 2654435761U >> 8) / 8388608.0F - 1.0F;
    }
    rp_place_put(exec, x, out->product, sizeof(out->product));
    rp_place_zero(exec, gram, sizeof(out->gram));
    const rp_cmat in = rp_cmat_of(x, ROWS, COLS, ROWS);
    ops->linear(exec, rp_mat_of(y, ROWS, COLS, COLS), in, rp_cmat_of(x, COLS, COLS, ROWS), NULL,
                false);
    rp_place_get(exec, out->linear, y, sizeof(out->linear));
    ops->attention(exec, &heads, rp_mat_of(y, ROWS, COLS, COLS), in, in, in);
    rp_place_get(exec, out->attention, y, sizeof(out->attention));
    ops->gram_add(exec, in, exponent, 20, gram);
    rp_place_get(exec, out->gram, gram, sizeof(out->gram));
    ops->multiply(exec, rp_mat_of(square, ROWS, ROWS, ROWS), rp_cmat_of(x, ROWS, ROWS, ROWS),
                  rp_cmat_of(x, ROWS, ROWS, ROWS));
    rp_place_get(exec, out->product, square, sizeof(out->product));
    assert_int_equal(rp_place_check(exec), RP_OK);
    rp_place_free(exec, x);
    rp_place_free(exec, y);
    rp_place_free(exec, square);
    rp_place_free(exec, gram);
}

/* Of the group's GPU. */
static void compute_all(results *out, char **text)
{
    compute(&gpu, out);
    assert_int_equal(rp_gpu_algorithms_format(text, gpu.gpu), RP_OK);
}

static void every_product_has_a_line(void **state)
{
    static const char *const starts[KINDS] = {
        "\nbf16 transposed_a=0 transposed_b=1 rows=96 cols=72 inner=72 count=1 ",
        "\nbf16 transposed_a=1 transposed_b=0 rows=72 cols=72 inner=96 count=1 ",
        "\nf32 transposed_a=0 transposed_b=0 rows=96 cols=96 inner=96 count=1 ",
        "\ntf32 transposed_a=0 transposed_b=1 rows=48 cols=48 inner=24 count=6 "};
    results *out = calloc(1, sizeof(*out));
    char *text = NULL, *again = NULL;
    int64_t n_lines = 0;

    (void)state;
    compute_all(out, &text);
    assert_memory_equal(text, rp_gpu_class(gpu.gpu), strlen(rp_gpu_class(gpu.gpu)));
    for (int i = 0; i < KINDS; i++) {
        assert_non_null(strstr(text, starts[i]));
    }
    for (const char *line = strchr(text, '\n') + 1; *line != '\0'; line = strchr(line, '\n') + 1) {
        assert_true(strstr(line, RP_GPU_ALGORITHM) < strchr(line, '\n'));
        assert_true(strstr(line, " split_k=1 reduction=0 ") < strchr(line, '\n') ||
                    strstr(line, " split_k=0 reduction=0 ") < strchr(line, '\n'));
        n_lines++;
    }
    assert_int_equal(n_lines, rp_gpu_algorithms_count(gpu.gpu));
    compute(&gpu, out);
    assert_int_equal(rp_gpu_algorithms_format(&again, gpu.gpu), RP_OK);
    assert_string_equal(again, text);
    free(again);
    free(text);
    free(out);
}

static void a_pinned_gpu_computes_the_same(void **state)
{
    results *out = calloc(2, sizeof(*out));
    char *text = NULL, *again = NULL;
    rp_exec other = gpu;

    (void)state;
    compute_all(&out[0], &text);
    assert_int_equal(rp_gpu_create(&other.gpu, 0, gpu_arena_bytes), RP_OK);
    assert_int_equal(rp_gpu_algorithms_count(other.gpu), 0);
    assert_int_equal(rp_gpu_algorithms_pin(other.gpu, text), RP_OK);
    assert_int_equal(rp_gpu_algorithms_count(other.gpu), rp_gpu_algorithms_count(gpu.gpu));
    compute(&other, &out[1]);
    assert_memory_equal(&out[1], &out[0], sizeof(out[0]));
    assert_int_equal(rp_gpu_algorithms_format(&again, other.gpu), RP_OK);
    assert_string_equal(again, text);
    rp_gpu_destroy(&other.gpu);
    free(again);
    free(text);
    free(out);
}

/* A GPU of its own takes the text. */
static rp_status pin(const char *text, int64_t *count)
{
    rp_gpu *other = NULL;
    rp_status st;

    assert_int_equal(rp_gpu_create(&other, 0, 1 << 20), RP_OK);
    st = rp_gpu_algorithms_pin(other, text);
    *count = rp_gpu_algorithms_count(other);
    assert_int_equal(rp_gpu_sync(other), RP_OK);
    rp_gpu_destroy(&other);
    return st;
}

static void another_class_says_nothing(void **state)
{
    results *out = calloc(1, sizeof(*out));
    char *text = NULL;
    int64_t count = -1;

    (void)state;
    compute_all(out, &text);
    text[0] = 'x';
    assert_int_equal(pin(text, &count), RP_OK);
    assert_int_equal(count, 0);
    assert_int_equal(pin("", &count), RP_OK);
    assert_int_equal(count, 0);
    free(text);
    free(out);
}

/* The first line behind the class, with `to` in place of `from`. */
static void refuse(const char *text, const char *from, const char *to)
{
    const char *const at = strstr(strchr(text, '\n'), from);
    const size_t length = strlen(text) + strlen(to) + 1;
    char *const made = calloc(1, length);
    int64_t count = -1;

    assert_non_null(at);
    snprintf(made, length, "%.*s%s%.*s", (int)(at - text), text, to,
             (int)strcspn(at + strlen(from), "\n"), at + strlen(from));
    if (pin(made, &count) != RP_ERR_FORMAT || strchr(rp_error_message(), '\n') != NULL ||
        strstr(rp_error_message(), "line 2 of the algorithms") == NULL) {
        fail_msg("\"%s\" instead of \"%s\": %s", to, from, rp_error_message());
    }
    assert_int_equal(count, 0);
    free(made);
}

static void other_text_is_refused(void **state)
{
    static const char *const changes[][2] = {
        {"bf16", "fp8"},         {"bf16", ""},        {"rows=", "rows=-"},
        {"rows=", "cols="},      {"rows=", "rows=x"}, {"count=1", "count=0"},
        {" tile=", " tile=1"},   {" inner=", " "},    {" words=", " words=0"},
        {" words=", " words=g"}, {" words=", ""},     {" algorithm=", "\n"},
    };
    results *out = calloc(1, sizeof(*out));
    char *text = NULL, *twice = NULL;
    const char *first = NULL;
    int64_t count = -1;

    (void)state;
    compute_all(out, &text);
    for (size_t i = 0; i < RP_COUNT(changes); i++) {
        refuse(text, changes[i][0], changes[i][1]);
    }
    first = strchr(text, '\n') + 1;
    assert_int_equal(rp_strprintf(&twice, "%s%.*s\n", text, (int)strcspn(first, "\n"), first),
                     RP_OK);
    assert_int_equal(pin(twice, &count), RP_ERR_FORMAT);
    assert_non_null(strstr(rp_error_message(), "there is one: bf16"));
    free(twice);
    free(text);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_product_has_a_line),
        cmocka_unit_test(a_pinned_gpu_computes_the_same),
        cmocka_unit_test(another_class_says_nothing),
        cmocka_unit_test(other_text_is_refused),
    };

    return rp_gpu_count() == 0 ? 77 : cmocka_run_group_tests(tests, set_up, tear_down);
}

/* The types that mixes give to tensors, against those that llama-quantize gave
 * (tests/data/golden/gguf_mixes.txt, whose format is in make_mix_golden.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/gguf_mix.h"

#define MAX_TENSORS 1024
#define LINE_BYTES 4096

static const char *golden_path;

typedef struct shape {
    char name[32], arch[16];
    long long n_layers, n_heads, n_kv_heads, n_experts;
    int is_tied;
    long long width, ffn_width;
} shape;

static void add(rp_gguf_mix_tensor *tensors, int64_t *n, const char *name, int64_t cols,
                int64_t count)
{
    rp_gguf_mix_tensor *t = &tensors[*n];

    assert_true(*n < MAX_TENSORS);
    *t = (rp_gguf_mix_tensor){
        .ndim = cols == 0 ? 1 : 2 + (count > 1), .ne = {RP_MAX(cols, 1), 4, count, 1}, .index = *n};
    (void)snprintf(t->name, sizeof(t->name), "%s", name);
    *n += 1;
}

/* The tensors of make_mix_golden.py's model, vectors too, in no order. */
static int64_t make_tensors(rp_gguf_mix_tensor *tensors, const shape *m)
{
    static const char *const parts[] = {"ffn_down",    "ffn_gate", "ffn_up",     "attn_k",
                                        "attn_output", "attn_q",   "attn_v",     "attn_norm",
                                        "attn_q.bias", "ffn_norm", "attn_q_norm"};
    int64_t n = 0;

    for (int64_t layer = m->n_layers - 1; layer >= 0; layer--) {
        for (size_t p = 0; p < RP_COUNT(parts); p++) {
            const bool is_mlp = p < 3;
            const bool is_vector = p >= 7;
            const bool is_stacked = is_mlp && m->n_experts > 0;
            const int64_t cols = p == 0 ? m->ffn_width : m->width;
            char name[RP_GGUF_NAME_BYTES];
            (void)snprintf(name, sizeof(name), "blk.%d.%s%s", (int)layer, parts[p],
                           is_stacked                          ? "_exps.weight"
                           : strstr(parts[p], ".bias") != NULL ? ""
                                                               : ".weight");
            add(tensors, &n, name, is_vector ? 0 : cols, is_stacked ? m->n_experts : 1);
        }
    }
    add(tensors, &n, "token_embd.weight", m->width, 1);
    add(tensors, &n, "output_norm.weight", 0, 1);
    if (!m->is_tied) {
        add(tensors, &n, "output.weight", m->width, 1);
    }
    rp_gguf_mix_sort(tensors, n);
    return n;
}

static bool is_of_kind(const char *name, const char *part)
{
    const char *rest = strncmp(name, "blk.", 4) == 0 ? strchr(name + 4, '.') : NULL;

    return rest == NULL ? strcmp(name, part) == 0 : strncmp(rest + 1, part, strlen(part)) == 0;
}

/* As in the golden file; norms and biases must be F32 and are left out. */
static void encode(char *out, const rp_gguf_mix_tensor *tensors, int64_t n)
{
    static const struct {
        char letter;
        const char *part;
    } kinds[] = {{'o', "output.weight"},      {'e', "token_embd.weight"}, {'k', "attn_k.weight"},
                 {'O', "attn_output.weight"}, {'q', "attn_q.weight"},     {'v', "attn_v.weight"},
                 {'d', "ffn_down"},           {'g', "ffn_gate"},          {'u', "ffn_up"}};
    size_t at = 0;

    for (int64_t i = 0; i < n; i++) {
        assert_true(tensors[i].ndim > 1 || strcmp(tensors[i].type->name, "F32") == 0);
    }
    for (size_t k = 0; k < RP_COUNT(kinds); k++) {
        const rp_gguf_block_type *run = NULL;
        int length = 0;
        for (int64_t i = 0; i <= n; i++) {
            const bool is_end = i == n;
            if (!is_end && !is_of_kind(tensors[i].name, kinds[k].part)) {
                continue;
            }
            if (run != NULL && (is_end || tensors[i].type != run)) {
                at += (size_t)snprintf(out + at, LINE_BYTES - at, "%s*%d%s", run->name, length,
                                       is_end ? " " : ",");
                length = 0;
            }
            if (!is_end) {
                if (run == NULL) {
                    at += (size_t)snprintf(out + at, LINE_BYTES - at, "%c:", kinds[k].letter);
                }
                run = tensors[i].type;
                length++;
            }
        }
    }
    assert_true(at > 0 && at < LINE_BYTES);
    out[at - 1] = '\0';
}

static const char *value_of(const char *option, const char *key)
{
    const size_t length = strlen(key);

    return strncmp(option, key, length) == 0 && option[length] == '=' ? option + length + 1 : NULL;
}

static void apply_option(rp_gguf_mix_opts *opts, rp_gguf_mix_tensor *tensors, int64_t n,
                         const char *option)
{
    const char *v = value_of(option, "first_v");

    opts->is_pure = strcmp(option, "pure") == 0;
    opts->has_imatrix = strcmp(option, "imatrix") == 0;
    if (value_of(option, "output") != NULL) {
        opts->output_type = rp_gguf_block_type_find(value_of(option, "output"));
        assert_non_null(opts->output_type);
    }
    if (value_of(option, "embedding") != NULL) {
        opts->embedding_type = rp_gguf_block_type_find(value_of(option, "embedding"));
        assert_non_null(opts->embedding_type);
    }
    for (int64_t i = 0; v != NULL && i < n; i++) {
        if (strcmp(tensors[i].name, "blk.0.attn_v.weight") == 0) {
            tensors[i].named = rp_gguf_block_type_find(v);
            assert_non_null(tensors[i].named);
        }
    }
}

/* llama-quantize shows these types in a dry run and then refuses to write them. */
static bool needs_imatrix(const char *mix, const char *want)
{
    return strcmp(mix, "Q2_K_S") == 0 && strstr(strstr(want, "k:"), "Q2_K*") != NULL;
}

static void check_line(const shape *m, const char *mix, const char *option, const char *want,
                       bool with_imatrix)
{
    static rp_gguf_mix_tensor tensors[MAX_TENSORS];
    const rp_gguf_mix_model model = {m->arch, m->n_layers, m->n_heads, m->n_kv_heads, m->n_experts};
    const int64_t n = make_tensors(tensors, m);
    rp_gguf_mix_opts opts = {.mix = rp_gguf_mix_find(mix)};
    char got[LINE_BYTES];

    assert_non_null(opts.mix);
    apply_option(&opts, tensors, n, option);
    opts.has_imatrix = opts.has_imatrix || with_imatrix;
    if (!opts.has_imatrix && needs_imatrix(mix, want)) {
        assert_int_equal(rp_gguf_mix_choose(&opts, &model, tensors, n), RP_ERR_CONFIG);
        assert_non_null(strstr(rp_error_message(), "Q2_K in a Q2_K_S file needs an importance"));
        return;
    }
    assert_int_equal(rp_gguf_mix_choose(&opts, &model, tensors, n), RP_OK);
    encode(got, tensors, n);
    if (strcmp(got, want) != 0) {
        fail_msg("%s %s %s%s:\nwant %s\ngot  %s", m->name, mix, option,
                 with_imatrix ? " with imatrix" : "", want, got);
    }
}

/* Each line; a plain one that no line for an imatrix follows holds with an imatrix too. */
static void test_golden(void **state)
{
    FILE *file = fopen(golden_path, "r");
    shape m = {0};
    char line[LINE_BYTES], plain[LINE_BYTES] = "", plain_mix[32] = "";
    int n_lines = 0;

    (void)state;
    assert_non_null(file);
    for (bool is_more = true; is_more;) {
        char mix[32] = "", option[32] = "";
        int at = 0;
        is_more = fgets(line, sizeof(line), file) != NULL;
        line[is_more ? strcspn(line, "\n") : 0] = '\0';
        if (is_more && strncmp(line, "model ", 6) != 0) {
            assert_int_equal(sscanf(line, "%31s %31s %n", mix, option, &at), 2);
            check_line(&m, mix, option, line + at, false);
            n_lines++;
        }
        if (plain[0] != '\0' && strcmp(option, "imatrix") != 0) {
            check_line(&m, plain_mix, "-", plain, true);
        }
        plain[0] = '\0';
        if (strcmp(option, "-") == 0) {
            memcpy(plain, line + at, strlen(line + at) + 1);
            memcpy(plain_mix, mix, sizeof(mix));
        }
        if (is_more && mix[0] == '\0') {
            assert_int_equal(sscanf(line, "model %31s %15s %lld %lld %lld %lld %d %lld %lld",
                                    m.name, m.arch, &m.n_layers, &m.n_heads, &m.n_kv_heads,
                                    &m.n_experts, &m.is_tied, &m.width, &m.ffn_width),
                             9);
        }
    }
    (void)fclose(file);
    assert_true(n_lines > 250);
}

/* ---- Rules that the golden file does not show ---- */

static void test_mixes(void **state)
{
    (void)state;
    assert_int_equal(rp_gguf_mix_find("Q4_K_M")->file_type, 15);
    assert_int_equal(rp_gguf_mix_find("Q4_K")->file_type, 15);
    assert_int_equal(rp_gguf_mix_find("F32")->file_type, 0);
    assert_int_equal(rp_gguf_mix_find("TQ2_0")->file_type, 37);
    assert_null(rp_gguf_mix_find("Q4_2"));
    assert_true(rp_gguf_mix_is_float(rp_gguf_mix_find("BF16")));
    assert_false(rp_gguf_mix_is_float(rp_gguf_mix_find("Q8_0")));
    for (const rp_gguf_mix *mix = rp_gguf_mix_table(); mix->name != NULL; mix++) {
        assert_non_null(rp_gguf_block_type_find(mix->base));
        assert_true(mix->file_type < 64); /* rules keep sets of them in 64 bits */
    }
}

static void test_order(void **state)
{
    static const char *const names[] = {
        "output.weight",       "output_norm.weight",  "rope_freqs.weight",
        "token_embd.weight",   "blk.0.attn_k.weight", "blk.0.attn_output.weight",
        "blk.0.ffn_up.weight", "blk.2.attn_k.weight", "blk.10.attn_k.weight"};
    rp_gguf_mix_tensor tensors[RP_COUNT(names)] = {0};

    (void)state;
    for (size_t i = 0; i < RP_COUNT(names); i++) {
        rp_gguf_mix_tensor *t = &tensors[(i * 5 + 3) % RP_COUNT(names)];
        (void)snprintf(t->name, sizeof(t->name), "%s", names[i]);
    }
    rp_gguf_mix_sort(tensors, RP_COUNT(names));
    for (size_t i = 0; i < RP_COUNT(names); i++) {
        assert_string_equal(tensors[i].name, names[i]);
    }
}

static const rp_gguf_mix_model two_layers = {"llama", 2, 4, 4, 0};

static void test_fallbacks(void **state)
{
    rp_gguf_mix_opts opts = {.mix = rp_gguf_mix_find("Q4_K_M")};
    rp_gguf_mix_tensor tensors[4];
    int64_t n = 0;

    (void)state;
    add(tensors, &n, "token_embd.weight", 256, 1);
    add(tensors, &n, "blk.0.attn_q.weight", 96, 1);
    add(tensors, &n, "blk.0.ffn_down.weight", 100, 1);
    add(tensors, &n, "blk.0.ffn_up.weight", 288, 1);
    tensors[3].named = rp_gguf_block_type_find("IQ4_XS");
    assert_int_equal(rp_gguf_mix_choose(&opts, &two_layers, tensors, n), RP_OK);
    assert_string_equal(tensors[0].type->name, "Q6_K");
    assert_false(tensors[0].is_fallback);
    assert_string_equal(tensors[1].type->name, "Q5_0");
    assert_true(tensors[1].is_fallback);
    assert_string_equal(tensors[2].type->name, "F16");
    assert_true(tensors[2].is_fallback);
    assert_string_equal(tensors[3].type->name, "IQ4_NL");
    assert_true(tensors[3].is_fallback);
    opts.mix = rp_gguf_mix_find("F16"); /* names count in quantised mixes only */
    assert_int_equal(rp_gguf_mix_choose(&opts, &two_layers, tensors, n), RP_OK);
    assert_string_equal(tensors[3].type->name, "F16");
    assert_false(tensors[3].is_fallback);
}

/* A type asked for as such is not replaced. */
static void test_refused_fit(void **state)
{
    const rp_gguf_mix_opts opts = {.mix = rp_gguf_mix_find("Q8_0"),
                                   .embedding_type = rp_gguf_block_type_find("Q6_K")};
    rp_gguf_mix_tensor tensors[1];
    int64_t n = 0;

    (void)state;
    add(tensors, &n, "token_embd.weight", 96, 1);
    assert_int_equal(rp_gguf_mix_choose(&opts, &two_layers, tensors, n), RP_ERR_CONFIG);
    assert_string_equal(rp_error_message(),
                        "token_embd.weight: 96 columns do not fill Q6_K's blocks of 256");
}

/* Matrices that are no weights of a product stay as they are. */
static void test_left_alone(void **state)
{
    const rp_gguf_mix_opts opts = {.mix = rp_gguf_mix_find("Q4_0")};
    rp_gguf_mix_tensor tensors[4];
    int64_t n = 0;

    (void)state;
    add(tensors, &n, "blk.0.attn_q_norm.weight", 32, 1);
    add(tensors, &n, "blk.0.ffn_gate_inp.weight", 32, 1);
    add(tensors, &n, "blk.0.attn_q.bias", 32, 1);
    add(tensors, &n, "blk.0.ffn_gate.weight", 32, 1);
    assert_int_equal(rp_gguf_mix_choose(&opts, &two_layers, tensors, n), RP_OK);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(tensors[i].type->name, "F32");
    }
    assert_string_equal(tensors[3].type->name, "Q4_0");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),      cmocka_unit_test(test_mixes),
        cmocka_unit_test(test_order),       cmocka_unit_test(test_fallbacks),
        cmocka_unit_test(test_refused_fit), cmocka_unit_test(test_left_alone),
    };

    if (argc != 2) {
        (void)fprintf(stderr, "usage: gguf_mix_test GOLDEN\n");
        return 64;
    }
    golden_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}

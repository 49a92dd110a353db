/* Types of a job's GGUF output: names by pattern as llama-quantize takes them, linears that the
 * recipe leaves alone, what is refused. The rules of the mixes have a test of their own. */
#include "test.h"

#include "jobs/gguf_types.h"
#include "tests/formats/make_files.h"
#include "tests/model/make_model.h"

static rp_weights *weights;
static bool is_kept[128];

static int set_up(void **state)
{
    static made_model model;

    (void)state;
    make_model(&model, RP_F32);
    model_write(&model, "{" MADE_MODEL_CONFIG "}");
    free_model(&model);
    assert_ok(rp_weights_open(&weights, scratch_path("")));
    assert_true(rp_weights_count(weights) <= (int64_t)RP_COUNT(is_kept));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rp_weights_close(&weights);
    return 0;
}

/* Types of a Q4_0 file with up to two entries of tensor_types. */
static rp_status make_types(rp_gguf_types *out, const char *first, const char *second)
{
    char *texts[] = {(char *)first, (char *)second};
    char mix[] = "Q4_0";
    char name[] = "m.gguf";
    const rp_output_format format = {
        .kind = RP_FORMAT_GGUF,
        .name = name,
        .gguf_type = mix,
        .tensor_types = {.items = texts, .n = (first != NULL) + (second != NULL)}};

    return rp_gguf_types_create(out, weights, &format, is_kept, false);
}

static void expect_type(const rp_gguf_types *types, const char *hf_name, const char *type)
{
    const rp_gguf_mix_tensor *t = rp_gguf_types_find(types, hf_name);

    assert_non_null(t);
    if (strcmp(t->type->name, type) != 0) {
        fail_msg("%s: want %s, got %s", hf_name, type, t->type->name);
    }
}

static void test_plain(void **state)
{
    rp_gguf_types types;
    json_t *counts = NULL;

    (void)state;
    assert_ok(make_types(&types, NULL, NULL));
    assert_int_equal(types.n, rp_weights_count(weights));
    assert_string_equal(types.items[0].name, "output.weight");
    expect_type(&types, "lm_head.weight", "Q8_0"); /* Q6_K needs 256 columns */
    expect_type(&types, "model.embed_tokens.weight", "Q4_0");
    expect_type(&types, "model.norm.weight", "F32");
    expect_type(&types, "model.layers.1.self_attn.v_proj.weight", "Q4_0");
    assert_null(rp_gguf_types_find(&types, "model.layers.7.self_attn.v_proj.weight"));
    counts = rp_gguf_types_count(&types);
    assert_int_equal(json_integer_value(json_object_get(counts, "Q4_0")), 15);
    assert_int_equal(json_integer_value(json_object_get(counts, "Q8_0")), 1);
    assert_int_equal(json_integer_value(json_object_get(counts, "F32")), 5);
    assert_int_equal(json_object_size(counts), 3);
    json_decref(counts);
    rp_gguf_types_destroy(&types);
}

/* The first that matches counts, anywhere in the name; patterns are lowered, types in any case. */
static void test_names(void **state)
{
    rp_gguf_types types;

    (void)state;
    assert_ok(make_types(&types, "BLK\\.1\\..*[kv]\\.=q5_0", "attn_(v|q)|output=Q8_0"));
    expect_type(&types, "model.layers.0.self_attn.k_proj.weight", "Q4_0");
    expect_type(&types, "model.layers.1.self_attn.k_proj.weight", "Q5_0");
    expect_type(&types, "model.layers.1.self_attn.v_proj.weight", "Q5_0");
    expect_type(&types, "model.layers.0.self_attn.v_proj.weight", "Q8_0");
    expect_type(&types, "model.layers.0.self_attn.o_proj.weight", "Q8_0");
    expect_type(&types, "model.norm.weight", "F32"); /* "output_norm" is no matrix */
    rp_gguf_types_destroy(&types);
    assert_ok(make_types(&types, "attn_v.weight$=F16", NULL));
    expect_type(&types, "model.layers.0.self_attn.v_proj.weight", "F16");
    rp_gguf_types_destroy(&types);
}

static void test_kept(void **state)
{
    static const char *const kept[] = {"model.layers.0.mlp.down_proj.weight",
                                       "model.layers.1.mlp.down_proj.weight"};
    rp_gguf_types types;

    (void)state;
    for (int64_t i = 0; i < rp_weights_count(weights); i++) {
        const char *name = rp_weights_at(weights, i)->name;
        is_kept[i] = strcmp(name, kept[0]) == 0 || strcmp(name, kept[1]) == 0;
    }
    assert_ok(make_types(&types, "blk.1.ffn_down=Q5_1", NULL));
    expect_type(&types, kept[0], "F16");
    expect_type(&types, kept[1], "Q5_1");
    rp_gguf_types_destroy(&types);
    memset(is_kept, 0, sizeof(is_kept));
}

static void test_refused(void **state)
{
    rp_gguf_types types;

    (void)state;
    assert_fails(make_types(&types, "attn_v=Q8_0", "layers=Q8_0"), RP_ERR_CONFIG,
                 "output m.gguf: tensor_types: \"layers=Q8_0\" matches no tensor of the model");
    assert_fails(make_types(&types, "^attn_v=Q8_0", NULL), RP_ERR_CONFIG, "matches no tensor");
    assert_fails(make_types(&types, "0.attn_v=Q8_1", NULL), RP_ERR_CONFIG,
                 "output m.gguf: blk.0.attn_v.weight: type Q8_1 is not written by this program");
    assert_null(types.items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_refused),
    };

    (void)make_scratch_dir();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* Which step and override decide for a linear. */
#include "test.h"

#include "jobs/job.h"

static const char text[] =
    "model: m\n"
    "output: {dir: out, formats: [gptq]}\n"
    "calibration: {text: t}\n"
    "recipe:\n"
    "  - gptq:\n"
    "      targets: ['re:model\\.layers\\.\\d+\\.(self_attn|mlp)', special]\n"
    "      ignore: ['re:.*layers\\.1\\.', model.layers.0.mlp.up_proj]\n"
    "      group_size: 32\n"
    "      overrides:\n"
    "        - {targets: ['re:.*down_proj'], bits: 8, symmetric: false, actorder: none}\n"
    "        - {targets: ['re:.*_proj$'], bits: 5, mse: true, dampening_frac: 0.1}\n"
    "  - rtn: {targets: model.layers.0.mlp.up_proj, scheme: W8A16}\n";

static rp_job *make_job(void)
{
    rp_job *job = NULL;

    assert_ok(rp_job_parse(&job, text, strlen(text), "job.yaml", NULL, 0));
    return job;
}

static void test_match(void **state)
{
    rp_job *job = make_job();
    rp_linear_choice c;

    (void)state;
    assert_ok(rp_recipe_match(&c, job, "model.layers.0.mlp.down_proj"));
    assert_false(c.is_dense);
    assert_int_equal(c.method, RP_METHOD_GPTQ);
    assert_int_equal(c.scheme.bits, 8);
    assert_false(c.scheme.is_symmetric);
    assert_int_equal(c.scheme.group_size, 32);
    assert_int_equal(c.actorder, RP_ACTORDER_NONE);
    assert_true(c.dampening_frac == 0.01);

    assert_ok(rp_recipe_match(&c, job, "model.layers.0.self_attn.q_proj"));
    assert_int_equal(c.scheme.bits, 5);
    assert_true(c.scheme.is_symmetric && c.scheme.mse);
    assert_int_equal(c.actorder, RP_ACTORDER_AUTO);
    assert_true(c.dampening_frac == 0.1);

    assert_ok(rp_recipe_match(&c, job, "special"));
    assert_int_equal(c.scheme.bits, 4);
    assert_int_equal(c.block_size, 128);

    assert_ok(rp_recipe_match(&c, job, "model.layers.0.mlp.up_proj"));
    assert_int_equal(c.method, RP_METHOD_RTN);
    assert_int_equal(c.step, 1);
    assert_int_equal(c.scheme.group_size, 0);

    assert_ok(rp_recipe_match(&c, job, "model.layers.1.self_attn.q_proj"));
    assert_true(c.is_dense);
    assert_ok(rp_recipe_match(&c, job, "lm_head"));
    assert_true(c.is_dense);
    /* Patterns hold from the start of the name, as re.match has it. */
    assert_ok(rp_recipe_match(&c, job, "x.model.layers.0.mlp.down_proj"));
    assert_true(c.is_dense);
    rp_job_destroy(&job);
}

static void test_check(void **state)
{
    static const char *const all[] = {"special", "model.layers.0.mlp.down_proj",
                                      "model.layers.0.mlp.up_proj"};
    rp_job *job = make_job();

    (void)state;
    assert_ok(rp_recipe_check(job, all, 3));
    assert_fails(rp_recipe_check(job, all + 1, 2), RP_ERR_CONFIG,
                 "job.yaml: recipe.0.gptq: target \"special\" matches no linear of the model");
    assert_fails(rp_recipe_check(job, all, 2), RP_ERR_CONFIG,
                 "recipe.1.rtn: target \"model.layers.0.mlp.up_proj\"");
    rp_job_destroy(&job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_check),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

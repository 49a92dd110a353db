/* Job files: the example of the design, defaults, every kind of error with its place, overrides,
 * the resolved job, the hash. */
#include "test.h"

#include "jobs/job.h"
#include "kernels/exec.h"

/* The lines of a good job; a test replaces some. */
#define MODEL "model: m\n"
#define OUTPUT "output: {dir: out, formats: [{gptq: {}}]}\n"
#define CALIBRATION "calibration: {text: t.txt}\n"
#define RECIPE "recipe: [{gptq: {}}]\n"
#define GGUF(keys) "output: {dir: o, formats: [{gguf: {type: Q4_K_M, " keys "}}]}\n"
static const char small_job[] = MODEL OUTPUT CALIBRATION RECIPE;

static const char design_job[] =
    "model: models/SmolLM2-135M            # Hugging Face folder\n"
    "output: {dir: out, formats: [{gguf: Q4_0}, {gptq: {max_shard_size: 1GiB}}]}\n"
    "calibration: {text: wiki.train.txt, num_calibration_samples: 64, max_seq_length: 2048}\n"
    "recipe:\n"
    "  - gptq: {targets: [Linear], ignore: [lm_head], scheme: W4A16_ASYM, group_size: 64,\n"
    "           overrides: [{targets: [\"re:.*down_proj\"], bits: 8, group_size: -1}]}\n"
    "  - rtn: {targets: lm_head, ignore: [], scheme: W8A16}\n"
    "evaluate: {text: wiki.test.txt, context: 1024, metrics: [perplexity, kl_divergence]}\n"
    "gates: [{perplexity_ratio: 1.05}, {size_ratio: 0.30}]\n"
    "cluster: {mode: exact, checkpoint: {every_layers: 1, keep: 3}, walltime: 1h30m}\n";

static rp_job *parse(const char *text)
{
    rp_job *job = NULL;

    assert_ok(rp_job_parse(&job, text, strlen(text), "job.yaml", NULL, 0));
    return job;
}

static void refuse(const char *text, const char *message)
{
    rp_job *job = NULL;

    assert_fails(rp_job_parse(&job, text, strlen(text), "job.yaml", NULL, 0), RP_ERR_CONFIG,
                 message);
    assert_null(job);
}

static void test_design_example(void **state)
{
    rp_job *job = parse(design_job);
    const rp_recipe_step *step = &job->recipe.items[0];

    (void)state;
    assert_string_equal(job->model, "models/SmolLM2-135M");
    assert_int_equal(job->output.formats.n, 2);
    assert_int_equal(job->output.formats.items[0].kind, RP_FORMAT_GGUF);
    assert_string_equal(job->output.formats.items[0].gguf_type, "Q4_0");
    assert_string_equal(job->output.formats.items[0].name, "model-Q4_0.gguf");
    assert_int_equal(job->output.formats.items[1].max_shard_bytes, 1 << 30);
    assert_int_equal(job->calibration.num_samples, 64);
    assert_int_equal(job->calibration.block_tokens, 2048);
    assert_int_equal(job->recipe.n, 2);
    assert_int_equal(step->method, RP_METHOD_GPTQ);
    assert_int_equal(step->scheme.bits, 4);
    assert_int_equal(step->scheme.is_symmetric, 0);
    assert_int_equal(step->scheme.group_size, 64);
    assert_int_equal(step->scheme.actorder, RP_ACTORDER_AUTO);
    assert_int_equal(step->sweeps, RP_SWEEPS_AUTO);
    assert_int_equal(step->overrides.items[0].scheme.bits, 8);
    assert_int_equal(step->overrides.items[0].scheme.group_size, -1);
    assert_int_equal(step->overrides.items[0].scheme.is_symmetric, 0);
    assert_int_equal(job->recipe.items[1].ignore.n, 0);
    assert_int_equal(job->recipe.items[1].scheme.group_size, -1);
    assert_int_equal(job->evaluate.metrics, RP_METRIC_PERPLEXITY | RP_METRIC_KL_DIVERGENCE);
    assert_int_equal(job->gates.n, 3);
    assert_int_equal(job->gates.items[2].kind, RP_GATE_FALLBACKS);
    assert_true(job->gates.items[2].limit == 0);
    assert_true(job->cluster.walltime_seconds == 5400);
    assert_int_equal(job->cluster.checkpoint.keep, 3);
    rp_job_destroy(&job);
}

static void test_defaults(void **state)
{
    rp_job *job = parse(small_job);

    (void)state;
    assert_int_equal(job->calibration.num_samples, 128);
    assert_int_equal(job->calibration.max_seq_length, 0);
    assert_int_equal(job->recipe.items[0].scheme.bits, 4);
    assert_int_equal(job->recipe.items[0].scheme.group_size, 128);
    assert_true(job->recipe.items[0].scheme.dampening_frac == 0.01);
    assert_string_equal(job->recipe.items[0].targets.items[0], "Linear");
    assert_string_equal(job->recipe.items[0].ignore.items[0], "lm_head");
    assert_null(job->evaluate.text);
    assert_int_equal(job->cluster.products, RP_PRODUCTS_AUTO);
    assert_int_equal(job->cluster.checkpoint.keep, 2);
    assert_string_equal(job->output.formats.items[0].name, "gptq");
    assert_int_equal(job->output.formats.items[0].dtype, RP_DTYPE_AUTO);
    rp_job_destroy(&job);
}

static void test_refused_keys(void **state)
{
    (void)state;
    refuse(MODEL OUTPUT CALIBRATION "recipe:\n  - gptq:\n      groupsize: 64\n",
           "job.yaml:6:7: unknown key \"groupsize\" in recipe.gptq (did you mean \"group_size\"?)");
    refuse(MODEL OUTPUT CALIBRATION RECIPE "evaluat: {}\n",
           "job.yaml:5:1: unknown key \"evaluat\" (did you mean \"evaluate\"?)");
    refuse(MODEL OUTPUT CALIBRATION "recipe: [{gptx: {}}]\n",
           "unknown key \"gptx\" in recipe (did you mean \"gptq\"?)");
    refuse(MODEL OUTPUT CALIBRATION "recipe: [{awq: {}}]\n",
           "job.yaml:4:11: unknown key \"awq\" in recipe: want rtn or gptq");
    refuse(MODEL OUTPUT CALIBRATION "recipe: [awq]\n", "unknown key \"awq\" in recipe: want rtn");
    refuse(MODEL OUTPUT CALIBRATION "recipe: [{gptq: {}, gptx: {}}]\n",
           "job.yaml:4:21: unknown key \"gptx\" in recipe (did you mean \"gptq\"?)");
    refuse(MODEL OUTPUT CALIBRATION RECIPE MODEL, "job.yaml:5:1: key \"model\" is there twice");
    refuse(OUTPUT CALIBRATION RECIPE, "job.yaml:1:1: missing key \"model\"");
    refuse(MODEL CALIBRATION RECIPE, "missing key \"output\"");
    refuse(MODEL "output: {formats: [gptq]}\n" CALIBRATION RECIPE,
           "job.yaml:2:9: missing key \"dir\" in output");
    refuse(MODEL "output: {dir: o, formats: [{gguf: {}}]}\n" CALIBRATION RECIPE,
           "want one of type, target_bpw and target_size");
    refuse("- a\n", "job.yaml:1:1: job: want a mapping, got a list");
    refuse("", "it is empty");
}

static void test_refused_values(void **state)
{
    (void)state;
    refuse(
        MODEL OUTPUT "calibration: {text: t, num_calibration_samples: many}\n" RECIPE,
        "job.yaml:3:49: calibration.num_calibration_samples: want an integer from 1 to 10000000, "
        "got \"many\"");
    refuse(MODEL OUTPUT "calibration: {text: t, seed: [1]}\n" RECIPE,
           "calibration.seed: want a value, got a list");
    refuse(MODEL OUTPUT "calibration: t.txt\n" RECIPE,
           "job.yaml:3:14: calibration: want a mapping, got a value");
    refuse(MODEL OUTPUT "calibration:\n" RECIPE, "calibration: want a mapping, got nothing");
    refuse("model:\n" OUTPUT CALIBRATION RECIPE, "model: it has no value");
    refuse("model: ~\n" OUTPUT CALIBRATION RECIPE, "model: it has no value");
    refuse(MODEL OUTPUT CALIBRATION "recipe: {gptq: {}}\n", "recipe: want a list, got a mapping");
    refuse(MODEL OUTPUT CALIBRATION "recipe: [{gptq: {}, rtn: {}}]\n",
           "recipe: want one key an entry, such as \"- rtn: ...\"");
    refuse(MODEL OUTPUT CALIBRATION "recipe: [{gptq: {bits: 9}}]\n",
           "recipe.gptq.bits: want an integer from 2 to 8 or scheme, got \"9\"");
    refuse(MODEL OUTPUT CALIBRATION "recipe: [{gptq: {scheme: W4A15}}]\n",
           "(did you mean \"W4A16\"?)");
    refuse(MODEL OUTPUT CALIBRATION "recipe: [{gptq: {group_size: 0}}]\n",
           "recipe.gptq.group_size");
    refuse(MODEL OUTPUT CALIBRATION "recipe: [{gptq: {actorder: group}}]\n",
           "none, static or auto");
    refuse(MODEL OUTPUT CALIBRATION "recipe: [{rtn: {actorder: static}}]\n",
           "unknown key \"actorder\" in recipe.rtn");
    refuse(MODEL OUTPUT CALIBRATION "recipe: [{gptq: {targets: [\"re:(\"]}}]\n",
           "job.yaml:4:28: recipe.gptq.targets: not a regular expression: \"(\"");
    refuse(MODEL "output: {dir: o, formats: [{gguf: Q4_2}]}\n" CALIBRATION RECIPE,
           "output.formats.gguf: want F32, F16, BF16, Q8_0, Q4_0");
    refuse(MODEL GGUF("tensor_types: ffn_down") RECIPE,
           "want PATTERN=TYPE, such as \"ffn_down=Q6_K\", got \"ffn_down\"");
    refuse(MODEL GGUF("tensor_types: [=Q6_K]") RECIPE, "want PATTERN=TYPE");
    refuse(MODEL GGUF("tensor_types: [v=Q4_0, ffn_down=Q6]") RECIPE,
           "\"ffn_down=Q6\": want a GGUF type such as Q6_K or F16, got \"Q6\"");
    refuse(MODEL GGUF("tensor_types: ['attn_(v=Q4_0']") RECIPE,
           "\"attn_(v=Q4_0\": not a regular expression: ");
    refuse(MODEL GGUF("output_tensor_type: Q4_K_M") RECIPE,
           "output.formats.gguf.output_tensor_type: want a GGUF type such as Q6_K");
    refuse(MODEL "output: {dir: o, formats: [{gptq: {name: ../x}}]}\n" CALIBRATION RECIPE,
           "want a plain file name");
    refuse(MODEL "output: {dir: o, formats: [{gptq: {name: README.md}}]}\n" CALIBRATION RECIPE,
           "a name that rankpress itself uses");
    refuse(MODEL OUTPUT CALIBRATION RECIPE "evaluate: {text: t, metrics: [speed]}\n",
           "evaluate.metrics: want a list of perplexity, kl_divergence or top1_agreement");
}

static void test_refused_together(void **state)
{
    (void)state;
    refuse(MODEL "output: {dir: o, formats: [{gguf: {type: F16, tensor_types: v=Q4_0}}]}\n" RECIPE,
           "job.yaml: output.formats.gguf.tensor_types: a F16 file has one type for all");
    refuse(MODEL OUTPUT RECIPE, "job.yaml: recipe.0.gptq needs calibration.text");
    refuse(MODEL OUTPUT "recipe: []\n", "job.yaml: output.formats: gptq needs a recipe");
    refuse(MODEL OUTPUT CALIBRATION RECIPE "gates: [{kl_divergence: 0.1}]\n",
           "gate kl_divergence needs evaluate.text");
    refuse(MODEL OUTPUT CALIBRATION RECIPE "evaluate: {text: t}\ngates: [{kl_divergence: 0.1}]\n",
           "gate kl_divergence needs");
    refuse(MODEL OUTPUT CALIBRATION RECIPE "gates: [{fallbacks: 1}, {fallbacks: 2}]\n",
           "gates: \"fallbacks\" is there twice");
    refuse(MODEL "output: {dir: o, formats: [gptq, {gptq: {}}]}\n" CALIBRATION RECIPE,
           "entries 0 and 1 are both called \"gptq\"");
}

/* Types and mixes are found in any case, as llama-quantize finds them. */
static void test_gguf_keys(void **state)
{
    rp_job *job = parse(MODEL "output: {dir: o, formats: [{gguf: q4_k_m}, {gguf: {type: Q2_K_S,\n"
                              "  tensor_types: ['blk\\.[0-3]\\.ffn_down=q6_k', 'a$=F16'],\n"
                              "  output_tensor_type: q8_0, pure: true}}]}\n" CALIBRATION RECIPE);
    const rp_output_format *first = &job->output.formats.items[0];
    const rp_output_format *second = &job->output.formats.items[1];

    (void)state;
    assert_string_equal(first->gguf_type, "Q4_K_M");
    assert_string_equal(first->name, "model-Q4_K_M.gguf");
    assert_int_equal(first->tensor_types.n, 0);
    assert_null(first->output_tensor_type);
    assert_false(first->is_pure);
    assert_int_equal(second->tensor_types.n, 2);
    assert_string_equal(second->tensor_types.items[0], "blk\\.[0-3]\\.ffn_down=q6_k");
    assert_string_equal(second->output_tensor_type, "q8_0");
    assert_null(second->token_embedding_type);
    assert_true(second->is_pure);
    rp_job_destroy(&job);
}

static void test_overrides(void **state)
{
    static const char *const good[] = {"recipe.0.gptq.scheme=W3A16", "cluster.threads=2",
                                       "evaluate.text=x.txt", "gates=[{fallbacks: 2}]"};
    static const char *const bad[] = {"recipe.0.gptq.bits=11"};
    static const char *const unknown[] = {"cluster.thread=2"};
    rp_job *job = NULL;

    (void)state;
    assert_ok(rp_job_parse(&job, small_job, strlen(small_job), "job.yaml", good, 4));
    assert_int_equal(job->recipe.items[0].scheme.bits, 3);
    assert_int_equal(job->cluster.threads, 2);
    assert_string_equal(job->evaluate.text, "x.txt");
    assert_int_equal(job->gates.n, 1);
    assert_true(job->gates.items[0].limit == 2);
    rp_job_destroy(&job);
    assert_fails(rp_job_parse(&job, small_job, strlen(small_job), "job.yaml", bad, 1),
                 RP_ERR_CONFIG, "recipe.0.gptq.bits=11: recipe.gptq.bits: want an integer");
    assert_fails(rp_job_parse(&job, small_job, strlen(small_job), "job.yaml", unknown, 1),
                 RP_ERR_CONFIG,
                 "cluster.thread=2: unknown key \"thread\" in cluster (did you mean \"threads\"?)");
}

/* The resolved job is a fixed point and has the same hash. */
static void test_resolved(void **state)
{
    static const char *const texts[] = {small_job, design_job};

    (void)state;
    for (size_t i = 0; i < RP_COUNT(texts); i++) {
        rp_job *job = parse(texts[i]);
        rp_job *again = NULL;
        char *yaml = NULL;
        char *yaml_again = NULL;
        rp_hash hash, hash_again;
        assert_ok(rp_job_to_yaml(&yaml, job));
        again = parse(yaml);
        assert_ok(rp_job_to_yaml(&yaml_again, again));
        assert_string_equal(yaml, yaml_again);
        assert_non_null(strstr(yaml, "model: /"));
        assert_ok(rp_job_hash(&hash, job));
        assert_ok(rp_job_hash(&hash_again, again));
        assert_true(rp_hash_equal(hash, hash_again));
        free(yaml);
        free(yaml_again);
        rp_job_destroy(&again);
        rp_job_destroy(&job);
    }
}

static rp_hash hash_with(const char *override)
{
    rp_job *job = NULL;
    rp_hash hash;

    assert_ok(rp_job_parse(&job, small_job, strlen(small_job), "job.yaml", &override, 1));
    assert_ok(rp_job_hash(&hash, job));
    rp_job_destroy(&job);
    return hash;
}

static void test_hash(void **state)
{
    static const char *const same[] = {"cluster.threads=3", "output.dir=elsewhere",
                                       "model=other",       "cluster.walltime=10m",
                                       "cluster.log=debug", "recipe.0.gptq.scheme=W4A16"};
    static const char *const other[] = {"recipe.0.gptq.bits=3", "calibration.seed=1",
                                        "calibration.block_tokens=512", "cluster.products=bf16",
                                        "output.formats.0.gptq.checkpoint_format=gptq_v2"};
    const rp_hash plain = hash_with("cluster.threads=1");

    (void)state;
    for (size_t i = 0; i < RP_COUNT(same); i++) {
        assert_true(rp_hash_equal(plain, hash_with(same[i])));
    }
    for (size_t i = 0; i < RP_COUNT(other); i++) {
        assert_false(rp_hash_equal(plain, hash_with(other[i])));
    }
}

static void test_lines(void **state)
{
    rp_job *job = parse(small_job);
    char *lines = NULL;

    (void)state;
    assert_ok(rp_job_lines(&lines, job));
    assert_non_null(strstr(lines, "recipe.0.gptq.bits=4\n"));
    assert_non_null(strstr(lines, "recipe.0.gptq.targets.0=Linear\n"));
    assert_null(strstr(lines, "output.dir"));
    assert_null(strstr(lines, "threads"));
    free(lines);
    rp_job_destroy(&job);
}

static void test_load(void **state)
{
    rp_job *job = NULL;

    (void)state;
    assert_fails(rp_job_load(&job, "/nonexistent/job.yaml", NULL, 0), RP_ERR_FORMAT,
                 "/nonexistent/job.yaml: cannot open");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_design_example),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_refused_keys),
        cmocka_unit_test(test_refused_values),
        cmocka_unit_test(test_refused_together),
        cmocka_unit_test(test_gguf_keys),
        cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_resolved),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

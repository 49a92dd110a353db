/* Job files: any bytes give a job or one line with the right status; the resolved job of what is
 * accepted reads back to itself. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "jobs/job.h"

static const char *const seeds[] = {
    "model: m\n"
    "output: {dir: out, formats: [{gguf: Q4_0}, {gptq: {max_shard_size: 1GiB}}]}\n"
    "calibration: {text: t, num_calibration_samples: 64, max_seq_length: 2048, seed: 7}\n"
    "recipe:\n"
    "  - gptq: {targets: [Linear, 're:.*down'], scheme: W4A16_ASYM, group_size: 64,\n"
    "           overrides: [{targets: ['re:.*x'], bits: 8, group_size: -1}]}\n"
    "  - rtn: {targets: lm_head, ignore: [], mse: true}\n"
    "evaluate: {text: t, context: 1024, metrics: [perplexity, kl_divergence]}\n"
    "gates: [{perplexity_ratio: 1.05}, {size_ratio: 0.30}]\n"
    "cluster: {checkpoint: {keep: 3}, walltime: 1h30m, memory_per_rank: 3.5GiB}\n",
    "{model: m, output: {dir: o, formats: [safetensors]}, recipe: [rtn]}\n",
    "model: |\n  a\n  b\nrecipe:\n- rtn: &a {}\n- *a\n",
    "---\nmodel: \"\\u0041\\x42\"\n...\n--- !!map\n",
};

static void fuzz_require(bool is_so)
{
    if (!is_so) {
        __builtin_trap();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes)
{
    rp_job *job = NULL;
    rp_job *again = NULL;
    char *yaml = NULL;
    char *yaml_again = NULL;
    const rp_status st = rp_job_parse(&job, (const char *)data, nbytes, "fuzz.yaml", NULL, 0);

    if (st != RP_OK) {
        fuzz_require(st == RP_ERR_CONFIG && strncmp(rp_error_message(), "fuzz.yaml:", 10) == 0);
        return 0;
    }
    fuzz_require(rp_job_to_yaml(&yaml, job) == RP_OK);
    fuzz_require(rp_job_parse(&again, yaml, strlen(yaml), "again.yaml", NULL, 0) == RP_OK);
    fuzz_require(rp_job_to_yaml(&yaml_again, again) == RP_OK);
    fuzz_require(strcmp(yaml, yaml_again) == 0);
    free(yaml);
    free(yaml_again);
    rp_job_destroy(&again);
    rp_job_destroy(&job);
    return 0;
}

uint8_t *fuzz_seed(int index, size_t *nbytes)
{
    uint8_t *copy = NULL;

    if (index >= (int)RP_COUNT(seeds)) {
        return NULL;
    }
    *nbytes = strlen(seeds[index]);
    fuzz_require(rp_alloc(&copy, *nbytes) == RP_OK);
    memcpy(copy, seeds[index], *nbytes);
    return copy;
}

/* Any bytes as a model folder: text of config.json up to the first NUL, then model.safetensors.
 * Opened as a model; every tensor is read whole and in part. Seeds are a dense, a GPTQ and a
 * compressed-tensors model. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/weights.h"
#include "tests/formats/make_files.h"
#include "tests/fuzz/fuzz.h"
#include "tests/model/make_model.h"

static void read_tensor(const rp_weights *weights, const rp_weight_info *info)
{
    const int64_t cols = info->ndim == 1 ? 1 : info->shape[1];
    const int64_t half = info->shape[0] / 2;
    float *values = NULL;

    fuzz_check(rp_alloc_array(&values, (size_t)(info->shape[0] * cols), sizeof(*values)));
    fuzz_check(rp_weights_read_f32(weights, info, 0, info->shape[0], values));
    fuzz_check(rp_weights_read_f32(weights, info, half, info->shape[0] - half, values));
    free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes)
{
    const uint8_t *end = nbytes == 0 ? NULL : memchr(data, 0, nbytes);
    const size_t n_config = end == NULL ? nbytes : (size_t)(end - data);
    const size_t n_skip = end == NULL ? nbytes : n_config + 1;
    rp_weights *weights = NULL;

    (void)make_file("config.json", data, n_config);
    (void)make_file("model.safetensors", data + n_skip, nbytes - n_skip);
    fuzz_check(rp_weights_open(&weights, scratch_path("")));
    for (int64_t i = 0; weights != NULL && i < rp_weights_count(weights); i++) {
        read_tensor(weights, rp_weights_at(weights, i));
    }
    rp_weights_close(&weights);
    return 0;
}

uint8_t *fuzz_seed(int index, size_t *nbytes)
{
    static const char *const containers[] = {NULL, "gptq", "compressed-tensors"};
    const rp_container_opts opts = {.dense_type = RP_F16};
    static made_model model;
    json_t *config = NULL;
    char *text = NULL;
    char *file = NULL;
    size_t file_bytes = 0;
    uint8_t *seed = NULL;

    if (index >= (int)RP_COUNT(containers)) {
        free_model(&model);
        return NULL;
    }
    make_model(&model, RP_F16);
    config = index == 0 ? json_loads("{" MADE_MODEL_CONFIG "}", 0, NULL)
                        : model_pack(&model, rp_container_find(containers[index]), &opts, "", NULL);
    text = json_dumps(config, JSON_COMPACT);
    file = model_bytes(&model, &file_bytes);
    *nbytes = strlen(text) + 1 + file_bytes;
    seed = malloc(*nbytes);
    if (seed != NULL) {
        memcpy(seed, text, strlen(text) + 1);
        memcpy(seed + strlen(text) + 1, file, file_bytes);
    }
    free(file);
    free(text);
    json_decref(config);
    return seed;
}

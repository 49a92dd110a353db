/* Helper of containers_test.py: rounds a model to the nearest codes into a container, or writes a
 * model of any kind as plain f32.
 *
 * usage: containers_driver FROM TO CONTAINER BITS GROUP sym|asym v1|v2 MAX_SHARD_BYTES
 *        containers_driver FROM TO f32 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "formats/container.h"
#include "formats/safetensors.h"
#include "model/weights.h"

/* What is to be written. */
typedef struct output {
    const char *dir;
    const rp_container *container; /* NULL: nothing is packed */
    rp_container_opts opts;
    rp_scheme scheme;
    size_t max_shard_bytes;
    rp_part *parts; /* [n_parts] */
    void **bytes;   /* [n_parts] */
    int64_t n_parts;
    rp_module_scheme *modules; /* [n_modules] names are to be freed */
    int64_t n_modules;
} output;

static bool is_linear(const rp_weight_info *info)
{
    return info->ndim == 2 && strstr(info->name, "_proj.weight") != NULL;
}

static rp_status add_dense(output *out_model, const rp_weight_info *info, const float *values)
{
    rp_status st = RP_OK;
    rp_part *part = &out_model->parts[out_model->n_parts];
    int64_t n = 1;

    part->dtype = out_model->opts.dense_type;
    part->ndim = info->ndim;
    for (int i = 0; i < info->ndim; i++) {
        part->shape[i] = info->shape[i];
        n *= info->shape[i];
    }
    (void)snprintf(part->name, sizeof(part->name), "%s", info->name);
    part->nbytes = (size_t)n * rp_dtype_bytes(part->dtype);
    RP_TRY(rp_alloc(&out_model->bytes[out_model->n_parts++], part->nbytes));
    rp_from_f32(out_model->bytes[out_model->n_parts - 1], values, part->dtype, n);
out:
    return st;
}

static void round_rows(rp_form *form, const float *values)
{
    form->grid.ops->quantise(&form->grid, form->rows, form->cols, values, NULL, form->params,
                             form->codes);
}

static rp_status add_packed(output *out_model, const rp_weight_info *info, const float *values)
{
    rp_status st = RP_OK;
    const rp_container *container = out_model->container;
    rp_module_scheme *module = &out_model->modules[out_model->n_modules];
    rp_part *parts = &out_model->parts[out_model->n_parts];
    rp_form form = {0};
    char *name = NULL;
    int n_parts = 0;

    RP_TRY(rp_strdup(&name, info->name));
    name[strlen(name) - strlen(".weight")] = '\0';
    RP_TRY(container->grid(&module->grid, &out_model->opts, &out_model->scheme, info->shape[0],
                           info->shape[1]));
    RP_TRY(rp_form_create_codes(&form, &module->grid, info->shape[0], info->shape[1]));
    round_rows(&form, values);
    RP_TRY(container->parts(&out_model->opts, name, &form.grid, form.rows, form.cols, parts,
                            &n_parts));
    for (int p = 0; p < n_parts; p++) {
        RP_TRY(rp_alloc(&out_model->bytes[out_model->n_parts], parts[p].nbytes));
        RP_TRY(
            container->encode(&out_model->opts, &form, p, out_model->bytes[out_model->n_parts++]));
    }
    module->module = name;
    module->is_quantised = true;
    out_model->n_modules++;
    name = NULL;
out:
    free(name);
    rp_form_destroy(&form);
    return st;
}

static rp_status add_all(output *out_model, const rp_weights *weights)
{
    rp_status st = RP_OK;
    const size_t count = (size_t)rp_weights_count(weights);
    float *values = NULL;

    RP_TRY(rp_calloc(&out_model->parts, count * RP_MAX_PARTS, sizeof(*out_model->parts)));
    RP_TRY(rp_calloc(&out_model->bytes, count * RP_MAX_PARTS, sizeof(*out_model->bytes)));
    RP_TRY(rp_calloc(&out_model->modules, count, sizeof(*out_model->modules)));
    for (int64_t i = 0; i < rp_weights_count(weights); i++) {
        const rp_weight_info *info = rp_weights_at(weights, i);
        const int64_t cols = info->ndim == 1 ? 1 : info->shape[1];
        free(values);
        values = NULL;
        RP_TRY(rp_alloc_array(&values, (size_t)(info->shape[0] * cols), sizeof(*values)));
        RP_TRY(rp_weights_read_f32(weights, info, 0, info->shape[0], values));
        if (out_model->container != NULL && is_linear(info)) {
            RP_TRY(add_packed(out_model, info, values));
        } else {
            RP_TRY(add_dense(out_model, info, values));
        }
    }
out:
    free(values);
    return st;
}

static rp_status write_text(const char *dir, const char *name, const char *text)
{
    rp_status st = RP_OK;
    char *path = NULL;

    RP_TRY(rp_fs_join(&path, dir, name));
    RP_TRY(rp_fs_write_file(path, text, strlen(text)));
out:
    free(path);
    return st;
}

static rp_status write_files(const output *out_model)
{
    rp_status st = RP_OK;
    rp_safetensors_layout layout;
    char *file = NULL;
    char *path = NULL;

    RP_TRY(rp_safetensors_layout_create(&layout, out_model->parts, out_model->n_parts,
                                        out_model->max_shard_bytes));
    for (int64_t f = 0; f < layout.n_files; f++) {
        free(file);
        free(path);
        path = NULL;
        RP_TRY(rp_calloc(&file, 1, layout.files[f].total_bytes));
        memcpy(file, layout.files[f].header, layout.files[f].header_bytes);
        for (int64_t i = 0; i < out_model->n_parts; i++) {
            if (layout.places[i].file == f) {
                memcpy(file + layout.places[i].offset_bytes, out_model->bytes[i],
                       out_model->parts[i].nbytes);
            }
        }
        RP_TRY(rp_fs_join(&path, out_model->dir, layout.files[f].name));
        RP_TRY(rp_fs_write_file(path, file, layout.files[f].total_bytes));
    }
    if (layout.index != NULL) {
        RP_TRY(write_text(out_model->dir, "model.safetensors.index.json", layout.index));
    }
out:
    free(file);
    free(path);
    rp_safetensors_layout_destroy(&layout);
    return st;
}

static rp_status write_config(const output *out_model, const rp_weights *weights)
{
    rp_status st = RP_OK;
    json_t *config = json_copy((json_t *)rp_weights_config_json(weights));
    json_t *quant = NULL;
    char *text = NULL;

    (void)json_object_del(config, "quantization_config");
    if (out_model->container != NULL) {
        RP_TRY(out_model->container->config(&quant, &out_model->opts, out_model->modules,
                                            out_model->n_modules, 0.01));
    }
    if (quant != NULL) {
        (void)json_object_set_new(config, "quantization_config", quant);
    }
    (void)json_object_set_new(
        config, "torch_dtype",
        json_string(out_model->opts.dense_type == RP_F32 ? "float32" : "float16"));
    text = json_dumps(config, JSON_INDENT(2));
    RP_TRY(write_text(out_model->dir, "config.json", text));
out:
    free(text);
    json_decref(config);
    return st;
}

int main(int argc, char **argv)
{
    rp_status st = RP_OK;
    rp_weights *weights = NULL;
    output out_model = {.opts = {.dense_type = RP_F32}};

    if (argc != 4 && argc != 9) {
        st = RP_FAIL(RP_ERR_USAGE, "usage: containers_driver FROM TO CONTAINER ...");
        goto out;
    }
    out_model.dir = argv[2];
    if (argc == 9) {
        out_model.container = rp_container_find(argv[3]);
        out_model.scheme.bits = (int)strtol(argv[4], NULL, 10);
        out_model.scheme.group_size = strtol(argv[5], NULL, 10);
        out_model.scheme.is_symmetric = strcmp(argv[6], "sym") == 0;
        out_model.opts.v2 = strcmp(argv[7], "v2") == 0;
        out_model.opts.dense_type = RP_F16;
        out_model.max_shard_bytes = strtoul(argv[8], NULL, 10);
    }
    RP_TRY(rp_weights_open(&weights, argv[1]));
    RP_TRY(add_all(&out_model, weights));
    RP_TRY(write_files(&out_model));
    RP_TRY(write_config(&out_model, weights));
out:
    for (int64_t i = 0; i < out_model.n_parts; i++) {
        free(out_model.bytes[i]);
    }
    for (int64_t i = 0; i < out_model.n_modules; i++) {
        free((char *)out_model.modules[i].module);
    }
    free(out_model.parts);
    free((void *)out_model.bytes);
    free(out_model.modules);
    rp_weights_close(&weights);
    if (st != RP_OK) {
        (void)fprintf(stderr, "%s\n", rp_error_message());
    }
    return st == RP_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

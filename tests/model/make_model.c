/* See make_model.h. Runs inside cmocka tests and fuzz targets; a failure here ends the program. */
#include "tests/model/make_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/safetensors.h"
#include "model/config.h"
#include "tests/formats/make_files.h"

/* What cannot fail here, unless the test itself is wrong. */
static void must(bool fact, const char *what)
{
    if (!fact) {
        (void)fprintf(stderr, "make_model: %s: %s\n", what, rp_error_message());
        exit(EXIT_FAILURE);
    }
}
#define MUST(fact) must((fact), #fact)

int model_find(const made_model *model, const char *name)
{
    int i = 0;

    while (i < model->n && strcmp(model->parts[i].name, name) != 0) {
        i++;
    }
    MUST(i < model->n);
    return i;
}

static void remove_at(made_model *model, int i)
{
    free(model->bytes[i]);
    model->n--;
    model->parts[i] = model->parts[model->n];
    model->bytes[i] = model->bytes[model->n];
}

void model_remove(made_model *model, const char *name)
{
    remove_at(model, model_find(model, name));
}

static char *add_part(made_model *model, const rp_part *part)
{
    MUST(model->n < (int)RP_COUNT(model->parts));
    model->parts[model->n] = *part;
    MUST(rp_alloc(&model->bytes[model->n], part->nbytes) == RP_OK);
    return model->bytes[model->n++];
}

void model_add(made_model *model, const char *name, rp_dtype dtype, int64_t rows, int64_t cols)
{
    rp_part part = {.dtype = dtype, .ndim = cols == 0 ? 1 : 2, .shape = {rows, cols}};
    char *bytes = NULL;

    (void)snprintf(part.name, sizeof(part.name), "%s", name);
    part.nbytes = (size_t)(rows * (cols == 0 ? 1 : cols)) * rp_dtype_bytes(dtype);
    bytes = add_part(model, &part);
    for (size_t i = 0; i < part.nbytes; i++) {
        bytes[i] = (char)((i * 7 + strlen(name)) % 61);
    }
}

void free_model(made_model *model)
{
    while (model->n > 0) {
        remove_at(model, model->n - 1);
    }
}

void make_model(made_model *model, rp_dtype dtype)
{
    rp_model_config config;
    json_t *root = json_loads("{" MADE_MODEL_CONFIG "}", 0, NULL);

    MUST(rp_model_config_parse(&config, root) == RP_OK);
    json_decref(root);
    free_model(model);
    model_add(model, "model.embed_tokens.weight", dtype, config.vocab_size, config.hidden_size);
    model_add(model, "model.norm.weight", dtype, config.hidden_size, 0);
    model_add(model, "lm_head.weight", dtype, config.vocab_size, config.hidden_size);
    for (int64_t layer = 0; layer < config.n_layers; layer++) {
        for (int slot = 0; slot < RP_SLOT_COUNT; slot++) {
            char name[RP_NAME_BYTES];
            int64_t rows = 0;
            int64_t cols = 0;
            if (rp_model_has_slot(&config, (rp_slot)slot)) {
                rp_model_slot_name(name, sizeof(name), layer, (rp_slot)slot);
                rp_model_slot_shape(&config, (rp_slot)slot, &rows, &cols);
                model_add(model, name, dtype, rows, cols);
            }
        }
    }
}

static rp_form make_form(const rp_grid *grid, int64_t rows, int64_t cols, int64_t salt)
{
    rp_form form;

    MUST(rp_form_create_codes(&form, grid, rows, cols) == RP_OK);
    for (int64_t k = 0; k < rows * cols; k++) {
        form.codes[k] = (uint8_t)((k * 5 + salt) % 16);
    }
    for (int64_t k = 0; k < rows * rp_form_params_per_row(&form); k += 2) {
        form.params[k] = 0.25f * (float)(1 + k % 5);
        form.params[k + 1] = (float)(1 + (k + salt) % 15);
    }
    return form;
}

static void add_packed(made_model *model, const rp_container *container,
                       const rp_container_opts *opts, const char *module, const rp_form *form)
{
    rp_part parts[RP_MAX_PARTS];
    int n_parts = 0;

    MUST(container->parts(opts, module, &form->grid, form->rows, form->cols, parts, &n_parts) ==
         RP_OK);
    for (int p = 0; p < n_parts; p++) {
        char *bytes = add_part(model, &parts[p]);
        MUST(container->encode(opts, form, p, bytes) == RP_OK);
    }
}

json_t *model_pack(made_model *model, const rp_container *container, const rp_container_opts *opts,
                   const char *module, float *want)
{
    const rp_scheme scheme = {.bits = 4, .is_symmetric = false, .group_size = 16};
    static char names[RP_COUNT(model->parts)][RP_NAME_BYTES];
    rp_module_scheme modules[RP_COUNT(model->parts)];
    int n_modules = 0;
    json_t *config = json_loads("{" MADE_MODEL_CONFIG "}", 0, NULL);
    json_t *quant = NULL;

    for (int i = 0; i < model->n;) {
        const rp_part part = model->parts[i];
        const char *end = strstr(part.name, "_proj.weight");
        char *name = names[n_modules];
        rp_module_scheme *scheme_of = &modules[n_modules];
        rp_form form;
        if (end == NULL || strcmp(end, "_proj.weight") != 0) {
            i++;
            continue;
        }
        (void)snprintf(name, RP_NAME_BYTES, "%.*s", (int)(end - part.name) + 5, part.name);
        *scheme_of = (rp_module_scheme){.module = name, .is_quantised = true};
        MUST(container->grid(&scheme_of->grid, opts, &scheme, part.shape[0], part.shape[1]) ==
             RP_OK);
        form = make_form(&scheme_of->grid, part.shape[0], part.shape[1], i);
        if (strcmp(name, module) == 0) {
            rp_form_decode_rows(&form, 0, form.rows, want);
        }
        remove_at(model, i);
        add_packed(model, container, opts, name, &form);
        rp_form_destroy(&form);
        n_modules++;
    }
    MUST(container->config(&quant, opts, modules, n_modules, 0.01) == RP_OK);
    MUST(json_object_set_new(config, "quantization_config", quant) == 0);
    return config;
}

char *model_bytes(const made_model *model, size_t *nbytes)
{
    rp_safetensors_layout layout;
    char *file = NULL;

    MUST(rp_safetensors_layout_create(&layout, model->parts, model->n, 0) == RP_OK);
    *nbytes = layout.files[0].total_bytes;
    MUST(rp_alloc(&file, *nbytes) == RP_OK);
    memcpy(file, layout.files[0].header, layout.files[0].header_bytes);
    for (int i = 0; i < model->n; i++) {
        memcpy(file + layout.places[i].offset_bytes, model->bytes[i], model->parts[i].nbytes);
    }
    rp_safetensors_layout_destroy(&layout);
    return file;
}

void model_write(const made_model *model, const char *config)
{
    size_t nbytes = 0;
    char *file = model_bytes(model, &nbytes);

    (void)make_file("config.json", config, strlen(config));
    (void)make_file("model.safetensors", file, nbytes);
    free(file);
}

/* Small model folders for tests: the tensors of a config with made-up values, dense or packed by a
 * container, in the scratch folder. */
#ifndef RP_TESTS_MAKE_MODEL_H
#define RP_TESTS_MAKE_MODEL_H

#include "formats/container.h"

#define MADE_MODEL_CONFIG                                                                          \
    "\"model_type\":\"llama\",\"vocab_size\":40,\"hidden_size\":32,\"intermediate_size\":64,"      \
    "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":4,"                 \
    "\"max_position_embeddings\":64"

/* Tensors and their bytes, in no order. */
typedef struct made_model {
    rp_part parts[128];
    char *bytes[128];
    int n;
} made_model;

/* Empties the model and adds every tensor of MADE_MODEL_CONFIG (untied head) in type dtype. */
void make_model(made_model *model, rp_dtype dtype);
void free_model(made_model *model);
/* Index of a tensor, which must be there. */
int model_find(const made_model *model, const char *name);
void model_remove(made_model *model, const char *name);
/* Adds a tensor [rows, cols] ([rows] for cols 0) of values that are finite in every float type. */
void model_add(made_model *model, const char *name, rp_dtype dtype, int64_t rows, int64_t cols);
/* Replaces the linears by what `container` makes of codes and parameters of its 4-bit asymmetric
 * grid of group 16; the values of `module` go to want. Returns config.json, to be released. */
json_t *model_pack(made_model *model, const rp_container *container, const rp_container_opts *opts,
                   const char *module, float *want);
/* The model as safetensors bytes, to be freed. */
char *model_bytes(const made_model *model, size_t *nbytes);
/* config.json and model.safetensors in the scratch folder. */
void model_write(const made_model *model, const char *config);

#endif

/* A model's dimensions and its family (arch.c holds the families as data). Made from config.json or
 * GGUF keys. */
#ifndef RP_MODEL_CONFIG_H
#define RP_MODEL_CONFIG_H

#include <jansson.h>

#include "base/status.h"

#define RP_ROPE_MAX_FACTORS 512 /* half of the largest head_dim */

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rp_rope_type {
    RP_ROPE_DEFAULT = 0,
    RP_ROPE_LINEAR,
    RP_ROPE_DYNAMIC,
    RP_ROPE_LLAMA3,
    RP_ROPE_YARN,
    RP_ROPE_LONGROPE
} rp_rope_type;

/* Families are data: a new llama-like family is a row in arch.c and a test. */
typedef struct rp_arch {
    const char *model_type; /* config.json: "llama" */
    const char *hf_class;   /* "LlamaForCausalLM" */
    const char *gguf_arch;  /* GGUF general.architecture: "llama" (mistral too) */
    bool has_qkv_bias;      /* q, k, v biases always (qwen2) */
    bool has_qk_norm;       /* RMSNorm over each head's dims of q and k before RoPE (qwen3) */
    bool has_windows;       /* sliding_window is honoured on all layers (mistral) */
    bool has_window_switch; /* use_sliding_window + max_window_layers (qwen) */
    bool gguf_permutes_qk;  /* GGUF stores Q and K rows for consecutive-pair RoPE (llama) */
    bool reads_attention_bias, reads_mlp_bias; /* the config keys of these names are honoured */
    /* Values of absent keys. */
    double default_rms_eps, default_rope_theta;
    int64_t default_n_kv_heads; /* 0: n_heads */
    int64_t default_head_dim;   /* 0: hidden_size / n_heads */
    int64_t default_window;     /* 0: none */
} rp_arch;

typedef struct rp_rope_config {
    rp_rope_type type;
    double theta;
    double partial_factor; /* 1: all head dims rotate */
    double factor, low_freq_factor, high_freq_factor;
    double attention_factor; /* 0: the type's default */
    double beta_fast, beta_slow;
    bool truncate;
    int64_t original_max_position;
    int64_t n_factors; /* longrope: rp_model_rotary_dims / 2, else 0 */
    float short_factor[RP_ROPE_MAX_FACTORS], long_factor[RP_ROPE_MAX_FACTORS];
} rp_rope_config;

typedef struct rp_model_config {
    const rp_arch *arch;
    int64_t vocab_size, hidden_size, intermediate_size, n_layers;
    int64_t n_heads, n_kv_heads, head_dim, max_position;
    double rms_eps;
    bool attention_bias, mlp_bias, tie_embeddings;
    int64_t sliding_window;     /* 0: none */
    int64_t first_window_layer; /* layers below it see everything */
    rp_rope_config rope;
    int32_t bos_id, eos_id; /* -1: none; first of a list */
} rp_model_config;

/* Local. From a parsed config.json. RP_ERR_FORMAT naming the key when one is missing, wrong or
 * unsupported. */
RP_CHECKED rp_status rp_model_config_parse(rp_model_config *out, const json_t *config);
/* Local. Head dims that rotate: even, 2 .. head_dim. */
int64_t rp_model_rotary_dims(const rp_model_config *config);
/* Local. RP_ERR_FORMAT when sizes, heads or rope do not fit each other; for makers of configs from
 * other files (GGUF keys). */
RP_CHECKED rp_status rp_model_config_check(const rp_model_config *config);
/* Local. The family of a model_type or NULL; the table, ended by a row with NULL model_type. */
const rp_arch *rp_arch_find(const char *model_type);
const rp_arch *rp_arch_table(void);

/* ---- The weights of a layer by name and place: one table for reading, sites and writing ---- */

/* Sites: distinct inputs of linear layers, in the order of the true-sequential schedule. */
typedef enum rp_site {
    RP_SITE_QKV = 0,
    RP_SITE_O,
    RP_SITE_GATE_UP,
    RP_SITE_DOWN,
    RP_SITE_COUNT
} rp_site;

/* Weights of one layer; linears first. */
typedef enum rp_slot {
    RP_SLOT_Q = 0,
    RP_SLOT_K,
    RP_SLOT_V,
    RP_SLOT_O,
    RP_SLOT_GATE,
    RP_SLOT_UP,
    RP_SLOT_DOWN,
    RP_SLOT_LINEARS, /* number of linears */
    RP_SLOT_Q_BIAS = RP_SLOT_LINEARS,
    RP_SLOT_K_BIAS,
    RP_SLOT_V_BIAS,
    RP_SLOT_O_BIAS,
    RP_SLOT_GATE_BIAS,
    RP_SLOT_UP_BIAS,
    RP_SLOT_DOWN_BIAS,
    RP_SLOT_ATTN_NORM,
    RP_SLOT_MLP_NORM,
    RP_SLOT_Q_NORM,
    RP_SLOT_K_NORM,
    RP_SLOT_COUNT
} rp_slot;

typedef struct rp_slot_info {
    const char *hf_name;   /* "self_attn.q_proj.weight" below "model.layers.N." */
    const char *gguf_name; /* "attn_q.weight" below "blk.N." */
    rp_site site;          /* of a linear */
} rp_slot_info;

const rp_slot_info *rp_slot_info_of(rp_slot slot);
/* Local. Whether this model has the tensor, and its shape (cols 0: a vector of `rows`). */
bool rp_model_has_slot(const rp_model_config *config, rp_slot slot);
void rp_model_slot_shape(const rp_model_config *config, rp_slot slot, int64_t *rows, int64_t *cols);
/* Local. Width of a site's input. */
int64_t rp_model_site_width(const rp_model_config *config, rp_site site);
/* Local. "model.layers.N.<hf_name>" into out [out_bytes]. */
void rp_model_slot_name(char *out, size_t out_bytes, int64_t layer, rp_slot slot);
/* Local. Keys a query of this layer sees, 0: all. */
int64_t rp_model_layer_window(const rp_model_config *config, int64_t layer);

#ifdef __cplusplus
}
#endif
#endif

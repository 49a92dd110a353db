/* The weights of one layer: names in both worlds, site, shape. Everything that reads, solves or
 * writes a layer goes through this table. */
#include "model/config.h"

#include <stdio.h>

/* Sizes that shapes are made of. */
typedef enum dim { DIM_NONE, DIM_HIDDEN, DIM_MLP, DIM_Q, DIM_KV, DIM_HEAD } dim;

/* What decides that a model has the tensor. */
typedef enum presence { ALWAYS, IF_QKV_BIAS, IF_ATTENTION_BIAS, IF_MLP_BIAS, IF_QK_NORM } presence;

#define ROW(hf, gguf, site, rows, cols, when)                                                      \
    {                                                                                              \
        {hf, gguf, RP_SITE_##site}, DIM_##rows, DIM_##cols, when                                   \
    }
static const struct {
    rp_slot_info info;
    dim rows, cols;
    presence when;
} slot_table[RP_SLOT_COUNT] = {
    [RP_SLOT_Q] = ROW("self_attn.q_proj.weight", "attn_q.weight", QKV, Q, HIDDEN, ALWAYS),
    [RP_SLOT_K] = ROW("self_attn.k_proj.weight", "attn_k.weight", QKV, KV, HIDDEN, ALWAYS),
    [RP_SLOT_V] = ROW("self_attn.v_proj.weight", "attn_v.weight", QKV, KV, HIDDEN, ALWAYS),
    [RP_SLOT_O] = ROW("self_attn.o_proj.weight", "attn_output.weight", O, HIDDEN, Q, ALWAYS),
    [RP_SLOT_GATE] = ROW("mlp.gate_proj.weight", "ffn_gate.weight", GATE_UP, MLP, HIDDEN, ALWAYS),
    [RP_SLOT_UP] = ROW("mlp.up_proj.weight", "ffn_up.weight", GATE_UP, MLP, HIDDEN, ALWAYS),
    [RP_SLOT_DOWN] = ROW("mlp.down_proj.weight", "ffn_down.weight", DOWN, HIDDEN, MLP, ALWAYS),
    [RP_SLOT_Q_BIAS] = ROW("self_attn.q_proj.bias", "attn_q.bias", QKV, Q, NONE, IF_QKV_BIAS),
    [RP_SLOT_K_BIAS] = ROW("self_attn.k_proj.bias", "attn_k.bias", QKV, KV, NONE, IF_QKV_BIAS),
    [RP_SLOT_V_BIAS] = ROW("self_attn.v_proj.bias", "attn_v.bias", QKV, KV, NONE, IF_QKV_BIAS),
    [RP_SLOT_O_BIAS] =
        ROW("self_attn.o_proj.bias", "attn_output.bias", O, HIDDEN, NONE, IF_ATTENTION_BIAS),
    [RP_SLOT_GATE_BIAS] =
        ROW("mlp.gate_proj.bias", "ffn_gate.bias", GATE_UP, MLP, NONE, IF_MLP_BIAS),
    [RP_SLOT_UP_BIAS] = ROW("mlp.up_proj.bias", "ffn_up.bias", GATE_UP, MLP, NONE, IF_MLP_BIAS),
    [RP_SLOT_DOWN_BIAS] =
        ROW("mlp.down_proj.bias", "ffn_down.bias", DOWN, HIDDEN, NONE, IF_MLP_BIAS),
    [RP_SLOT_ATTN_NORM] =
        ROW("input_layernorm.weight", "attn_norm.weight", QKV, HIDDEN, NONE, ALWAYS),
    [RP_SLOT_MLP_NORM] =
        ROW("post_attention_layernorm.weight", "ffn_norm.weight", GATE_UP, HIDDEN, NONE, ALWAYS),
    [RP_SLOT_Q_NORM] =
        ROW("self_attn.q_norm.weight", "attn_q_norm.weight", QKV, HEAD, NONE, IF_QK_NORM),
    [RP_SLOT_K_NORM] =
        ROW("self_attn.k_norm.weight", "attn_k_norm.weight", QKV, HEAD, NONE, IF_QK_NORM),
};

static int64_t dim_of(const rp_model_config *config, dim which)
{
    switch (which) {
    case DIM_HIDDEN:
        return config->hidden_size;
    case DIM_MLP:
        return config->intermediate_size;
    case DIM_Q:
        return config->n_heads * config->head_dim;
    case DIM_KV:
        return config->n_kv_heads * config->head_dim;
    case DIM_HEAD:
        return config->head_dim;
    default:
        return 0;
    }
}

const rp_slot_info *rp_slot_info_of(rp_slot slot)
{
    return &slot_table[slot].info;
}

bool rp_model_has_slot(const rp_model_config *config, rp_slot slot)
{
    switch (slot_table[slot].when) {
    case IF_QKV_BIAS:
        return config->arch->has_qkv_bias || config->attention_bias;
    case IF_ATTENTION_BIAS:
        return config->attention_bias;
    case IF_MLP_BIAS:
        return config->mlp_bias;
    case IF_QK_NORM:
        return config->arch->has_qk_norm;
    default:
        return true;
    }
}

void rp_model_slot_shape(const rp_model_config *config, rp_slot slot, int64_t *rows, int64_t *cols)
{
    *rows = dim_of(config, slot_table[slot].rows);
    *cols = dim_of(config, slot_table[slot].cols);
}

int64_t rp_model_site_width(const rp_model_config *config, rp_site site)
{
    static const dim width[RP_SITE_COUNT] = {
        [RP_SITE_QKV] = DIM_HIDDEN,
        [RP_SITE_O] = DIM_Q,
        [RP_SITE_GATE_UP] = DIM_HIDDEN,
        [RP_SITE_DOWN] = DIM_MLP,
    };
    return dim_of(config, width[site]);
}

void rp_model_slot_name(char *out, size_t out_bytes, int64_t layer, rp_slot slot)
{
    (void)snprintf(out, out_bytes, "model.layers.%lld.%s", (long long)layer,
                   slot_table[slot].info.hf_name);
}

int64_t rp_model_layer_window(const rp_model_config *config, int64_t layer)
{
    return layer >= config->first_window_layer ? config->sliding_window : 0;
}

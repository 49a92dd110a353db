/* The families of models as data. All are pre-norm decoders with RMSNorm, rotary positions, grouped
 * attention and a gated SiLU MLP; the flags say where they differ (shared names and defaults are
 * those of Hugging Face transformers' configuration classes). A new llama-like family is a row here
 * and a golden test. */
#include "model/config.h"

#include <string.h>

static const rp_arch arch_table[] = {
    {
        .model_type = "llama",
        .hf_class = "LlamaForCausalLM",
        .gguf_arch = "llama",
        .gguf_permutes_qk = true,
        .reads_attention_bias = true,
        .reads_mlp_bias = true,
        .default_rms_eps = 1e-6,
        .default_rope_theta = 1e4,
    },
    {
        .model_type = "mistral",
        .hf_class = "MistralForCausalLM",
        .gguf_arch = "llama",
        .has_windows = true,
        .gguf_permutes_qk = true,
        .default_rms_eps = 1e-6,
        .default_rope_theta = 1e4,
        .default_n_kv_heads = 8,
        .default_window = 4096,
    },
    {
        .model_type = "qwen2",
        .hf_class = "Qwen2ForCausalLM",
        .gguf_arch = "qwen2",
        .has_qkv_bias = true,
        .has_window_switch = true,
        .default_rms_eps = 1e-6,
        .default_rope_theta = 1e4,
        .default_n_kv_heads = 32,
        .default_window = 4096,
    },
    {
        .model_type = "qwen3",
        .hf_class = "Qwen3ForCausalLM",
        .gguf_arch = "qwen3",
        .has_qk_norm = true,
        .has_window_switch = true,
        .reads_attention_bias = true,
        .default_rms_eps = 1e-6,
        .default_rope_theta = 1e4,
        .default_n_kv_heads = 32,
        .default_head_dim = 128,
        .default_window = 4096,
    },
    {.model_type = NULL},
};

const rp_arch *rp_arch_table(void)
{
    return arch_table;
}

const rp_arch *rp_arch_find(const char *model_type)
{
    for (const rp_arch *arch = arch_table; arch->model_type != NULL; arch++) {
        if (strcmp(arch->model_type, model_type) == 0) {
            return arch;
        }
    }
    return NULL;
}

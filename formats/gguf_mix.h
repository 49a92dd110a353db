/* Mixes: which block type each tensor of a GGUF file gets, and in which order tensors stand.
 *
 * A mix is what people ask for ("Q4_K_M"): a type for most tensors, and rules that give some of
 * them more bits. The choice is llama-quantize's, tensor by tensor, so that files of the same name
 * have the same types. Source of the rules: llama.cpp's src/llama-quant.cpp. */
#ifndef RP_FORMATS_GGUF_MIX_H
#define RP_FORMATS_GGUF_MIX_H

#include "formats/gguf.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, general.file_type, type of most tensors). The last three are llama-quantize's short names
 * of the _M mixes. */
#define RP_GGUF_MIXES(X)                                                                           \
    X(F32, 0, F32)                                                                                 \
    X(F16, 1, F16)                                                                                 \
    X(BF16, 32, BF16)                                                                              \
    X(Q8_0, 7, Q8_0)                                                                               \
    X(Q4_0, 2, Q4_0)                                                                               \
    X(Q4_1, 3, Q4_1)                                                                               \
    X(Q5_0, 8, Q5_0)                                                                               \
    X(Q5_1, 9, Q5_1)                                                                               \
    X(Q2_K, 10, Q2_K)                                                                              \
    X(Q2_K_S, 21, Q2_K)                                                                            \
    X(Q3_K_S, 11, Q3_K)                                                                            \
    X(Q3_K_M, 12, Q3_K)                                                                            \
    X(Q3_K_L, 13, Q3_K)                                                                            \
    X(Q4_K_S, 14, Q4_K)                                                                            \
    X(Q4_K_M, 15, Q4_K)                                                                            \
    X(Q5_K_S, 16, Q5_K)                                                                            \
    X(Q5_K_M, 17, Q5_K)                                                                            \
    X(Q6_K, 18, Q6_K)                                                                              \
    X(IQ4_NL, 25, IQ4_NL)                                                                          \
    X(IQ4_XS, 30, IQ4_XS)                                                                          \
    X(TQ1_0, 36, TQ1_0)                                                                            \
    X(TQ2_0, 37, TQ2_0)                                                                            \
    X(MXFP4_MOE, 38, MXFP4)                                                                        \
    X(Q3_K, 12, Q3_K)                                                                              \
    X(Q4_K, 15, Q4_K)                                                                              \
    X(Q5_K, 17, Q5_K)

typedef struct rp_gguf_mix {
    const char *name;
    int32_t file_type; /* llama.cpp's number, general.file_type */
    const char *base;  /* name of the type of tensors that no rule names */
} rp_gguf_mix;

/* Local. By name, or NULL; the table ends with a NULL name. */
const rp_gguf_mix *rp_gguf_mix_find(const char *name);
const rp_gguf_mix *rp_gguf_mix_table(void);
/* Local. F32, F16, BF16: one type for all matrices, no rules. */
bool rp_gguf_mix_is_float(const rp_gguf_mix *mix);

/* Local. `type`, or what llama-quantize takes in its place where cols do not fill its blocks: a
 * type with smaller blocks, or F16. */
const rp_gguf_block_type *rp_gguf_type_for_cols(const rp_gguf_block_type *type, int64_t cols);

/* What the rules want to know of the model. */
typedef struct rp_gguf_mix_model {
    const char *arch; /* general.architecture */
    int64_t n_layers, n_heads, n_kv_heads;
    int64_t n_experts; /* 0: none */
} rp_gguf_mix_model;

typedef struct rp_gguf_mix_opts {
    const rp_gguf_mix *mix;
    const rp_gguf_block_type *output_type;    /* of output.weight; NULL: by the rules */
    const rp_gguf_block_type *embedding_type; /* of token_embd.weight; NULL: by the rules */
    bool is_pure;                             /* the mix's base for every tensor, no rules */
    bool has_imatrix;                         /* solvers know how much each column matters */
} rp_gguf_mix_opts;

typedef struct rp_gguf_mix_tensor {
    char name[RP_GGUF_NAME_BYTES];
    int ndim;
    int64_t ne[RP_GGUF_MAX_DIMS];    /* ne[0]: columns; dims beyond ndim are 1 */
    int64_t index;                   /* the caller's own number */
    const rp_gguf_block_type *named; /* asked for by name, in place of the rules; NULL: not named */
    const rp_gguf_block_type *type;  /* out */
    bool is_fallback;                /* out: the columns do not fill the blocks of the type meant */
} rp_gguf_mix_tensor;

/* Local. Puts tensors into the order of llama-quantize's files: those outside of layers, then layer
 * by layer, each by name. */
void rp_gguf_mix_sort(rp_gguf_mix_tensor *tensors, int64_t n);
/* Local. Fills type and is_fallback of all of a model's tensors, which must be sorted. `named`
 * counts in quantised mixes only, as with llama-quantize. RP_ERR_CONFIG when output_type or
 * embedding_type does not fit its tensor, or a type needs an imatrix and there is none. */
RP_CHECKED rp_status rp_gguf_mix_choose(const rp_gguf_mix_opts *opts,
                                        const rp_gguf_mix_model *model, rp_gguf_mix_tensor *tensors,
                                        int64_t n);

#ifdef __cplusplus
}
#endif
#endif

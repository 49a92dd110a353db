/* The rules are rows: mixes, kind of tensor, conditions, type; the first row that holds decides. A
 * rule's layer is a count of the tensors of that kind that the rules have seen, so that a tensor
 * with a type asked for by name shifts those behind it, as it does in llama-quantize. */
#include "formats/gguf_mix.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define MIX_ROW(name, file_type, base) {#name, file_type, #base},
static const rp_gguf_mix mixes[] = {RP_GGUF_MIXES(MIX_ROW){NULL, -1, NULL}};
#undef MIX_ROW

#define MIX_ENUM(name, file_type, base) FILE_##name = (file_type),
enum file_type { RP_GGUF_MIXES(MIX_ENUM) };
#undef MIX_ENUM

const rp_gguf_mix *rp_gguf_mix_table(void)
{
    return mixes;
}

const rp_gguf_mix *rp_gguf_mix_find(const char *name)
{
    for (const rp_gguf_mix *mix = mixes; mix->name != NULL; mix++) {
        if (strcmp(mix->name, name) == 0) {
            return mix;
        }
    }
    return NULL;
}

bool rp_gguf_mix_is_float(const rp_gguf_mix *mix)
{
    return rp_gguf_block_type_find(mix->base)->is_float;
}

/* ---- Order in the file ---- */

/* N of "blk.N.", -1 outside of layers. */
static int64_t layer_of(const char *name)
{
    char *end = NULL;
    int64_t layer = -1;

    if (strncmp(name, "blk.", 4) != 0 || name[4] < '0' || name[4] > '9') {
        return -1;
    }
    layer = strtoll(name + 4, &end, 10);
    return *end == '.' ? layer : -1;
}

static int compare_places(const void *a, const void *b)
{
    const rp_gguf_mix_tensor *x = a, *y = b;
    const int64_t x_layer = layer_of(x->name), y_layer = layer_of(y->name);

    return x_layer != y_layer ? (x_layer > y_layer) - (x_layer < y_layer)
                              : strcmp(x->name, y->name);
}

void rp_gguf_mix_sort(rp_gguf_mix_tensor *tensors, int64_t n)
{
    qsort(tensors, (size_t)n, sizeof(*tensors), compare_places);
}

/* ---- Kinds of tensors ---- */

typedef enum tensor_kind {
    KIND_OTHER = 0,
    KIND_OUTPUT,
    KIND_EMBEDDING,
    KIND_ATTN_V,
    KIND_ATTN_K,
    KIND_ATTN_OUTPUT,
    KIND_FFN_DOWN
} tensor_kind;

static tensor_kind kind_of(const char *name)
{
    static const struct {
        const char *part;
        tensor_kind kind;
    } parts[] = {
        {"attn_qkv.weight", KIND_ATTN_V}, {"attn_kv_b.weight", KIND_ATTN_V},
        {"attn_v.weight", KIND_ATTN_V},   {"attn_k.weight", KIND_ATTN_K},
        {"attn_q.weight", KIND_OTHER},    {"attn_output.weight", KIND_ATTN_OUTPUT},
        {"ffn_up", KIND_OTHER},           {"ffn_gate", KIND_OTHER},
        {"ffn_down", KIND_FFN_DOWN},
    };

    if (strcmp(name, "output.weight") == 0) {
        return KIND_OUTPUT;
    }
    if (strcmp(name, "token_embd.weight") == 0) {
        return KIND_EMBEDDING;
    }
    for (size_t i = 0; i < RP_COUNT(parts); i++) {
        if (strstr(name, parts[i].part) != NULL) {
            return parts[i].kind;
        }
    }
    return KIND_OTHER;
}

/* Matrices of weights; norms and an experts' router stay F32. */
static bool is_quantisable(const rp_gguf_mix_tensor *t)
{
    return t->ndim >= 2 && rp_ends_with(t->name, "weight") &&
           strstr(t->name, "_norm.weight") == NULL &&
           strstr(t->name, "ffn_gate_inp.weight") == NULL;
}

/* ---- The rules ---- */

/* i: the tensor's number among n of its kind. */
enum condition {
    GQA_4 = 1,        /* at least four query heads share a key */
    EXPERTS_8 = 2,    /* just eight, as Mixtral has */
    FIRST_2 = 4,      /* i < 2 */
    FIRST_4 = 8,      /* i < 4 */
    FIRST_16TH = 16,  /* i < n / 16 */
    FIRST_8TH = 32,   /* i < n / 8 */
    MORE_BITS = 64,   /* first and last eighth, and every third between */
    IMATRIX = 128,    /* there is one */
    NO_IMATRIX = 256, /* there is none */
};

typedef struct mix_rule {
    uint64_t mixes; /* bit f: file type f */
    tensor_kind kind;
    unsigned conditions; /* all of them must hold */
    const char *type;
} mix_rule;

#define M(name) (UINT64_C(1) << FILE_##name)
#define ALL_MIXES UINT64_MAX

static const mix_rule rules[] = {
    {M(TQ1_0) | M(TQ2_0), KIND_EMBEDDING, 0, "Q4_K"},

    {M(Q2_K) | M(Q2_K_S), KIND_ATTN_V, GQA_4, "Q4_K"},
    {M(Q2_K), KIND_ATTN_V, 0, "Q3_K"},
    {M(Q3_K_M), KIND_ATTN_V, FIRST_2, "Q5_K"},
    {M(Q3_K_M), KIND_ATTN_V, 0, "Q4_K"},
    {M(Q3_K_L), KIND_ATTN_V, 0, "Q5_K"},
    {M(IQ4_NL) | M(IQ4_XS), KIND_ATTN_V, GQA_4, "Q5_K"},
    {M(Q4_K_M) | M(Q5_K_M), KIND_ATTN_V, MORE_BITS, "Q6_K"},
    {M(Q4_K_S), KIND_ATTN_V, FIRST_4, "Q5_K"},

    {ALL_MIXES, KIND_ATTN_K, EXPERTS_8, "Q8_0"},

    {M(Q2_K), KIND_FFN_DOWN, 0, "Q3_K"},
    {M(Q2_K_S), KIND_FFN_DOWN, FIRST_8TH, "Q4_K"},
    {M(Q3_K_M), KIND_FFN_DOWN, FIRST_16TH, "Q5_K"},
    {M(Q3_K_M), KIND_FFN_DOWN, 0, "Q4_K"},
    {M(Q3_K_L), KIND_FFN_DOWN, 0, "Q5_K"},
    {M(Q4_K_M) | M(Q5_K_M), KIND_FFN_DOWN, MORE_BITS, "Q6_K"},
    {M(IQ4_NL) | M(IQ4_XS), KIND_FFN_DOWN, FIRST_8TH | NO_IMATRIX, "Q5_K"},
    {M(Q4_K_S), KIND_FFN_DOWN, FIRST_8TH, "Q5_K"},
    {M(Q4_0), KIND_FFN_DOWN, FIRST_8TH | IMATRIX, "Q4_1"},
    {M(Q5_0), KIND_FFN_DOWN, FIRST_8TH | IMATRIX, "Q5_1"},

    {M(Q2_K) | M(Q3_K_S) | M(Q3_K_M) | M(Q4_K_S) | M(Q4_K_M) | M(IQ4_NL) | M(IQ4_XS),
     KIND_ATTN_OUTPUT, EXPERTS_8, "Q5_K"},
    {M(Q3_K_L), KIND_ATTN_OUTPUT, EXPERTS_8, "Q3_K"},
    {M(Q2_K), KIND_ATTN_OUTPUT, 0, "Q3_K"},
    {M(Q3_K_M), KIND_ATTN_OUTPUT, 0, "Q4_K"},
    {M(Q3_K_L), KIND_ATTN_OUTPUT, 0, "Q5_K"},
};

/* What holds of the model, and how far the counts are. */
typedef struct chooser {
    const rp_gguf_mix_opts *opts;
    const rp_gguf_mix_model *model;
    const rp_gguf_block_type *base;
    bool is_tied; /* no output.weight: the embedding serves as both */
    bool is_70b;  /* Llama-2-70B's shape, whose V is an eighth of Q */
    int64_t i_attn_v, n_attn_v, i_ffn_down;
} chooser;

static const rp_gguf_block_type *type_named(const char *name)
{
    return rp_gguf_block_type_find(name);
}

static chooser chooser_of(const rp_gguf_mix_opts *opts, const rp_gguf_mix_model *model,
                          const rp_gguf_mix_tensor *tensors, int64_t n)
{
    chooser c = {.opts = opts, .model = model, .base = type_named(opts->mix->base)};
    const bool is_qwen2 = strcmp(model->arch, "qwen2") == 0;
    const bool is_llama = strcmp(model->arch, "llama") == 0;

    c.is_tied = true;
    c.is_70b =
        model->n_layers == 80 && (is_qwen2 || (is_llama && model->n_heads != model->n_kv_heads));
    for (int64_t i = 0; i < n; i++) {
        const tensor_kind kind = kind_of(tensors[i].name);
        c.n_attn_v += kind == KIND_ATTN_V;
        c.is_tied = c.is_tied && kind != KIND_OUTPUT;
    }
    return c;
}

static bool wants_more_bits(int64_t i, int64_t n)
{
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static bool holds(const chooser *c, unsigned conditions, int64_t i, int64_t n)
{
    const rp_gguf_mix_model *m = c->model;
    const unsigned held = (m->n_heads / m->n_kv_heads >= 4 ? GQA_4 : 0) |
                          (m->n_experts == 8 ? EXPERTS_8 : 0) | (i < 2 ? FIRST_2 : 0) |
                          (i < 4 ? FIRST_4 : 0) | (i < n / 16 ? FIRST_16TH : 0) |
                          (i < n / 8 ? FIRST_8TH : 0) | (wants_more_bits(i, n) ? MORE_BITS : 0) |
                          (c->opts->has_imatrix ? IMATRIX : NO_IMATRIX);

    return (conditions & ~held) == 0;
}

static const rp_gguf_block_type *by_rule(const chooser *c, tensor_kind kind, int64_t i, int64_t n)
{
    const uint64_t mix = UINT64_C(1) << c->opts->mix->file_type;

    for (size_t r = 0; r < RP_COUNT(rules); r++) {
        const mix_rule *rule = &rules[r];
        if ((rule->mixes & mix) != 0 && rule->kind == kind && holds(c, rule->conditions, i, n)) {
            return type_named(rule->type);
        }
    }
    return c->base;
}

/* output.weight, or the embedding that stands in for it. */
static const rp_gguf_block_type *output_by_rule(const chooser *c, const rp_gguf_mix_tensor *t)
{
    const rp_gguf_block_type *q8 = type_named("Q8_0");

    if (c->opts->output_type != NULL) {
        return c->opts->output_type;
    }
    if (c->opts->mix->file_type == FILE_MXFP4_MOE || t->ne[0] % c->base->block_elems != 0 ||
        c->base == q8) {
        return q8;
    }
    return type_named("Q6_K");
}

static const rp_gguf_block_type *attn_v_by_rule(chooser *c)
{
    const rp_gguf_block_type *type = by_rule(c, KIND_ATTN_V, c->i_attn_v, c->n_attn_v);

    c->i_attn_v++;
    if (c->model->n_experts == 8) {
        return type_named("Q8_0");
    }
    if (c->is_70b && (type == type_named("Q3_K") || type == type_named("Q4_K"))) {
        return type_named("Q5_K");
    }
    return type;
}

static const rp_gguf_block_type *ffn_down_by_rule(chooser *c, const char *name)
{
    /* A layer has several of them when there are experts. */
    const int64_t i = c->model->n_experts > 1 ? layer_of(name) : c->i_ffn_down;

    c->i_ffn_down++;
    return by_rule(c, KIND_FFN_DOWN, i, c->model->n_layers);
}

static const rp_gguf_block_type *choose_by_rules(chooser *c, const rp_gguf_mix_tensor *t)
{
    const tensor_kind kind = kind_of(t->name);

    if (kind == KIND_OUTPUT || (kind == KIND_EMBEDDING && c->is_tied)) {
        return output_by_rule(c, t);
    }
    if (c->opts->mix->file_type == FILE_MXFP4_MOE) {
        return t->ne[2] > 1 ? c->base : type_named("Q8_0");
    }
    if (kind == KIND_ATTN_V) {
        return attn_v_by_rule(c);
    }
    if (kind == KIND_FFN_DOWN) {
        return ffn_down_by_rule(c, t->name);
    }
    return by_rule(c, kind, 0, 1);
}

/* ---- Types that fit ---- */

/* A type with smaller blocks for columns that do not fill those of `type`; F16 when none fits. */
static const rp_gguf_block_type *fallback_of(const rp_gguf_block_type *type, int64_t cols)
{
    static const struct {
        const char *type, *fallback;
    } pairs[] = {
        {"Q2_0", "Q4_0"},     {"Q2_K", "Q4_0"},    {"Q3_K", "Q4_0"},      {"TQ1_0", "Q4_0"},
        {"TQ2_0", "Q4_0"},    {"Q4_K", "Q5_0"},    {"Q5_K", "Q5_1"},      {"Q6_K", "Q8_0"},
        {"IQ4_XS", "IQ4_NL"}, {"IQ1_S", "IQ4_NL"}, {"IQ1_M", "IQ4_NL"},   {"IQ2_XXS", "IQ4_NL"},
        {"IQ2_XS", "IQ4_NL"}, {"IQ2_S", "IQ4_NL"}, {"IQ3_XXS", "IQ4_NL"}, {"IQ3_S", "IQ4_NL"},
    };
    const rp_gguf_block_type *smaller = type;

    for (size_t i = 0; i < RP_COUNT(pairs); i++) {
        if (strcmp(pairs[i].type, type->name) == 0) {
            smaller = type_named(pairs[i].fallback);
        }
    }
    return cols % smaller->block_elems == 0 ? smaller : type_named("F16");
}

const rp_gguf_block_type *rp_gguf_type_for_cols(const rp_gguf_block_type *type, int64_t cols)
{
    return cols % type->block_elems == 0 ? type : fallback_of(type, cols);
}

/* The type asked for as output_type or embedding_type; NULL: none was. */
static const rp_gguf_block_type *outer_type(const chooser *c, const char *name)
{
    switch (kind_of(name)) {
    case KIND_OUTPUT:
        return c->opts->output_type;
    case KIND_EMBEDDING:
        return c->opts->embedding_type;
    default:
        return NULL;
    }
}

static void choose_type(chooser *c, rp_gguf_mix_tensor *t)
{
    const rp_gguf_block_type *outer = outer_type(c, t->name);
    const rp_gguf_block_type *type = c->base;

    if (!is_quantisable(t)) {
        t->type = type_named("F32");
    } else if (outer != NULL) {
        t->type = outer; /* taken at its word: no fallback */
    } else if (c->base->is_float) {
        t->type = c->base;
    } else {
        if (t->named != NULL) {
            type = t->named;
        } else if (!c->opts->is_pure) {
            type = choose_by_rules(c, t);
        }
        t->is_fallback = t->ne[0] % type->block_elems != 0;
        t->type = rp_gguf_type_for_cols(type, t->ne[0]);
    }
}

static rp_status check_type(const chooser *c, const rp_gguf_mix_tensor *t)
{
    const tensor_kind kind = kind_of(t->name);

    if (t->ne[0] % t->type->block_elems != 0) {
        return RP_FAIL(RP_ERR_CONFIG, "%s: %lld columns do not fill %s's blocks of %lld", t->name,
                       (long long)t->ne[0], t->type->name, (long long)t->type->block_elems);
    }
    /* llama-quantize writes no such file without one; names by hand are no exception there. */
    if (c->opts->mix->file_type == FILE_Q2_K_S && !c->opts->has_imatrix &&
        t->type == type_named("Q2_K") && kind != KIND_OUTPUT && kind != KIND_EMBEDDING) {
        return RP_FAIL(RP_ERR_CONFIG, "%s: Q2_K in a Q2_K_S file needs an importance matrix",
                       t->name);
    }
    return RP_OK;
}

rp_status rp_gguf_mix_choose(const rp_gguf_mix_opts *opts, const rp_gguf_mix_model *model,
                             rp_gguf_mix_tensor *tensors, int64_t n)
{
    rp_status st = RP_OK;
    chooser c = chooser_of(opts, model, tensors, n);

    for (int64_t i = 0; i < n; i++) {
        tensors[i].is_fallback = false;
        choose_type(&c, &tensors[i]);
        RP_TRY(check_type(&c, &tensors[i]));
    }
out:
    return st;
}

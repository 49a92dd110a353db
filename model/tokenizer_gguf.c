/* llama.cpp's name of the pre-tokenizer. It knows a fixed set of them by name; a row here is one
 * name and the splits, each Isolated, that it stands for. Byte-level coding follows the splits. */
#include "model/tokenizer_parts.h"

#include "base/mem.h"

#include <string.h>

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define ENDING " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define DIGIT NULL /* the class of numeric characters, Digits(individual_digits) */
#define MAX_SPLITS 3

static const struct {
    const char *name;
    bool ignores_merges;
    size_t n_splits;
    const char *splits[MAX_SPLITS];
} rows[] = {
    {"gpt-2", false, 1, {rp_tok_gpt2_regex}},
    {"smollm", false, 2, {DIGIT, rp_tok_gpt2_regex}},
    {"llama-bpe", true, 1, {CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" ENDING}},
    {"qwen2", false, 1, {CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|" ENDING}},
    {"deepseek-v3",
     false,
     3,
     {"\\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?"
      "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
    {"tekken",
     true,
     1,
     {"[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
      "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|"
      "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
};

static bool is_split(const rp_tok_op *op, const char *regex)
{
    const char *source = NULL;

    if (op->kind != RP_TOK_SPLIT || op->behavior != RP_TOK_ISOLATED || op->is_inverted) {
        return false;
    }
    source = rp_tok_pattern_source(op->pattern);
    if (regex == DIGIT) {
        return rp_tok_pattern_char_class(op->pattern) == rp_tok_is_numeric;
    }
    return source != NULL && strcmp(source, regex) == 0;
}

const char *rp_tokenizer_gguf_pre(const rp_tokenizer *tokenizer)
{
    const rp_tok_ops *ops = &tokenizer->pre_tokenizers;

    if (tokenizer->bpe.has_byte_fallback) {
        return "default";
    }
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        size_t n = 0;
        while (n < rows[i].n_splits && n < ops->n && is_split(&ops->items[n], rows[i].splits[n])) {
            n++;
        }
        if (n == rows[i].n_splits && ops->n == n + 1 && ops->items[n].kind == RP_TOK_BYTE_LEVEL &&
            tokenizer->bpe.ignores_merges == rows[i].ignores_merges) {
            return rows[i].name;
        }
    }
    return NULL;
}

/* Names of llama.cpp that stand for the same splits as a row. */
static const char *row_name(const char *pre)
{
    static const char *const aliases[][2] = {
        {"starcoder", "smollm"},   {"refact", "smollm"},          {"llama3", "llama-bpe"},
        {"llama-v3", "llama-bpe"}, {"deepseek-r1-qwen", "qwen2"}, {"stablelm2", "qwen2"},
    };
    for (size_t i = 0; i < RP_COUNT(aliases); i++) {
        if (strcmp(aliases[i][0], pre) == 0) {
            return aliases[i][1];
        }
    }
    return pre;
}

json_t *rp_tok_gguf_pre_json(const char *pre, bool *ignores_merges)
{
    const char *name = row_name(pre);
    json_t *steps = NULL;
    size_t row = 0;

    while (row < RP_COUNT(rows) && strcmp(rows[row].name, name) != 0) {
        row++;
    }
    if (row == RP_COUNT(rows)) {
        return NULL;
    }
    *ignores_merges = rows[row].ignores_merges;
    steps = json_array();
    for (size_t i = 0; i < rows[row].n_splits; i++) {
        const char *regex = rows[row].splits[i];
        (void)json_array_append_new(
            steps, regex == DIGIT
                       ? json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1)
                       : json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                                   regex, "behavior", "Isolated", "invert", 0));
    }
    (void)json_array_append_new(steps, json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel",
                                                 "add_prefix_space", 0, "trim_offsets", 1,
                                                 "use_regex", 0));
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps);
}

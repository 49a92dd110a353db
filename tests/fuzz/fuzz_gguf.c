/* Any bytes as a GGUF file in memory, or as the two parts of a split model (the second begins with
 * the second "GGUF"): every value and tensor end touched, a row of each tensor decoded, then what
 * the model layer makes of it: config, tokenizer, Hugging Face's files. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/gguf_map.h"
#include "tests/fuzz/fuzz.h"

#define MAX_COLS 65536
#define SPLIT_BYTES 8192 /* more than half of a seed's tensors */
#define TYPE_COLS 256    /* whole blocks of every type */

static void decode_row(const rp_gguf *gguf, const rp_gguf_tensor *t)
{
    const size_t row_bytes = rp_gguf_row_bytes(t->type, t->ne[0]);
    uint8_t *row = NULL;
    float *values = NULL;

    if (rp_gguf_can_decode(t->type) && t->ne[0] <= MAX_COLS) {
        fuzz_check(rp_alloc(&row, row_bytes));
        fuzz_check(rp_alloc_array(&values, (size_t)t->ne[0], sizeof(*values)));
        fuzz_check(rp_gguf_read(gguf, t, 0, row_bytes, row));
        rp_gguf_decode_rows(t->type, row, 1, t->ne[0], values);
        free(values);
        free(row);
    }
}

static void touch_values(const rp_gguf *gguf)
{
    volatile int64_t sum = 0; /* keeps the reads */

    for (int64_t i = 0; i < rp_gguf_kv_count(gguf); i++) {
        const rp_gguf_kv *kv = rp_gguf_kv_at(gguf, i);
        for (int64_t k = 0; k < kv->count; k++) {
            if (kv->elem_type == RP_GGUF_STRING) {
                const rp_gguf_string text = rp_gguf_kv_string(kv, k);
                sum += text.nbytes > 0 ? text.data[text.nbytes - 1] : 0;
            } else if (kv->elem_type == RP_GGUF_F32 || kv->elem_type == RP_GGUF_F64) {
                sum += rp_gguf_kv_float(kv, k) > 0;
            } else {
                sum += rp_gguf_kv_int(kv, k) & 1;
            }
        }
    }
    for (int64_t i = 0; i < rp_gguf_tensor_count(gguf); i++) {
        const rp_gguf_tensor *t = rp_gguf_tensor_at(gguf, i);
        char ends[2];
        fuzz_check(rp_gguf_read(gguf, t, 0, 1, ends));
        fuzz_check(rp_gguf_read(gguf, t, t->nbytes - 1, 1, ends));
        decode_row(gguf, t);
    }
}

static void make_folder(const rp_gguf *gguf)
{
    static rp_status (*const makers[])(json_t * *out, const rp_gguf *gguf) = {
        rp_gguf_config_json, rp_gguf_tokenizer_config_json, rp_gguf_generation_config_json};

    for (size_t i = 0; i < RP_COUNT(makers); i++) {
        json_t *root = NULL;
        fuzz_check(makers[i](&root, gguf));
        json_decref(root);
    }
}

/* The whole, or two parts joined. */
static rp_status parse(rp_gguf **out, const uint8_t *data, size_t nbytes)
{
    rp_status st = RP_OK;
    const uint8_t *second = nbytes > 4 ? memmem(data + 4, nbytes - 4, "GGUF", 4) : NULL;
    const size_t n_first = second == NULL ? nbytes : (size_t)(second - data);
    rp_gguf *parts[2] = {NULL, NULL};

    *out = NULL;
    RP_TRY(rp_gguf_parse(&parts[0], data, n_first, "fuzz.gguf"));
    if (second == NULL || rp_gguf_kv_find(parts[0], "split.count") == NULL) {
        *out = parts[0];
        return RP_OK;
    }
    RP_TRY(rp_gguf_parse(&parts[1], second, nbytes - n_first, "fuzz-2.gguf"));
    return rp_gguf_join(out, parts, 2);
out:
    rp_gguf_close(&parts[0]);
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes)
{
    rp_gguf *gguf = NULL;
    rp_model_config config;
    json_t *root = NULL;
    rp_tokenizer *tokenizer = NULL;
    rp_status status = parse(&gguf, data, nbytes);

    fuzz_check(status);
    if (status != RP_OK) {
        return 0;
    }
    touch_values(gguf);
    fuzz_check(rp_gguf_read_config(&config, gguf));
    make_folder(gguf);
    status = rp_gguf_tokenizer_json(&root, gguf);
    fuzz_check(status);
    if (status == RP_OK) {
        fuzz_check(rp_tokenizer_from_json(&tokenizer, root, "fuzz.gguf"));
    }
    rp_tokenizer_destroy(&tokenizer);
    json_decref(root);
    rp_gguf_close(&gguf);
    return 0;
}

/* ---- Seeds: a small file of each kind of tokenizer ---- */

static rp_status put_tokens(rp_gguf_writer *w, const char *const *tokens, int64_t n)
{
    rp_status st = RP_OK;
    const int32_t types[8] = {RP_GGUF_TOKEN_UNKNOWN, RP_GGUF_TOKEN_CONTROL, RP_GGUF_TOKEN_NORMAL,
                              RP_GGUF_TOKEN_NORMAL,  RP_GGUF_TOKEN_NORMAL,  RP_GGUF_TOKEN_NORMAL,
                              RP_GGUF_TOKEN_BYTE,    RP_GGUF_TOKEN_UNUSED};

    RP_TRY(rp_gguf_put_strings(w, "tokenizer.ggml.tokens", n));
    for (int64_t i = 0; i < n; i++) {
        RP_TRY(rp_gguf_add_string(w, tokens[i]));
    }
    RP_TRY(rp_gguf_put_i32s(w, "tokenizer.ggml.token_type", types, n));
out:
    return st;
}

static rp_status put_tokenizer(rp_gguf_writer *w, bool is_llama)
{
    static const char *const llama[] = {"<unk>", "<s>",          "a",      "b",
                                        "ab",    "\xe2\x96\x81", "<0x41>", "[PAD7]"};
    static const char *const gpt2[] = {"<|u|>", "<|s|>", "a", "b", "ab", "\xc4\xa0", "c", "[PAD7]"};
    const float scores[8] = {0, 0, 0, 0, -1, 0, 0, 0};
    rp_status st = RP_OK;

    RP_TRY(rp_gguf_put_string(w, "tokenizer.ggml.model", is_llama ? "llama" : "gpt2"));
    RP_TRY(rp_gguf_put_string(w, "tokenizer.ggml.pre", is_llama ? "default" : "qwen2"));
    RP_TRY(put_tokens(w, is_llama ? llama : gpt2, 8));
    RP_TRY(rp_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1));
    RP_TRY(rp_gguf_put_string(w, "tokenizer.chat_template", "{{ messages }}"));
    RP_TRY(rp_gguf_put_string(w, "tokenizer.chat_template.tools", "{{ tools }}"));
    RP_TRY(rp_gguf_put_strings(w, "tokenizer.chat_templates", 1));
    RP_TRY(rp_gguf_add_string(w, "tools"));
    RP_TRY(rp_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", true));
    if (is_llama) {
        RP_TRY(rp_gguf_put_f32s(w, "tokenizer.ggml.scores", scores, 8));
    } else {
        RP_TRY(rp_gguf_put_strings(w, "tokenizer.ggml.merges", 1));
        RP_TRY(rp_gguf_add_string(w, "a b"));
    }
out:
    return st;
}

/* One row of every type, known to the decoder or not. */
static rp_status put_all_types(rp_gguf_writer *w)
{
    rp_status st = RP_OK;
    const int64_t shape[2] = {TYPE_COLS, 1};

    for (const rp_gguf_block_type *t = rp_gguf_block_type_table(); t->name != NULL; t++) {
        RP_TRY(rp_gguf_add_tensor(w, t->name, t, 2, shape));
    }
out:
    return st;
}

static rp_status put_tensors(rp_gguf_writer *w, int64_t n_freqs)
{
    rp_status st = RP_OK;
    const rp_gguf_block_type *f32 = rp_gguf_block_type_find("F32");
    const int64_t embedding[2] = {32, 8};

    RP_TRY(
        rp_gguf_add_tensor(w, "token_embd.weight", rp_gguf_block_type_find("Q8_0"), 2, embedding));
    RP_TRY(rp_gguf_add_tensor(w, "output_norm.weight", f32, 1, embedding));
    RP_TRY(put_all_types(w));
    if (n_freqs > 0) {
        RP_TRY(rp_gguf_add_tensor(w, RP_GGUF_ROPE_FREQS, f32, 1, &n_freqs));
    }
out:
    return st;
}

/* All files of the writer, one behind the other; any f32 of the data is 0.747. */
static rp_status image_of(uint8_t **out, size_t *nbytes, rp_gguf_writer *w)
{
    rp_status st = RP_OK;
    const uint8_t *header = NULL;
    size_t header_bytes = 0;
    size_t at = 0;

    *nbytes = 0;
    RP_TRY(rp_gguf_writer_finish(w, &header, &header_bytes));
    for (int part = 0; part < rp_gguf_writer_part_count(w); part++) {
        *nbytes += rp_gguf_writer_part_bytes(w, part);
    }
    RP_TRY(rp_alloc(out, *nbytes));
    memset(*out, 0x3f, *nbytes);
    for (int part = 0; part < rp_gguf_writer_part_count(w); part++) {
        header = rp_gguf_writer_header(w, part, &header_bytes);
        memcpy(*out + at, header, header_bytes);
        at += rp_gguf_writer_part_bytes(w, part);
    }
out:
    return st;
}

uint8_t *fuzz_seed(int index, size_t *nbytes)
{
    rp_status st = RP_OK;
    const bool is_llama = index != 1;
    const rp_model_config config = {.arch = rp_arch_find(is_llama ? "llama" : "qwen2"),
                                    .vocab_size = 8,
                                    .hidden_size = 32,
                                    .intermediate_size = 32,
                                    .n_layers = 1,
                                    .n_heads = 2,
                                    .n_kv_heads = 1,
                                    .head_dim = 16,
                                    .max_position = 64,
                                    .rms_eps = 1e-5,
                                    .rope = {.type = is_llama ? RP_ROPE_DEFAULT : RP_ROPE_YARN,
                                             .theta = 1e4,
                                             .partial_factor = 1,
                                             .factor = 2,
                                             .beta_fast = 32,
                                             .beta_slow = 1,
                                             .truncate = true,
                                             .original_max_position = 32}};
    rp_gguf_writer *w = NULL;
    uint8_t *file = NULL;

    if (index > 2) { /* the third: the first in two parts */
        return NULL;
    }
    RP_TRY(rp_gguf_writer_create(&w));
    RP_TRY(rp_gguf_put_model(w, &config, "seed", 7));
    RP_TRY(put_tokenizer(w, is_llama));
    RP_TRY(put_tensors(w, is_llama ? 8 : 0));
    rp_gguf_writer_split(w, index == 2 ? SPLIT_BYTES : 0);
    RP_TRY(image_of(&file, nbytes, w));
out:
    rp_gguf_writer_destroy(&w);
    return st == RP_OK ? file : NULL;
}

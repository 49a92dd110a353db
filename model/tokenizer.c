/* The tokenizer's interface: opening, encoding, and facts about tokens. */
#include "model/tokenizer_parts.h"

#include "base/fs.h"
#include "base/mem.h"
#include "formats/json.h"

#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */

rp_status rp_tokenizer_from_json(rp_tokenizer **out, const json_t *root, const char *origin)
{
    rp_status st = RP_OK;

    *out = NULL;
    RP_TRY(rp_json_made(root));
    RP_TRY(rp_calloc(out, 1, sizeof(**out)));
    RP_TRY(rp_strdup(&(*out)->origin, origin));
    st = rp_tok_load(*out, root);
    if (st != RP_OK) {
        st = rp_error_prefix(st, "%s", origin);
    }
out:
    if (st != RP_OK) {
        rp_tokenizer_destroy(out);
    }
    return st;
}

/* merges.txt: one "left right" a line, "#version" first. */
static rp_status parse_merges(json_t **out, char *text)
{
    json_t *list = json_array();

    for (char *line = text; list != NULL && *line != '\0';) {
        const size_t length = strcspn(line, "\n");
        const char *next = line + length + (line[length] == '\n');
        const size_t kept = length - (length > 0 && line[length - 1] == '\r');
        if (kept > 0 && json_array_append_new(list, json_stringn(line, kept)) != 0) {
            json_decref(list);
            list = NULL;
            break;
        }
        line += next - line;
    }
    *out = list;
    return list != NULL ? RP_OK : RP_FAIL(RP_ERR_FORMAT, "merges.txt is not UTF-8");
}

/* The tokenizer.json that GPT-2's two files stand for. */
static rp_status pack_gpt2(json_t **out, json_t *vocab, json_t *merges)
{
    static const char end_of_text[] = "<|endoftext|>";
    const json_t *end_id = json_object_get(vocab, end_of_text);
    json_t *added = json_array();

    if (json_is_integer(end_id)) {
        (void)json_array_append_new(added, json_pack("{sI ss sb sb sb sb sb}", "id",
                                                     json_integer_value(end_id), "content",
                                                     end_of_text, "single_word", 0, "lstrip", 0,
                                                     "rstrip", 0, "normalized", 0, "special", 1));
    }
    *out = json_pack("{so s{ss sb sb} s{ss sb sb} s{ss sO sO}}", "added_tokens", added,
                     "pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
                     "decoder", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
                     "model", "type", "BPE", "vocab", vocab, "merges", merges);
    return *out != NULL ? RP_OK : RP_FAIL(RP_ERR_MEMORY, "no memory for vocab.json");
}

/* Two files say nothing about the pre-tokenizer: only GPT-2's own is assumed. */
static rp_status check_gpt2_class(const char *dir)
{
    rp_status st = RP_OK;
    char *path = NULL;
    json_t *config = NULL;
    const char *class_name = NULL;

    RP_TRY(rp_fs_join(&path, dir, "tokenizer_config.json"));
    if (!rp_fs_exists(path)) {
        goto out;
    }
    RP_TRY(rp_json_load(&config, path));
    class_name = json_string_value(json_object_get(config, "tokenizer_class"));
    if (class_name != NULL && strncmp(class_name, "GPT2Tokenizer", 13) != 0) {
        st = RP_FAIL(RP_ERR_FORMAT,
                     "%s: tokenizer_class \"%s\" needs a tokenizer.json; vocab.json and merges.txt "
                     "alone are read as GPT-2's",
                     path, class_name);
    }
out:
    json_decref(config);
    free(path);
    return st;
}

static rp_status open_gpt2(rp_tokenizer **out, const char *dir, const char *vocab_path)
{
    rp_status st = RP_OK;
    char *merges_path = NULL;
    char *text = NULL;
    size_t nbytes = 0;
    json_t *vocab = NULL;
    json_t *merges = NULL;
    json_t *root = NULL;

    RP_TRY(check_gpt2_class(dir));
    RP_TRY(rp_fs_join(&merges_path, dir, "merges.txt"));
    RP_TRY(rp_json_load(&vocab, vocab_path));
    RP_TRY(rp_fs_read_file(&text, &nbytes, merges_path, RP_JSON_MAX_FILE_BYTES));
    RP_TRY(parse_merges(&merges, text));
    RP_TRY(pack_gpt2(&root, vocab, merges));
    RP_TRY(rp_tokenizer_from_json(out, root, vocab_path));
out:
    json_decref(root);
    json_decref(merges);
    json_decref(vocab);
    free(text);
    free(merges_path);
    return st;
}

rp_status rp_tokenizer_open(rp_tokenizer **out, const char *dir)
{
    rp_status st = RP_OK;
    char *path = NULL;
    char *vocab_path = NULL;
    json_t *root = NULL;

    *out = NULL;
    RP_TRY(rp_fs_join(&path, dir, "tokenizer.json"));
    RP_TRY(rp_fs_join(&vocab_path, dir, "vocab.json"));
    if (rp_fs_exists(path)) {
        RP_TRY(rp_json_load(&root, path));
        RP_TRY(rp_tokenizer_from_json(out, root, path));
    } else if (rp_fs_exists(vocab_path)) {
        RP_TRY(open_gpt2(out, dir, vocab_path));
    } else {
        st = RP_FAIL(RP_ERR_FORMAT, "%s: %s", dir,
                     rp_fs_exists(dir) ? "no tokenizer.json, and no vocab.json with merges.txt"
                                       : "no such file or folder");
    }
out:
    json_decref(root);
    free(vocab_path);
    free(path);
    return st;
}

void rp_tokenizer_destroy(rp_tokenizer **tokenizer)
{
    rp_tokenizer *t = *tokenizer;

    if (t == NULL) {
        return;
    }
    rp_tok_matcher_clear(&t->raw);
    rp_tok_matcher_clear(&t->normalized);
    for (size_t i = 0; i < t->n_added; i++) {
        free(t->added[i].content);
        free(t->added[i].pattern);
    }
    free(t->added);
    rp_tok_ops_clear(&t->normalizers);
    rp_tok_ops_clear(&t->pre_tokenizers);
    rp_tok_ops_clear(&t->decoders);
    rp_tok_bpe_clear(&t->bpe);
    rp_tok_vocab_clear(&t->vocab);
    free(t->around);
    free(t->origin);
    free(t);
    *tokenizer = NULL;
}

/* ---- encoding ---- */

rp_status rp_tok_work_init(rp_tok_work *work, const rp_tokenizer *tokenizer)
{
    rp_status st = RP_OK;

    *work = (rp_tok_work){.tokenizer = tokenizer};
    RP_TRY(rp_tok_match_data_create(&work->match_data));
    RP_TRY(rp_calloc(&work->step, tokenizer->pre_tokenizers.n, sizeof(*work->step)));
out:
    return st;
}

void rp_tok_work_clear(rp_tok_work *work)
{
    for (size_t i = 0; work->step != NULL && i < work->tokenizer->pre_tokenizers.n; i++) {
        free(work->step[i].text);
    }
    free(work->step);
    free(work->normal[0].text);
    free(work->normal[1].text);
    free(work->scratch);
    free(work->symbols);
    free(work->heap);
    free(work->ids);
    rp_tok_match_data_destroy(&work->match_data);
    *work = (rp_tok_work){0};
}

rp_status rp_tok_emit(rp_tok_work *work, int32_t id)
{
    rp_status st = RP_OK;

    RP_TRY(rp_grow(&work->ids, &work->ids_capacity, work->n_ids + 1, sizeof(*work->ids)));
    work->ids[work->n_ids++] = id;
out:
    return st;
}

static rp_status encode_piece(rp_tok_work *work, const char *text, size_t nbytes, bool is_start)
{
    return rp_tok_pretokenize(work, 0, text, nbytes, is_start);
}

static rp_status encode_raw_piece(rp_tok_work *work, const char *text, size_t nbytes, bool is_start)
{
    rp_status st = RP_OK;

    RP_TRY(rp_tok_normalize(work, text, nbytes, &text, &nbytes));
    RP_TRY(rp_tok_match_added(work, &work->tokenizer->normalized, text, nbytes, is_start,
                              encode_piece));
out:
    return st;
}

static rp_status emit_around(rp_tok_work *work, size_t from, size_t to)
{
    rp_status st = RP_OK;

    for (size_t i = from; i < to; i++) {
        RP_TRY(rp_tok_emit(work, work->tokenizer->around[i]));
    }
out:
    return st;
}

rp_status rp_tokenizer_encode(const rp_tokenizer *tokenizer, const char *text, size_t nbytes,
                              bool add_special, int32_t **ids, int64_t *n_ids)
{
    rp_status st = RP_OK;
    const size_t bad = rp_tok_find_bad_utf8(text, nbytes);
    rp_tok_work work = {0};

    *ids = NULL;
    *n_ids = 0;
    if (bad < nbytes) {
        return RP_FAIL(RP_ERR_FORMAT, "text is not UTF-8: byte 0x%02x at offset %zu",
                       (unsigned char)text[bad], bad);
    }
    RP_TRY(rp_tok_work_init(&work, tokenizer));
    RP_TRY(rp_grow(&work.ids, &work.ids_capacity, nbytes / 4 + 1, sizeof(*work.ids)));
    if (add_special) {
        RP_TRY(emit_around(&work, 0, tokenizer->n_before));
    }
    RP_TRY(rp_tok_match_added(&work, &tokenizer->raw, text, nbytes, true, encode_raw_piece));
    if (add_special) {
        RP_TRY(emit_around(&work, tokenizer->n_before, tokenizer->n_around));
    }
    *ids = work.ids;
    *n_ids = (int64_t)work.n_ids;
    work.ids = NULL;
out:
    rp_tok_work_clear(&work);
    return st;
}

/* ---- facts ---- */

static int compare_id(const void *key, const void *item)
{
    const int32_t id = *(const int32_t *)key;
    const int32_t other = ((const rp_tok_added *)item)->id;

    return (id > other) - (id < other);
}

const rp_tok_added *rp_tok_added_find(const rp_tokenizer *tokenizer, int32_t id)
{
    return bsearch(&id, tokenizer->added, tokenizer->n_added, sizeof(*tokenizer->added),
                   compare_id);
}

int64_t rp_tokenizer_size(const rp_tokenizer *tokenizer)
{
    const size_t n = tokenizer->n_added;
    const int64_t last = n == 0 ? -1 : tokenizer->added[n - 1].id;

    return RP_MAX(tokenizer->vocab.size, last + 1);
}

const char *rp_tokenizer_token(const rp_tokenizer *tokenizer, int32_t id)
{
    const rp_tok_added *added = rp_tok_added_find(tokenizer, id);

    if (added != NULL) {
        return added->content;
    }
    return id >= 0 && id < tokenizer->vocab.size ? tokenizer->vocab.tokens[id] : NULL;
}

int32_t rp_tokenizer_find(const rp_tokenizer *tokenizer, const char *content)
{
    for (size_t i = 0; i < tokenizer->n_added; i++) {
        if (strcmp(tokenizer->added[i].content, content) == 0) {
            return tokenizer->added[i].id;
        }
    }
    return rp_tok_vocab_find(&tokenizer->vocab, content, strlen(content));
}

rp_tokenizer_kind rp_tokenizer_kind_of(const rp_tokenizer *tokenizer)
{
    return tokenizer->bpe.has_byte_fallback ? RP_TOKENIZER_BYTE_FALLBACK : RP_TOKENIZER_BYTE_LEVEL;
}

int64_t rp_tokenizer_n_merges(const rp_tokenizer *tokenizer)
{
    return tokenizer->bpe.n_merges;
}

void rp_tokenizer_merge(const rp_tokenizer *tokenizer, int64_t index, const char **left,
                        const char **right)
{
    const rp_tok_merge *merge = &tokenizer->bpe.merges[index];

    *left = tokenizer->vocab.tokens[merge->left];
    *right = tokenizer->vocab.tokens[merge->right];
}

bool rp_tokenizer_is_added(const rp_tokenizer *tokenizer, int32_t id, bool *is_special)
{
    const rp_tok_added *added = rp_tok_added_find(tokenizer, id);

    *is_special = added != NULL && added->is_special;
    return added != NULL;
}

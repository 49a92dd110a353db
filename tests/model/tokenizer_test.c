/* Tokenizer: ids by hand from small files, the line that each unsupported file gets, the shipped
 * model's file, and llama.cpp's test vectors. tokenizer_test.py compares with the reference.
 *
 * usage: test_tokenizer SHIPPED_MODEL | --vectors TOKENIZERS */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "model/tokenizer.h"

static const char *shipped_dir;
static const char *data_dir;

#define MAX_IDS 256
typedef struct id_list {
    int64_t n;
    int32_t ids[MAX_IDS];
} id_list;

static rp_status parse(rp_tokenizer **out, const char *text)
{
    json_error_t error;
    json_t *root = json_loads(text, 0, &error);
    rp_status st = RP_OK;

    if (root == NULL) {
        print_message("%s: %s\n", error.text, text);
    }
    assert_non_null(root);
    st = rp_tokenizer_from_json(out, root, "made");
    json_decref(root);
    return st;
}

static rp_tokenizer *parse_good(const char *text)
{
    rp_tokenizer *tokenizer = NULL;
    const rp_status st = parse(&tokenizer, text);

    if (st != RP_OK) {
        print_message("%s\n", rp_error_message());
    }
    assert_int_equal(st, RP_OK);
    return tokenizer;
}

static void check_ids(const rp_tokenizer *tokenizer, const char *text, bool add_special,
                      id_list want)
{
    int32_t *ids = NULL;
    int64_t n = 0;

    assert_int_equal(rp_tokenizer_encode(tokenizer, text, strlen(text), add_special, &ids, &n),
                     RP_OK);
    if (n != want.n || memcmp(ids, want.ids, (size_t)n * sizeof(*ids)) != 0) {
        print_message("\"%s\":", text);
        for (int64_t i = 0; i < n; i++) {
            print_message(" %d", ids[i]);
        }
        print_message("\n");
        fail();
    }
    free(ids);
}

/* Ids of a text; the list is written out. */
#define IDS(...)                                                                                   \
    (id_list)                                                                                      \
    {                                                                                              \
        sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t),                                        \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

#define FLAGS(word, left, right, norm, special)                                                    \
    "\"single_word\": " word ", \"lstrip\": " left ", \"rstrip\": " right                          \
    ", \"normalized\": " norm ", \"special\": " special
#define VOCAB                                                                                      \
    "\"vocab\": {\"<unk>\": 0, \"a\": 1, \"b\": 2, \"c\": 3, \"ab\": 4, \"bc\": 5, \"abc\": 6,"    \
    "\"\\u2581\": 7, \"<0xC3>\": 8, \"<0xA9>\": 9, \"aa\": 10, \"aaa\": 11},"                      \
    "\"merges\": [\"b c\", [\"a\", \"b\"], \"ab c\", \"a a\", \"aa a\"]"
#define FILE_OF(model, more) "{\"version\": \"1.0\", \"model\": {" model VOCAB "}" more "}"

static void merges_by_rank_and_position(void **state)
{
    rp_tokenizer *tokenizer = parse_good(FILE_OF("\"type\": \"BPE\",", ""));

    (void)state;
    check_ids(tokenizer, "abc", false, IDS(1, 5)); /* b c comes before a b */
    check_ids(tokenizer, "ababc", false, IDS(4, 1, 5));
    check_ids(tokenizer, "aaaa", false, IDS(10, 10));  /* leftmost first, then no merge of two */
    check_ids(tokenizer, "aaaaa", false, IDS(10, 11)); /* aa aa a: the second meets its a */
    check_ids(tokenizer, "a?b", false, IDS(4));        /* no unk_token: dropped before the merges */
    assert_int_equal(rp_tokenizer_size(tokenizer), 12);
    assert_int_equal(rp_tokenizer_n_merges(tokenizer), 5);
    assert_int_equal(rp_tokenizer_find(tokenizer, "abc"), 6);
    assert_int_equal(rp_tokenizer_find(tokenizer, "abcd"), -1);
    assert_null(rp_tokenizer_token(tokenizer, 12));
    rp_tokenizer_destroy(&tokenizer);
    assert_null(tokenizer);
}

static void model_options(void **state)
{
    rp_tokenizer *tokenizer = parse_good(FILE_OF("\"ignore_merges\": true,", ""));

    (void)state;
    check_ids(tokenizer, "abc", false, IDS(6));
    rp_tokenizer_destroy(&tokenizer);
    tokenizer = parse_good(FILE_OF("\"unk_token\": \"<unk>\",", ""));
    check_ids(tokenizer, "x?a", false, IDS(0, 0, 1));
    rp_tokenizer_destroy(&tokenizer);
    tokenizer = parse_good(FILE_OF("\"unk_token\": \"<unk>\", \"fuse_unk\": true,", ""));
    check_ids(tokenizer, "x?a?", false, IDS(0, 1, 0));
    rp_tokenizer_destroy(&tokenizer);
    tokenizer = parse_good(
        FILE_OF("\"unk_token\": \"<unk>\", \"fuse_unk\": true, \"byte_fallback\": true,", ""));
    check_ids(tokenizer, "a\xc3\xa9", false, IDS(1, 8, 9));
    check_ids(tokenizer, "?\xc3\xa9?a", false, IDS(8, 9, 0, 1)); /* unknown waits for a token */
    assert_int_equal(rp_tokenizer_kind_of(tokenizer), RP_TOKENIZER_BYTE_FALLBACK);
    assert_string_equal(rp_tokenizer_gguf_pre(tokenizer), "default");
    rp_tokenizer_destroy(&tokenizer);
}

static void added_token_flags(void **state)
{
    rp_tokenizer *tokenizer = parse_good(FILE_OF(
        "",
        ", \"normalizer\": {\"type\": \"Lowercase\"}, \"added_tokens\": ["
        "{\"id\": 20, \"content\": \"ab\", " FLAGS(
            "true", "false", "false", "false",
            "false") "},"
                     "{\"id\": 21, \"content\": \"<s>\", " FLAGS(
                         "false", "true", "false", "false",
                         "true") "},"
                                 "{\"id\": 22, \"content\": \"<r>\", " FLAGS(
                                     "false", "false", "true", "false",
                                     "true") "},"
                                             "{\"id\": 23, \"content\": \"<Nn>\", " FLAGS(
                                                 "false", "false", "false", "true",
                                                 "true") "},"
                                                         "{\"id\": 24, \"content\": "
                                                         "\"<r>a\", " FLAGS(
                                                             "false", "false", "false", "false",
                                                             "false") "}], \"post_processor\": "
                                                                      "{\"type\": "
                                                                      "\"TemplateProcessing\", "
                                                                      "\"single\":"
                                                                      "[{\"SpecialToken\": "
                                                                      "{\"id\": \"<s>\", "
                                                                      "\"type_id\": 0}}, "
                                                                      "{\"Sequence\": {\"id\": "
                                                                      "\"A\","
                                                                      "\"type_id\": 0}}], "
                                                                      "\"special_tokens\": "
                                                                      "{\"<s>\": {\"id\": \"<s>\", "
                                                                      "\"ids\": [21, 1]}}}"));
    bool is_special = true;

    (void)state;
    check_ids(tokenizer, "ab", false, IDS(4)); /* the model's id, not the listed 20 */
    check_ids(tokenizer, "aab", false, IDS(1, 4));
    check_ids(tokenizer, "a \t<s>a", false, IDS(1, 21, 1));
    check_ids(tokenizer, "a<r> \na", false, IDS(1, 22, 1));
    check_ids(tokenizer, "<nN>A", false, IDS(23, 1));
    check_ids(tokenizer, "<r>a", false, IDS(24)); /* the longest */
    check_ids(tokenizer, "A", true, IDS(21, 1, 1));
    assert_int_equal(rp_tokenizer_size(tokenizer), 25);
    assert_true(rp_tokenizer_is_added(tokenizer, 4, &is_special));
    assert_false(is_special);
    assert_true(rp_tokenizer_is_added(tokenizer, 21, &is_special));
    assert_true(is_special);
    assert_false(rp_tokenizer_is_added(tokenizer, 1, &is_special));
    rp_tokenizer_destroy(&tokenizer);
}

typedef struct bad_case {
    const char *file, *names;
} bad_case;

static void unsupported_is_named(void **state)
{
    static const bad_case cases[] = {
        {"[]", "not a JSON object"},
        {"{\"model\": 3}", "model"},
        {"{\"model\": {\"type\": \"WordPiece\"}}", "WordPiece"},
        {"{\"model\": {\"vocab\": [[\"a\", 0.5]]}}", "Unigram"},
        {"{\"model\": {\"vocab\": {}, \"merges\": []}}", "vocab"},
        {"{\"model\": {\"vocab\": {\"a\": -1}, \"merges\": []}}", "\"a\""},
        {"{\"model\": {\"vocab\": {\"a\": 1e9}, \"merges\": []}}", "\"a\""},
        {"{\"model\": {\"vocab\": {\"a\": 99999999}, \"merges\": []}}", "\"a\""},
        {"{\"model\": {\"vocab\": {\"a\": 1, \"b\": 1}, \"merges\": []}}", "id 1"},
        {"{\"model\": {\"vocab\": {\"a\": 1}, \"merges\": [\"a b\"]}}", "merge 0"},
        {"{\"model\": {\"vocab\": {\"a\": 1}, \"merges\": [\"a\"]}}", "merge 0"},
        {"{\"model\": {\"vocab\": {\"a\": 1}}}", "merges"},
        {FILE_OF("\"dropout\": 0.1,", ""), "dropout"},
        {FILE_OF("\"end_of_word_suffix\": \"</w>\",", ""), "end_of_word_suffix"},
        {FILE_OF("\"unk_token\": \"[UNK]\",", ""), "[UNK]"},
        {FILE_OF("\"surprise\": 1,", ""), "surprise"},
        {FILE_OF("", ", \"surprise\": 1"), "surprise"},
        {FILE_OF("", ", \"padding\": {}"), "padding"},
        {FILE_OF("", ", \"added_tokens\": {}"), "added_tokens"},
        {FILE_OF("", ", \"normalizer\": {\"type\": \"Precompiled\"}"), "Precompiled"},
        {FILE_OF("", ", \"normalizer\": {\"type\": \"NFC\", \"x\": 1}"), "\"x\""},
        {FILE_OF("", ", \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\":"
                     "\"UnicodeScripts\"}]}"),
         "UnicodeScripts"},
        {FILE_OF("", ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(\"},"
                     "\"behavior\": \"Isolated\", \"invert\": false}"),
         "\"(\""},
        {FILE_OF("",
                 ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\b\"},"
                 "\"behavior\": \"Isolated\", \"invert\": false}"),
         "\\b"},
        {FILE_OF("", ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \"a\"},"
                     "\"behavior\": \"Sideways\", \"invert\": false}"),
         "Sideways"},
        {FILE_OF("", ", \"decoder\": {\"type\": \"CTC\"}"), "CTC"},
        {FILE_OF("", ", \"post_processor\": {\"type\": \"Other\"}"), "Other"},
        {FILE_OF("", ", \"added_tokens\": [{\"id\": 1, \"content\": \"q\", " FLAGS(
                         "false", "false", "false", "false", "false") "}]"),
         "\"q\""},
    };

    (void)state;
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        rp_tokenizer *tokenizer = NULL;
        const rp_status st = parse(&tokenizer, cases[i].file);
        if (st != RP_ERR_FORMAT || strstr(rp_error_message(), cases[i].names) == NULL) {
            print_message("%s\n -> %s\n", cases[i].file, rp_error_message());
        }
        assert_int_equal(st, RP_ERR_FORMAT);
        assert_non_null(strstr(rp_error_message(), cases[i].names));
        assert_null(tokenizer);
    }
}

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|"
#define ENDING                                                                                     \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define SPLIT(regex)                                                                               \
    "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" regex                                      \
    "\"}, \"behavior\": \"Isolated\", \"invert\": false}"
#define BYTES(uses_regex)                                                                          \
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": " uses_regex "}"
#define PRE(model, list)                                                                           \
    FILE_OF(model, ", \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [" list "]}")

static void gguf_names(void **state)
{
    static const char digits[] =
        PRE("", "{\"type\": \"Digits\", \"individual_digits\": true}," BYTES("true"));
    static const char llama3[] = PRE("\"ignore_merges\": true,",
                                     SPLIT(CONTRACTIONS "\\\\p{N}{1,3}" ENDING) "," BYTES("false"));
    static const char qwen2[] = PRE("", SPLIT(CONTRACTIONS "\\\\p{N}" ENDING) "," BYTES("false"));
    static const struct {
        const char *file, *name;
    } cases[] = {
        {PRE("", BYTES("true")), "gpt-2"},
        {digits, "smollm"},
        {llama3, "llama-bpe"},
        {qwen2, "qwen2"},
        {FILE_OF("", ""), NULL},
    };

    (void)state;
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        rp_tokenizer *tokenizer = parse_good(cases[i].file);
        const char *name = rp_tokenizer_gguf_pre(tokenizer);
        assert_int_equal(name == NULL, cases[i].name == NULL);
        if (name != NULL) {
            assert_string_equal(name, cases[i].name);
        }
        rp_tokenizer_destroy(&tokenizer);
    }
}

static void broken_utf8_is_located(void **state)
{
    static const struct {
        const char *text;
        const char *where;
    } cases[] = {
        {"ab\xff", "offset 2"},        {"\xc3", "offset 0"},
        {"a\xe2\x82", "offset 1"},     {"\xed\xa0\x80", "offset 0"}, /* a surrogate */
        {"a\xc0\x80", "offset 1"},     {"\xf4\x90\x80\x80", "offset 0"},
        {"\xc3\xa9 \x80", "offset 3"},
    };
    rp_tokenizer *tokenizer = parse_good(FILE_OF("", ""));

    (void)state;
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        int32_t *ids = NULL;
        int64_t n = 0;
        assert_int_equal(
            rp_tokenizer_encode(tokenizer, cases[i].text, strlen(cases[i].text), false, &ids, &n),
            RP_ERR_FORMAT);
        assert_non_null(strstr(rp_error_message(), cases[i].where));
        assert_null(ids);
    }
    rp_tokenizer_destroy(&tokenizer);
}

/* A word of a million symbols that all can be merged: a quadratic way would take hours. */
static void long_word(void **state)
{
    const size_t nbytes = 1 << 20;
    rp_tokenizer *tokenizer = parse_good(FILE_OF("", ""));
    char *text = NULL;
    int32_t *ids = NULL;
    int64_t n = 0;

    (void)state;
    assert_int_equal(rp_alloc(&text, nbytes), RP_OK);
    memset(text, 'a', nbytes);
    assert_int_equal(rp_tokenizer_encode(tokenizer, text, nbytes, false, &ids, &n), RP_OK);
    assert_int_equal(n, nbytes / 2);
    free(ids);
    free(text);
    rp_tokenizer_destroy(&tokenizer);
}

static void shipped_model(void **state)
{
    static const char text[] = "Hello, world! <s> na\u00efve \U0001F600";
    rp_tokenizer *tokenizer = NULL;
    char *decoded = NULL;
    const char *left = NULL;
    const char *right = NULL;
    const id_list ids = IDS(1, 437, 288, 4030, 4045, 909, 4066, 4026, 1, 4026, 297, 4029, 198, 178,
                            312, 4026, 243, 162, 155, 131);

    (void)state;
    assert_int_equal(rp_tokenizer_open(&tokenizer, shipped_dir), RP_OK);
    assert_int_equal(rp_tokenizer_size(tokenizer), 4096);
    check_ids(tokenizer, "It was a dark night.", true, IDS(1, 518, 317, 261, 1020, 792, 4048));
    check_ids(tokenizer, text, true, ids);
    assert_int_equal(rp_tokenizer_decode(tokenizer, ids.ids, ids.n, true, &decoded), RP_OK);
    assert_string_equal(decoded, "Hello, world!   na\u00efve \U0001F600");
    rp_tokenizer_merge(tokenizer, 0, &left, &right);
    assert_string_equal(left, "\u2581");
    assert_string_equal(right, "t");
    free(decoded);
    rp_tokenizer_destroy(&tokenizer);
}

static void no_files(void **state)
{
    rp_tokenizer *tokenizer = NULL;

    (void)state;
    assert_int_equal(rp_tokenizer_open(&tokenizer, "no/such/folder"), RP_ERR_FORMAT);
    assert_non_null(strstr(rp_error_message(), "no/such/folder"));
}

/* ---- llama.cpp's vectors: texts parted by a line, ids one line a text ---- */

static char *read_data(const char *dir, const char *name)
{
    char *path = NULL;
    char *text = NULL;
    size_t nbytes = 0;

    assert_int_equal(rp_strprintf(&path, "%s/%s/%s", data_dir, dir, name), RP_OK);
    assert_int_equal(rp_fs_read_file(&text, &nbytes, path, 1 << 20), RP_OK);
    free(path);
    return text;
}

static id_list parse_ids(char **line)
{
    id_list list = {0};
    char *end = NULL;
    char *stop = strchr(*line, '\n');

    assert_non_null(stop);
    *stop = '\0';
    for (char *at = *line;; at = end) {
        const long id = strtol(at, &end, 10);
        if (end == at) {
            break;
        }
        assert_true(list.n < MAX_IDS);
        list.ids[list.n++] = (int32_t)id;
    }
    *line = stop + 1;
    return list;
}

static void check_vectors(const char *dir, const char *inp_name, const char *out_name,
                          const char *pre)
{
    static const char border[] = "\n__ggml_vocab_test__\n";
    char *texts = read_data("llama.cpp-vocabs", inp_name);
    char *lines = read_data("llama.cpp-vocabs", out_name);
    char *path = NULL;
    char *line = lines;
    char *text = texts;
    char *end = NULL;
    int count = 0;
    rp_tokenizer *tokenizer = NULL;

    assert_int_equal(rp_strprintf(&path, "%s/%s", data_dir, dir), RP_OK);
    assert_int_equal(rp_tokenizer_open(&tokenizer, path), RP_OK);
    while ((end = strstr(text, border)) != NULL) {
        *end = '\0';
        check_ids(tokenizer, text, false, parse_ids(&line));
        text = end + strlen(border);
        count++;
    }
    assert_int_equal(count, 46);
    if (pre != NULL) {
        assert_string_equal(rp_tokenizer_gguf_pre(tokenizer), pre);
    }
    rp_tokenizer_destroy(&tokenizer);
    free(path);
    free(lines);
    free(texts);
}

static void llama_cpp_vectors(void **state)
{
    static const struct {
        const char *dir, *inp, *out, *pre;
    } pairs[] = {
#define PAIR(dir, name, pre)                                                                       \
    {dir, "ggml-vocab-" name ".gguf.inp", "ggml-vocab-" name ".gguf.out", pre}
        PAIR("gpt2", "gpt-2", "gpt-2"),
        PAIR("phi-3-mini", "phi-3", "default"),
        PAIR("falcon", "falcon", NULL),
        PAIR("roberta-base", "roberta-bpe", "gpt-2"),
    };

    (void)state;
    for (size_t i = 0; i < RP_COUNT(pairs); i++) {
        check_vectors(pairs[i].dir, pairs[i].inp, pairs[i].out, pairs[i].pre);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_by_rank_and_position),
        cmocka_unit_test(model_options),
        cmocka_unit_test(added_token_flags),
        cmocka_unit_test(unsupported_is_named),
        cmocka_unit_test(gguf_names),
        cmocka_unit_test(broken_utf8_is_located),
        cmocka_unit_test(long_word),
        cmocka_unit_test(shipped_model),
        cmocka_unit_test(no_files),
    };
    const struct CMUnitTest vector_tests[] = {cmocka_unit_test(llama_cpp_vectors)};

    if (argc == 3 && strcmp(argv[1], "--vectors") == 0) {
        data_dir = argv[2];
        if (!rp_fs_is_dir(data_dir)) {
            (void)printf("skipped: no %s\n", data_dir);
            return 77;
        }
        return cmocka_run_group_tests(vector_tests, NULL, NULL);
    }
    if (argc != 2) {
        (void)fprintf(stderr, "usage: test_tokenizer SHIPPED_MODEL | --vectors TOKENIZERS\n");
        return 64;
    }
    shipped_dir = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}

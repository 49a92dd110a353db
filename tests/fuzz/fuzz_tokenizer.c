/* Any bytes as tokenizer.json: read or refused, and if read, it encodes and decodes a text. */
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static const char *const seeds[] = {
    "{\"version\":\"1.0\",\"truncation\":null,\"added_tokens\":[{\"id\":9,\"content\":\"<s>\","
    "\"single_word\":false,\"lstrip\":true,\"rstrip\":true,\"normalized\":true,\"special\":true}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":"
    "\"Prepend\",\"prepend\":\"_\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
    "\"content\":\"_\"}]},\"pre_tokenizer\":null,\"post_processor\":{\"type\":"
    "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\","
    "\"ids\":[9]}}},\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
    "\"pattern\":{\"String\":\"_\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":"
    "\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},\"model\":{\"type\":"
    "\"BPE\",\"unk_token\":\"u\",\"fuse_unk\":true,\"byte_fallback\":true,\"vocab\":{\"u\":0,"
    "\"_\":1,\"a\":2,\"_a\":3,\"<0xC3>\":4,\"<0xA9>\":5},\"merges\":[[\"_\",\"a\"]]}}",
    "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
    "{\"Regex\":\"(?i:'s|'t)|[^\\\\r\\\\n\\\\p{L}]?\\\\p{L}+|\\\\s+(?!\\\\S)|\\\\s+\"},"
    "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"Digits\",\"individual_digits\":true},"
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":true}]},\"decoder\":{\"type\":"
    "\"ByteLevel\"},\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}",
};

static rp_status try_file(const uint8_t *data, size_t nbytes)
{
    static const char text[] = "ab  <s> a'S \xc3\xa9\xef\xac\x81 12\n\n";
    rp_status st = RP_OK;
    json_error_t error;
    json_t *root = json_loadb((const char *)data, nbytes, JSON_REJECT_DUPLICATES, &error);
    rp_tokenizer *tokenizer = NULL;
    int32_t *ids = NULL;
    int64_t n_ids = 0;
    char *decoded = NULL;

    if (root == NULL) {
        goto out;
    }
    RP_TRY(rp_tokenizer_from_json(&tokenizer, root, "fuzz"));
    RP_TRY(rp_tokenizer_encode(tokenizer, text, sizeof(text) - 1, true, &ids, &n_ids));
    RP_TRY(rp_tokenizer_decode(tokenizer, ids, n_ids, true, &decoded));
out:
    free(decoded);
    free(ids);
    rp_tokenizer_destroy(&tokenizer);
    json_decref(root);
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes)
{
    fuzz_check(try_file(data, nbytes));
    return 0;
}

uint8_t *fuzz_seed(int index, size_t *nbytes)
{
    if ((size_t)index >= sizeof(seeds) / sizeof(seeds[0])) {
        return NULL;
    }
    *nbytes = strlen(seeds[index]);
    return (uint8_t *)strdup(seeds[index]);
}

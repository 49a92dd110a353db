/* Helper of tokenizer_test.py: reads strings, writes their ids.
 *
 * usage: tokenize_driver FOLDER
 * stdin: strings, each a 32-bit length and its bytes. stdout, for each string: ids, ids with
 * special tokens, text of the latter, the same without special tokens; each a 32-bit count and the
 * items. All little-endian. */
#include "model/tokenizer.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool put(const void *items, size_t n, size_t item_bytes)
{
    const uint32_t count = (uint32_t)n;

    return fwrite(&count, sizeof(count), 1, stdout) == 1 &&
           fwrite(items, item_bytes, n, stdout) == n;
}

static rp_status answer(const rp_tokenizer *tokenizer, const char *text, size_t nbytes)
{
    rp_status st = RP_OK;
    int32_t *ids = NULL;
    int64_t n_ids = 0;
    char *decoded = NULL;

    for (int add_special = 0; add_special < 2; add_special++) {
        free(ids);
        RP_TRY(rp_tokenizer_encode(tokenizer, text, nbytes, add_special != 0, &ids, &n_ids));
        if (!put(ids, (size_t)n_ids, sizeof(*ids))) {
            st = RP_FAIL(RP_ERR_IO, "cannot write");
            goto out;
        }
    }
    for (int skip_special = 0; skip_special < 2; skip_special++) {
        free(decoded);
        RP_TRY(rp_tokenizer_decode(tokenizer, ids, n_ids, skip_special != 0, &decoded));
        if (!put(decoded, strlen(decoded), 1)) {
            st = RP_FAIL(RP_ERR_IO, "cannot write");
            goto out;
        }
    }
out:
    free(ids);
    free(decoded);
    return st;
}

int main(int argc, char **argv)
{
    rp_status st = RP_OK;
    rp_tokenizer *tokenizer = NULL;
    char *text = NULL;
    size_t capacity = 0;
    uint32_t nbytes = 0;

    if (argc != 2) {
        st = RP_FAIL(RP_ERR_USAGE, "usage: tokenize_driver FOLDER");
        goto out;
    }
    RP_TRY(rp_tokenizer_open(&tokenizer, argv[1]));
    while (fread(&nbytes, sizeof(nbytes), 1, stdin) == 1) {
        RP_TRY(rp_grow(&text, &capacity, nbytes, 1));
        if (fread(text, 1, nbytes, stdin) != nbytes) {
            st = RP_FAIL(RP_ERR_FORMAT, "cut input");
            goto out;
        }
        RP_TRY(answer(tokenizer, text, nbytes));
    }
out:
    if (st != RP_OK) {
        (void)fprintf(stderr, "tokenize_driver: %s\n", rp_error_message());
    }
    free(text);
    rp_tokenizer_destroy(&tokenizer);
    return st == RP_OK ? 0 : rp_status_exit_code(st);
}

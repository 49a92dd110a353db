/* rankpress tokenize: the ids that calibration and evaluation see. */
#include "jobs/cmd.h"

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "formats/json.h"
#include "jobs/print.h"
#include "jobs/tokenizer_of.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEXT_BYTES ((size_t)1 << 32)

static rp_status read_stdin(char **out, size_t *nbytes)
{
    rp_status st = RP_OK;
    size_t capacity = 0;
    size_t n = 0;
    size_t got = 0;

    *out = NULL;
    do {
        RP_TRY(rp_grow(out, &capacity, n + 65536, 1));
        got = fread(*out + n, 1, capacity - n - 1, stdin);
        n += got;
    } while (got > 0);
    if (ferror(stdin) != 0) {
        st = RP_FAIL(RP_ERR_IO, "cannot read standard input: %s", strerror(errno));
        goto out;
    }
    (*out)[n] = '\0';
    *nbytes = n;
out:
    return st;
}

static rp_status join_operands(char **out, size_t *nbytes, const rp_cli *cli)
{
    rp_status st = RP_OK;
    FILE *f = RP_FAULT("alloc") ? NULL : open_memstream(out, nbytes);

    if (f == NULL) {
        return RP_FAIL(RP_ERR_MEMORY, "no memory for the text");
    }
    for (int i = 0; i < cli->n_args; i++) {
        (void)fprintf(f, "%s%s", i > 0 ? " " : "", cli->args[i]);
    }
    if (fclose(f) != 0) {
        st = RP_FAIL(RP_ERR_MEMORY, "no memory for the text");
    }
    return st;
}

static rp_status read_text(char **out, size_t *nbytes, const rp_cli *cli)
{
    if (cli->text != NULL && cli->n_args > 0) {
        return RP_FAIL(RP_ERR_USAGE, "rankpress tokenize: want a text or --text, not both");
    }
    if (cli->text != NULL) {
        return rp_fs_read_file(out, nbytes, cli->text, MAX_TEXT_BYTES);
    }
    return cli->n_args > 0 ? join_operands(out, nbytes, cli) : read_stdin(out, nbytes);
}

static rp_status parse_ids(int32_t **out, int64_t *n, const char *text,
                           const rp_tokenizer *tokenizer)
{
    rp_status st = RP_OK;
    size_t capacity = 0;
    int64_t count = 0;
    const char *c = text;

    *out = NULL;
    for (;;) {
        char *end = NULL;
        long id = 0;
        c += strspn(c, " \t\r\n,[]");
        if (*c == '\0') {
            break;
        }
        id = strtol(c, &end, 10);
        if (end == c || id < 0 || id >= rp_tokenizer_size(tokenizer)) {
            st = RP_FAIL(RP_ERR_FORMAT, "want ids from 0 to %" PRId64 ", got \"%.*s\"",
                         rp_tokenizer_size(tokenizer) - 1, (int)strcspn(c, " \t\r\n,]"), c);
            goto out;
        }
        RP_TRY(rp_grow(out, &capacity, (size_t)count + 1, sizeof(**out)));
        (*out)[count++] = (int32_t)id;
        c = end;
    }
    *n = count;
out:
    return st;
}

static rp_status print_ids_json(const int32_t *ids, int64_t n, const rp_tokenizer *tokenizer)
{
    rp_status st = RP_OK;
    json_t *id_list = json_array();
    json_t *token_list = json_array();
    json_t *root = NULL;

    for (int64_t i = 0; i < n; i++) {
        const char *token = rp_tokenizer_token(tokenizer, ids[i]);
        json_t *text = token != NULL ? json_string(token) : json_null();
        if (json_array_append_new(id_list, json_integer(ids[i])) != 0 ||
            json_array_append_new(token_list, text != NULL ? text : json_null()) != 0) {
            RP_TRY(rp_json_made(NULL));
        }
    }
    root = json_pack("{s:I, s:O, s:O}", "n_tokens", (json_int_t)n, "ids", id_list, "tokens",
                     token_list);
    RP_TRY(rp_json_made(root));
    RP_TRY(rp_print_json(root));
out:
    json_decref(root);
    json_decref(id_list);
    json_decref(token_list);
    return st;
}

static rp_status encode(const rp_cli *cli, const rp_tokenizer *tokenizer, const char *text,
                        size_t nbytes)
{
    rp_status st = RP_OK;
    int32_t *ids = NULL;
    int64_t n = 0;

    RP_TRY(rp_tokenizer_encode(tokenizer, text, nbytes, cli->is_special, &ids, &n));
    if (cli->is_json) {
        RP_TRY(print_ids_json(ids, n, tokenizer));
        goto out;
    }
    for (int64_t i = 0; i < n; i++) {
        (void)printf("%s%" PRId32, i > 0 ? " " : "", ids[i]);
    }
    (void)putchar('\n');
out:
    free(ids);
    return st;
}

static rp_status decode(const rp_cli *cli, const rp_tokenizer *tokenizer, const char *text)
{
    rp_status st = RP_OK;
    int32_t *ids = NULL;
    int64_t n = 0;
    char *decoded = NULL;
    json_t *root = NULL;

    RP_TRY(parse_ids(&ids, &n, text, tokenizer));
    RP_TRY(rp_tokenizer_decode(tokenizer, ids, n, false, &decoded));
    if (cli->is_json) {
        root = json_pack("{s:I, s:s}", "n_tokens", (json_int_t)n, "text", decoded);
        RP_TRY(rp_json_made(root));
        RP_TRY(rp_print_json(root));
    } else {
        (void)printf("%s\n", decoded);
    }
out:
    json_decref(root);
    free(decoded);
    free(ids);
    return st;
}

rp_status rp_cmd_tokenize(const rp_cli *cli)
{
    rp_status st = RP_OK;
    rp_tokenizer *tokenizer = NULL;
    char *text = NULL;
    size_t nbytes = 0;

    RP_TRY(rp_tokenizer_of(&tokenizer, cli->model));
    RP_TRY(read_text(&text, &nbytes, cli));
    if (cli->is_decode) {
        RP_TRY(decode(cli, tokenizer, text));
    } else {
        st = encode(cli, tokenizer, text, nbytes);
        if (st != RP_OK && cli->text != NULL) {
            st = rp_error_prefix(st, "%s", cli->text);
        }
    }
out:
    free(text);
    rp_tokenizer_destroy(&tokenizer);
    return st;
}

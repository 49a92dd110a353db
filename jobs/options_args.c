/* The command line: "--name value", "--name=value", "--flag", operands, "--". Names are the rows'
 * with "-" for "_". */
#include "jobs/options.h"

#include <stdio.h>
#include <string.h>

/* The row whose name is name[n], "-" and "_" being one letter, or NULL. */
static const rp_option *find_argument(const rp_option *rows, const char *name, size_t n)
{
    for (const rp_option *row = rows; row->name != NULL; row++) {
        size_t i = 0;
        while (i < n && (row->name[i] == name[i] || (row->name[i] == '_' && name[i] == '-'))) {
            i++;
        }
        if (i == n && row->name[n] == '\0') {
            return row;
        }
    }
    return NULL;
}

static rp_status fail_unknown(const rp_option *rows, const char *name, size_t n)
{
    char text[64];
    char shown[64];
    const char *near = NULL;

    (void)snprintf(text, sizeof(text), "%.*s", (int)n, name);
    near = rp_options_suggest(rows, text);
    if (near == NULL) {
        return RP_FAIL(RP_ERR_USAGE, "unknown option --%s", text);
    }
    (void)snprintf(shown, sizeof(shown), "%s", near);
    for (char *c = shown; *c != '\0'; c++) {
        *c = *c == '_' ? '-' : *c;
    }
    return RP_FAIL(RP_ERR_USAGE, "unknown option --%s (did you mean --%s?)", text, shown);
}

/* One "--name[=value]" at argv[*at]; moves *at to the last argument used. */
static rp_status parse_option(const rp_option *rows, void *object, rp_owner *owner, int argc,
                              char **argv, int *at)
{
    rp_status st = RP_OK;
    const char *name = argv[*at] + 2;
    const char *value = strchr(name, '=');
    const size_t n = value != NULL ? (size_t)(value - name) : strlen(name);
    const rp_option *row = find_argument(rows, name, n);

    if (row == NULL) {
        return fail_unknown(rows, name, n);
    }
    if (row->type == RP_OPTION_FLAG) {
        if (value != NULL) {
            return RP_FAIL(RP_ERR_USAGE, "option --%.*s takes no value", (int)n, name);
        }
        return rp_option_set(row, object, owner, "true");
    }
    if (value == NULL && *at + 1 >= argc) {
        return RP_FAIL(RP_ERR_USAGE, "option --%.*s needs a value: %s", (int)n, name,
                       row->arg != NULL ? row->arg : "VALUE");
    }
    value = value != NULL ? value + 1 : argv[++*at];
    RP_TRY(rp_option_set(row, object, owner, value));
out:
    return st == RP_OK ? st : rp_error_prefix(st, "option --%.*s", (int)n, name);
}

rp_status rp_options_parse_args(const rp_option *rows, void *object, rp_owner *owner, int argc,
                                char **argv, int first, const char **operands, int *n_operands)
{
    rp_status st = RP_OK;
    bool is_ended = false;

    *n_operands = 0;
    for (int i = first; i < argc; i++) {
        if (is_ended || argv[i][0] != '-' || argv[i][1] == '\0') {
            operands[(*n_operands)++] = argv[i];
        } else if (strcmp(argv[i], "--") == 0) {
            is_ended = true;
        } else if (strcmp(argv[i], "-h") == 0) {
            argv[i] = (char *)"--help";
            RP_TRY(parse_option(rows, object, owner, argc, argv, &i));
        } else if (argv[i][1] == '-') {
            RP_TRY(parse_option(rows, object, owner, argc, argv, &i));
        } else {
            st = RP_FAIL(RP_ERR_USAGE, "unknown option %s", argv[i]);
            goto out;
        }
    }
out:
    return st;
}

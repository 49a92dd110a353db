/* jansson with the strict flags, and its failures as messages. */
#include "formats/json.h"

#include "base/fault.h"
#include "base/fs.h"

#include <stdlib.h>

/* jansson says of a parse without memory that the text is wrong, and most callers build trees
 * without a look at each step: what was lacking once is lacking until somebody asks. */
static _Thread_local bool has_lacked_memory;

static void *allocate(size_t nbytes)
{
    void *p = RP_FAULT("json") ? NULL : malloc(nbytes);

    has_lacked_memory |= p == NULL;
    return p;
}

void rp_json_init(void)
{
    json_set_alloc_funcs(allocate, free);
}

rp_status rp_json_made(const json_t *value)
{
    if (value != NULL && !has_lacked_memory) {
        return RP_OK;
    }
    has_lacked_memory = false;
    return RP_FAIL(RP_ERR_MEMORY, "no memory for a JSON value");
}

rp_status rp_json_dump(char **out, const json_t *value, size_t flags)
{
    rp_status st = RP_OK;

    *out = json_dumps(value, flags);
    st = rp_json_made(*out == NULL ? NULL : value);
    if (st != RP_OK) {
        free(*out);
        *out = NULL;
    }
    return st;
}

rp_status rp_json_parse(json_t **out, const char *text, size_t nbytes, const char *origin)
{
    json_error_t error;
    const bool lacked_before = has_lacked_memory;
    bool lacks = false;

    has_lacked_memory = false;
    *out = json_loadb(text, nbytes, JSON_REJECT_DUPLICATES, &error);
    lacks = has_lacked_memory;
    has_lacked_memory = lacked_before;
    if (lacks) { /* a tree all the same may have strings that miss a character */
        json_decref(*out);
        *out = NULL;
        return RP_FAIL(RP_ERR_MEMORY, "%s: no memory for its JSON", origin);
    }
    if (*out == NULL) {
        return RP_FAIL(RP_ERR_FORMAT, "%s:%d:%d: %s", origin, error.line, error.column, error.text);
    }
    return RP_OK;
}

rp_status rp_json_load(json_t **out, const char *path)
{
    rp_status st = RP_OK;
    char *text = NULL;
    size_t nbytes = 0;

    *out = NULL;
    RP_TRY(rp_fs_read_file(&text, &nbytes, path, RP_JSON_MAX_FILE_BYTES));
    RP_TRY(rp_json_parse(out, text, nbytes, path));
out:
    free(text);
    return st;
}

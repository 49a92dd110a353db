/* jansson with the strict flags, and its failures as messages. */
#include "formats/json.h"

#include "base/fs.h"

#include <stdlib.h>

rp_status rp_json_parse(json_t **out, const char *text, size_t nbytes, const char *origin)
{
    json_error_t error;

    *out = json_loadb(text, nbytes, JSON_REJECT_DUPLICATES, &error);
    if (*out == NULL) {
        /* Without a text no rule was broken: jansson found no memory. */
        return error.text[0] == '\0' || json_error_code(&error) == json_error_out_of_memory
                   ? RP_FAIL(RP_ERR_MEMORY, "%s: no memory for its JSON", origin)
                   : RP_FAIL(RP_ERR_FORMAT, "%s:%d:%d: %s", origin, error.line, error.column,
                             error.text);
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

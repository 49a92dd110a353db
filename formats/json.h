/* JSON files with strict reading: duplicate keys, oversized files and trailing text are errors with
 * file and line. */
#ifndef RP_FORMATS_JSON_H
#define RP_FORMATS_JSON_H

#include <jansson.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_JSON_MAX_FILE_BYTES ((size_t)256 << 20)

/* Local. New reference in *out. `origin` names the text in messages. RP_ERR_FORMAT
 * "<origin>:<line>:<column>: <cause>"; RP_ERR_MEMORY. */
RP_CHECKED rp_status rp_json_parse(json_t **out, const char *text, size_t nbytes,
                                   const char *origin);
/* Local. A file of at most RP_JSON_MAX_FILE_BYTES. */
RP_CHECKED rp_status rp_json_load(json_t **out, const char *path);

#ifdef __cplusplus
}
#endif
#endif

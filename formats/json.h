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

/* Local, once, before any other thread. jansson's memory comes from a place that knows when there
 * was none. */
void rp_json_init(void);
/* Local. Of a tree just built with json_pack and its kin: RP_ERR_MEMORY when it is NULL or when any
 * of this thread's JSON found no memory since this was last asked. */
RP_CHECKED rp_status rp_json_made(const json_t *value);
/* Local. The text of a tree, or RP_ERR_MEMORY as above. Caller frees. */
RP_CHECKED rp_status rp_json_dump(char **out, const json_t *value, size_t flags);
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

/* What commands print: JSON, sizes and numbers for people. */
#ifndef RP_JOBS_PRINT_H
#define RP_JOBS_PRINT_H

#include <jansson.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_SIZE_TEXT_BYTES 32

/* Local. Indented JSON and a newline on standard output. */
RP_CHECKED rp_status rp_print_json(const json_t *value);
/* Local. "11.6 MB", "940 B", in powers of 1000, into out [RP_SIZE_TEXT_BYTES]. */
const char *rp_print_size(char *out, double nbytes);
/* Local. A number with so many decimals, or a dash for what is not a number (not measured), into
 * out [RP_SIZE_TEXT_BYTES]. */
const char *rp_print_number(char *out, const json_t *value, int decimals);
/* Local. The text under a key; "" where there is none. Borrowed. */
const char *rp_json_text(const json_t *object, const char *key);

#ifdef __cplusplus
}
#endif
#endif

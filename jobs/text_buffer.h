/* Text that grows while it is written: pages and cards are made in memory first, so that a file is
 * written whole or not at all. Failures stick and come out at the end. */
#ifndef RP_JOBS_TEXT_BUFFER_H
#define RP_JOBS_TEXT_BUFFER_H

#include <stdio.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_text {
    FILE *file;
    char *chars;
    size_t nbytes;
} rp_text;

/* Local. Caller finishes or discards. */
RP_CHECKED rp_status rp_text_open(rp_text *text);
void rp_text_put(rp_text *text, const char *fmt, ...) RP_PRINTF(2, 3);
/* Local. For HTML text and for attributes in double quotes: & < > " and ' as entities, control
 * characters as blanks. */
void rp_text_put_html(rp_text *text, const char *chars);
/* Local. For Markdown, also in a table: between backticks, with backticks as apostrophes, bars
 * escaped and control characters as blanks. */
void rp_text_put_code(rp_text *text, const char *chars);
/* Local. The text in new memory; RP_ERR_MEMORY when any part of it found none. */
RP_CHECKED rp_status rp_text_finish(rp_text *text, char **out);
/* Local. Accepts a text that is finished or was never opened ({0}). */
void rp_text_discard(rp_text *text);

#ifdef __cplusplus
}
#endif
#endif

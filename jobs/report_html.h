/* report.html: what report.json says, for people: one file without scripts or links. */
#ifndef RP_JOBS_REPORT_HTML_H
#define RP_JOBS_REPORT_HTML_H

#include <jansson.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. The page in new memory, from the tree that becomes report.json. */
RP_CHECKED rp_status rp_report_html(char **text, const json_t *report);

#ifdef __cplusplus
}
#endif
#endif

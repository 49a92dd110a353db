/* The charts of report.html: SVG without scripts, colours by the page's style sheet. */
#ifndef RP_JOBS_REPORT_CHARTS_H
#define RP_JOBS_REPORT_CHARTS_H

#include <jansson.h>

#include "jobs/text_buffer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. Bars of seconds, and the rate where a phase counts its FLOP. `phases` as in report.json.
 */
void rp_chart_phases(rp_text *text, const json_t *phases);
/* Local. A line for each kind of linear: loss of form 0 over the layers, on a logarithmic scale.
 * `layers` as in report.json. False, and nothing written, when no loss is above 0. */
bool rp_chart_losses(rp_text *text, const json_t *layers);
/* Local. The style sheet's part: series classes s0 to s6 and what they look like, light and dark.
 */
extern const char rp_chart_style[];

#ifdef __cplusplus
}
#endif
#endif

/* Progress of a counted piece of work with rate and time left: one line rewritten in place on a
 * terminal, one line every 30 s elsewhere.
 *
 * "calibrate and solve  14/30 layers  46 %  0.52 layers/s  about 31 s left". For rank 0; other
 * ranks and quiet runs make it with NULL and nothing is printed. Rank 0's log gets the same figures
 * as events "progress", at the start and every 10 s, for those who watch the job from elsewhere. */
#ifndef RP_BASE_PROGRESS_H
#define RP_BASE_PROGRESS_H

#include <stdio.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_progress rp_progress;

/* Local. stream NULL: silent. `what` and `unit` are copied; total > 0 in units (may be fractional
 * work). */
RP_CHECKED rp_status rp_progress_create(rp_progress **out, FILE *stream, const char *what,
                                        const char *unit, double total);
/* Local. `done` units so far (a resumed run's first call is the base from which the rate counts).
 * Prints when due. */
void rp_progress_update(rp_progress *progress, double done);
/* Local. Ends the line: "what  30/30 layers  58 s"; of work that was broken off the line is
 * cleared. Accepts NULL, sets NULL. */
void rp_progress_finish(rp_progress **progress);
/* Local. A line of text above the progress line (or alone). */
void rp_progress_note(rp_progress *progress, const char *text);
/* Local. "31 s", "14 min 05 s", "29 h 40 min" into out [out_bytes]. */
void rp_progress_format_seconds(char *out, size_t out_bytes, double seconds);

#ifdef __cplusplus
}
#endif
#endif

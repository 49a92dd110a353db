/* Fault points: calls that tests can make fail, slow or the process's last. A point is a kind of
 * call ("write", "alloc" ...) at a call site ("jobs/report.c:120"); the helpers of base/ take their
 * caller's site. RP_FAULT("fsync") is true, with errno set, when this occurrence is to fail. Off,
 * it costs one load. jobs/environ.c arms and traces from the environment; tests call it. */
#ifndef RP_BASE_FAULT_H
#define RP_BASE_FAULT_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_TEXT_OF_(x) #x
#define RP_TEXT_OF(x) RP_TEXT_OF_(x)
#define RP_SITE __FILE__ ":" RP_TEXT_OF(__LINE__)

#define RP_FAULT(kind) RP_FAULT_AT(kind, RP_SITE)
#define RP_FAULT_AT(kind, site) (rp_fault_is_on && rp_fault_hit((kind), (site)))
extern bool rp_fault_is_on;

/* Local. Fails occurrence number `first` (from 1) of a kind at any site with EIO; with `for_ever`
 * all from there on. NULL disarms. */
void rp_fault_arm(const char *kind, int64_t first, bool for_ever);
/* Local. The same from "kind[@site]:first[:every][:what]"; kind "any" is each of them. what: an
 * error's name (EIO when there is none; ENOSPC, EDQUOT, EACCES, EROFS, ENOMEM), "slow" (a moment's
 * sleep, no failure), or "kill", "term",
 * "stop" (the signal to itself). RP_ERR_USAGE when malformed. */
RP_CHECKED rp_status rp_fault_arm_text(const char *text);
/* Local. Counts an occurrence; true when it is to fail. Thread-safe. Prefer RP_FAULT. */
bool rp_fault_hit(const char *kind, const char *site);
/* Local. How often the armed point was reached. */
int64_t rp_fault_count(void);

/* Local. Counts every point from now on; writes the counts, a line "kind site count" each. */
void rp_fault_trace(void);
RP_CHECKED rp_status rp_fault_write_trace(const char *path);

#ifdef __cplusplus
}
#endif
#endif

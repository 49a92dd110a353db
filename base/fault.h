/* Fault points: places that tests can make fail. RP_FAULT("write") is true when this occurrence is
 * to fail. Off (one load) unless rp_fault_arm was called; jobs arms it from
 * RP_FAULT=site:first[:every], tests call it. */
#ifndef RP_BASE_FAULT_H
#define RP_BASE_FAULT_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_FAULT(site) (rp_fault_is_armed && rp_fault_hit(site))
extern bool rp_fault_is_armed;

/* Local. Fails occurrence number `first` (from 1) of `site`; with `for_ever` all from there on.
 * NULL disarms. */
void rp_fault_arm(const char *site, int64_t first, bool for_ever);
/* Local. Counts an occurrence; true when it is to fail. Thread-safe. Prefer RP_FAULT. */
bool rp_fault_hit(const char *site);
/* Local. How often the armed site was reached. */
int64_t rp_fault_count(void);

#ifdef __cplusplus
}
#endif
#endif

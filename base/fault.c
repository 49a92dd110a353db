/* A single armed fault point; see sqlite's fault.c for the habit. */
#include "base/fault.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

bool rp_fault_is_armed;
static char armed_site[32];
static int64_t armed_first;
static bool armed_for_ever;
static _Atomic int64_t hits;

void rp_fault_arm(const char *site, int64_t first, bool for_ever)
{
    rp_fault_is_armed = false;
    atomic_store(&hits, 0);
    if (site == NULL) {
        return;
    }
    (void)snprintf(armed_site, sizeof(armed_site), "%s", site);
    armed_first = first;
    armed_for_ever = for_ever;
    rp_fault_is_armed = true;
}

bool rp_fault_hit(const char *site)
{
    int64_t n = 0;

    if (strcmp(site, armed_site) != 0) {
        return false;
    }
    n = atomic_fetch_add(&hits, 1) + 1;
    return n == armed_first || (armed_for_ever && n > armed_first);
}

int64_t rp_fault_count(void)
{
    return atomic_load(&hits);
}

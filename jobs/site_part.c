/* Names of parts, and the judgement whether one is worth its bytes. */
#include "jobs/site_part.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define PREFIX RP_UNIT_PASSING "part/"

/* Returns the length. */
static size_t put_prefix(char out[RP_SITE_PART_BYTES], const rp_site_part *part)
{
    return (size_t)snprintf(out, RP_SITE_PART_BYTES, PREFIX "%lld/%d/", (long long)part->layer,
                            (int)part->site);
}

void rp_site_part_unit(char out[RP_SITE_PART_BYTES], const rp_site_part *part, const char *name,
                       ...)
{
    const size_t n = put_prefix(out, part);
    va_list args;

    va_start(args, name);
    (void)vsnprintf(out + n, RP_SITE_PART_BYTES - n, name, args);
    va_end(args);
}

bool rp_site_part_has(const rp_site_part *part, const char *name)
{
    char unit[RP_SITE_PART_BYTES];

    rp_site_part_unit(unit, part, "%s", name);
    return rp_checkpoint_has(part->session->checkpoint, unit);
}

bool rp_site_part_pays(const rp_session *session, double bytes, double redo_seconds)
{
    const double seconds = rp_checkpoint_write_seconds(session->checkpoint, bytes);
    double verdict = 0;

    switch ((rp_partial)session->job->cluster.checkpoint.partial) {
    case RP_PARTIAL_ALWAYS:
        verdict = 1;
        break;
    case RP_PARTIAL_AUTO:
        verdict = 2 * seconds <= redo_seconds;
        break;
    case RP_PARTIAL_NEVER:
        break;
    }
    if (seconds > rp_stop_save_left(&session->stop)) {
        verdict = 0;
    }
    rp_comm_bcast(session->comm, &verdict, sizeof(verdict), 0);
    return verdict > 0;
}

rp_status rp_site_parts_drop(rp_session *session, const rp_site_part *keep)
{
    char kept[RP_SITE_PART_BYTES];

    if (keep != NULL) {
        (void)put_prefix(kept, keep);
    }
    return rp_checkpoint_drop_below(session->checkpoint, PREFIX, keep == NULL ? NULL : kept);
}

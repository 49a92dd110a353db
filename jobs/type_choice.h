/* One option for each item, so that all fit in a size and the sum of losses is the least: a
 * multiple-choice knapsack. */
#ifndef RP_JOBS_TYPE_CHOICE_H
#define RP_JOBS_TYPE_CHOICE_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_MAX_CHOICES 8

typedef struct rp_choice_item {
    int n; /* options, at least one */
    size_t nbytes[RP_MAX_CHOICES];
    double loss[RP_MAX_CHOICES];
} rp_choice_item;

/* Local. Bytes when every item takes its smallest, its largest option. */
size_t rp_choice_least_bytes(const rp_choice_item *items, int64_t n);
size_t rp_choice_most_bytes(const rp_choice_item *items, int64_t n);
/* Local. out [n]: an option each, together at most limit_bytes, which rp_choice_least_bytes must
 * not exceed. The least loss there is where sizes share a unit that is large enough beside the
 * limit (2^17 of them); else sizes are rounded up to such a unit, and room that is left is filled.
 * Among equals the same choice always. */
RP_CHECKED rp_status rp_choose_options(int *out, const rp_choice_item *items, int64_t n,
                                       size_t limit_bytes);

#ifdef __cplusplus
}
#endif
#endif

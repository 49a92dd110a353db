/* Memory of one life: many small allocations, released together. For trees and option values, where
 * one owner is simpler than a destroy function for every node. */
#ifndef RP_BASE_OWNER_H
#define RP_BASE_OWNER_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Start with {0}. */
typedef struct rp_owner {
    void **items;
    size_t n, capacity;
} rp_owner;

/* Local. Cleared memory that lives as long as the owner. `out`: address of a pointer. */
RP_CHECKED rp_status rp_owner_calloc(rp_owner *owner, void *out, size_t count, size_t elem_bytes);
/* Local. A copy of n bytes of text and a NUL. */
RP_CHECKED rp_status rp_owner_strndup(rp_owner *owner, char **out, const char *text, size_t n);
/* Local. The owner takes memory made by rp_alloc or its kin; on failure it is freed. */
RP_CHECKED rp_status rp_owner_take(rp_owner *owner, void *memory);
/* Local. Releases everything; the owner is empty and may be used again. */
void rp_owner_destroy(rp_owner *owner);

#ifdef __cplusplus
}
#endif
#endif

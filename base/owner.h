/* Memory of one life: many small allocations, released together. For trees and option values, where
 * one owner is simpler than a destroy function for every node. */
#ifndef RP_BASE_OWNER_H
#define RP_BASE_OWNER_H

#include "base/fault.h"
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
#define rp_owner_calloc(owner, out, count, elem_bytes)                                             \
    rp_owner_calloc_at(RP_SITE, (owner), (out), (count), (elem_bytes))
/* Local. A copy of n bytes of text and a NUL. */
#define rp_owner_strndup(owner, out, text, n)                                                      \
    rp_owner_strndup_at(RP_SITE, (owner), (out), (text), (n))
/* Local. The owner takes memory made by rp_alloc or its kin; on failure it is freed. */
#define rp_owner_take(owner, memory) rp_owner_take_at(RP_SITE, (owner), (memory))
/* Local. Releases everything; the owner is empty and may be used again. */
void rp_owner_destroy(rp_owner *owner);

/* Local. What these stand for; `site` is the fault point's. */
RP_CHECKED rp_status rp_owner_calloc_at(const char *site, rp_owner *owner, void *out, size_t count,
                                        size_t elem_bytes);
RP_CHECKED rp_status rp_owner_strndup_at(const char *site, rp_owner *owner, char **out,
                                         const char *text, size_t n);
RP_CHECKED rp_status rp_owner_take_at(const char *site, rp_owner *owner, void *memory);

#ifdef __cplusplus
}
#endif
#endif

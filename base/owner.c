/* A list of pointers to free. */
#include "base/owner.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

rp_status rp_owner_take_at(const char *site, rp_owner *owner, void *memory)
{
    rp_status st = RP_OK;

    RP_TRY(
        rp_grow_at(site, &owner->items, &owner->capacity, owner->n + 1, sizeof(owner->items[0])));
    owner->items[owner->n++] = memory;
    memory = NULL;
out:
    free(memory);
    return st;
}

rp_status rp_owner_calloc_at(const char *site, rp_owner *owner, void *out, size_t count,
                             size_t elem_bytes)
{
    rp_status st = RP_OK;
    void *p = NULL;

    RP_TRY(rp_calloc_at(site, &p, count, elem_bytes));
    RP_TRY(rp_owner_take_at(site, owner, p));
    memcpy(out, &p, sizeof(p));
out:
    return st;
}

rp_status rp_owner_strndup_at(const char *site, rp_owner *owner, char **out, const char *text,
                              size_t n)
{
    rp_status st = RP_OK;

    RP_TRY(rp_owner_calloc_at(site, owner, out, n + 1, 1));
    memcpy(*out, text, n);
out:
    return st;
}

void rp_owner_destroy(rp_owner *owner)
{
    for (size_t i = 0; i < owner->n; i++) {
        free(owner->items[i]);
    }
    free(owner->items);
    memset(owner, 0, sizeof(*owner));
}

/* Memory of the place where an exec's operations run: the host's, or its GPU's arena. Host code
 * never follows a pointer into a place; it puts bytes there and gets them back.
 *
 * On the CPU these are malloc, free and memcpy. */
#ifndef RP_KERNELS_PLACE_H
#define RP_KERNELS_PLACE_H

#include "base/fault.h"
#include "kernels/exec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Memory that something needs, for the plan. On the CPU the place is the host. */
typedef struct rp_place_bytes {
    size_t host, place;
} rp_place_bytes;

/* Local. `out` is the address of a pointer; count * elem_bytes, checked, not cleared. */
#define rp_place_alloc(exec, out, count, elem_bytes)                                               \
    rp_place_alloc_at(RP_SITE, (exec), (out), (count), (elem_bytes))
RP_CHECKED rp_status rp_place_alloc_at(const char *site, const rp_exec *exec, void *out,
                                       size_t count, size_t elem_bytes);
/* Local. Accepts NULL. */
void rp_place_free(const rp_exec *exec, void *memory);
/* Local. Is it the host's: may host code follow the pointers. */
bool rp_place_is_host(const rp_exec *exec);

/* Local. `to` (place) := `from` (host), and the other way; in the order of the operations. */
void rp_place_put(const rp_exec *exec, void *to, const void *from, size_t nbytes);
void rp_place_get(const rp_exec *exec, void *to, const void *from, size_t nbytes);
/* Local. nrows rows of row_bytes; in the place their starts are pitch bytes apart, on the host they
 * are contiguous. */
void rp_place_put_rows(const rp_exec *exec, void *to, size_t pitch, const void *from,
                       size_t row_bytes, size_t nrows);
void rp_place_get_rows(const rp_exec *exec, void *to, const void *from, size_t pitch,
                       size_t row_bytes, size_t nrows);
/* Local. Within the place; the ranges do not overlap. */
void rp_place_copy(const rp_exec *exec, void *to, const void *from, size_t nbytes);
void rp_place_zero(const rp_exec *exec, void *memory, size_t nbytes);
/* Local. Waits for all operations; a GPU's failure comes out here. Call it before results count. */
RP_CHECKED rp_status rp_place_check(const rp_exec *exec);
/* Local. Waits, too; a failure stays for the next check. For clocks. */
void rp_place_wait(const rp_exec *exec);

#ifdef __cplusplus
}
#endif
#endif

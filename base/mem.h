/* Allocation and arithmetic that check themselves. */
#ifndef RP_BASE_MEM_H
#define RP_BASE_MEM_H

#include "base/fault.h"
#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. *out = a * b or a + b; RP_ERR_MEMORY when the result does not fit in size_t. */
RP_CHECKED rp_status rp_mul_size(size_t *out, size_t a, size_t b);
RP_CHECKED rp_status rp_add_size(size_t *out, size_t a, size_t b);

/* Local. `out` is the address of a pointer. Memory is aligned to 64 bytes and released with free().
 * RP_ERR_MEMORY names the size. nbytes 0 gives a valid pointer. rp_calloc clears; rp_alloc does
 * not. */
#define rp_alloc(out, nbytes) rp_alloc_at(RP_SITE, (out), (nbytes))
#define rp_calloc(out, count, elem_bytes) rp_calloc_at(RP_SITE, (out), (count), (elem_bytes))
/* Local. count * elem_bytes, checked, not cleared. */
#define rp_alloc_array(out, count, elem_bytes)                                                     \
    rp_alloc_array_at(RP_SITE, (out), (count), (elem_bytes))
/* Local. Grows *ptr (made by any of these, or NULL) to hold `need` elements; doubles; *capacity is
 * updated. */
#define rp_grow(ptr, capacity, need, elem_bytes)                                                   \
    rp_grow_at(RP_SITE, (ptr), (capacity), (need), (elem_bytes))
/* Local. Copies of strings; caller frees. rp_strprintf formats into new memory. */
#define rp_strdup(out, text) rp_strdup_at(RP_SITE, (out), (text))
#define rp_strprintf(out, ...) rp_strprintf_at(RP_SITE, (out), __VA_ARGS__)

/* Local. What these stand for; `site` is the fault point's. */
RP_CHECKED rp_status rp_alloc_at(const char *site, void *out, size_t nbytes);
RP_CHECKED rp_status rp_calloc_at(const char *site, void *out, size_t count, size_t elem_bytes);
RP_CHECKED rp_status rp_alloc_array_at(const char *site, void *out, size_t count,
                                       size_t elem_bytes);
RP_CHECKED rp_status rp_grow_at(const char *site, void *ptr, size_t *capacity, size_t need,
                                size_t elem_bytes);
RP_CHECKED rp_status rp_strdup_at(const char *site, char **out, const char *text);
RP_CHECKED rp_status rp_strprintf_at(const char *site, char **out, const char *fmt, ...)
    RP_PRINTF(3, 4);

/* Local. Limit on the sum of live rp_alloc* bytes is not kept; this is the peak resident size of
 * the process, bytes. */
size_t rp_peak_resident_bytes(void);

/* Local. Is text longer than `end` and ends in it. */
bool rp_ends_with(const char *text, const char *end);

#define RP_MIN(a, b) ((a) < (b) ? (a) : (b))
#define RP_MAX(a, b) ((a) > (b) ? (a) : (b))
#define RP_DIV_UP(a, b) (((a) + (b)-1) / (b))
#define RP_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#ifdef __cplusplus
}
#endif
#endif

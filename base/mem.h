/* Allocation and arithmetic that check themselves. */
#ifndef RP_BASE_MEM_H
#define RP_BASE_MEM_H

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
RP_CHECKED rp_status rp_alloc(void *out, size_t nbytes);
RP_CHECKED rp_status rp_calloc(void *out, size_t count, size_t elem_bytes);
/* Local. count * elem_bytes, checked, not cleared. */
RP_CHECKED rp_status rp_alloc_array(void *out, size_t count, size_t elem_bytes);
/* Local. Grows *ptr (made by any of these, or NULL) to hold `need` elements; doubles; *capacity is
 * updated. */
RP_CHECKED rp_status rp_grow(void *ptr, size_t *capacity, size_t need, size_t elem_bytes);
/* Local. Copies of strings; caller frees. rp_strprintf formats into new memory. */
RP_CHECKED rp_status rp_strdup(char **out, const char *text);
RP_CHECKED rp_status rp_strprintf(char **out, const char *fmt, ...) RP_PRINTF(2, 3);

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

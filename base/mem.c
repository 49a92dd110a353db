/* Checked allocation. Every call is a fault point, so that tests can fail the n-th one. */
#include "base/mem.h"

#include "base/fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

rp_status rp_mul_size(size_t *out, size_t a, size_t b)
{
    if (__builtin_mul_overflow(a, b, out)) {
        return RP_FAIL(RP_ERR_MEMORY, "size overflow: %zu * %zu bytes", a, b);
    }
    return RP_OK;
}

rp_status rp_add_size(size_t *out, size_t a, size_t b)
{
    if (__builtin_add_overflow(a, b, out)) {
        return RP_FAIL(RP_ERR_MEMORY, "size overflow: %zu + %zu bytes", a, b);
    }
    return RP_OK;
}

rp_status rp_alloc_at(const char *site, void *out, size_t nbytes)
{
    const size_t rounded = nbytes > SIZE_MAX - 64 ? 0 : (RP_MAX(nbytes, 1) + 63) / 64 * 64;
    void *p = NULL;

    if (rounded != 0 && !RP_FAULT_AT("alloc", site)) {
        p = aligned_alloc(64, rounded);
    }
    memcpy(out, &p, sizeof(p));
    if (p == NULL) {
        return RP_FAIL(RP_ERR_MEMORY, "no memory for %zu bytes", nbytes);
    }
    return RP_OK;
}

rp_status rp_alloc_array_at(const char *site, void *out, size_t count, size_t elem_bytes)
{
    rp_status st = RP_OK;
    size_t nbytes = 0;

    RP_TRY(rp_mul_size(&nbytes, count, elem_bytes));
    RP_TRY(rp_alloc_at(site, out, nbytes));
out:
    return st;
}

rp_status rp_calloc_at(const char *site, void *out, size_t count, size_t elem_bytes)
{
    rp_status st = RP_OK;
    void *p = NULL;

    RP_TRY(rp_alloc_array_at(site, out, count, elem_bytes));
    memcpy(&p, out, sizeof(p));
    memset(p, 0, count * elem_bytes);
out:
    return st;
}

rp_status rp_grow_at(const char *site, void *ptr, size_t *capacity, size_t need, size_t elem_bytes)
{
    rp_status st = RP_OK;
    size_t want = RP_MAX(*capacity, 8);
    void *old = NULL;
    void *grown = NULL;

    if (need <= *capacity) {
        return RP_OK;
    }
    while (want < need) {
        RP_TRY(rp_mul_size(&want, want, 2));
    }
    RP_TRY(rp_alloc_array_at(site, &grown, want, elem_bytes));
    memcpy(&old, ptr, sizeof(old));
    if (old != NULL) {
        memcpy(grown, old, *capacity * elem_bytes);
        free(old);
    }
    memcpy(ptr, &grown, sizeof(grown));
    *capacity = want;
out:
    return st;
}

rp_status rp_strdup_at(const char *site, char **out, const char *text)
{
    rp_status st = RP_OK;
    const size_t nbytes = strlen(text) + 1;

    RP_TRY(rp_alloc_at(site, out, nbytes));
    memcpy(*out, text, nbytes);
out:
    return st;
}

rp_status rp_strprintf_at(const char *site, char **out, const char *fmt, ...)
{
    rp_status st = RP_OK;
    va_list args;
    va_list again;
    int length = 0;

    *out = NULL;
    va_start(args, fmt);
    va_copy(again, args);
    length = vsnprintf(NULL, 0, fmt, args);
    if (length < 0) {
        st = RP_FAIL(RP_ERR_INTERNAL, "cannot format \"%s\"", fmt);
        goto out;
    }
    RP_TRY(rp_alloc_at(site, out, (size_t)length + 1));
    (void)vsnprintf(*out, (size_t)length + 1, fmt, again);
out:
    va_end(again);
    va_end(args);
    return st;
}

size_t rp_peak_resident_bytes(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_SELF, &usage) == 0 ? (size_t)usage.ru_maxrss * 1024 : 0;
}

bool rp_ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text);
    const size_t tail = strlen(end);

    return length > tail && strcmp(text + length - tail, end) == 0;
}

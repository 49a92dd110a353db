/* A small file in memory, put together piece by piece. */
#ifndef RP_TESTS_FORMATS_IMAGE_H
#define RP_TESTS_FORMATS_IMAGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

typedef struct image {
    uint8_t data[4096];
    size_t nbytes;
} image;

static inline void put(image *to, const void *data, size_t nbytes)
{
    assert_true(to->nbytes + nbytes <= sizeof(to->data));
    memcpy(to->data + to->nbytes, data, nbytes);
    to->nbytes += nbytes;
}

#endif

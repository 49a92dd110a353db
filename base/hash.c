/* XXH3-128 from libxxhash. */
#include "base/hash.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

rp_hash rp_hash_bytes(const void *data, size_t nbytes)
{
    const XXH128_hash_t h = XXH3_128bits(data, nbytes);

    return (rp_hash){h.high64, h.low64};
}

rp_hash rp_hash_chain(rp_hash seed, const void *data, size_t nbytes)
{
    const rp_hash part = rp_hash_bytes(data, nbytes);
    const uint64_t words[5] = {seed.hi, seed.lo, part.hi, part.lo, nbytes};

    return rp_hash_bytes(words, sizeof(words));
}

bool rp_hash_equal(rp_hash a, rp_hash b)
{
    return a.hi == b.hi && a.lo == b.lo;
}

void rp_hash_hex(char out[RP_HASH_HEX_BYTES], rp_hash hash)
{
    (void)snprintf(out, RP_HASH_HEX_BYTES, "%016" PRIx64 "%016" PRIx64, hash.hi, hash.lo);
}

bool rp_hash_parse(rp_hash *out, const char *text)
{
    if (strlen(text) != RP_HASH_HEX_BYTES - 1) {
        return false;
    }
    for (const char *c = text; *c != '\0'; c++) {
        if (!isxdigit((unsigned char)*c)) {
            return false;
        }
    }
    return sscanf(text, "%16" SCNx64 "%16" SCNx64, &out->hi, &out->lo) == 2;
}

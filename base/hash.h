/* XXH3-128 as a value and as 32 hex digits. */
#ifndef RP_BASE_HASH_H
#define RP_BASE_HASH_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_hash {
    uint64_t hi, lo;
} rp_hash;
#define RP_HASH_HEX_BYTES 33

rp_hash rp_hash_bytes(const void *data, size_t nbytes);
/* Local. Hash of `data` chained on `seed`, for hashing a sequence of fields. */
rp_hash rp_hash_chain(rp_hash seed, const void *data, size_t nbytes);
bool rp_hash_equal(rp_hash a, rp_hash b);
/* Local. 32 lower-case hex digits and a NUL. */
void rp_hash_hex(char out[RP_HASH_HEX_BYTES], rp_hash hash);
/* Local. False when text is not 32 hex digits. */
bool rp_hash_parse(rp_hash *out, const char *text);

#ifdef __cplusplus
}
#endif
#endif

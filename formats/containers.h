/* Private to container.c and the containers' own files: the rows of the table, and what they share.
 */
#ifndef RP_FORMATS_CONTAINERS_H
#define RP_FORMATS_CONTAINERS_H

#include "formats/container.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const rp_container rp_container_gptq;
extern const rp_container rp_container_compressed_tensors;
extern const rp_container rp_container_plain;

/* Local. "<module><suffix>" of type dtype and shape [d0] (d1 < 0) or [d0, d1]. RP_ERR_CONFIG when
 * the name is too long. */
RP_CHECKED rp_status rp_part_set(rp_part *out, const char *module, const char *suffix,
                                 rp_dtype dtype, int64_t d0, int64_t d1);

#ifdef __cplusplus
}
#endif
#endif

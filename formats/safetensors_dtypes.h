/* Private to the safetensors reader and layout: the format's types in the reference's order. */
#ifndef RP_FORMATS_SAFETENSORS_DTYPES_H
#define RP_FORMATS_SAFETENSORS_DTYPES_H

#include "kernels/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_safetensors_dtype {
    const char *name;
    int bits;       /* of one element */
    rp_dtype dtype; /* RP_DTYPE_COUNT: none of ours */
} rp_safetensors_dtype;

extern const rp_safetensors_dtype rp_safetensors_dtypes[];

/* Local. Index of a name in the table, -1 when unknown. */
int rp_safetensors_dtype_rank(const char *name);

#ifdef __cplusplus
}
#endif
#endif

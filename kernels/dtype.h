/* Storage types of tensor elements and exact conversion to and from f32. */
#ifndef RP_KERNELS_DTYPE_H
#define RP_KERNELS_DTYPE_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rp_dtype {
    RP_F32 = 0,
    RP_F16,
    RP_BF16,
    RP_I8,
    RP_U8,
    RP_I16,
    RP_I32,
    RP_I64,
    RP_F64,
    RP_DTYPE_COUNT
} rp_dtype;

/* Local. Bytes of one element. */
size_t rp_dtype_bytes(rp_dtype dtype);
/* Local. safetensors' name: "F32", "BF16" ... */
const char *rp_dtype_name(rp_dtype dtype);
/* Local. False when the name is not in the table. */
bool rp_dtype_parse(rp_dtype *out, const char *name);
/* Local. F32, F16 or BF16. */
bool rp_dtype_is_float(rp_dtype dtype);

/* Local. IEEE half and bfloat16, round to nearest even; overflow gives infinity; NaN stays NaN. */
uint16_t rp_f32_to_f16(float x);
float rp_f16_to_f32(uint16_t h);
uint16_t rp_f32_to_bf16(float x);
float rp_bf16_to_f32(uint16_t h);

/* Local. n elements of a float dtype to f32 and back. src and dst must not overlap. */
void rp_to_f32(float *dst, const void *src, rp_dtype dtype, int64_t n);
void rp_from_f32(void *dst, const float *src, rp_dtype dtype, int64_t n);
/* Local. x after storage as dtype: the value a reader will see. */
float rp_round_to_dtype(float x, rp_dtype dtype);
/* Local. Index of the first NaN or infinity in x[n], or -1. */
int64_t rp_find_non_finite(const float *x, int64_t n);

#ifdef __cplusplus
}
#endif
#endif

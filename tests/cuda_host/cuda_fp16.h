/* A stand-in for CUDA's header of this name, with CUDA_NO_HALF. */
#ifndef RP_TESTS_CUDA_FP16_H
#define RP_TESTS_CUDA_FP16_H

#include "device_host.h"

struct __half {
    unsigned short bits;
};

static inline float __half2float(__half x)
{
    return (float)rp_host_bits<_Float16>(x.bits);
}
/* To nearest, ties to even; every NaN becomes the same. */
static inline __half __float2half_rn(float x)
{
    if (!(x == x)) {
        return {0x7fff};
    }
    return {rp_host_bits<unsigned short>((_Float16)x)};
}
static inline __half __float2half(float x)
{
    return __float2half_rn(x);
}
static inline __half __double2half(double x)
{
    if (!(x == x)) {
        return {0x7fff};
    }
    return {rp_host_bits<unsigned short>((_Float16)x)};
}
static inline unsigned short __half_as_ushort(__half x)
{
    return x.bits;
}
static inline __half __ushort_as_half(unsigned short bits)
{
    return {bits};
}

#endif

/* What kernels see, for the stand-in of cuda_runtime.h: built-in variables, shared memory,
 * barriers, warp primitives, atomics and mathematics. A block's threads are fibers of one host
 * thread, so plain memory accesses are atomic. Atomics on floats are left out on purpose: sums of
 * floats have a fixed order. */
#ifndef RP_TESTS_DEVICE_HOST_H
#define RP_TESTS_DEVICE_HOST_H

#include "kernels/clones.h"
#include "vector_types.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __grid_constant__
/* One copy for all threads, as blocks run one after another; the section is poisoned between. */
#define __shared__ static __attribute__((section("rp_shared")))
#define RP_DYNAMIC_SHARED(type, name)                                                              \
    type *const name = static_cast<type *>(rp_host_dynamic_shared())
#define RP_INNER_LOOP static RP_CLONES

extern dim3 gridDim, blockDim;
extern uint3 blockIdx, threadIdx;
enum { warpSize = 32 };

void *rp_host_dynamic_shared(void);

/* Where a thread waits: the call and its place, which must be the same for all who meet. */
typedef struct rp_host_place {
    const char *what, *file;
    int line;
} rp_host_place;
#define RP_HOST_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

typedef enum rp_host_exchange {
    RP_HOST_TAKE,  /* the value of lane `source` */
    RP_HOST_BALLOT /* one bit a lane */
} rp_host_exchange;

void rp_host_barrier(rp_host_place place);
int rp_host_barrier_count(rp_host_place place, bool is_counted);
uint64_t rp_host_meet(rp_host_place place, unsigned mask, rp_host_exchange exchange, uint64_t value,
                      int source);
int rp_host_lane(void);

static inline void __syncthreads(RP_HOST_HERE)
{
    rp_host_barrier({"__syncthreads", file, line});
}
static inline int __syncthreads_count(int predicate, RP_HOST_HERE)
{
    return rp_host_barrier_count({"__syncthreads_count", file, line}, predicate != 0);
}
static inline int __syncthreads_or(int predicate, RP_HOST_HERE)
{
    return rp_host_barrier_count({"__syncthreads_or", file, line}, predicate != 0) > 0;
}
static inline int __syncthreads_and(int predicate, RP_HOST_HERE)
{
    return rp_host_barrier_count({"__syncthreads_and", file, line}, predicate == 0) == 0;
}
static inline void __syncwarp(unsigned mask = 0xffffffffU, RP_HOST_HERE)
{
    rp_host_meet({"__syncwarp", file, line}, mask, RP_HOST_BALLOT, 0, 0);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, RP_HOST_HERE)
{
    return (unsigned)rp_host_meet({"__ballot_sync", file, line}, mask, RP_HOST_BALLOT,
                                  predicate != 0, 0);
}
static inline int __any_sync(unsigned mask, int predicate, RP_HOST_HERE)
{
    return rp_host_meet({"__any_sync", file, line}, mask, RP_HOST_BALLOT, predicate != 0, 0) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, RP_HOST_HERE)
{
    return rp_host_meet({"__all_sync", file, line}, mask, RP_HOST_BALLOT, predicate == 0, 0) == 0;
}

template <typename T> T rp_host_take(rp_host_place place, unsigned mask, T value, int source)
{
    static_assert(std::is_arithmetic<T>::value && sizeof(T) <= 8, "CUDA shuffles numbers");
    static_assert(sizeof(T) >= 4, "CUDA shuffles 4 and 8 bytes");
    uint64_t bits = 0;

    memcpy(&bits, &value, sizeof(value));
    bits = rp_host_meet(place, mask, RP_HOST_TAKE, bits, source);
    memcpy(&value, &bits, sizeof(value));
    return value;
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, RP_HOST_HERE)
{
    const int first = rp_host_lane() & ~(width - 1);

    return rp_host_take({"__shfl_sync", file, line}, mask, value, first + (source & (width - 1)));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = warpSize, RP_HOST_HERE)
{
    const int lane = rp_host_lane(), source = lane ^ lanes;
    const bool is_beyond = source >= (lane | (width - 1)) + 1;

    return rp_host_take({"__shfl_xor_sync", file, line}, mask, value, is_beyond ? lane : source);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, RP_HOST_HERE)
{
    const int lane = rp_host_lane();
    const bool is_beyond = (lane & (width - 1)) + (int)delta >= width;

    return rp_host_take({"__shfl_down_sync", file, line}, mask, value,
                        is_beyond ? lane : lane + (int)delta);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, RP_HOST_HERE)
{
    const int lane = rp_host_lane();
    const bool is_beyond = (lane & (width - 1)) < (int)delta;

    return rp_host_take({"__shfl_up_sync", file, line}, mask, value,
                        is_beyond ? lane : lane - (int)delta);
}

static inline void __threadfence(void)
{
}
static inline void __threadfence_block(void)
{
}
template <typename T> T __ldg(const T *address)
{
    return *address;
}

/* ---- Atomics: the types that CUDA has them for, without floats ---- */

#define RP_HOST_ATOMIC(name, type, expression)                                                     \
    static inline type name(type *address, type value)                                             \
    {                                                                                              \
        const type old = *address;                                                                 \
        *address = (expression);                                                                   \
        return old;                                                                                \
    }
#define RP_HOST_ATOMICS(type)                                                                      \
    RP_HOST_ATOMIC(atomicAdd, type, (type)(old + value))                                           \
    RP_HOST_ATOMIC(atomicMax, type, old > value ? old : value)                                     \
    RP_HOST_ATOMIC(atomicMin, type, old < value ? old : value)                                     \
    RP_HOST_ATOMIC(atomicExch, type, value)                                                        \
    RP_HOST_ATOMIC(atomicOr, type, old | value)                                                    \
    RP_HOST_ATOMIC(atomicAnd, type, old &value)                                                    \
    static inline type atomicCAS(type *address, type compare, type value)                          \
    {                                                                                              \
        const type old = *address;                                                                 \
        *address = old == compare ? value : old;                                                   \
        return old;                                                                                \
    }
RP_HOST_ATOMICS(int)
RP_HOST_ATOMICS(unsigned)
RP_HOST_ATOMICS(unsigned long long)
RP_HOST_ATOMIC(atomicMax, long long, old > value ? old : value)
RP_HOST_ATOMIC(atomicMin, long long, old < value ? old : value)
#undef RP_HOST_ATOMICS
#undef RP_HOST_ATOMIC

/* ---- Mathematics ---- */

#define RP_HOST_MIN_MAX(type)                                                                      \
    static inline type min(type a, type b)                                                         \
    {                                                                                              \
        return b < a ? b : a;                                                                      \
    }                                                                                              \
    static inline type max(type a, type b)                                                         \
    {                                                                                              \
        return a < b ? b : a;                                                                      \
    }
RP_HOST_MIN_MAX(int)
RP_HOST_MIN_MAX(unsigned)
RP_HOST_MIN_MAX(long)
RP_HOST_MIN_MAX(unsigned long)
RP_HOST_MIN_MAX(long long)
RP_HOST_MIN_MAX(unsigned long long)
#undef RP_HOST_MIN_MAX
static inline float min(float a, float b)
{
    return fminf(a, b);
}
static inline float max(float a, float b)
{
    return fmaxf(a, b);
}
static inline double min(double a, double b)
{
    return fmin(a, b);
}
static inline double max(double a, double b)
{
    return fmax(a, b);
}

template <typename To, typename From> To rp_host_bits(From value)
{
    static_assert(sizeof(To) == sizeof(From), "the same bytes");
    To bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}
#define RP_HOST_UNARY(name, to, from, expression)                                                  \
    static inline to name(from x)                                                                  \
    {                                                                                              \
        return (to)(expression);                                                                   \
    }
#define RP_HOST_BINARY(name, type, expression)                                                     \
    static inline type name(type x, type y)                                                        \
    {                                                                                              \
        return (expression);                                                                       \
    }
RP_HOST_UNARY(__float_as_int, int, float, rp_host_bits<int>(x))
RP_HOST_UNARY(__float_as_uint, unsigned, float, rp_host_bits<unsigned>(x))
RP_HOST_UNARY(__int_as_float, float, int, rp_host_bits<float>(x))
RP_HOST_UNARY(__uint_as_float, float, unsigned, rp_host_bits<float>(x))
RP_HOST_UNARY(__double_as_longlong, long long, double, rp_host_bits<long long>(x))
RP_HOST_UNARY(__longlong_as_double, double, long long, rp_host_bits<double>(x))
RP_HOST_UNARY(rsqrtf, float, float, 1.0F / sqrtf(x))
RP_HOST_UNARY(rsqrt, double, double, 1.0 / sqrt(x))
RP_HOST_UNARY(__saturatef, float, float, x > 0.0F ? fminf(x, 1.0F) : 0.0F)
RP_HOST_UNARY(__fsqrt_rn, float, float, sqrtf(x))
RP_HOST_UNARY(__frcp_rn, float, float, 1.0F / x)
RP_HOST_UNARY(__dsqrt_rn, double, double, sqrt(x))
RP_HOST_BINARY(__fadd_rn, float, x + y)
RP_HOST_BINARY(__fsub_rn, float, x - y)
RP_HOST_BINARY(__fmul_rn, float, x *y)
RP_HOST_BINARY(__fdiv_rn, float, x / y)
RP_HOST_BINARY(__dadd_rn, double, x + y)
RP_HOST_BINARY(__dsub_rn, double, x - y)
RP_HOST_BINARY(__dmul_rn, double, x *y)
RP_HOST_BINARY(__ddiv_rn, double, x / y)
static inline float __fmaf_rn(float x, float y, float z)
{
    return fmaf(x, y, z);
}
static inline double __fma_rn(double x, double y, double z)
{
    return fma(x, y, z);
}

/* Conversions of the device saturate, and NaN becomes 0 (of doubles to 64 bits: the lowest). */
template <typename To, typename From> To rp_host_convert(From whole, To of_nan)
{
    const From low = std::is_signed<To>::value ? -ldexp((From)1, 8 * (int)sizeof(To) - 1) : 0;
    const From end = ldexp((From)1, 8 * (int)sizeof(To) - (std::is_signed<To>::value ? 1 : 0));
    const To lowest = std::is_signed<To>::value ? (To)((uint64_t)1 << (8 * sizeof(To) - 1)) : 0;

    if (!(whole == whole)) {
        return of_nan;
    }
    return whole < low ? lowest : whole >= end ? (To)~lowest : (To)whole;
}
#define RP_HOST_CONVERT(name, to, from, of_nan)                                                    \
    static inline to name##_rn(from x)                                                             \
    {                                                                                              \
        return rp_host_convert<to, from>(rint(x), of_nan);                                         \
    }                                                                                              \
    static inline to name##_rz(from x)                                                             \
    {                                                                                              \
        return rp_host_convert<to, from>(trunc(x), of_nan);                                        \
    }                                                                                              \
    static inline to name##_rd(from x)                                                             \
    {                                                                                              \
        return rp_host_convert<to, from>(floor(x), of_nan);                                        \
    }                                                                                              \
    static inline to name##_ru(from x)                                                             \
    {                                                                                              \
        return rp_host_convert<to, from>(ceil(x), of_nan);                                         \
    }
RP_HOST_CONVERT(__float2int, int, float, 0)
RP_HOST_CONVERT(__float2uint, unsigned, float, 0)
RP_HOST_CONVERT(__float2ll, long long, float, LLONG_MIN)
RP_HOST_CONVERT(__double2int, int, double, 0)
RP_HOST_CONVERT(__double2uint, unsigned, double, 0)
RP_HOST_CONVERT(__double2ll, long long, double, LLONG_MIN)
#undef RP_HOST_CONVERT
RP_HOST_UNARY(__int2float_rn, float, int, x)
RP_HOST_UNARY(__uint2float_rn, float, unsigned, x)
RP_HOST_UNARY(__ll2float_rn, float, long long, x)
RP_HOST_UNARY(__ll2double_rn, double, long long, x)
RP_HOST_UNARY(__ull2double_rn, double, unsigned long long, x)
RP_HOST_UNARY(__double2float_rn, float, double, x)

RP_HOST_UNARY(__popc, int, unsigned, __builtin_popcount(x))
RP_HOST_UNARY(__popcll, int, unsigned long long, __builtin_popcountll(x))
RP_HOST_UNARY(__clz, int, int, x == 0 ? 32 : __builtin_clz((unsigned)x))
RP_HOST_UNARY(__clzll, int, long long, x == 0 ? 64 : __builtin_clzll((unsigned long long)x))
RP_HOST_UNARY(__ffs, int, int, __builtin_ffs(x))
RP_HOST_UNARY(__ffsll, int, long long, __builtin_ffsll(x))
#undef RP_HOST_UNARY
#undef RP_HOST_BINARY

#endif

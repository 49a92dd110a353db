/* RP_CLONES: compiles a function for several processors and picks one when the program loads.
 * Contraction is off in the whole tree, so every clone gives the same bits; only the width of the
 * vectors differs. */
#ifndef RP_KERNELS_CLONES_H
#define RP_KERNELS_CLONES_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define RP_CLONES                                                                                  \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"),                   \
                   optimize("O3", "no-math-errno", "no-trapping-math")))
#else
#define RP_CLONES
#endif

/* What CUDA's compiler makes for the processor and for the GPU. */
#ifdef __CUDACC__
#define RP_HOST_DEVICE __host__ __device__
#else
#define RP_HOST_DEVICE
#endif
#if defined(__CUDA_ARCH__)
#define RP_UNROLL(count) _Pragma(RP_CLONES_TEXT(unroll count))
#elif defined(__CUDACC__)
#define RP_UNROLL(count)
#else
#define RP_UNROLL(count) _Pragma(RP_CLONES_TEXT(GCC unroll count))
#endif
#define RP_CLONES_TEXT(text) #text

/* For what a clone calls: the compiler does not inline across its options unless told to. */
#define RP_INLINE RP_HOST_DEVICE static inline __attribute__((always_inline))

#endif

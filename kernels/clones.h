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

/* For what a clone calls: the compiler does not inline across its options unless told to. */
#define RP_INLINE static inline __attribute__((always_inline))

#endif

/* Functions of a library that is opened when it is first needed, not when the program starts: so
 * that the program starts without a GPU's libraries, and quickly (they are half a gigabyte).
 *
 * RP_LAZY_FUNCTION(name) defines the function `name`, with whatever arguments its header says, as a
 * jump to the library's; it must not be called before rp_lazy_load has been content. */
#ifndef RP_KERNELS_LAZY_H
#define RP_KERNELS_LAZY_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __aarch64__
#define RP_LAZY_JUMP(address)                                                                      \
    "    adrp x16, " address "\n    ldr x16, [x16, :lo12:" address "]\n    br x16\n"
#else
#define RP_LAZY_JUMP(address) "    jmp *" address "(%rip)\n"
#endif

#define RP_LAZY_FUNCTION(name)                                                                     \
    extern void *rp_lazy_##name __attribute__((visibility("hidden")));                             \
    void *rp_lazy_##name;                                                                          \
    __asm__(".text\n    .globl " #name "\n    .hidden " #name "\n    .type " #name                 \
            ", %function\n" #name ":\n" RP_LAZY_JUMP("rp_lazy_" #name) "    .size " #name          \
                                                                       ", . - " #name "\n");
#define RP_LAZY_ROW(name) {#name, &rp_lazy_##name},

typedef struct rp_lazy_function {
    const char *name;
    void **address;
} rp_lazy_function;

/* Local. Opens the library ("libcublas.so.13") for good and finds the functions. RP_ERR_MEMORY (no
 * device) says what is missing. */
RP_CHECKED rp_status rp_lazy_load(const char *library, const rp_lazy_function *functions,
                                  int n_functions);

#ifdef __cplusplus
}
#endif
#endif

/* See lazy.h. */
#include "kernels/lazy.h"

#include <dlfcn.h>

static rp_status missing(void)
{
    const char *why = dlerror();

    return RP_FAIL(RP_ERR_MEMORY, "%s", why != NULL ? why : "a library cannot be loaded");
}

rp_status rp_lazy_load(const char *library, const rp_lazy_function *functions, int n_functions)
{
    void *const opened = dlopen(library, RTLD_NOW | RTLD_LOCAL);

    if (opened == NULL) {
        return missing();
    }
    for (int i = 0; i < n_functions; i++) {
        *functions[i].address = dlsym(opened, functions[i].name);
        if (*functions[i].address == NULL) {
            return missing(); /* and the library stays open: it may have handed out addresses */
        }
    }
    return RP_OK;
}

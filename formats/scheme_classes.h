/* Private to the containers: which modules of a job share one scheme, for configs that state a
 * scheme once and the exceptions by name. */
#ifndef RP_FORMATS_SCHEME_CLASSES_H
#define RP_FORMATS_SCHEME_CLASSES_H

#include "formats/container.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_scheme_classes {
    int64_t n;
    const rp_module_scheme **first; /* [n] a module of each class, in order of appearance */
    int64_t *count;                 /* [n] its modules */
    int64_t *class_of;              /* [modules] -1: dense */
} rp_scheme_classes;

/* Local. Borrows modules [n_modules]. Caller destroys. */
RP_CHECKED rp_status rp_scheme_classes_create(rp_scheme_classes *out,
                                              const rp_module_scheme *modules, int64_t n_modules);
void rp_scheme_classes_destroy(rp_scheme_classes *classes);
/* Local. The class with the most modules (the first of several); classes->n > 0. */
int64_t rp_scheme_classes_most(const rp_scheme_classes *classes);

#ifdef __cplusplus
}
#endif
#endif

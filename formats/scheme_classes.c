/* Classes of modules with equal bits, symmetry, group, clipping search and order. */
#include "formats/scheme_classes.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static bool is_same(const rp_module_scheme *a, const rp_module_scheme *b)
{
    return rp_grid_equal(&a->grid, &b->grid) && a->is_actorder == b->is_actorder;
}

rp_status rp_scheme_classes_create(rp_scheme_classes *out, const rp_module_scheme *modules,
                                   int64_t n_modules)
{
    rp_status st = RP_OK;

    memset(out, 0, sizeof(*out));
    RP_TRY(rp_calloc(&out->first, (size_t)n_modules, sizeof(*out->first)));
    RP_TRY(rp_calloc(&out->count, (size_t)n_modules, sizeof(*out->count)));
    RP_TRY(rp_calloc(&out->class_of, (size_t)n_modules, sizeof(*out->class_of)));
    for (int64_t i = 0; i < n_modules; i++) {
        int64_t c = 0;
        if (!modules[i].is_quantised) {
            out->class_of[i] = -1;
            continue;
        }
        while (c < out->n && !is_same(out->first[c], &modules[i])) {
            c++;
        }
        if (c == out->n) {
            out->first[out->n++] = &modules[i];
        }
        out->count[c]++;
        out->class_of[i] = c;
    }
out:
    if (st != RP_OK) {
        rp_scheme_classes_destroy(out);
    }
    return st;
}

void rp_scheme_classes_destroy(rp_scheme_classes *classes)
{
    free(classes->first);
    free(classes->count);
    free(classes->class_of);
    memset(classes, 0, sizeof(*classes));
}

int64_t rp_scheme_classes_most(const rp_scheme_classes *classes)
{
    int64_t most = 0;

    for (int64_t c = 1; c < classes->n; c++) {
        most = classes->count[c] > classes->count[most] ? c : most;
    }
    return most;
}

/* The table of solvers. */
#include "methods/solver.h"

#include <string.h>

static const rp_solver *const solver_table[] = {&rp_solver_rtn, &rp_solver_gptq};

const rp_solver *rp_solver_find(const char *name)
{
    for (size_t i = 0; i < sizeof(solver_table) / sizeof(solver_table[0]); i++) {
        if (strcmp(solver_table[i]->name, name) == 0) {
            return solver_table[i];
        }
    }
    return NULL;
}

int64_t rp_solver_tile_rows(int64_t rows, bool is_on_gpu)
{
    if (is_on_gpu) {
        return 1024; /* what ranks share: a rank's are solved at once */
    }
    /* Small matrices are cut finer, so that every rank gets work; large ones keep the GEMMs fast.
     */
    return rows >= 2048 ? 256 : 128;
}

/* A matrix and its site's inputs, made from a seed, with the factor and the plain Gram matrix. */
#ifndef RP_TESTS_METHODS_SITE_PROBLEM_H
#define RP_TESTS_METHODS_SITE_PROBLEM_H

#include "kernels/form.h"
#include "methods/site_factor.h"

/* RANK_DEFICIENT: a quarter as many tokens as columns. GAPS: columns 32 .. 63 are dead, row 0 is
 * zero, and so are the first 256 columns of row 1. */
typedef enum h_kind { MILD, MASSIVE, SPREAD, RANK_DEFICIENT, GAPS } h_kind;

enum { PROBLEM_ROWS = 48, PROBLEM_TOKENS = 1024, PROBLEM_DEAD = 11 };

typedef struct site_problem {
    int64_t cols;
    float *w;      /* [PROBLEM_ROWS, cols] */
    float *x;      /* [PROBLEM_TOKENS, cols] */
    double *h;     /* [cols, cols] mean over tokens, undamped */
    rp_exec *exec; /* one thread */
    rp_site_factor factor;
} site_problem;

/* A problem and a grid for it. */
typedef struct grid_case {
    h_kind kind;
    int64_t cols;
    bool is_actorder;
    const char *name; /* of the grid */
    int bits;         /* affine: this and below */
    int64_t group;
    bool is_symmetric, mse;
} grid_case;
#define OF_TYPE 0, 0, false, false /* what a GGUF type has of its own */

rp_grid grid_of_case(const grid_case *c);

/* Damped with 1 % of the mean diagonal. Column PROBLEM_DEAD is dead. */
void site_problem_create(site_problem *p, h_kind kind, int64_t cols, bool is_actorder);
void site_problem_destroy(site_problem *p);
/* tr(dW H dW^T) with the undamped H, of the rows of a form of the grid's. */
double site_problem_loss(const site_problem *p, const rp_form *form);
/* GPTQ in blocks of 64 columns with `sweeps` of descent; the form is made, scratch memory holds
 * `fill` at first. The solver's own loss. */
double site_problem_solve(const site_problem *p, const rp_grid *grid, int64_t sweeps, int fill,
                          rp_form *form);
/* About normal, from a linear congruence. */
double site_problem_normal(uint64_t *state);

#endif

/* The factor of a site's Gram matrix that all GPTQ solves of the site share: H = U D U^T in LDL
 * form, from one Cholesky and no inverse (Frantar et al. arXiv 2210.17323, Chee et al.
 * arXiv 2307.13304).
 *
 * Index t runs over columns in reversed processing order: column order[t] is processed when t
 * counts down. */
#ifndef RP_METHODS_SITE_FACTOR_H
#define RP_METHODS_SITE_FACTOR_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_site_factor {
    const rp_exec *exec; /* borrowed */
    int64_t cols;
    bool is_actorder; /* processing order by descending diagonal; groups are static then */
    float *l; /* [place] [cols, cols] row-major, by t: the unit lower factor of H + damping I;
                 strictly above the diagonal H's own values, undamped */
    float *d; /* [cols] squared Cholesky diagonal, by t */
    float *diagonal;   /* [cols] H's diagonal, undamped, by t; dead: 0 */
    double damping;    /* what was added to the diagonal */
    int32_t *order;    /* [cols] original column of t */
    float *importance; /* [cols] mean square of the input, by original column */
    uint8_t *is_dead;  /* [cols] input was exactly 0 always, by original column */
} rp_site_factor;

/* A site's summed statistics as sharding/gram.h leaves them at the owner. */
typedef struct rp_gram_view {
    int64_t cols, n_tokens;
    int64_t *sum;         /* [place] [cols * cols] lower triangle; consumed as work space */
    const int *exponent;  /* [cols] */
    int shift;            /* value = sum * 2^(e_i + e_j - shift) */
    const float *max_abs; /* [cols]; exactly 0: dead */
} rp_gram_view;

typedef struct rp_damping_log {
    int n_steps;      /* factorisations tried */
    double tried[8];  /* fraction of the mean diagonal of each */
    bool is_fallback; /* all failed: no factor */
} rp_damping_log;

/* Local. Damps with frac * mean(diag), orders, factors. When the factorisation fails it is tried
 * again with ten times the damping up to 10 times the mean diagonal; then log->is_fallback is set,
 * RP_OK returned and *out left empty (l NULL). Uses gram->sum's memory (8 cols^2 bytes) and no
 * second matrix; the caller keeps ownership of it. out->l: 4 cols^2. */
RP_CHECKED rp_status rp_site_factor_build(rp_site_factor *out, rp_damping_log *log,
                                          const rp_kernel_ops *ops, const rp_exec *exec,
                                          const rp_gram_view *gram, double dampening_frac,
                                          bool is_actorder);
/* Local. As operations see it; borrows the factor's arrays. */
rp_ldl rp_site_factor_ldl(const rp_site_factor *factor);
/* Local. Empty arrays for `cols`, to be filled by a broadcast. */
RP_CHECKED rp_status rp_site_factor_alloc(rp_site_factor *out, const rp_exec *exec, int64_t cols);
/* Local. What of a factor has to be broadcast. */
#define RP_SITE_FACTOR_PARTS 7
typedef struct rp_site_factor_part {
    void *data;
    size_t nbytes;
    bool is_in_place; /* else the host's */
} rp_site_factor_part;
void rp_site_factor_list_parts(rp_site_factor_part out[RP_SITE_FACTOR_PARTS],
                               rp_site_factor *factor, int64_t cols);
void rp_site_factor_destroy(rp_site_factor *factor);

#ifdef __cplusplus
}
#endif
#endif

/* The operation table as naive loops in double precision: an oracle for the executor's tests that
 * shares no code with the product's back ends. */
#ifndef RP_TESTS_MODEL_REF_OPS_H
#define RP_TESTS_MODEL_REF_OPS_H

#include "kernels/ops.h"

const rp_kernel_ops *ref_ops(void);
/* nll [rows] = log(sum exp(logits row)) - logits[row][target[row]]. */
void ref_token_nll(rp_cmat logits, const int32_t *target, double *nll);

#endif

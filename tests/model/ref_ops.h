/* The operation table as naive loops in double precision: an oracle for the executor's tests that
 * shares no code with the product's back ends. */
#ifndef RP_TESTS_MODEL_REF_OPS_H
#define RP_TESTS_MODEL_REF_OPS_H

#include "kernels/ops.h"

const rp_kernel_ops *ref_ops(void);

#endif

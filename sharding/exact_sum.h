/* What exact sums over ranks share: values are scaled by powers of two and added as 64-bit
 * integers, so the total has the same bits for any split of the blocks over ranks and time. */
#ifndef RP_SHARDING_EXACT_SUM_H
#define RP_SHARDING_EXACT_SUM_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. A product of two values below 2^a and 2^b is added as llrint(P 2^(shift - a - b)): a
 * block's integers stay below 2^51 (doubles hold them exactly), those of all tokens below 2^61. */
int rp_exact_shift(int64_t n_tokens, int64_t block_tokens);
/* Local. The least e with max_abs < 2^e; 0 for 0. */
int rp_exact_exponent(float max_abs);
/* Local. Raises max_abs [block's columns] to a block's largest values. RP_ERR_FORMAT when one is
 * not finite. */
RP_CHECKED rp_status rp_exact_observe(float *max_abs, const rp_kernel_ops *ops, const rp_exec *exec,
                                      rp_cmat block);

#ifdef __cplusplus
}
#endif
#endif

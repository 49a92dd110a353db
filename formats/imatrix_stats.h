/* Statistics of an importance matrix, tensor by tensor and layer by layer, as people know them from
 * llama-imatrix --show-statistics. They are of the mean squares of the columns; matrices that saw
 * no token are left out. */
#ifndef RP_FORMATS_IMATRIX_STATS_H
#define RP_FORMATS_IMATRIX_STATS_H

#include "formats/imatrix.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_imatrix_stats {
    const rp_imatrix_entry *entry;
    int64_t layer; /* of "blk.<layer>."; -1: not of a layer */
    int64_t n;     /* columns counted; 0: no token was seen and all below is 0 */
    double sum;    /* of mean squares */
    double min, max;
    double mean, stddev;
    double active;       /* part of the columns above 1e-5 */
    double entropy;      /* bits, of the mean squares as shares of their sum */
    double entropy_norm; /* entropy / log2(n), 0 to 1 */
    double zd;           /* part of the columns more than one stddev above the mean */
    double cossim;       /* to the same tensor one layer before; 0: there is none */
} rp_imatrix_stats;

/* Of all tensors of a layer, weighed by their columns. */
typedef struct rp_imatrix_layer_stats {
    int64_t layer;
    double sum, zd, cossim;
} rp_imatrix_layer_stats;

/* Local. One for each entry, in their order; caller frees. Borrows the (sealed) matrix. */
RP_CHECKED rp_status rp_imatrix_stats_make(rp_imatrix_stats **out, const rp_imatrix *imatrix);
/* Local. Layers in order; caller frees. */
RP_CHECKED rp_status rp_imatrix_layer_stats_make(rp_imatrix_layer_stats **out, int64_t *n_layers,
                                                 const rp_imatrix_stats *stats, int64_t n);

#ifdef __cplusplus
}
#endif
#endif

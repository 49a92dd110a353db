/* One layer's weights on every rank, of which each rank read 1/R of the bytes.
 *
 * A thread that only reads fetches this rank's share of the next layer while the current one is
 * worked on; the pieces are then gathered in the type of the file and widened to f32 where the
 * operations run. */
#ifndef RP_SHARDING_LAYER_LOADER_H
#define RP_SHARDING_LAYER_LOADER_H

#include "kernels/ops.h"
#include "kernels/place.h"
#include "model/config.h"
#include "model/weights.h"
#include "mpi/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_layer_loader rp_layer_loader;

/* Logically collective on comm. Borrows all. Memory: the largest layer's bytes in the file's type,
 * its share, and 4 bytes a weight (rp_layer_loader_bytes). */
RP_CHECKED rp_status rp_layer_loader_create(rp_layer_loader **out, rp_comm *comm,
                                            const rp_weights *weights, const rp_kernel_ops *ops,
                                            const rp_exec *exec);
void rp_layer_loader_destroy(rp_layer_loader **loader);
rp_place_bytes rp_layer_loader_bytes(const rp_weights *weights, int nranks);
/* Local. Starts reading this rank's share of `layer` in the background; a failure is kept for
 * rp_layer_loader_get. */
void rp_layer_loader_prefetch(rp_layer_loader *loader, int64_t layer);
/* Collective on comm. out: f32 arrays by slot [place], NULL where the model has none; they may be
 * overwritten by the caller and live until the next get. RP_ERR_FORMAT naming the tensor when a
 * value is not finite. */
RP_CHECKED rp_status rp_layer_loader_get(rp_layer_loader *loader, int64_t layer,
                                         float *out[RP_SLOT_COUNT]);
/* Local. Adds what get of a layer does. */
void rp_layer_loader_traffic(rp_traffic *traffic, const rp_weights *weights, int64_t layer);
/* Local. Seconds that get waited for reading, and bytes read by this rank so far. */
void rp_layer_loader_stats(const rp_layer_loader *loader, double *wait_seconds,
                           int64_t *read_bytes);

#ifdef __cplusplus
}
#endif
#endif

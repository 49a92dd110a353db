/* Many rows of which operations see one block at a time: in the place, or, where a GPU has no room
 * for them, in memory of the host, from where they pass through it block by block. */
#ifndef RP_KERNELS_WINDOW_H
#define RP_KERNELS_WINDOW_H

#include "kernels/gpu_window.h"
#include "kernels/place.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_window rp_window;

/* Local. Content undefined; is_streamed has no meaning where the place is the host's. Borrows
 * exec. */
RP_CHECKED rp_status rp_window_create(rp_window **out, const rp_exec *exec,
                                      const rp_window_shape *shape, bool is_streamed);
void rp_window_destroy(rp_window **window);
/* Local. For the plan. */
rp_place_bytes rp_window_bytes(const rp_window_shape *shape, bool is_streamed);
int64_t rp_window_cols(const rp_window *window);

/* Local. [place] Rows of a block, rp_window_cols apart, for operations that are asked for before
 * another block is used. They may read the first n_read columns and write the first n_write; those
 * of them that they may not read they write. NULL when both are 0. The block after it is fetched
 * meanwhile: passes go upwards. */
float *rp_window_use(rp_window *window, int64_t block, int64_t n_read, int64_t n_write);
/* Local. The first ncols columns of rows := `from` (host, contiguous), and the other way; in the
 * order of the operations. */
void rp_window_put(rp_window *window, int64_t row, int64_t nrows, int64_t ncols, const float *from);
void rp_window_get(rp_window *window, int64_t row, int64_t nrows, int64_t ncols, float *to);
/* Local. All rows, if they are in memory of the host, to be read and written until a block is used;
 * else NULL. Waits; what a GPU failed at comes out of rp_place_check. */
float *rp_window_on_host(rp_window *window);

#ifdef __cplusplus
}
#endif
#endif

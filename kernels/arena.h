/* Bookkeeping of one piece of memory that is given out in parts: first fit, neighbours joined when
 * they come back. It knows offsets only, so the memory may be a GPU's. */
#ifndef RP_KERNELS_ARENA_H
#define RP_KERNELS_ARENA_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_ARENA_ALIGNMENT ((size_t)256)

typedef struct rp_arena rp_arena;

/* Local. nbytes is rounded down to the alignment. */
RP_CHECKED rp_status rp_arena_create(rp_arena **out, size_t nbytes);
void rp_arena_destroy(rp_arena **arena);
/* Local. An aligned offset of nbytes; nbytes 0 is a place of its own. RP_ERR_MEMORY when there is
 * no such piece, with what is left and the largest piece. */
RP_CHECKED rp_status rp_arena_take(size_t *offset, rp_arena *arena, size_t nbytes);
/* Local. offset: of a take, once. */
void rp_arena_give(rp_arena *arena, size_t offset);
/* Local. Now, and the most there ever was. */
size_t rp_arena_taken_bytes(const rp_arena *arena);
size_t rp_arena_peak_bytes(const rp_arena *arena);

#ifdef __cplusplus
}
#endif
#endif

/* Which back end the ranks of a job compute with, and this rank's GPU. */
#ifndef RP_JOBS_BACKEND_H
#define RP_JOBS_BACKEND_H

#include "jobs/job.h"
#include "kernels/gpu.h"
#include "mpi/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const rp_option_word rp_backend_words[];

/* Collective. All ranks compute in the same way: on GPUs only if each has one, or if `asked` says
 * so, whether this machine has one or not (a plan may be made elsewhere). */
rp_backend rp_backend_choose(rp_comm *comm, rp_backend asked);
/* Collective. This rank's GPU, of which arena_bytes are taken. `is_telling`: this rank says on
 * stderr which ranks share one. */
RP_CHECKED rp_status rp_backend_open_gpu(rp_gpu **out, rp_comm *comm, size_t arena_bytes,
                                         bool is_telling);
/* The ranks' GPUs. */
typedef struct rp_backend_room {
    bool is_known;      /* false: there is no GPU at hand */
    size_t arena_bytes; /* the largest arena for which all have room; of a shared one, a part */
    size_t own_bytes;   /* what each takes beside it */
} rp_backend_room;
/* Collective. */
RP_CHECKED rp_status rp_backend_find_room(rp_backend_room *out, rp_comm *comm);
/* Local. An arena in which so many bytes of a plan find room. */
size_t rp_backend_arena_bytes(size_t place_bytes);

#ifdef __cplusplus
}
#endif
#endif

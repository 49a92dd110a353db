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
/* Local. An arena in which so many bytes of a plan find room. */
size_t rp_backend_arena_bytes(size_t place_bytes);

#ifdef __cplusplus
}
#endif
#endif

/* NCCL as a transport between GPUs; builds without it link comm_nccl_none.c. */
#ifndef RP_MPI_COMM_NCCL_H
#define RP_MPI_COMM_NCCL_H

#include "mpi/comm_private.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RP_NCCL_ID_BYTES 128

/* Local. "nccl 2.28.9"; NULL when there is none in this build. */
const char *rp_nccl_version(char text[32]);
/* Local, on one rank. What all ranks need to find each other. */
RP_CHECKED rp_status rp_nccl_make_id(unsigned char id[RP_NCCL_ID_BYTES]);
/* Collective on comm, whose watch is there. Makes comm->nccl, or NULL and a failure that is kept in
 * the watch. */
void rp_nccl_create(rp_comm *comm, rp_gpu *gpu, const unsigned char id[RP_NCCL_ID_BYTES],
                    double deadline_seconds);
/* Local. In order if all ranks come to it within a few seconds. Accepts NULL. */
void rp_nccl_destroy(rp_nccl **nccl);
/* Local. Ends what is under way. */
void rp_nccl_abort(rp_nccl **nccl);

extern const rp_comm_gpu_ops rp_comm_nccl_ops;

#ifdef __cplusplus
}
#endif
#endif

/* Which GPU is whose, and how the data of GPUs travel: by NCCL between GPUs of their own, else by
 * MPI through pinned memory of the host.
 *
 * A collective of NCCL that fails, or does not complete before its deadline, is given up on every
 * rank: its data are undefined, later ones do nothing, and the next rp_agree is RP_ERR_STOPPED on
 * all ranks with one message of what each was doing. From then on the data go by MPI, so that what
 * is finished can be saved. Agreement and messages of failure always go by MPI. */
#ifndef RP_MPI_COMM_GPU_H
#define RP_MPI_COMM_GPU_H

#include "mpi/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* GPU of this rank. */
typedef struct rp_gpu_choice {
    int ordinal;       /* -1: no rank has one */
    int n_sharing;     /* ranks that share it, this one among them */
    char warning[256]; /* "", or which ranks share one */
} rp_gpu_choice;

/* Local. Begins to open the GPU that rp_comm_choose_gpu will choose, and the libraries, in a thread
 * of their own, which rp_comm_choose_gpu waits for. What cannot be opened is said where it is used.
 */
void rp_comm_open_gpu_ahead(rp_comm *comm);
/* Collective on comm. Of the GPUs that this process may use, the one of its number among the ranks
 * of its node; with fewer GPUs than ranks they take turns. RP_ERR_MEMORY with the list of all ranks
 * when only some have a GPU, or when their GPUs are of several models. */
RP_CHECKED rp_status rp_comm_choose_gpu(rp_gpu_choice *out, rp_comm *comm);

typedef struct rp_comm_gpu_opts {
    double deadline_seconds; /* of the start of NCCL and of each collective; above 0 */
    bool is_staged;          /* by MPI in any case */
} rp_comm_gpu_opts;
rp_comm_gpu_opts rp_comm_gpu_opts_default(void);

/* Collective on comm, where every rank has a GPU; opts must be equal on all ranks, NULL means the
 * defaults. Sets up the transport of collectives on this exec's place; borrows exec until
 * rp_comm_detach_gpu. Where NCCL cannot be had, the transport is MPI, and its text says why. */
RP_CHECKED rp_status rp_comm_attach_gpu(rp_comm *comm, const rp_exec *exec,
                                        const rp_comm_gpu_opts *opts);
/* Local, on every rank, before the GPU is destroyed. Waits for the other ranks for a few seconds at
 * most. */
void rp_comm_detach_gpu(rp_comm *comm);
/* Local. "nccl 2.28.9", "mpi through pinned memory: ranks 0 and 1 share GPU-..."; for the log.
 * Lives as long as comm. */
const char *rp_comm_gpu_transport(const rp_comm *comm);
/* Local. This rank's failure that the next rp_agree will speak of: RP_ERR_STOPPED. */
RP_CHECKED rp_status rp_comm_gpu_check(const rp_comm *comm);
/* Local. What an rp_agree said of a failure, the same on all ranks; NULL when there was none. Lives
 * as long as comm. */
const char *rp_comm_gpu_failure(const rp_comm *comm);

#ifdef __cplusplus
}
#endif
#endif

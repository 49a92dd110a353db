/* Communicator: one table, so that MPI, NCCL and the serial case read the same to everything above.
 *
 * Counts are int64/size_t; pieces larger than MPI's int counts are split inside. A failed MPI call
 * cannot be agreed on and ends the job (rp_comm_abort). */
#ifndef RP_MPI_COMM_H
#define RP_MPI_COMM_H

#include "base/status.h"
#include "kernels/exec.h"
#include "mpi/traffic.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_comm rp_comm;

/* Collective on all processes of the launcher. Initialises MPI (MPI_THREAD_FUNNELED), duplicates
 * the world; errors return. Without a launcher use rp_comm_create_serial, which does not touch MPI.
 */
RP_CHECKED rp_status rp_comm_create_world(rp_comm **out);
/* Local. The serial communicator of one rank, for tools and tests. */
RP_CHECKED rp_status rp_comm_create_serial(rp_comm **out);
/* Collective on comm; called by jobs alone, last. Finalises MPI if this made it. */
void rp_comm_destroy(rp_comm **comm);
int rp_comm_rank(const rp_comm *comm);
int rp_comm_nranks(const rp_comm *comm);
/* Local. Ranks on this host and this rank's index among them (1 and 0 in the serial case). */
int rp_comm_node_nranks(const rp_comm *comm);
int rp_comm_node_rank(const rp_comm *comm);

/* Collective on comm. RP_OK on all ranks or a failure on all: a rank at fault keeps its status and
 * message; the others get RP_ERR_PEER and "rank 2: <message>" of the lowest rank at fault.
 * RP_ERR_STOPPED is weaker than a fault: without one, all ranks get it with the message of the
 * lowest rank that stops. */
RP_CHECKED rp_status rp_agree(rp_comm *comm, rp_status local);

/* Local, in the thread that made comm. Tells all ranks without their taking part: a little later
 * rp_comm_is_notified is true on each of them, and stays so. */
void rp_comm_notify(rp_comm *comm);
bool rp_comm_is_notified(rp_comm *comm);

/* Collective on comm. After these every rank has the same failure or none (a transport failure
 * aborts). */
void rp_comm_barrier(rp_comm *comm);
void rp_comm_bcast(rp_comm *comm, void *data, size_t nbytes, int root);
/* recv [sum of nbytes[r]] = the ranks' pieces in rank order; nbytes [nranks] equal on all ranks. */
void rp_comm_allgatherv(rp_comm *comm, const void *send, void *recv, const size_t *nbytes);
/* data [n] on root = wrap-around sums over ranks (others' data undefined after). Chunks of at most
 * 64 MiB. */
void rp_comm_reduce_sum_i64(rp_comm *comm, int64_t *data, int64_t n, int root);
void rp_comm_allreduce_sum_i64(rp_comm *comm, int64_t *data, int64_t n);
/* The order of the additions is the transport's: never for what must have the same bits on any
 * number of ranks. */
void rp_comm_allreduce_sum_f32(rp_comm *comm, float *data, int64_t n);
void rp_comm_allreduce_max_f32(rp_comm *comm, float *data, int64_t n);
void rp_comm_allreduce_max_f64(rp_comm *comm, double *data, int64_t n);
/* The same with 0/1 flags: true when any rank says true. */
bool rp_comm_any(rp_comm *comm, bool local);
/* Gathers one fixed-size record of each rank in rank order on all ranks. */
void rp_comm_allgather(rp_comm *comm, const void *send, void *recv, size_t nbytes_each);

/* send = pieces for the ranks in rank order, send_bytes [nranks]; recv = pieces of the ranks in
 * rank order, recv_bytes [nranks], which are the others' send_bytes. */
void rp_comm_alltoallv(rp_comm *comm, const void *send, const size_t *send_bytes, void *recv,
                       const size_t *recv_bytes);

/* Collective on comm, where every rank's exec computes in the same kind of place. The calls of the
 * same name above, with data, send and recv in exec's place (kernels/place.h): on the host they are
 * those calls; from GPUs the data go by the transport of mpi/comm_gpu.h. Each is one call in the
 * counts. Like operations they do not fail: a failure is kept. */
void rp_comm_place_bcast(rp_comm *comm, const rp_exec *exec, void *data, size_t nbytes, int root);
void rp_comm_place_allgatherv(rp_comm *comm, const rp_exec *exec, const void *send, void *recv,
                              const size_t *nbytes);
void rp_comm_place_alltoallv(rp_comm *comm, const rp_exec *exec, const void *send,
                             const size_t *send_bytes, void *recv, const size_t *recv_bytes);
void rp_comm_place_reduce_sum_i64(rp_comm *comm, const rp_exec *exec, int64_t *data, int64_t n,
                                  int root);
void rp_comm_place_allreduce_sum_i64(rp_comm *comm, const rp_exec *exec, int64_t *data, int64_t n);
void rp_comm_place_allreduce_sum_f32(rp_comm *comm, const rp_exec *exec, float *data, int64_t n);
void rp_comm_place_allreduce_max_f32(rp_comm *comm, const rp_exec *exec, float *data, int64_t n);

/* Local. What went through this communicator on this rank, and how long its calls took. */
typedef struct rp_comm_counts {
    rp_traffic traffic;
    double seconds;
} rp_comm_counts;
rp_comm_counts rp_comm_counts_get(const rp_comm *comm);

/* Local. Ends all ranks now with `exit_code` after one line "rankpress: rank R on HOST in PHASE:
 * MESSAGE". For a transport failure or an absent peer only. */
void rp_comm_abort(const rp_comm *comm, const char *phase, const char *message, int exit_code)
    __attribute__((noreturn));
/* Local. The same without a word. May be called from a thread beside the one that communicates,
 * and may then hang. */
void rp_comm_end(const rp_comm *comm, int exit_code) __attribute__((noreturn));

#ifdef __cplusplus
}
#endif
#endif

/* Calls and bytes of a rank: what a communicator counts, and what a plan says beforehand by the
 * same functions.
 *
 * Bytes are those that the caller's data take, each counted once where it leaves and once where it
 * comes in, whatever way the transport sends it; a rank alone moves none. */
#ifndef RP_MPI_TRAFFIC_H
#define RP_MPI_TRAFFIC_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_traffic {
    int nranks, rank; /* whose it is */
    int64_t calls, sent_bytes, received_bytes;
} rp_traffic;

/* Local. Nothing yet. */
rp_traffic rp_traffic_of(int nranks, int rank);
/* Local. now - before, of the same rank. */
rp_traffic rp_traffic_since(rp_traffic before, rp_traffic now);
/* Local. *sum += more, of the same rank. */
void rp_traffic_add(rp_traffic *sum, rp_traffic more);

/* Local. Each adds one call of the collective of that name (mpi/comm.h). */
void rp_traffic_barrier(rp_traffic *traffic);
void rp_traffic_bcast(rp_traffic *traffic, size_t nbytes, int root);
/* own: of `total` over all ranks, this rank's. */
void rp_traffic_allgatherv(rp_traffic *traffic, size_t total, size_t own);
void rp_traffic_reduce(rp_traffic *traffic, size_t nbytes, int root);
void rp_traffic_allreduce(rp_traffic *traffic, size_t nbytes);
/* To and from others. */
void rp_traffic_alltoallv(rp_traffic *traffic, size_t sent, size_t received);
/* On RP_OK; a fault is one broadcast more. */
void rp_traffic_agree(rp_traffic *traffic);

#ifdef __cplusplus
}
#endif
#endif

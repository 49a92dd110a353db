/* What every rank does on the transport between GPUs, and how a failure becomes one of all ranks.
 *
 * A rank that fails keeps why and tells the others by messages of MPI, which they look for while
 * they wait: nobody waits for its own deadline. At the next agreement all ranks exchange where they
 * are, and the message names those that lag first. */
#ifndef RP_MPI_COMM_WATCH_H
#define RP_MPI_COMM_WATCH_H

#include "mpi/comm_private.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local; with MPI. For good: it ends with comm. */
RP_CHECKED rp_status rp_comm_watch_create(rp_comm *comm);
/* Collective on comm. No message of a failure is left on its way. Accepts a comm without. */
void rp_comm_watch_destroy(rp_comm *comm);

/* Local. The next collective begins: `op` lives for ever. Its number counts from 1; setting up is
 * 0. */
void rp_comm_watch_begin(rp_comm *comm, const char *op, size_t nbytes);
void rp_comm_watch_end(rp_comm *comm);
double rp_comm_watch_age(const rp_comm *comm);
/* Local. Keeps a failure and tells the others; the first one counts. The text goes after the name
 * of the collective: "did not complete in 600 s". */
void rp_comm_watch_fail(rp_comm *comm, const char *fmt, ...) RP_PRINTF(2, 3);
bool rp_comm_watch_has_failed(const rp_comm *comm);
/* Local. Has a peer told of a failure: then this rank has failed too, of which it says true. */
bool rp_comm_watch_hears(rp_comm *comm);

/* Collective on comm, when any rank has failed. Takes the failure away from all ranks; the message
 * is the same on all. */
void rp_comm_watch_settle(rp_comm *comm, char message[RP_MESSAGE_BYTES]);

#ifdef __cplusplus
}
#endif
#endif

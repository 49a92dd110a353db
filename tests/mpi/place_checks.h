/* Checks of all collectives on data in an exec's place, at any number of ranks. */
#ifndef RP_TESTS_MPI_PLACE_CHECKS_H
#define RP_TESTS_MPI_PLACE_CHECKS_H

#include "kernels/exec.h"
#include "mpi/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Collective on comm. n elements: of 8 bytes, per rank. */
void check_place_collectives(rp_comm *comm, const rp_exec *exec, int64_t n);
/* Collective on comm. Each is one call, with the bytes of the host's call. */
void check_place_counts(rp_comm *comm, const rp_exec *exec);

#ifdef __cplusplus
}
#endif
#endif

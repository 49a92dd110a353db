/* NCCL, opened when two GPUs first want it. */
#ifndef RP_MPI_NCCL_LIBRARY_H
#define RP_MPI_NCCL_LIBRARY_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Local. Before any call of its. */
RP_CHECKED rp_status rp_nccl_load(void);

#ifdef __cplusplus
}
#endif
#endif

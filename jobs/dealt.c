/* Pieces in rank order, then dealt back to their numbers. */
#include "jobs/dealt.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

rp_status rp_dealt_gather(rp_comm *comm, void *all, int64_t n, size_t item_bytes)
{
    rp_status st = RP_OK;
    const int64_t nranks = rp_comm_nranks(comm);
    const int64_t most = RP_DIV_UP(n, nranks);
    char *items = all;
    char *send = NULL;
    char *recv = NULL;

    st = rp_calloc(&send, (size_t)most, item_bytes);
    if (st == RP_OK) {
        st = rp_calloc(&recv, (size_t)(most * nranks), item_bytes);
    }
    RP_TRY(rp_agree(comm, st));
    RP_ASSERT(send != NULL && recv != NULL);
    for (int64_t i = 0; rp_comm_rank(comm) + i * nranks < n; i++) {
        memcpy(send + (size_t)i * item_bytes,
               items + (size_t)(rp_comm_rank(comm) + i * nranks) * item_bytes, item_bytes);
    }
    rp_comm_allgather(comm, send, recv, (size_t)most * item_bytes);
    for (int64_t i = 0; i < n; i++) {
        memcpy(items + (size_t)i * item_bytes,
               recv + (size_t)((i % nranks) * most + i / nranks) * item_bytes, item_bytes);
    }
out:
    free(recv);
    free(send);
    return st;
}
